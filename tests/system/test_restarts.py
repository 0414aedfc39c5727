"""Each start of the service is a process, and the table is all that the processes share."""

import json
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
print(json.dumps([plugin.status.name, plugin._config, row.config]))
"""


def start(url: str, change: str = "") -> Any:
    """Return status, config and stored config of the plugin after a start and a change."""
    (line,) = output_of(START, change, ANSWER, DATABASE_URL=url)
    return json.loads(line)


def test_plugin_keeps_state_over_restarts(database_url: str, connection: psycopg.Connection[Any]) -> None:
    defaults = {"interval": 5, "limit": 100}
    assert start(database_url) == ["ENABLED", defaults, {}]
    start(database_url, "manager.update_config('analytics', {'interval': 9}); manager.disable_plugin('analytics')")
    assert start(database_url) == ["DISABLED", defaults | {"interval": 9}, {"interval": 9}]
    connection.execute("UPDATE plugin_config SET status = 'enabled', config = '{\"limit\": 7}'")
    assert start(database_url) == ["ENABLED", defaults | {"limit": 7}, {"limit": 7}]
    connection.execute("UPDATE plugin_config SET status = 'disabled'")
    assert start(database_url)[0] == "DISABLED"
