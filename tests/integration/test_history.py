"""sql/recipes/history.sql: who changed what, as psql installs it and as the database tells it."""

import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest
from databases import Connection
from psycopg.rows import dict_row

from plugin_store import PluginConfigRepository
from plugin_store.cli import main

RECIPE = Path(__file__).parents[2] / "sql" / "recipes" / "history.sql"
Repository = PluginConfigRepository
Psql = Callable[..., Any]


@pytest.fixture(autouse=True)
def installed(psql: Psql) -> None:
    for _ in range(2):
        done = psql("-q", "-v", "ON_ERROR_STOP=1", "-f", str(RECIPE))
        assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.fixture
def service(connection: Connection, role: str) -> str:
    """A login that may do with the table what the README grants, and nothing else."""
    connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON plugin_config TO {role}".encode())
    return role


def history(connection: Connection) -> list[tuple[Any, ...]]:
    query = """SELECT what, name_before, name_after, status_before, status_after, config_before, config_after
                 FROM plugin_config_history ORDER BY id"""
    return connection.execute(query).fetchall()


def who_disabled(connection: Connection, name: str) -> dict[str, Any] | None:
    """Ask what the recipe's first comment says to ask."""
    query = re.search(r"^--   (SELECT .*?;)$", RECIPE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert query is not None and "'analytics'" in query[1]
    asked = query[1].replace("\n--", "\n").replace("'analytics'", f"'{name}'")
    return connection.cursor(row_factory=dict_row).execute(asked.encode()).fetchone()


def test_each_change_is_recorded(connection: Connection, repository: Repository) -> None:
    repository.save("a", "enabled", {"n": 1})
    repository.save("a", "enabled", {"n": 1})
    repository.update_config("a", {"n": 2})
    connection.execute("UPDATE plugin_config SET plugin_name = 'b', status = 'disabled'")
    repository.delete("b")
    repository.save("c", "enabled")
    repository.save("d", "disabled")
    connection.execute("TRUNCATE plugin_config")
    changes = history(connection)
    assert changes[:4] == [
        ("insert", None, "a", None, "enabled", None, {"n": 1}),
        ("update", "a", "a", "enabled", "enabled", {"n": 1}, {"n": 2}),
        ("update", "a", "b", "enabled", "disabled", {"n": 2}, {"n": 2}),
        ("delete", "b", None, "disabled", None, {"n": 2}, None),
    ]
    assert changes[6:] == [
        ("truncate", "c", None, "enabled", None, {}, None),
        ("truncate", "d", None, "disabled", None, {}, None),
    ]
    found = who_disabled(connection, "c")
    assert found is not None and found["what"] == "truncate"
    assert who_disabled(connection, "d") is None


def test_history_says_who_disabled_a_plugin(
    connection: Connection, database_url: str, repository: Repository, service: str
) -> None:
    repository.save("mail", "enabled")
    assert who_disabled(connection, "mail") is None
    before = datetime.now(timezone.utc)
    with PluginConfigRepository.open(f"{database_url}&user={service}&password=test") as restricted:
        restricted.save("mail", "disabled")
        restricted.update_config("mail", {"later": True})
    found = who_disabled(connection, "mail")
    assert found is not None and before < found["at"] < datetime.now(timezone.utc)
    assert (found["who"], found["application"], found["what"]) == (service, "plugin_store", "update")
    for url, application in ((database_url, "plugin_store cli"), (f"{database_url}&application_name=ops", "ops")):
        assert main(["--database", url, "enable", "mail"]) == 0
        assert main(["--database", url, "disable", "mail"]) == 0
        found = who_disabled(connection, "mail")
        assert found is not None and found["application"] == application


def test_writers_cannot_change_or_evade_it(
    connection: Connection, database_url: str, service: str, repository: Repository
) -> None:
    repository.save("mail", "enabled")
    with psycopg.connect(database_url, user=service, password="test", autocommit=True) as restricted:
        for statement in ("SELECT FROM", "DELETE FROM", "TRUNCATE"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                restricted.execute(f"{statement} plugin_config_history".encode())
        restricted.execute("CREATE TEMP TABLE plugin_config_history (what text); CREATE TEMP TABLE plugin_config ()")
        restricted.execute("UPDATE public.plugin_config SET status = 'disabled'")
        restricted.execute("TRUNCATE public.plugin_config")
        assert restricted.execute("SELECT count(*) FROM plugin_config_history").fetchone() == (0,)
    assert [row[0] for row in history(connection)] == ["insert", "update", "truncate"]
    found = who_disabled(connection, "mail")
    assert found is not None and found["who"] == service


def test_history_is_in_the_tables_schema(psql: Psql, connection: Connection) -> None:
    connection.execute("DROP FUNCTION plugin_config_remember() CASCADE")
    connection.execute('DROP TABLE plugin_config_history; CREATE SCHEMA "Own, one"; CREATE SCHEMA first')
    connection.execute('ALTER TABLE plugin_config SET SCHEMA "Own, one"')
    done = psql("-c", 'SET search_path = first, "Own, one"', "-v", "ON_ERROR_STOP=1", "-f", str(RECIPE))
    assert done.returncode == 0, done.stderr
    connection.execute("""INSERT INTO "Own, one".plugin_config (plugin_name) VALUES ('x')""")
    assert connection.execute('SELECT name_after FROM "Own, one".plugin_config_history').fetchall() == [("x",)]


def test_stopped_history_keeps_its_rows(connection: Connection, repository: Repository) -> None:
    repository.save("mail", "enabled")
    stop = re.search(r"^--   (DROP FUNCTION .*;)$", RECIPE.read_text(encoding="utf-8"), re.MULTILINE)
    assert stop is not None
    connection.execute(stop[1].encode())
    repository.save("mail", "disabled")
    assert len(history(connection)) == 1
