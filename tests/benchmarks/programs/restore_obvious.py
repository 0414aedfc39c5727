"""Restore 100 plugins by psycopg and its pool, as one writes it first. With an argument, print the bytes held then."""

import os
import sys

from plugins import PLUGINS
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

with ConnectionPool(os.environ["DATABASE_URL"], min_size=1, kwargs={"row_factory": dict_row}, open=True) as pool:
    with pool.connection() as connection:
        for row in connection.execute("SELECT * FROM plugin_config"):
            if plugin := PLUGINS.get(row["plugin_name"]):
                plugin.enabled, plugin.config = row["status"] == "enabled", row["config"]
    assert all(plugin.enabled for plugin in PLUGINS.values())
    if len(sys.argv) > 1:
        from resident import resident

        print(resident())
