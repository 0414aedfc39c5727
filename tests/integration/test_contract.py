"""The shipped contract suites, on the stores that are shipped; and that the suites catch a store that is wrong."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool
from servers import Server

from plugin_store import InMemoryPluginConfigStore, PluginConfig, PluginConfigRepository
from plugin_store.cli.migrate import migrate
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

    def test_updated_at_grows_while_the_clock_goes_back(
        self, store: InMemoryPluginConfigStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return next(times)

        times = (datetime(2020, 1, 1, tzinfo=timezone.utc) - timedelta(hours=turn // 2) for turn in range(10))
        monkeypatch.setattr("plugin_store.stores.memory.datetime", Clock)
        versions = [store.save_config("analytics", {"turn": turn}).updated_at for turn in range(10)]
        first = datetime(2020, 1, 1, tzinfo=timezone.utc)
        assert versions == [first + timedelta(microseconds=turn) for turn in range(10)]


class EmptiesTheConfig(InMemoryPluginConfigStore):
    def save(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        return super().save(plugin_name, status, config or {})


class SortsLikeADictionary(InMemoryPluginConfigStore):
    def get_all(self) -> list[PluginConfig]:
        return sorted(super().get_all(), key=lambda row: row.plugin_name.casefold())


class ForgetsWhenItWasEnabled(InMemoryPluginConfigStore):
    def get_by_name(self, plugin_name: str) -> PluginConfig | None:
        row = super().get_by_name(plugin_name)
        return row and replace(row, enabled_at=None)


class TellsTheTimeWithoutItsZone(InMemoryPluginConfigStore):
    def save(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        row = super().save(plugin_name, status, config)
        assert row.enabled_at is not None
        return replace(row, enabled_at=row.enabled_at.replace(tzinfo=None))


class ReadsAndThenWrites(InMemoryPluginConfigStore):
    def update_config(self, plugin_name: str, changes: dict[str, Any], *, remove: Iterable[str] = ()) -> PluginConfig:
        config = self.get_config(plugin_name)
        time.sleep(0.001)  # long enough for another thread to write
        return self.save_config(plugin_name, {k: v for k, v in config.items() if k not in remove} | changes)


class SavesOneByOne(InMemoryPluginConfigStore):
    def save_many(self, configs: Iterable[PluginConfig]) -> None:
        for each in configs:
            time.sleep(0.001)  # long enough for another thread to look
            self.save(each.plugin_name, each.status, each.config)


class FailsInAThread(InMemoryPluginConfigStore):
    def delete(self, plugin_name: str) -> bool:
        raise AssertionError("as a store may that is not made for threads")


PLAIN, CONCURRENT = PluginConfigStoreContract(), ConcurrentPluginConfigStoreContract()


@pytest.mark.parametrize(
    ("wrong", "promise"),
    [
        (EmptiesTheConfig, PLAIN.test_save_without_a_config_keeps_the_stored_one),
        (SortsLikeADictionary, PLAIN.test_get_all_and_get_enabled_are_ordered_by_code_point),
        (ForgetsWhenItWasEnabled, PLAIN.test_get_all_returns_the_rows_that_get_by_name_returns),
        (TellsTheTimeWithoutItsZone, PLAIN.test_timestamps_are_aware),
        (SavesOneByOne, PLAIN.test_save_many_writes_nothing_if_one_of_them_is_bad),
        (ReadsAndThenWrites, CONCURRENT.test_writers_of_different_keys_all_win),
        (SavesOneByOne, CONCURRENT.test_readers_see_all_of_save_many_or_nothing),
        (FailsInAThread, CONCURRENT.test_of_deletes_of_one_row_one_says_that_there_was_one),
    ],
)
def test_the_suites_catch_a_store_that_is_wrong(
    wrong: type[InMemoryPluginConfigStore], promise: Callable[[InMemoryPluginConfigStore], None]
) -> None:
    with pytest.raises(AssertionError):
        promise(wrong())
    promise(InMemoryPluginConfigStore())
