"""pytest fixtures for services that use plugin_store. A test module or the top conftest.py opts in.

An example, which is a complete test module::

    from plugin_store import BasePlugin, PluginConfigRepository, PluginMetadata

    pytest_plugins = ["plugin_store.testing.fixtures"]

    class Mail(BasePlugin):
        metadata = PluginMetadata("mail", "1.0.0", "me", "sends mail")

    def test_mail_is_disabled_at_first(plugin_manager):
        plugin_manager.register_plugin(Mail())
        assert not plugin_manager.is_enabled("mail")

    def test_mail_can_be_enabled(plugin_store_url):
        with PluginConfigRepository.open(plugin_store_url) as store:
            assert store.save("mail", "enabled") in store.get_enabled()

PLUGIN_STORE_TEST_DATABASE_URL names the PostgreSQL server. Without it, an embedded server starts. Each process of
pytest-xdist creates its own database, and drops it at the end. So the role must be allowed to create databases.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from plugin_store import PluginManager
from plugin_store.cli.migrate import migrate
from plugin_store.sandbox.embedded import EmbeddedPostgres
from plugin_store.stores.connections import connect
from plugin_store.stores.conninfo import checked_conninfo


@pytest.fixture
def plugin_manager() -> PluginManager:
    """A manager without plugins, on an in-memory store."""
    return PluginManager()


@pytest.fixture
def plugin_store_url(plugin_store_database: str) -> str:
    """The URL of a migrated database without rows."""
    with connect(plugin_store_database) as connection:
        connection.execute("SET lock_timeout = '30s'")  # an earlier test may have left a transaction open
        connection.execute("DELETE FROM plugin_config")
    return plugin_store_database


@pytest.fixture(scope="session")
def plugin_store_database() -> Iterator[str]:
    """The URL of a migrated database for all tests of this process. It keeps the rows of earlier tests."""
    name = f"plugin_store_test_{uuid4().hex}"
    with ExitStack() as stack:
        server = os.environ.get("PLUGIN_STORE_TEST_DATABASE_URL")
        if not server:
            embedded = stack.enter_context(EmbeddedPostgres())
            server = make_conninfo(embedded.url, password=embedded.password)  # beats a PGPASSWORD
        connection = stack.enter_context(connect(server))
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        stack.callback(connection.execute, SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
        parameters = conninfo_to_dict(checked_conninfo(server))
        parameters.pop("dbname", None)
        url = f"postgresql:///{name}?{urlencode(parameters, quote_via=quote)}"
        migrate(url)
        yield url
