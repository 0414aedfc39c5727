"""The shipped contract suites, on the stores that are shipped; and that the suites catch a store that is wrong."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from conftest import Server
from psycopg_pool import ConnectionPool

from plugin_store import InMemoryPluginConfigStore, PluginConfigRepository
from plugin_store.migrate import migrate
from plugin_store.testing import ConcurrentPluginConfigStoreContract, PluginConfigStoreContract


@pytest.fixture(scope="module")
def contract_url(server: Server) -> Iterator[str]:
    """A database for all tests of this module: emptying the table costs a tenth of a clone."""
    with psycopg.connect(server.url(server.maintenance_dbname), autocommit=True) as connection:
        connection.execute("CREATE DATABASE plugin_store_contract")
        try:
            migrate(server.url("plugin_store_contract"))
            yield server.url("plugin_store_contract")
        finally:
            connection.execute("DROP DATABASE plugin_store_contract WITH (FORCE)")


@pytest.fixture(scope="module")
def autocommit_pool(contract_url: str) -> Iterator[ConnectionPool[Any]]:
    with ConnectionPool(contract_url, kwargs={"autocommit": True}, min_size=1, max_size=8, open=True) as pool:
        yield pool


@pytest.fixture(scope="module")
def transaction_pool(contract_url: str) -> Iterator[ConnectionPool[Any]]:
    with ConnectionPool(contract_url, min_size=1, max_size=8, open=True) as pool:
        yield pool


@pytest.fixture(scope="module")
def own_connection(contract_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(contract_url) as connection:
        yield connection


def emptied(pool: ConnectionPool[Any]) -> PluginConfigRepository:
    with pool.connection() as connection:
        connection.execute("DELETE FROM plugin_config")
    return PluginConfigRepository(pool)


class TestPoolInAutocommitMode(PluginConfigStoreContract, ConcurrentPluginConfigStoreContract):
    @pytest.fixture
    def store(self, autocommit_pool: ConnectionPool[Any]) -> PluginConfigRepository:
        return emptied(autocommit_pool)


class TestPoolOutOfAutocommitMode(PluginConfigStoreContract, ConcurrentPluginConfigStoreContract):
    @pytest.fixture
    def store(self, transaction_pool: ConnectionPool[Any]) -> PluginConfigRepository:
        return emptied(transaction_pool)


class TestConnection(PluginConfigStoreContract):
    @pytest.fixture
    def store(self, own_connection: psycopg.Connection[Any]) -> Iterator[PluginConfigRepository]:
        own_connection.execute("DELETE FROM plugin_config")
        yield PluginConfigRepository(own_connection)
        own_connection.rollback()


class TestInMemory(PluginConfigStoreContract, ConcurrentPluginConfigStoreContract):
    @pytest.fixture
    def store(self) -> InMemoryPluginConfigStore:
        return InMemoryPluginConfigStore()
