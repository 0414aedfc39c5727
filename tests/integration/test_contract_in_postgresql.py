"""The contract for stores holds in PostgreSQL, on each kind of connection."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from plugin_store import PluginConfigRepository
from plugin_store.cli.migrate import migrate
from plugin_store.testing import ConcurrentPluginConfigStoreContract, PluginConfigStoreContract


@pytest.fixture(scope="module")
def contract_url(server: Any) -> Iterator[str]:
    """A database for all tests of this module: emptying the table costs a tenth of a clone."""
    with psycopg.connect(server.url(server.maintenance_dbname), autocommit=True) as connection:
        connection.execute("CREATE DATABASE plugin_store_contract")
        try:
            migrate(server.url("plugin_store_contract"))
            yield server.url("plugin_store_contract")
        finally:
            connection.execute("DROP DATABASE plugin_store_contract WITH (FORCE)")


@pytest.fixture(scope="module")
def own_connection(contract_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(contract_url) as connection:
        yield connection


@pytest.fixture(scope="module")
def own_pool(contract_url: str) -> Iterator[PluginConfigRepository]:
    with PluginConfigRepository.open(contract_url) as repository:
        yield repository


@pytest.fixture(scope="module")
def given_pool(contract_url: str) -> Iterator[ConnectionPool[Any]]:
    with ConnectionPool(contract_url, min_size=1, max_size=4, open=True) as pool:
        yield pool


class TestOwnPool(PluginConfigStoreContract, ConcurrentPluginConfigStoreContract):
    @pytest.fixture
    def store(
        self, own_connection: psycopg.Connection[Any], own_pool: PluginConfigRepository
    ) -> PluginConfigRepository:
        own_connection.execute("DELETE FROM plugin_config")
        own_connection.commit()
        return own_pool


class Smoke:
    """A test of the contract for each statement."""

    test_reads = PluginConfigStoreContract.test_reads_return_the_same_rows
    test_save = PluginConfigStoreContract.test_save_merges_top_level_keys
    test_save_config = PluginConfigStoreContract.test_save_config_refuses_another_version
    test_update_config = PluginConfigStoreContract.test_update_config_sets_and_removes_keys
    test_add = PluginConfigStoreContract.test_add_returns_an_existing_row_unchanged
    test_save_many = PluginConfigStoreContract.test_save_many_creates_and_replaces_rows


class TestGivenPool(Smoke):
    @pytest.fixture
    def store(self, given_pool: ConnectionPool[Any]) -> PluginConfigRepository:
        with given_pool.connection() as connection:
            connection.execute("DELETE FROM plugin_config")
        return PluginConfigRepository(given_pool)

    test_threads = ConcurrentPluginConfigStoreContract.test_save_many_is_atomic_and_never_deadlocks


class TestGivenConnection(Smoke):
    @pytest.fixture
    def store(self, own_connection: psycopg.Connection[Any]) -> Iterator[PluginConfigRepository]:
        own_connection.execute("DELETE FROM plugin_config")
        yield PluginConfigRepository(own_connection)
        own_connection.rollback()
