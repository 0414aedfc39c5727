"""Restore 100 plugins by psycopg alone, with one connection."""

import os

import psycopg
from plugins import PLUGINS

with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    for name, status, config in connection.execute("SELECT plugin_name, status, config FROM plugin_config"):
        if plugin := PLUGINS.get(name):
            plugin.enabled, plugin.config = status == "enabled", config
assert all(plugin.enabled for plugin in PLUGINS.values())
