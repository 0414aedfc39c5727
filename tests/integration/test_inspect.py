"""The files in sql/inspect, run by psql as an operator runs them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from databases import Connection

from plugin_store import PluginConfigRepository

INSPECT = Path(__file__).parents[2] / "sql" / "inspect"
FILES = sorted(INSPECT.iterdir())

MAIL = '{"api_key": {"$env": "MAIL_KEY"}, "server": {"hosts": ["a.example", "b.example"], "tags": {}}}'
# The rows of the samples: name, status, config, hours since the row was made, and since it changed.
ROWS = [
    ("Mail", "disabled", '{"token": "plain", "api_key": {"$env": 5}}', "72 hours", "48 hours"),
    ("analytics", "enabled", '{"window_minutes": 15}', "1 hour", "1 hour"),
    ("mail", "enabled", MAIL, "72 hours", "2 hours"),
]
INSERT = """
    INSERT INTO plugin_config (plugin_name, status, config, created_at, updated_at)
    VALUES (%s, %s, %s, now() - %s::interval, now() - %s::interval)
"""
Psql = Callable[..., Any]


def sample(path: Path) -> list[str]:
    """The output that the file's first comment shows, below the command."""
    comment = path.read_text(encoding="utf-8").partition("--   psql ")[2].split("\n")[2:]
    return [line[3:] for line in comment if line.startswith("-- ")]


def undated(text: str) -> list[str]:
    """The lines with nines for what differs from run to run: times and ids."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", lambda found: re.sub(r"\d", "9", found[0][:19]), text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "id", text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_prints_what_its_sample_shows(path: Path, psql: Psql, connection: Connection) -> None:
    opening, _, rest = path.read_text(encoding="utf-8").partition("\n")
    assert re.match(r"-- [A-Z]", opening)
    command = re.search(r'--   psql "\$DATABASE_URL" (.*)', rest)
    assert command is not None
    connection.cursor().executemany(INSERT, ROWS)
    done = psql(*command[1].split(), cwd=INSPECT.parents[1])
    assert done.stderr == ""
    assert undated(done.stdout) == undated("\n".join(sample(path)))


def test_plugin_needs_a_name(psql: Psql, connection: Connection) -> None:
    done = psql("-f", str(INSPECT / "plugin.sql"))
    assert (done.stdout, "psql -v plugin=NAME" in done.stderr) == ("", True)
    connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('it''s')")
    assert "it's" in psql("-v", "plugin=it's", "-f", str(INSPECT / "plugin.sql")).stdout


@pytest.mark.parametrize(
    ("name", "config", "found"),
    [
        ("x ", {}, "a space"),
        ("x\t", {}, "a control character"),
        ("x", {"a": [f"{number:x}" for number in range(30_000)]}, "kB"),
        ("x", {"a": [{"Password": "p"}]}, "sounds secret"),
        ("x", {"a": [{"$file": "f", "$env": "e"}]}, "malformed"),
    ],
)
def test_odd_row_is_named(
    psql: Psql, repository: PluginConfigRepository, name: str, config: dict[str, Any], found: str
) -> None:
    repository.save(name, "disabled", config)
    done = psql("-f", str(INSPECT / "odd.sql"))
    assert found in done.stdout and "(1 row)" in done.stdout, done.stderr


def test_impossible_stamps_are_odd(psql: Psql, connection: Connection) -> None:
    connection.execute(
        """INSERT INTO plugin_config (plugin_name, config)
           VALUES ('x', '{"password": {"$file": "/run/secrets/x"}, "list": [{"$env": "A"}], "deep": {"text": "x"}}')"""
    )
    connection.execute("UPDATE plugin_config SET status = 'enabled'")
    assert "(0 rows)" in psql("-f", str(INSPECT / "odd.sql")).stdout
    connection.execute(
        """INSERT INTO plugin_config (plugin_name, status, enabled_at, disabled_at, updated_at)
           VALUES ('y', 'enabled', now() - interval '2 days', now(), now() + interval '1 hour')"""
    )
    done = psql("-f", str(INSPECT / "odd.sql"))
    assert "in the future" in done.stdout and "contradict the status" in done.stdout
