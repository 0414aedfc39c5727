"""A network, server or table that does not answer: calls end, and a watcher says so, stops when asked and recovers."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest
from databases import Connection, Databases
from programs import started
from recorder import Service
from relay import Relay
from watching import following, service_on, sessions, syncs, watcher_threads
from workers import wait_until

import plugin_store.stores.time_limit
from plugin_store import PluginConfigRepository, PluginWatcher, StoreUnavailableError
from plugin_store.cli.migrate import migrate

# The watcher is to follow within 5 seconds. The rest is for a busy machine.
BACK_SECONDS = 5 + 15
STOP_SECONDS = 10 + 15
LONGEST_CALL_SECONDS = 25 + 15
# Parent and child save, and exit when their calls have ended.
FORKED = """
import ctypes, sys, threading
from plugin_store import PluginConfigRepository
repository = PluginConfigRepository.open(sys.argv[1])
ctypes.PyDLL(None).fork()  # runs no hooks of Python
threading.Thread(target=repository.save, args=["a", "enabled"]).start()
"""


@pytest.fixture
def service(repository: PluginConfigRepository) -> Service:
    return service_on(repository)


@pytest.fixture
def relay(database_url: str) -> Iterator[Relay]:
    with Relay(database_url) as relay:
        yield relay


@contextmanager
def silent_network(_: Connection, relay: Relay) -> Iterator[None]:
    relay.silence()
    yield
    relay.restore()


@contextmanager
def stopped_backend(connection: Connection, *_: Relay, session: str = "plugin_store watcher") -> Iterator[None]:
    """Stop the server's process. It acknowledges packets and does not answer."""
    (pid,) = sessions(connection, session)
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError:
        pytest.skip("the server's processes cannot be stopped from here")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def locked_table(connection: Connection, *_: Relay) -> Iterator[None]:
    with connection.transaction():
        connection.execute("LOCK TABLE plugin_config")
        yield


def test_silent_calls_end_also_after_fork_in_c(database_url: str, connection: Connection, databases: Databases) -> None:
    with databases.migrated() as other_url, psycopg.connect(other_url, autocommit=True) as other:
        with PluginConfigRepository.open(other_url) as repository, locked_table(connection):
            began = time.monotonic()
            with (
                started(sys.executable, "-c", FORKED, database_url) as processes,
                stopped_backend(other, session="plugin_store"),
            ):
                with pytest.raises(StoreUnavailableError, match="did not answer within 25 seconds"):
                    repository.get_by_name("a")
                _, errors = processes.communicate(timeout=LONGEST_CALL_SECONDS)
            assert errors.count("StoreError: ") == errors.count("another transaction holds a lock") == 2, errors
            assert time.monotonic() - began < LONGEST_CALL_SECONDS
            assert repository.get_all() == []
        assert PluginConfigRepository(connection).get_all() == []  # the server cancelled the saves


def test_migrate_ends_when_server_falls_silent(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("CALL_SECONDS", "CANCEL_SECONDS"):
        monkeypatch.setattr(plugin_store.stores.time_limit, limit, 0.5)

    def fall_silent(data: bytes) -> bytes:
        if b"CREATE TABLE IF NOT EXISTS plugin_config" in data:
            relay.silence()
        return data

    with Relay(empty_url, fall_silent) as relay:
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            migrate(relay.url)
        assert time.monotonic() - began < STOP_SECONDS


def test_close_does_not_wait_for_stopped_backend(database_url: str, connection: Connection) -> None:
    repository = PluginConfigRepository.open(database_url)
    with stopped_backend(connection, session="plugin_store"):
        began = time.monotonic()
        repository.close()
        assert time.monotonic() - began < 1


@pytest.mark.skipif(sys.platform != "linux", reason="drops packets by a socket filter")
def test_watcher_follows_after_dead_network(
    relay: Relay, service: Service, repository: PluginConfigRepository, caplog: pytest.LogCaptureFixture
) -> None:
    with following(service, relay.url, resync_seconds=3) as watcher:
        try:
            relay.drop_packets()
        except OSError as exc:
            pytest.skip(f"this machine cannot do that: {exc}")
        assert wait_until(lambda: not watcher.healthy and caplog.messages, 60)
        repository.save("a", "enabled")
        relay.restore()
        assert wait_until(lambda: service.enabled == {"a"}, 2 * BACK_SECONDS)


def assert_stops(watcher: PluginWatcher) -> None:
    stopping = threading.Thread(target=watcher.stop)
    stopping.start()
    stopping.join(STOP_SECONDS)
    assert not stopping.is_alive()


@pytest.mark.parametrize("fault", [silent_network, stopped_backend, locked_table])
def test_stop_ends_while_sync_waits_for_an_answer(
    relay: Relay, service: Service, connection: Connection, fault: Callable[..., AbstractContextManager[None]]
) -> None:
    with following(service, relay.url, resync_seconds=0.5) as watcher:
        with fault(connection, relay):
            before = len(syncs(service))
            wait_until(lambda: len(syncs(service)) > before, 1)  # LISTEN may be what waits
            assert_stops(watcher)
            assert wait_until(lambda: watcher_threads() == [])
        watcher.start()
        assert wait_until(lambda: watcher.healthy)
