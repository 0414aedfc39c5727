"""A watcher whose network, server or table does not answer: it says so, ends when asked, and follows afterwards."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
import pytest
from recorder import Service
from relay import Relay
from watching import following, service_on, sessions, syncs, watcher_threads
from workers import wait_until

from plugin_store import PluginConfigRepository, PluginWatcher

# The watcher is to follow within 5 seconds. The rest is for a busy machine.
BACK_SECONDS = 5 + 15
STOP_SECONDS = 10 + 15


@pytest.fixture
def service(repository: PluginConfigRepository) -> Service:
    return service_on(repository)


@pytest.fixture
def relay(database_url: str) -> Iterator[Relay]:
    with Relay(database_url) as relay:
        yield relay


def break_by(relay: Relay, how: str) -> None:
    try:
        getattr(relay, how)()
    except OSError as exc:
        pytest.skip(f"this machine cannot do that: {exc}")


def assert_stops(watcher: PluginWatcher) -> None:
    stopping = threading.Thread(target=watcher.stop)
    stopping.start()
    stopping.join(STOP_SECONDS)
    assert not stopping.is_alive()
    assert wait_until(lambda: watcher_threads() == [])


@pytest.mark.skipif(sys.platform != "linux", reason="drops packets by a socket filter")
def test_watcher_notices_dead_network_and_follows_afterwards(
    relay: Relay, service: Service, repository: PluginConfigRepository, caplog: pytest.LogCaptureFixture
) -> None:
    with following(service, relay.url, resync_seconds=3) as watcher:
        break_by(relay, "drop_packets")
        assert wait_until(lambda: not watcher.healthy, 60)
        assert wait_until(lambda: caplog.messages, 60)
        repository.save("a", "enabled")
        relay.restore()
        assert wait_until(lambda: service.enabled == {"a"}, 2 * BACK_SECONDS)


def test_watcher_follows_soon_after_outage(
    relay: Relay, service: Service, repository: PluginConfigRepository, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "plugin_store.watcher")
    with following(service, relay.url, resync_seconds=3) as watcher:
        relay.refuse()
        assert wait_until(lambda: not watcher.healthy, 60)
        repository.save("a", "enabled")
        relay.restore()
        assert wait_until(lambda: service.enabled == {"a"}, BACK_SECONDS)
        assert wait_until(lambda: watcher.healthy)
    *away, again = [record for record in caplog.records if record.name == "plugin_store.watcher"]
    assert {record.levelno for record in away} == {logging.WARNING}
    assert len({record.getMessage() for record in away}) == len(away) <= 3
    assert again.getMessage() == "following plugin_config again"


@contextmanager
def silent_network(relay: Relay, connection: psycopg.Connection[Any]) -> Iterator[None]:
    relay.silence()
    yield
    relay.restore()


@contextmanager
def stopped_backend(relay: Relay, connection: psycopg.Connection[Any]) -> Iterator[None]:
    (pid,) = sessions(connection)
    try:
        os.kill(pid, signal.SIGSTOP)
    except (OSError, AttributeError):
        pytest.skip("the server's processes cannot be stopped from here")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def locked_table(relay: Relay, connection: psycopg.Connection[Any]) -> Iterator[None]:
    with connection.transaction():
        connection.execute("LOCK TABLE plugin_config")
        yield


@pytest.mark.parametrize("fault", [silent_network, stopped_backend, locked_table])
def test_stop_ends_while_sync_waits_for_an_answer(
    relay: Relay,
    service: Service,
    connection: psycopg.Connection[Any],
    fault: Callable[..., AbstractContextManager[None]],
) -> None:
    with following(service, relay.url, resync_seconds=0.5) as watcher:
        with fault(relay, connection):
            before = len(syncs(service))
            wait_until(lambda: len(syncs(service)) > before, 3)  # LISTEN may be what waits
            assert_stops(watcher)
        watcher.start()
        assert wait_until(lambda: watcher.healthy)


def test_stop_ends_while_connecting_takes_long(repository: PluginConfigRepository) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/none?connect_timeout=60"
        watcher = PluginWatcher(service_on(repository).manager, url)
        watcher.start()
        silent.settimeout(20)
        client, _ = silent.accept()
        stopping = threading.Thread(target=watcher.stop)
        stopping.start()
        stopping.join(STOP_SECONDS)
        assert not stopping.is_alive()
        client.close()
    assert wait_until(lambda: watcher_threads() == [])


def test_stranger_cannot_make_watcher_read_often(
    database_url: str, service: Service, repository: PluginConfigRepository
) -> None:
    with following(service, database_url), psycopg.connect(database_url, autocommit=True) as stranger:
        syncs(service).clear()
        began, sent = time.monotonic(), 0
        while time.monotonic() - began < 2:
            for payload in ("x", "", '{"schema": "public", "plugin": null}', '{"schema": "other", "plugin": "a"}'):
                stranger.execute("SELECT pg_notify('plugin_config', %s)", [payload])
                sent += 1
        repository.save("a", "enabled")
        assert wait_until(lambda: service.enabled == {"a"})
        assert len(syncs(service)) <= 10 * (time.monotonic() - began) + 2 < sent
