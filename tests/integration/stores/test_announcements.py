"""What the table's triggers announce on the channel plugin_config."""

import json
from typing import Any

import psycopg
import pytest

ANNOUNCED: dict[str, list[str | None]] = {
    "UPDATE plugin_config SET status = status, config = config": [],
    """UPDATE plugin_config SET config = '{"key": 1.0}' WHERE plugin_name = 'a'""": [],
    "UPDATE plugin_config SET enabled_at = now(), updated_at = now()": [],
    "DELETE FROM plugin_config WHERE plugin_name = 'none'": [],
    "INSERT INTO plugin_config (plugin_name) VALUES ('a') ON CONFLICT DO NOTHING": [],
    "UPDATE plugin_config SET status = 'disabled' WHERE plugin_name = 'a'": ["a"],
    """UPDATE plugin_config SET config = '{"key": true}' WHERE plugin_name = 'a'""": ["a"],
    "INSERT INTO plugin_config (plugin_name) VALUES ('c'), (repeat('\U0001f980', 100))": ["c", "\U0001f980" * 100],
    "DELETE FROM plugin_config WHERE plugin_name = 'a'": ["a"],
    "UPDATE plugin_config SET plugin_name = '\"new\"' WHERE plugin_name = 'a'": ["a", '"new"'],
    "UPDATE plugin_config SET config = '{}'": ["a", "b"],
    "TRUNCATE plugin_config": [None],
    "SET session_replication_role = replica; DELETE FROM plugin_config": ["a", "b"],
}


def announced(connection: psycopg.Connection[Any], statement: str) -> list[Any]:
    """Return the payloads of the statement, decoded."""
    connection.execute("LISTEN plugin_config")
    connection.execute("""INSERT INTO plugin_config (plugin_name, status, config)
        VALUES ('a', 'enabled', '{"key": 1}'), ('b', 'disabled', '{"key": 1}')""")
    list(connection.notifies(timeout=0))
    connection.execute(statement.encode())
    connection.execute("NOTIFY plugin_config, 'end'")
    payloads = [notify.payload for notify in connection.notifies(timeout=0)]
    assert payloads.pop() == "end"
    return [json.loads(payload) for payload in payloads]


@pytest.mark.parametrize(("statement", "names"), ANNOUNCED.items())
def test_change_announces_schema_and_plugins(
    connection: psycopg.Connection[Any], statement: str, names: list[str | None]
) -> None:
    assert announced(connection, statement) == [{"schema": "public", "plugin": name} for name in names]
