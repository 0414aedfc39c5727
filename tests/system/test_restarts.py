"""Each start of the service is a process, and the table is all that the processes share."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import psycopg
from programs import output_of

START = """
import json, os
from recorder import Recorder, started
from plugin_store import PluginConfigRepository

store = PluginConfigRepository.open(os.environ["DATABASE_URL"])
manager = started(store, plugin := Recorder("analytics"), interval=5, limit=100)
manager.load_persisted_state()
manager.enable_defaults("analytics")
"""
ANSWER = """
row = store.get_by_name("analytics")
print(json.dumps([plugin.status.name, plugin._config, row.config, str(row.enabled_at)]))
"""


def start(url: str, change: str = "", **zone: str) -> Any:
    """Return status, config, stored config and enabled_at of the plugin after a start and a change."""
    (line,) = output_of(START, change, ANSWER, DATABASE_URL=url, **zone)
    return json.loads(line)


def test_plugin_keeps_state_over_restarts(database_url: str, connection: psycopg.Connection[Any]) -> None:
    defaults = {"interval": 5, "limit": 100}
    assert start(database_url)[:3] == ["ENABLED", defaults, {}]
    start(database_url, "manager.update_config('analytics', {'interval': 9}); manager.disable_plugin('analytics')")
    assert start(database_url)[:3] == ["DISABLED", defaults | {"interval": 9}, {"interval": 9}]
    connection.execute("UPDATE plugin_config SET status = 'enabled', config = '{\"limit\": 7}'")
    assert start(database_url)[:3] == ["ENABLED", defaults | {"limit": 7}, {"limit": 7}]
    connection.execute("UPDATE plugin_config SET status = 'disabled'")
    assert start(database_url)[0] == "DISABLED"


def test_enabled_at_is_same_in_each_time_zone(database_url: str) -> None:
    east = datetime.fromisoformat(start(database_url, TZ="Asia/Kolkata", PGTZ="Asia/Kolkata")[3])
    west = datetime.fromisoformat(start(database_url, TZ="America/Lima", PGTZ="America/Lima")[3])
    assert east == west
    assert east.utcoffset() == timedelta(hours=5, minutes=30) and west.utcoffset() == timedelta(hours=-5)
