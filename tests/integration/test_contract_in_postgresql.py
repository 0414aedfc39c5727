"""The contract for stores holds in PostgreSQL, on each kind of connection."""

from collections.abc import Iterator

import psycopg
import pytest
from databases import Databases
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader
from psycopg_pool import ConnectionPool

from plugin_store import PluginConfigRepository
from plugin_store.testing import ConcurrentPluginConfigStoreContract, PluginConfigStoreContract

RAW = {"row_factory": dict_row, "cursor_factory": psycopg.RawCursor}


@pytest.fixture(scope="module")
def own_pool(databases: Databases) -> Iterator[PluginConfigRepository]:
    """A store for all tests of a class: emptying the table costs a tenth of a database for each test."""
    with databases.migrated() as url, PluginConfigRepository.open(url) as repository:
        yield repository


class TestOwnPool(PluginConfigStoreContract, ConcurrentPluginConfigStoreContract):
    @pytest.fixture
    def store(self, own_pool: PluginConfigRepository) -> PluginConfigRepository:
        for row in own_pool.get_all():
            own_pool.delete(row.plugin_name)
        return own_pool


class Smoke:
    """A test of the contract for each statement."""

    test_reads = PluginConfigStoreContract.test_reads_return_the_same_rows
    test_save = PluginConfigStoreContract.test_save_merges_top_level_keys
    test_save_config = PluginConfigStoreContract.test_save_config_refuses_another_version
    test_update_config = PluginConfigStoreContract.test_update_config_sets_and_removes_keys
    test_add = PluginConfigStoreContract.test_add_returns_an_existing_row_unchanged
    test_save_many = PluginConfigStoreContract.test_save_many_creates_and_replaces_rows
    test_delete = PluginConfigStoreContract.test_deleted_plugin_starts_afresh
    test_stamps = PluginConfigStoreContract.test_new_row_has_the_timestamps_of_its_status
    test_versions = PluginConfigStoreContract.test_every_change_has_a_greater_version
    test_texts = PluginConfigStoreContract.test_any_text_can_be_a_name


class TestGivenPool(Smoke):
    @pytest.fixture
    def store(self, database_url: str) -> Iterator[PluginConfigRepository]:
        with ConnectionPool(database_url, min_size=1, max_size=4, kwargs=RAW, open=True) as pool:
            yield PluginConfigRepository(pool)

    test_threads = ConcurrentPluginConfigStoreContract.test_save_many_is_atomic_and_never_deadlocks


CALLERS = [
    {},
    {"autocommit": True},
    RAW,
    {"cursor_factory": psycopg.ClientCursor},
    {"options": "-c datestyle=German -c timezone=Asia/Kathmandu"},
]


class TestGivenConnection(Smoke):
    """With the settings of other libraries: Django, for one, has jsonb as text."""

    @pytest.fixture(params=CALLERS, ids=lambda options: "".join(options) or "plain")
    def store(self, request: pytest.FixtureRequest, database_url: str) -> Iterator[PluginConfigRepository]:
        with psycopg.connect(database_url, **request.param) as connection:
            for type_name in ("varchar", "jsonb", "uuid", "timestamptz", "int8") if request.param else ():
                connection.adapters.register_loader(type_name, TextLoader)
            yield PluginConfigRepository(connection)
