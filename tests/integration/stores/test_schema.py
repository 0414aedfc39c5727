"""What plugin_store says of the table that the search_path gives, and how it repairs it."""

from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from plugin_store import PluginConfigRepository, StoreError
from plugin_store.stores.schema import inspect_schema, repair_schema

Connection = psycopg.Connection[Any]

DAMAGE = {
    "disabled triggers": "ALTER TABLE plugin_config DISABLE TRIGGER USER",
    "missing stamp": "DROP FUNCTION plugin_config_stamp CASCADE",
    "missing announcements": "DROP FUNCTION plugin_config_notify CASCADE",
    "replica triggers": "ALTER TABLE plugin_config ENABLE REPLICA TRIGGER plugin_config_stamp",
    "missing check": "ALTER TABLE plugin_config DROP CONSTRAINT plugin_config_times_readable",
    "missing default": "ALTER TABLE plugin_config ALTER id DROP DEFAULT",
    "missing NOT NULL": "ALTER TABLE plugin_config ALTER status DROP NOT NULL",
    "no constraints": "ALTER TABLE plugin_config RENAME TO old; CREATE TABLE plugin_config (LIKE old); DROP TABLE old",
    "no keys": "ALTER TABLE plugin_config DROP CONSTRAINT plugin_config_pkey,"
    " DROP CONSTRAINT plugin_config_plugin_name_key",
}
UNREADABLE = {
    "depth": """{"a": """ * 100 + "[]" + "}" * 100,
    "great depth": """{"a": """ + "[" * 2000 + "]" * 2000 + "}",
    "digits": """{"a": [""" + "9" * 4301 + "]}",
}
READABLE = {
    "depth": """{"a": """ * 99 + "[1]" + "}" * 99,
    "digits": """{"a": """ + "9" * 4300 + "}",
    "text of digits": """{"a": \"""" + "9" * 5000 + '"}',
}


def test_replica_session_is_reported(connection: Connection) -> None:
    state = inspect_schema(connection)
    assert (state.schema, state.foreign, state.damaged, state.problems()) == ("public", False, False, [])
    connection.execute("SET session_replication_role = replica")
    assert "session_replication_role" in inspect_schema(connection).problems()[0]


def test_missing_or_unrelated_table_is_reported(connection: Connection) -> None:
    connection.execute("DROP TABLE plugin_config")
    state = inspect_schema(connection)
    assert (state.schema, state.creates_in, state.damaged) == (None, "public", False)
    assert "plugin-store migrate" in state.problems()[0]
    connection.execute("CREATE TABLE plugin_config (id serial PRIMARY KEY, name text)")
    state = inspect_schema(connection)
    (problem,) = state.problems()
    assert state.foreign and not state.damaged
    assert "is not plugin_store's" in problem and "migrate" not in problem


def test_second_table_in_search_path_is_reported(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA other; CREATE TABLE other.plugin_config (LIKE plugin_config INCLUDING ALL)")
    connection.execute("SET search_path = public, other")
    assert inspect_schema(connection).schemas == ["public", "other"]
    assert "hides the one in 'other'" in inspect_schema(connection).problems()[0]


def test_row_security_is_reported_when_it_applies(connection: Connection, role: str) -> None:
    connection.execute("ALTER TABLE plugin_config ENABLE ROW LEVEL SECURITY")
    assert inspect_schema(connection).problems() == []
    connection.execute(f"GRANT SELECT ON plugin_config TO {role}; SET ROLE {role}".encode())
    assert "row-level security" in inspect_schema(connection).problems()[0]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_table_is_reported_and_repaired(connection: Connection, damage: str) -> None:
    connection.execute(damage.encode())
    state = inspect_schema(connection)
    assert state.damaged
    assert all("plugin-store migrate" in problem for problem in state.problems()) and state.problems()
    repair_schema(connection)
    assert inspect_schema(connection).problems() == []


def test_repair_names_rows_that_python_cannot_read(connection: Connection) -> None:
    connection.execute("ALTER TABLE plugin_config DROP CONSTRAINT plugin_config_config_readable")
    connection.execute(
        "INSERT INTO plugin_config (plugin_name, config) VALUES ('good', '{}'), ('odd', '{\"a\": 1e5000}')"
    )
    with pytest.raises(StoreError, match=r"'odd'.*4300 digits") as caught:
        repair_schema(connection)
    assert "good" not in str(caught.value)
    assert "plugin_config_config_readable" in inspect_schema(connection).missing_constraints


INSERT = "INSERT INTO plugin_config (plugin_name, config) VALUES (%s, %s)"


@pytest.mark.parametrize("config", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_table_refuses_config_that_python_cannot_read(connection: Connection, config: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="config_readable"):
        connection.execute(INSERT, ["a", config])


def test_table_takes_config_that_python_can_read(connection: Connection) -> None:
    for name, config in READABLE.items():
        connection.execute(INSERT, [name, config])
    assert len(PluginConfigRepository(connection).get_all()) == len(READABLE)


@pytest.mark.parametrize("time", ["infinity", "-infinity", "10000-01-01", "0044-03-15 BC"])
def test_table_refuses_time_that_python_cannot_read(connection: Connection, time: str) -> None:
    for column in ("enabled_at", "disabled_at", "created_at", "updated_at"):
        insert = SQL("INSERT INTO plugin_config (plugin_name, {}) VALUES ('a', %s)").format(Identifier(column))
        with pytest.raises(psycopg.errors.CheckViolation, match="times_readable"):
            connection.execute(insert, [time])
