"""Connections are lost: reads are repeated once, writes never, unless nothing has been asked of the connection yet."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from crashing import Writers
from psycopg_pool import ConnectionPool
from recorder import Service
from workers import PLUGINS, relayed, wait_until

from plugin_store import PluginConfig, PluginConfigRepository, PluginWatcher, StoreUnavailableError

WRITES: dict[str, Callable[[PluginConfigRepository], object]] = {
    "save": lambda repository: repository.save("a", "enabled", {"n": 1}),
    "save_config": lambda repository: repository.save_config("a", {"n": 1}),
    "update_config": lambda repository: repository.update_config("a", {"n": 1}),
    "add": lambda repository: repository.add("a", "enabled", {"n": 1}),
    "save_many": lambda repository: repository.save_many([PluginConfig("a", "enabled", {"n": 1})]),
    "delete": lambda repository: repository.delete("a"),
}
READS: dict[str, Callable[[PluginConfigRepository], object]] = {
    "get_by_name": lambda repository: repository.get_by_name("a"),
    "get_all": lambda repository: repository.get_all(),
    "get_enabled": lambda repository: repository.get_enabled(),
}
each_read = pytest.mark.parametrize("read", READS.values(), ids=READS)
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
each_method = pytest.mark.parametrize("call", (READS | WRITES).values(), ids=READS | WRITES)


@pytest.fixture
def store(database_url: str) -> Iterator[PluginConfigRepository]:
    """A repository on a pool of four, with sessions that can be told from those of the test."""
    with PluginConfigRepository.open(ours(database_url), min_size=4, max_size=4, timeout=10) as store:
        yield store


def ours(url: str) -> str:
    return f"{url}&application_name=ours"


@contextmanager
def in_a_thread() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor(1) as executor:
        yield executor.submit


def sessions(connection: psycopg.Connection[Any], wait: str | None = None) -> list[int]:
    """Return the store's sessions, or those of them that wait for a lock, say."""
    query = """SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ours'
                  AND (%(wait)s::text IS NULL OR wait_event_type = %(wait)s)"""
    return [pid for (pid,) in connection.execute(query, {"wait": wait})]


def end(connection: psycopg.Connection[Any], pids: list[int]) -> None:
    """End sessions, and return when they have gone."""
    for pid in pids:
        connection.execute("SELECT pg_terminate_backend(%s, 20000)", [pid])


# -- while nothing is asked of them ---------------------------------------------------------------


@each_method
def test_all_idle_connections_may_be_terminated(
    store: PluginConfigRepository, connection: psycopg.Connection[Any], call: Callable[..., object]
) -> None:
    assert wait_until(lambda: len(sessions(connection)) == 4)
    end(connection, sessions(connection))
    call(store)
    call(store)


@each_method
def test_an_idle_timeout_of_the_server_is_not_noticed(database_url: str, call: Callable[..., object]) -> None:
    # Longer than a busy machine pauses between two statements of ours.
    kwargs = {"autocommit": True, "options": "-c idle_session_timeout=300"}
    with ConnectionPool(database_url, min_size=1, max_size=1, timeout=10, kwargs=kwargs, open=True) as pool:
        store = PluginConfigRepository(pool)
        for _ in range(3):
            with pool.connection() as idle:
                descriptor = idle.fileno()
            assert wait_until(lambda: has_hung_up(descriptor))  # noqa: B023
            call(store)


def has_hung_up(descriptor: int) -> bool:
    """Whether the server has: not when the session has gone from pg_stat_activity, but a little later."""
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))


@pytest.mark.parametrize("timeout", ["idle_in_transaction_session_timeout", "transaction_timeout"])
def test_a_transaction_of_the_callers_that_times_out_is_unavailable_and_wrote_nothing(
    database_url: str, connection: psycopg.Connection[Any], timeout: str
) -> None:
    with psycopg.connect(f"{ours(database_url)}&options=-c{timeout}%3D1000") as own:
        store = PluginConfigRepository(own)
        store.save("a", "enabled")
        assert wait_until(lambda: sessions(connection) == [])
        for call in (READS | WRITES).values():
            with pytest.raises(StoreUnavailableError):
                call(store)
        assert own.closed
    assert PluginConfigRepository(connection).get_all() == []


# -- while they work ------------------------------------------------------------------------------


@each_read
def test_a_read_is_repeated_once(
    store: PluginConfigRepository,
    database_url: str,
    connection: psycopg.Connection[Any],
    read: Callable[..., object],
) -> None:
    expected = read(store)
    for times in (1, 2):
        with in_a_thread() as start, psycopg.connect(database_url) as blocker:
            blocker.execute("LOCK TABLE plugin_config")
            reading = start(read, store)
            for _ in range(times):
                assert wait_until(lambda: len(sessions(connection, "Lock")) == 1)
                end(connection, sessions(connection, "Lock"))
            if times == 2:
                with pytest.raises(StoreUnavailableError, match="closed the connection"):
                    reading.result(timeout=20)
            blocker.rollback()
            if times == 1:
                assert reading.result(timeout=20) == expected


@each_write
def test_a_write_is_not_repeated_when_it_was_under_way(
    store: PluginConfigRepository,
    database_url: str,
    connection: psycopg.Connection[Any],
    write: Callable[..., object],
) -> None:
    store.save("a", "disabled", {"n": 0})
    before = store.get_all()
    with in_a_thread() as start, psycopg.connect(database_url) as blocker:
        blocker.execute("LOCK TABLE plugin_config IN EXCLUSIVE MODE")
        writing = start(write, store)
        assert wait_until(lambda: len(sessions(connection, "Lock")) == 1)
        end(connection, sessions(connection, "Lock"))
        with pytest.raises(StoreUnavailableError, match="closed the connection"):
            writing.result(timeout=20)
        assert sessions(connection, "Lock") == []
        blocker.rollback()
    assert store.get_all() == before


@each_write
def test_a_write_is_not_repeated_when_it_is_done_and_its_answer_was_lost(
    database_url: str, connection: psycopg.Connection[Any], write: Callable[..., object]
) -> None:
    cut = threading.Event()

    def to_client(data: bytes) -> bytes:
        if cut.is_set() and b"C\0\0\0" in data:  # CommandComplete
            cut.clear()
            raise ConnectionResetError
        return data

    connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('a')")
    note_statements(connection)
    with (
        relayed(database_url, to_client) as url,
        ConnectionPool(url, min_size=1, max_size=1, kwargs={"autocommit": True}, timeout=10, open=True) as pool,
    ):
        store = PluginConfigRepository(pool)
        store.get_all()
        cut.set()
        with pytest.raises(StoreUnavailableError):
            write(store)
        assert not cut.is_set()
    statements = connection.execute("SELECT count(*) FROM statements").fetchone()
    assert statements == (1,)


def note_statements(connection: psycopg.Connection[Any]) -> None:
    """Have the database note each statement that writes into the table, once it is committed."""
    connection.execute("CREATE TABLE statements (at timestamptz)")
    connection.execute("""CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO statements VALUES (now()); RETURN NULL; END $$""")
    # Of what an INSERT … ON CONFLICT may do, only the insert, which there always is.
    for what in ("INSERT", "DELETE"):
        connection.execute(f"CREATE TRIGGER note_{what} AFTER {what} ON plugin_config EXECUTE FUNCTION note()".encode())


# -- all the time ---------------------------------------------------------------------------------


def test_while_sessions_are_ended_all_the_time_nothing_acknowledged_is_lost(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    with (
        PluginConfigRepository.open(ours(database_url), min_size=8, max_size=8, timeout=10) as store,
        PluginConfigRepository.open(ours(database_url)) as its_store,
    ):
        service = Service(its_store, PLUGINS)
        with PluginWatcher(service.manager, ours(database_url)), Writers(store, 8) as writers:
            stop = time.monotonic() + 5
            while time.monotonic() < stop:
                for pid in sessions(connection)[::3]:
                    connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                time.sleep(0.02)
            writers.go_on()
            store.save("a", "enabled")
            assert wait_until(lambda: "a" in service.enabled, 25)
        assert sum(writers.refused) > 0
