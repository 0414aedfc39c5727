"""``flask plugins`` on a real database."""

from __future__ import annotations

from typing import Any

import psycopg
from flask import Flask

from plugin_store import BasePlugin, PluginConfigRepository, PluginManager, PluginMetadata
from plugin_store.flask import init_app


def test_commands_switch_all_names_or_none(database_url: str, connection: psycopg.Connection[Any]) -> None:
    class First(BasePlugin):
        metadata = PluginMetadata("first", "1.0.0", "tests", "for tests")

    class Second(BasePlugin):
        metadata = PluginMetadata("second", "1.0.0", "tests", "for tests")

    connection.execute("ALTER TABLE plugin_config ADD CONSTRAINT only_first CHECK (plugin_name <> 'second')")
    with PluginConfigRepository.open(database_url) as repository:
        manager = PluginManager(config_repo=repository)
        for plugin in (First(), Second()):
            manager.register_plugin(plugin)
            manager.initialize_plugin(plugin.metadata.name)
        app = Flask("service")
        init_app(app, manager)
        result = app.test_cli_runner().invoke(args=["plugins", "enable", "first", "second"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert connection.execute("SELECT plugin_name FROM plugin_config").fetchall() == []
