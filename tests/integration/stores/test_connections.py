"""Connections of the caller and of the library, whatever they were made with."""

import gc
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime
from inspect import signature
from threading import Event, Timer
from typing import Any

import psycopg
import pytest
from methods import METHODS
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format, Trace, TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool, NullConnectionPool
from recorder import rows
from relay import Relay
from servers import Server
from watching import end_sessions, sessions
from workers import wait_until

from plugin_store import (
    PluginConfig,
    PluginConfigRepository,
    SchemaError,
    StoreError,
    StoreUnavailableError,
    import_plugins,
)
from plugin_store.cli.migrate import migrate
from plugin_store.stores.connections import connect, is_pooled

Connection = psycopg.Connection[Any]
each_method = pytest.mark.parametrize("call", METHODS.values(), ids=METHODS.keys())
SECRET = "s3cr3t-Pa55"


def call_each_method(store: PluginConfigRepository) -> None:
    for call in METHODS.values():
        call(store, store.save("analytics", "enabled").updated_at)


def test_callers_encoding_limits_what_is_stored(database_url: str) -> None:
    with psycopg.connect(database_url, client_encoding="latin1", autocommit=True) as connection:
        repository = PluginConfigRepository(connection)
        saved = repository.save("café", "enabled", {"é": ["ß", "\xc3\xa9"]})  # the last would be é in UTF-8
        with pytest.raises(StoreError, match="has no equivalent in encoding"):
            repository.save("café", "enabled", {"snow": "☃"})
        with pytest.raises(StoreError, match="client_encoding has no '☃': connect with client_encoding=utf8"):
            repository.get_by_name("☃")
        assert repository.get_all() == [saved] and saved.config == {"é": ["ß", "\xc3\xa9"]}
        connection.execute("SET client_encoding = 'SQL_ASCII'")
        with pytest.raises(StoreError, match="client_encoding is SQL_ASCII"):
            repository.get_all()


def test_methods_work_in_pipeline_mode(connection: Connection) -> None:
    repository = PluginConfigRepository(connection)
    with connection.pipeline():
        call_each_method(repository)
    connection.execute("ALTER TABLE plugin_config ADD CHECK (plugin_name <> 'refused')")
    with connection.pipeline(), pytest.raises(StoreError, match="database refused"):
        repository.save_many([PluginConfig("refused")])


def test_transaction_is_refused_in_pipeline_mode(connection: Connection) -> None:
    repository = PluginConfigRepository(connection)
    with connection.pipeline():
        with pytest.raises(StoreError, match="use its transaction"), repository.transaction():
            pytest.fail("The block ran.")
        with connection.transaction(force_rollback=True):
            repository.save("a", "enabled")
    assert repository.get_all() == []


def test_ctrl_c_is_raised_when_server_is_silent(database_url: str) -> None:
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with Relay(database_url) as relay, PluginConfigRepository.open(relay.url) as repository:
            relay.silence()
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            with pytest.raises(KeyboardInterrupt):
                repository.get_all()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_connection_keeps_callers_transaction_and_preparing(database_url: str, connection: Connection) -> None:
    with psycopg.connect(database_url, prepare_threshold=None) as own:
        repository = PluginConfigRepository(own)
        repository.save("a", "enabled")
        with suppress(KeyError), repository.transaction() as inside:
            inside.save("b", "enabled")
            raise KeyError
        with own.transaction(force_rollback=True):
            repository.save("c", "enabled")
        for _ in range(10):
            assert list(rows(repository)) == ["a"]
        assert own.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        assert own.info.transaction_status is TransactionStatus.INTRANS
        assert list(rows(PluginConfigRepository(connection))) == []
        own.commit()
        assert list(rows(PluginConfigRepository(connection))) == ["a"]


POOLS: dict[str, dict[str, Any]] = {
    "autocommit": {"kwargs": {"autocommit": True}},
    "transactions": {},
    "check that begins a transaction": {"check": lambda connection: connection.execute("SELECT 1")},
}


@pytest.mark.parametrize("options", POOLS.values(), ids=POOLS.keys())
def test_given_pool_gets_connections_back_unchanged(
    database_url: str, connection: Connection, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    with ConnectionPool(database_url, min_size=1, max_size=1, open=True, **options) as pool:
        repository = PluginConfigRepository(pool)
        with pool.connection() as its:
            before = its.autocommit, its.info.backend_pid
        call_each_method(repository)
        assert PluginConfigRepository(connection).get_all() == repository.get_all()
        connection.execute("DROP TABLE plugin_config")
        with pytest.raises(SchemaError):
            repository.get_all()
        with pool.connection() as its:
            assert (its.autocommit, its.info.backend_pid) == before
    assert caplog.messages == []  # the pool warns of each connection that comes back in a transaction


class OddLoader(Loader):
    """Loads a value as a host's own type."""

    def load(self, data: Buffer) -> object:
        return "odd", bytes(data)


class OddBinaryLoader(OddLoader):
    format = Format.BINARY


@pytest.fixture
def odd_loaders() -> Iterator[None]:
    """The host has changed psycopg's loaders."""
    adapters, names = psycopg.adapters, ("int4", "int8", "bool", "text", "varchar", "name", "json", "jsonb")
    types = [info for name in names if (info := adapters.types.get(name)) is not None]
    oids = [oid for info in types for oid in (info.oid, info.array_oid)]
    before = [(oid, loader) for oid in oids for form in Format if (loader := adapters.get_loader(oid, form))]
    for oid in oids:
        adapters.register_loader(oid, OddLoader)
        adapters.register_loader(oid, OddBinaryLoader)
    yield
    for oid, loader in before:
        adapters.register_loader(oid, loader)


def test_library_ignores_loaders_of_the_host(empty_url: str, odd_loaders: None) -> None:
    assert migrate(empty_url) and migrate(empty_url) == []
    with connect(empty_url) as connection:
        assert not is_pooled(connection)
    with psycopg.connect(empty_url) as connection:
        connection.execute("SELECT 1")
        import_plugins(connection, [PluginConfig("a", "enabled")])
        assert list(rows(PluginConfigRepository(connection))) == ["a"]


class InterruptedConnection(psycopg.Connection[Any]):
    """Raises at the end of a wait, as a signal handler may: in the one that ``countdown`` reaches."""

    countdown = 0

    def wait(self, *args: Any, **options: Any) -> Any:
        result = super().wait(*args, **options)
        InterruptedConnection.countdown -= 1
        if InterruptedConnection.countdown == 0:
            raise InterruptedError
        return result


@pytest.mark.parametrize("wait", range(1, 6))
def test_given_pool_gets_no_interrupted_connection_back(database_url: str, wait: int) -> None:
    with ConnectionPool(
        database_url, connection_class=InterruptedConnection, min_size=1, max_size=1, open=True
    ) as pool:
        pool.wait()
        InterruptedConnection.countdown = wait  # autocommit, BEGIN, the statement, COMMIT, autocommit
        with pytest.raises(InterruptedError), PluginConfigRepository(pool).transaction() as inside:
            inside.save("a", "enabled")
        with pool.connection() as its:
            assert not its.autocommit
            its.execute("SELECT 1")
            assert its.info.transaction_status is TransactionStatus.INTRANS
            its.rollback()


def test_given_connections_are_neither_opened_nor_closed(database_url: str) -> None:
    pool: ConnectionPool[Any] = ConnectionPool(database_url, open=False)
    with pytest.raises(StoreUnavailableError):
        PluginConfigRepository(pool).get_all()
    with pool:
        with PluginConfigRepository(pool) as repository:
            assert repository.get_all() == []
        assert not pool.closed
    with psycopg.connect(database_url) as connection:
        connection.close()
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        PluginConfigRepository(connection).get_all()


# psycopg_pool has it from 3.3 on.
CLOSE_RETURNS = {name: True for name in ("close_returns",) if name in signature(ConnectionPool).parameters}


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


@pytest.mark.parametrize("given", [None, "postgresql://", AsyncConnectionPool("", open=False), psycopg.AsyncConnection])
def test_anything_else_is_refused_at_once(given: Any) -> None:
    with pytest.raises(TypeError, match=rf"not {type(given).__name__}; .*open\(\) takes a conninfo"):
        PluginConfigRepository(given)


MAKERS: dict[str, Callable[[str], Any]] = {
    "own pool": PluginConfigRepository.open,
    "given pool": lambda url: ConnectionPool(url, open=True),
    "null pool": lambda url: NullConnectionPool(url, open=True),
    "given connection": lambda url: psycopg.connect(url, autocommit=True),
    "library connection": connect,
}


@pytest.fixture(params=MAKERS.values(), ids=MAKERS.keys())
def any_repository(request: pytest.FixtureRequest, database_url: str) -> Iterator[PluginConfigRepository]:
    with request.param(database_url) as made:
        yield made if isinstance(made, PluginConfigRepository) else PluginConfigRepository(made)


def test_transaction_stores_all_or_none(any_repository: PluginConfigRepository, connection: Connection) -> None:
    with any_repository.transaction() as inside:
        inside.save("a", "enabled")
        inside.save("b", "enabled")
        assert list(rows(PluginConfigRepository(connection))) == []
    with suppress(KeyError), any_repository.transaction() as inside:
        inside.save("c", "enabled")
        raise KeyError
    any_repository.save("d", "enabled")
    assert list(rows(PluginConfigRepository(connection))) == ["a", "b", "d"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="psycopg traces a connection on Linux only")
@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transactions"])
@each_method
def test_warm_method_is_one_round_trip(
    database_url: str, autocommit: bool, call: Callable[[PluginConfigRepository, datetime], object]
) -> None:
    pools = ConnectionPool(database_url, min_size=1, max_size=1, kwargs={"autocommit": autocommit}, open=True)
    with pools as pool, tempfile.TemporaryFile("r+") as trace:
        repository = PluginConfigRepository(pool)
        version = repository.save("analytics", "enabled", {"a": 1}).updated_at
        for _ in range(6):  # psycopg prepares a statement after five uses
            version = repository.get_by_name("analytics").updated_at
            call(repository, version)
        version = repository.get_by_name("analytics").updated_at
        with pool.connection() as connection:
            pgconn = connection.pgconn
        pgconn.trace(os.dup(trace.fileno()))
        pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        call(repository, version)
        pgconn.untrace()
        trace.seek(0)
        messages = [line.split("\t")[0:3:2] for line in trace.read().splitlines()]
    assert messages.count(["B", "ReadyForQuery"]) == 1
    assert messages.count(["F", "Execute"]) == 1
    assert messages.count(["F", "Parse"]) == messages.count(["F", "Query"]) == 0


@each_method
def test_pools_replace_ended_sessions(database_url: str, connection: Connection, call: Callable[..., object]) -> None:
    url = f"{database_url}&application_name=plugin_store"
    with (
        PluginConfigRepository.open(url, min_size=3) as own,
        ConnectionPool(url, min_size=3, max_size=3, open=True) as pool,
    ):
        pool.wait(20)
        for repository in (own, PluginConfigRepository(pool)):
            version = repository.save("analytics", "enabled").updated_at
            end_sessions(connection, "plugin_store")
            call(repository, version)


def test_exhausted_pool_is_unavailable(database_url: str) -> None:
    with (
        ConnectionPool(database_url, min_size=1, max_size=1, timeout=0.1, open=True) as pool,
        pool.connection(timeout=20),
        pytest.raises(StoreUnavailableError, match=r"the pool gave no connection: "),
    ):
        PluginConfigRepository(pool).get_all()
    with (
        PluginConfigRepository.open(database_url, max_size=1, timeout=0.05) as repository,
        repository.transaction(),
        pytest.raises(StoreUnavailableError, match=r"within 0\.05 s: all max_size=1"),
    ):
        repository.get_all()


def test_open_repository_ends_its_sessions(database_url: str, connection: Connection) -> None:
    with suppress(KeyError), PluginConfigRepository.open(database_url, min_size=3) as repository:
        assert len(sessions(connection, "plugin_store")) == 3
        raise KeyError
    with pytest.raises(StoreUnavailableError, match="closed"):
        repository.get_all()
    closed, forgotten = (PluginConfigRepository.open(database_url) for _ in range(2))
    assert wait_until(lambda: len(sessions(connection, "plugin_store")) == 2)
    closed.close()
    assert wait_until(lambda: len(sessions(connection, "plugin_store")) == 1)
    del forgotten
    gc.collect()
    assert wait_until(lambda: sessions(connection, "plugin_store") == [])


@pytest.mark.parametrize("sizes", [(2, 1), (-1, 1), (0, 0)])
def test_open_refuses_impossible_sizes(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="min_size"):
        PluginConfigRepository.open("", min_size=sizes[0], max_size=sizes[1])


def test_waiting_calls_get_connections_in_turn(database_url: str) -> None:
    stop = Event()
    with PluginConfigRepository.open(database_url, max_size=2, timeout=5) as repository:

        def hurry() -> None:
            while not stop.is_set():
                repository.get_by_name("a")

        with ThreadPoolExecutor(2) as threads, ExitStack() as at_end:
            at_end.callback(stop.set)
            busy = [threads.submit(hurry) for _ in range(2)]
            for _ in range(20):
                repository.get_by_name("b")
        assert [thread.result() for thread in busy] == [None, None]


def test_open_waits_for_a_database(server: Server, connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
    url, started = server.url("later"), time.monotonic()
    with pytest.raises(StoreUnavailableError):
        PluginConfigRepository.open(url, wait_seconds=1)
    assert time.monotonic() - started >= 1
    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(PluginConfigRepository.open, url, wait_seconds=20)
        assert wait_until(lambda: len(caplog.messages) == 2)
        connection.execute("CREATE DATABASE later")
        try:
            opening.result(timeout=20).close()
        finally:
            connection.execute("DROP DATABASE later WITH (FORCE)")
    assert len(caplog.messages) == 2 and server.password not in caplog.text
    assert all(re.match(r"waiting up to \S+ s for the database: .*exist", message) for message in caplog.messages)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres:{}@127.0.0.1:{}/db",
        "host=127.0.0.1 user=postgres password={} port={} dbname=db",
        "host=/nonexistent password={} port={}",
        "host=a..b password={} port={}",
        "host=127.0.0.1 password={} port={} sslmode=perhaps",
    ],
)
def test_open_is_unavailable_at_once_without_server(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match=r"cannot be (reached|looked up)") as caught:
            PluginConfigRepository.open(url.format(SECRET, unused.getsockname()[1]))
        assert time.monotonic() - started < 5
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + caplog.text


def test_open_is_unavailable_when_server_refuses(
    server: Server, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with PluginConfigRepository.open(database_url) as repository:
        shown = repr(repository) + repr(repository.save("a", "enabled"))
    for url, reason in (
        (server.url("nonexistent"), "does not exist"),
        (database_url.replace(f":{server.password}@", f":{SECRET}@"), "authentication failed"),
    ):
        with pytest.raises(StoreUnavailableError, match=reason) as caught:
            PluginConfigRepository.open(url)
        shown += "".join(traceback.format_exception(caught.value)) + caplog.text
        assert SECRET not in shown and server.password not in shown


def test_library_connection_has_defaults(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "9")
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    with connect(f"{database_url}&keepalives_idle=77&client_encoding=latin1") as connection:
        parameters = {option.keyword.decode(): option.val for option in connection.pgconn.info}
        assert connection.autocommit and connection.info.encoding == "utf-8"
        assert len(sessions(connection, "plugin_store")) == 1
    assert parameters["connect_timeout"] == b"9"
    assert parameters["keepalives_idle"] == b"77"
    assert parameters["tcp_user_timeout"] == b"6000"
    with connect(f"{database_url}&application_name=mine") as connection:
        assert sessions(connection, "plugin_store") == []


def test_abandoned_connection_ends_its_call(database_url: str) -> None:
    with connect(database_url) as connection:
        Timer(0.2, setattr, [connection, "abandoned", True]).start()
        with pytest.raises(StoreUnavailableError, match="stopped"):
            connection.execute("SELECT pg_sleep(60)")
