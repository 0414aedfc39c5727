"""The plugins of this process. In tests and management commands they live in memory."""

from typing import Any

from django.db import connection
from psycopg.conninfo import make_conninfo

from plugin_store import (
    BasePlugin,
    PluginConfigRepository,
    PluginConfigStore,
    PluginManager,
    PluginMetadata,
    PluginWatcher,
)


class Greeter(BasePlugin):
    metadata = PluginMetadata(name="greeter", version="1.0.0", author="you", description="Says hello.")


def make_manager(store: PluginConfigStore | None = None) -> PluginManager:
    manager = PluginManager(config_repo=store)
    manager.register_plugin(Greeter())
    manager.initialize_plugin("greeter", {"greeting": "hello"})
    manager.load_persisted_state()
    manager.enable_defaults("greeter")
    return manager


def conninfo(settings: dict[str, Any]) -> str:
    """Return libpq's connection string for a database of Django's settings."""
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    values = {key: settings[name] for key, name in names.items() if settings[name]}
    return make_conninfo("", **values, **settings["OPTIONS"])


manager = make_manager()


def follow_the_table() -> None:
    """Call this in wsgi.py. AppConfig.ready() is too early, as it also runs in management commands."""
    global manager
    database = conninfo(connection.settings_dict)
    manager = make_manager(PluginConfigRepository.open(database))
    PluginWatcher(manager, database).start()
