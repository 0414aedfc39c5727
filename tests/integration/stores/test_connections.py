"""Connections of the caller and of the library, whatever they were made with."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from inspect import signature
from threading import Event, Timer
from typing import Any

import psycopg
import pytest
from methods import METHODS
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader
from psycopg_pool import AsyncConnectionPool, ConnectionPool, NullConnectionPool

from plugin_store import PluginConfig, PluginConfigRepository, StoreError, StoreUnavailableError
from plugin_store.errors import InvalidDatabaseURLError
from plugin_store.stores.connections import connect

Connection = psycopg.Connection[Any]
each_method = pytest.mark.parametrize("call", METHODS.values(), ids=METHODS.keys())


def sessions(connection: Connection) -> int:
    """Count the library's sessions; one that was closed just now may end a little later."""
    counts = []
    while len(counts) < 100 and (not counts or counts[-1] > 0):
        counts += (
            connection.execute(
                "SELECT count(*)::int FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'plugin_store'"
            ).fetchone()
            or ()
        )
    return counts[-1]


def text_loaders(url: str) -> Connection:
    """As Django makes it: jsonb is text."""
    connection = psycopg.connect(url, autocommit=True)
    connection.adapters.register_loader("jsonb", TextLoader)
    return connection


def raw_connection(url: str) -> Connection:
    connection = psycopg.connect(url, row_factory=dict_row, cursor_factory=psycopg.RawCursor)
    for type_name in ("varchar", "jsonb", "uuid", "timestamptz", "int8"):
        connection.adapters.register_loader(type_name, TextLoader)
    return connection


CALLERS: dict[str, Callable[[str], Connection]] = {
    "text loader": text_loaders,
    "raw": raw_connection,
    "client cursor": lambda url: psycopg.connect(url, cursor_factory=psycopg.ClientCursor),
    "DateStyle": lambda url: psycopg.connect(url, options="-c datestyle=German -c timezone=Asia/Kathmandu"),
}


@pytest.mark.parametrize("make", CALLERS.values(), ids=CALLERS.keys())
def test_repository_works_on_callers_connection(database_url: str, make: Callable[[str], Connection]) -> None:
    config = {"text": "\u4e2d\u00e9\U0001f980", "list": [1, 2.5, None, True]}
    with make(database_url) as connection:
        repository = PluginConfigRepository(connection)
        saved = repository.save("a", "enabled", config)
        assert (saved.config, repository.get_by_name("a"), repository.get_all()) == (config, saved, [saved])
        assert isinstance(saved.updated_at, datetime) and saved.updated_at.tzinfo is not None
        assert repository.save_config("a", {}, expected_updated_at=saved.updated_at).config == {}
        assert repository.update_config("a", {"x": 1}, remove=["y"]).config == {"x": 1}
        repository.save_many([PluginConfig("b")])
        assert repository.delete("b")


@each_method
def test_methods_work_in_pipeline_mode(database_url: str, call: Callable[..., object]) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        repository = PluginConfigRepository(connection)
        version = repository.save("analytics", "enabled").updated_at
        with connection.pipeline():
            call(repository, version)


def test_error_in_pipeline_mode_is_translated(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE plugin_config ADD CHECK (status <> 'enabled')")
        with connection.pipeline(), pytest.raises(StoreError, match="database refused"):
            PluginConfigRepository(connection).save_many([PluginConfig("a", "enabled")])


# psycopg_pool has it from 3.3 on.
CLOSE_RETURNS: dict[str, Any] = (
    {"close_returns": True} if "close_returns" in signature(ConnectionPool).parameters else {}
)


def test_changed_column_costs_one_error_only(database_url: str, connection: Connection) -> None:
    with ConnectionPool(database_url, min_size=1, max_size=1, open=True, **CLOSE_RETURNS) as pool:
        repository = PluginConfigRepository(pool)
        repository.save("a", "enabled")
        for _ in range(8):
            repository.get_by_name("a")
        connection.execute("ALTER TABLE plugin_config ALTER created_at TYPE timestamp")
        with pytest.raises(StoreError, match="repeat the call"):
            repository.get_by_name("a")
        assert repository.get_by_name("a") == repository.get_all()[0]


def test_null_pool_is_a_pool(database_url: str) -> None:
    with NullConnectionPool(database_url, open=True) as pool:
        assert PluginConfigRepository(pool).save("a", "enabled").status == "enabled"


@pytest.mark.parametrize("given", [None, "postgresql://", AsyncConnectionPool("", open=False), psycopg.AsyncConnection])
def test_anything_else_is_refused_at_once(given: Any) -> None:
    with pytest.raises(TypeError, match=type(given).__name__):
        PluginConfigRepository(given)


@pytest.fixture(params=["own pool", "given pool", "given connection", "library connection"])
def any_repository(request: pytest.FixtureRequest, database_url: str) -> Iterator[PluginConfigRepository]:
    if request.param == "own pool":
        with PluginConfigRepository.open(database_url) as repository:
            yield repository
    elif request.param == "given pool":
        with ConnectionPool(database_url, open=True) as pool:
            yield PluginConfigRepository(pool)
    elif request.param == "given connection":
        with psycopg.connect(database_url, autocommit=True) as connection:
            yield PluginConfigRepository(connection)
    else:
        with connect(database_url) as connection:
            yield PluginConfigRepository(connection)


def test_transaction_commits_at_the_end(any_repository: PluginConfigRepository, connection: Connection) -> None:
    with any_repository.transaction() as inside:
        inside.save("a", "enabled")
        inside.save("b", "enabled")
        assert PluginConfigRepository(connection).get_all() == []
    assert [row.plugin_name for row in PluginConfigRepository(connection).get_all()] == ["a", "b"]
    any_repository.save("c", "enabled")


def test_transaction_rolls_back_on_an_error(any_repository: PluginConfigRepository) -> None:
    with suppress(KeyError), any_repository.transaction() as inside:
        inside.save("a", "enabled")
        raise KeyError
    assert any_repository.get_all() == []


def test_transaction_is_savepoint_of_callers(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        repository = PluginConfigRepository(connection)
        repository.save("a", "enabled")
        with suppress(KeyError), repository.transaction() as inside:
            inside.save("b", "enabled")
            raise KeyError
        assert [row.plugin_name for row in repository.get_all()] == ["a"]
        assert connection.info.transaction_status == TransactionStatus.INTRANS


@pytest.mark.parametrize("size", [1, 3])
def test_open_asks_for_min_size_sessions(database_url: str, connection: Connection, size: int) -> None:
    with PluginConfigRepository.open(database_url, min_size=size):
        assert sessions(connection) == size
    assert sessions(connection) == 0


def test_open_works_without_with_block(database_url: str, connection: Connection) -> None:
    repository = PluginConfigRepository.open(database_url)
    repository.save("a", "enabled")
    repository.close()
    assert sessions(connection) == 0
    with pytest.raises(StoreUnavailableError, match="closed"):
        repository.get_all()


def test_forgotten_repository_closes_its_sessions(database_url: str, connection: Connection) -> None:
    PluginConfigRepository.open(database_url)
    gc.collect()
    assert sessions(connection) == 0


@pytest.mark.parametrize("sizes", [(2, 1), (-1, 1), (0, 0)])
def test_open_refuses_impossible_sizes(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="min_size"):
        PluginConfigRepository.open("", min_size=sizes[0], max_size=sizes[1])


def test_open_names_max_size_when_all_are_used(database_url: str) -> None:
    with (
        PluginConfigRepository.open(database_url, max_size=1, timeout=0.05) as repository,
        repository.transaction(),
        pytest.raises(StoreUnavailableError, match=r"within 0\.05 s: max_size=1"),
    ):
        repository.get_all()


def test_waiting_calls_get_connections_in_turn(database_url: str) -> None:
    stop = Event()
    with PluginConfigRepository.open(database_url, max_size=2, timeout=5) as repository:

        def hurry() -> None:
            while not stop.is_set():
                repository.get_by_name("a")

        with ThreadPoolExecutor(2) as threads:
            busy = [threads.submit(hurry) for _ in range(2)]
            try:
                for _ in range(20):
                    repository.get_by_name("b")
            finally:
                stop.set()
            for thread in busy:
                thread.result(10)


@each_method
def test_own_pool_replaces_ended_sessions(
    database_url: str, connection: Connection, call: Callable[..., object]
) -> None:
    with PluginConfigRepository.open(database_url, min_size=3) as repository:
        version = repository.save("analytics", "enabled").updated_at
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'plugin_store'"
            " AND datname = current_database()"
        )
        call(repository, version)


def test_own_pool_prepares_at_once(database_url: str) -> None:
    with PluginConfigRepository.open(database_url, max_size=1) as repository:
        repository.get_all()
        with repository.transaction() as inside, inside._connections.cursor() as cursor:
            assert cursor.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (1,)


def test_library_connections_have_timeouts(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "9")
    with connect(f"{database_url}&keepalives_idle=77") as connection:
        parameters = {option.keyword.decode(): option.val for option in connection.pgconn.info}
    assert parameters["connect_timeout"] == b"9"
    assert parameters["keepalives_idle"] == b"77"
    assert parameters["tcp_user_timeout"] == b"6000"


def test_abandoned_connection_ends_its_call(database_url: str) -> None:
    with connect(database_url) as connection:
        Timer(0.2, setattr, [connection, "abandoned", True]).start()
        with pytest.raises(StoreUnavailableError, match="stopped"):
            connection.execute("SELECT pg_sleep(60)")


@pytest.mark.parametrize("hidden", ["host={} dbname=postgresql://me:hunter2@{}/x", "host=me:hunter2@{}"])
def test_password_in_dbname_or_host_is_refused(
    database_url: str, caplog: pytest.LogCaptureFixture, hidden: str
) -> None:
    host = conninfo_to_dict(database_url)["host"]
    with caplog.at_level(logging.DEBUG), pytest.raises(InvalidDatabaseURLError) as caught:
        connect(hidden.format(host, host))
    assert "hunter2" not in str(caught.value) + repr(caught.value.__cause__) + caplog.text
