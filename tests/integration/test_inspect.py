"""The files in sql/inspect, run by psql as an operator runs them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from plugin_store import PluginConfigRepository

INSPECT = Path(__file__).parents[2] / "sql" / "inspect"
NAMES = ["odd", "overview", "plugin", "recent", "settings"]

# The rows of the samples: name, status, config, hours since the row was made, and since it changed.
ROWS = [
    ("Mail", "disabled", '{"token": "plain", "api_key": {"$env": 5}}', "72 hours", "48 hours"),
    ("analytics", "enabled", '{"window_minutes": 15}', "1 hour", "1 hour"),
    (
        "mail",
        "enabled",
        '{"api_key": {"$env": "MAIL_KEY"}, "server": {"hosts": ["a.example", "b.example"], "tags": {}}}',
        "72 hours",
        "2 hours",
    ),
]
INSERT = """
    INSERT INTO plugin_config (plugin_name, status, config, created_at, updated_at)
    VALUES (%s, %s, %s, now() - %s::interval, now() - %s::interval)
"""

Psql = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def rows(connection: psycopg.Connection[Any]) -> None:
    connection.cursor().executemany(INSERT, ROWS)


def sample(path: Path) -> list[str]:
    """The output that the file's first comment shows, below the command."""
    comment = path.read_text(encoding="utf-8").partition("--   psql ")[2].split("\n")[2:]
    return [line[3:] for line in comment if line.startswith("-- ")]


def undated(text: str) -> list[str]:
    """The lines with nines for what differs from run to run: times and ids."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", lambda found: re.sub(r"\d", "9", found[0][:19]), text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "id", text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_there_is_a_test_for_each_file() -> None:
    assert sorted(path.stem for path in INSPECT.iterdir()) == NAMES


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("name", NAMES)
def test_each_opens_with_what_it_answers_and_prints_what_its_sample_shows(name: str, psql: Psql) -> None:
    path = INSPECT / f"{name}.sql"
    opening, _, rest = path.read_text(encoding="utf-8").partition("\n")
    assert re.match(r"-- [A-Z]", opening)
    command = re.search(r'--   psql "\$DATABASE_URL" (.*)', rest)
    assert command is not None
    done = psql(*command[1].split(), cwd=INSPECT.parents[1])
    assert done.stderr == ""
    assert undated(done.stdout) == undated("\n".join(sample(path)))


def test_plugin_asks_for_a_name_that_is_not_given(psql: Psql) -> None:
    done = psql("-f", str(INSPECT / "plugin.sql"))
    assert (done.stdout, "psql -v plugin=NAME" in done.stderr) == ("", True)


def test_a_name_with_a_quote_is_a_name(psql: Psql, connection: psycopg.Connection[Any]) -> None:
    connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('it''s')")
    assert "it's" in psql("-v", "plugin=it's", "-f", str(INSPECT / "plugin.sql")).stdout


@pytest.mark.parametrize(
    ("name", "config", "found"),
    [
        ("x ", {}, "a space"),
        ("x\t", {}, "a control character"),
        ("x", {"a": [f"{number:x}" for number in range(30_000)]}, "kB"),
        ("x", {"a": [{"Password": "p"}]}, "sounds secret"),
        ("x", {"a": {"$file": "f", "$env": "e"}}, "malformed"),
        ("x", {"a": [{"$file": "f", "b": 1}]}, "malformed"),
    ],
)
def test_what_looks_odd(
    psql: Psql, repository: PluginConfigRepository, name: str, config: dict[str, Any], found: str
) -> None:
    repository.save(name, "disabled", config)
    done = psql("-f", str(INSPECT / "odd.sql"))
    assert found in done.stdout and "(1 row)" in done.stdout, done.stderr


def test_stamps_that_cannot_be_are_odd(psql: Psql, connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        """INSERT INTO plugin_config (plugin_name, status, enabled_at, disabled_at, updated_at)
           VALUES ('x', 'enabled', now() - interval '2 days', now(), now() + interval '1 hour')"""
    )
    done = psql("-f", str(INSPECT / "odd.sql"))
    assert "in the future" in done.stdout and "contradict the status" in done.stdout


def test_what_is_right_is_not_odd(psql: Psql, connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        """INSERT INTO plugin_config (plugin_name, config)
           VALUES ('x', '{"password": {"$file": "/run/secrets/x"}, "list": [{"$env": "A"}], "deep": {"text": "x"}}')"""
    )
    connection.execute("UPDATE plugin_config SET status = 'enabled'")
    assert "(0 rows)" in psql("-f", str(INSPECT / "odd.sql")).stdout


def test_the_table_explains_itself(psql: Psql) -> None:
    described = psql("-c", r"\d+ plugin_config").stdout
    for words in (
        "What the operator wants: enabled or disabled",
        "laid over the defaults",
        "it is the version of the row",
    ):
        assert words in described
