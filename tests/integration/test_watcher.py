"""A watcher on one server: what it follows, how often it reads, and what it says where it cannot listen."""

import gc
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from recorder import Service
from relay import Relay, made_up_pid
from watching import end_sessions, following, service_on, sessions, syncs, watcher_threads
from workers import fresh_state, pgbouncer, wait_until

from plugin_store import PluginConfigRepository, PluginManager, PluginWatcher
from plugin_store.cli.migrate import migrate

Connection = psycopg.Connection[Any]
Repository = PluginConfigRepository
Caplog = pytest.LogCaptureFixture
POLLING = {"resync_seconds": 0.5, "poll_seconds": 0.05}
CHANGES = [
    "UPDATE plugin_config SET status = 'disabled' WHERE plugin_name = 'a'",
    "INSERT INTO plugin_config (plugin_name, status) VALUES ('c', 'enabled'), ('d', 'enabled')",
    "DELETE FROM plugin_config WHERE plugin_name = 'a'",
    "UPDATE plugin_config SET plugin_name = 'c' WHERE plugin_name = 'a'",
    "TRUNCATE plugin_config",
]


@pytest.fixture
def service(repository: Repository) -> Service:
    return service_on(repository)


def is_followed(service: Service, repository: Repository) -> bool:
    """Change a plugin, and return whether the service follows."""
    number = time.monotonic_ns()
    repository.save("a", "enabled", {"number": number})
    return wait_until(lambda: service["a"].get_config("number") == number)


def logged(caplog: Caplog, level: int = logging.WARNING) -> list[str]:
    """Return the messages of the watcher from this level on."""
    records = [record for record in caplog.records if record.name == "plugin_store.watcher"]
    return [record.getMessage() for record in records if record.levelno >= level]


@pytest.mark.parametrize("statement", CHANGES)
def test_process_follows_change(
    database_url: str, connection: Connection, repository: Repository, statement: str
) -> None:
    repository.save("a", "enabled", {"key": 1})
    service = service_on(repository)
    with following(service, database_url):
        connection.execute(statement.encode())
        expected = fresh_state(database_url)
        assert wait_until(lambda: service.state() == expected)


def test_watcher_reads_changed_rows_on_its_connection(
    service: Service, database_url: str, connection: Connection, repository: Repository
) -> None:
    connection.execute("CREATE SCHEMA other")
    migrate(make_conninfo(database_url, options="-c search_path=other"))
    with following(service, database_url):
        syncs(service).clear()
        with connection.transaction(force_rollback=True):
            connection.execute("INSERT INTO plugin_config (plugin_name, status) VALUES ('d', 'enabled')")
        connection.execute("NOTIFY plugin_config, 'x'")
        connection.execute("INSERT INTO other.plugin_config (plugin_name, status) VALUES ('c', 'enabled')")
        connection.execute("TRUNCATE other.plugin_config")
        connection.execute("INSERT INTO plugin_config (plugin_name, status) VALUES ('a', 'enabled'), ('b', 'enabled')")
        assert wait_until(lambda: service.enabled == {"a", "b"})
        assert [sync["names"] for sync in syncs(service)] == [{"a", "b"}]
        (pid,) = sessions(connection)
        row = connection.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
        assert row is not None and "FROM plugin_config" in row[0]


def test_stream_of_changes_causes_ten_syncs_a_second(
    service: Service, database_url: str, repository: Repository
) -> None:
    with following(service, database_url):
        syncs(service).clear()
        began, number = time.monotonic(), 0
        while time.monotonic() - began < 1.5:
            number += 1
            repository.save("a", "enabled", {"number": number})
        assert wait_until(lambda: service["a"].get_config("number") == number)
        assert len(syncs(service)) <= 10 * (time.monotonic() - began) + 2
        assert len(syncs(service)) < number


def test_resync_tries_failed_plugins_again(service: Service, database_url: str, repository: Repository) -> None:
    service["a"].fail("on_enable")
    with following(service, database_url, resync_seconds=0.3):
        repository.save("a", "enabled")
        assert wait_until(lambda: "a" in service.manager.last_report.failed)
        service["a"].then.clear()
        assert wait_until(lambda: service.enabled == {"a"})
        assert not syncs(service)[0]["retry_failed"]


@pytest.fixture
def assert_polls(service: Service, repository: Repository, caplog: Caplog) -> Callable[[str, str], None]:
    """A function that asserts that a watcher on this URL polls, and says once for which reason."""

    def assert_polls(url: str, reason: str) -> None:
        with following(service, url, **POLLING):
            for _ in range(2):
                assert is_followed(service, repository)
                before = len(syncs(service))
                assert wait_until(lambda: len(syncs(service)) > before + 12)  # noqa: B023  (over a resync)
        (message,) = logged(caplog)
        assert re.match(f"polling plugin_config every 0.05 s: .*{reason}", message)

    return assert_polls


@pytest.mark.parametrize(
    "statement",
    [
        "DROP FUNCTION plugin_config_notify() CASCADE",
        "ALTER TABLE plugin_config DISABLE TRIGGER plugin_config_notify_update",
    ],
)
def test_watcher_polls_until_triggers_are_repaired(
    database_url: str, connection: Connection, service: Service, assert_polls: Callable[..., None], statement: str
) -> None:
    connection.execute(statement.encode())
    assert_polls(database_url, "plugin_config_notify_update.*plugin-store migrate")

    def listens() -> bool:
        number = time.monotonic_ns()
        connection.execute("UPDATE plugin_config SET config = jsonb_build_object('number', %s::bigint)", [number])
        return {"a"} in [sync["names"] for sync in syncs(service)]

    with following(service, database_url, **POLLING):
        migrate(database_url)
        assert wait_until(listens)


POOLER = "a connection pooler is in front of the server"
Way = Callable[[str, Path], AbstractContextManager[Any]]


def without_listen(data: bytes) -> bytes:
    """Drop LISTEN, as a pooler may that does not know it."""
    return b"" if b"LISTEN plugin_config" in data else data


def closed_at_listen(data: bytes) -> bytes:
    """Close the connection at LISTEN, as some poolers do."""
    if b"LISTEN plugin_config" in data:
        raise ConnectionError
    return data


@contextmanager
def unanswered_listen(url: str, _: Path) -> Iterator[Relay]:
    limits = {"CALL_SECONDS": 0.3, "CANCEL_SECONDS": 0.1}
    with patch.multiple("plugin_store.stores.time_limit", **limits), Relay(url, without_listen) as relay:
        yield relay


WAYS: dict[str, tuple[Way, str]] = {
    "LISTEN that ends the connection": (lambda url, _: Relay(url, closed_at_listen), "LISTEN: .*closed the connection"),
    "LISTEN without an answer": (unanswered_listen, "LISTEN: the database did not answer"),
    "server without LISTEN": (
        lambda url, _: Relay(url, lambda data: re.sub(rb"LISTEN(?= plugin_config)", b"LISTEX", data)),
        "the server refuses LISTEN: syntax error",
    ),
    "PgBouncer": (pgbouncer, POOLER),
    "another pooler": (lambda url, _: Relay(url, to_client=made_up_pid), POOLER),
}


@pytest.mark.parametrize(("way", "reason"), WAYS.values(), ids=WAYS.keys())
def test_watcher_polls_where_nothing_is_heard(
    database_url: str, tmp_path: Path, assert_polls: Callable[..., None], way: Way, reason: str
) -> None:
    with way(database_url, tmp_path) as given:
        assert_polls(getattr(given, "url", given), reason)


def test_watcher_says_that_table_hides_another(
    database_url: str, connection: Connection, service: Service, caplog: Caplog
) -> None:
    connection.execute("CREATE SCHEMA hidden CREATE TABLE plugin_config (id int)")
    with following(service, make_conninfo(database_url, options="-c search_path=public,hidden"), resync_seconds=0.1):
        assert wait_until(lambda: len(syncs(service)) > 3)
    (message,) = logged(caplog)
    assert re.match("plugin_config is not in order: .* hides the one in 'hidden'", message)


TROUBLE = {
    "role may not": ("REVOKE SELECT ON plugin_config FROM {}", "GRANT SELECT ON plugin_config TO {}"),
    "plugin-store migrate": ("ALTER TABLE plugin_config RENAME TO gone", "ALTER TABLE gone RENAME TO plugin_config"),
    "row-level security": (
        "ALTER TABLE plugin_config ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE plugin_config DISABLE ROW LEVEL SECURITY",
    ),
}


@pytest.mark.parametrize("reason", TROUBLE)
def test_watcher_switches_nothing_off_in_trouble(
    database_url: str, connection: Connection, role: str, repository: Repository, reason: str
) -> None:
    begin, end = (text.format(role) for text in TROUBLE[reason])
    connection.execute(f"GRANT SELECT ON plugin_config TO {role}".encode())
    repository.save("a", "enabled")
    service = service_on(repository)
    url = make_conninfo(database_url, user=role, password="test")
    with following(service, url, resync_seconds=0.5) as watcher:
        connection.execute(begin.encode())
        assert wait_until(lambda: reason in (watcher.problem or "")), watcher.problem
        assert not watcher.healthy
        assert service.enabled == {"a"}
        connection.execute(end.encode())
        repository.save("b", "enabled")
        assert wait_until(lambda: service.enabled == {"a", "b"})
        assert wait_until(lambda: watcher.healthy)


def test_watcher_logs_each_lost_connection_once(
    database_url: str, connection: Connection, service: Service, repository: Repository, caplog: Caplog
) -> None:
    caplog.set_level(logging.INFO, "plugin_store")
    with following(service, database_url):
        for times in (1, 2):
            end_sessions(connection)
            assert wait_until(lambda: len(logged(caplog, logging.INFO)) == 2 * times)  # noqa: B023
            assert is_followed(service, repository)
    away, again = logged(caplog, logging.INFO)[:2]
    assert away.startswith("not following plugin_config, trying again: ")
    assert again == "following plugin_config again"
    assert str(conninfo_to_dict(database_url)["password"]) not in caplog.text
    assert not any(record.exc_info for record in caplog.records)


def test_watcher_runs_once_and_starts_again(database_url: str, service: Service, repository: Repository) -> None:
    with following(service, database_url, resync_seconds=600) as watcher:
        for _ in range(2):
            watcher.start()
            assert len(watcher_threads()) == 1
            assert is_followed(service, repository)
            time.sleep(0.5)  # until it waits for announcements, with nothing due for ten minutes
            watcher.stop()
            watcher.stop()
            assert watcher_threads() == []
            assert watcher.problem == "the watcher is not started"


def test_start_can_be_repeated_after_it_failed(database_url: str, service: Service) -> None:
    watcher = PluginWatcher(service.manager, database_url)
    with patch("threading.Thread.start", side_effect=RuntimeError), pytest.raises(RuntimeError):
        watcher.start()
    with watcher:
        assert wait_until(lambda: watcher.healthy)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts the descriptors in /proc")
def test_stop_leaves_no_descriptor(database_url: str, connection: Connection, service: Service) -> None:
    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    with following(service, database_url):
        pass
    before = count()
    for _ in range(3):
        with following(service, database_url):
            end_sessions(connection)
    assert wait_until(lambda: count() == before)
    assert sessions(connection) == []


@pytest.mark.parametrize("hangs", [False, True])
def test_stop_waits_for_a_limited_time(
    database_url: str, service: Service, repository: Repository, hangs: bool
) -> None:
    entered, goes_on = threading.Event(), threading.Event()
    service["a"].then["on_enable"] = lambda: (entered.set(), goes_on.wait(60))
    with following(service, database_url, resync_seconds=0.5) as watcher:
        repository.save("a", "enabled")
        assert entered.wait(20)
        assert not hangs or wait_until(lambda: watcher.problem == "no sync has succeeded in time")
        stopping = threading.Thread(target=watcher.stop)
        stopping.start()
        stopping.join(30 if hangs else 0.5)
        assert stopping.is_alive() is not hangs
        goes_on.set()
        stopping.join(20)
        assert not stopping.is_alive()
    assert wait_until(lambda: watcher_threads() == [])
    assert service.enabled == {"a"}


@pytest.mark.parametrize("where", ["hook", "listener"])
def test_stop_returns_at_once_in_its_thread(
    database_url: str, service: Service, repository: Repository, where: str
) -> None:
    took: list[float] = []
    with following(service, database_url) as watcher:

        def stop(*_: object) -> None:
            began = time.monotonic()
            watcher.stop()
            took.append(time.monotonic() - began)

        if where == "hook":
            service["a"].then["on_enable"] = stop
        else:
            service.manager.event_dispatcher.add_listener("plugin.enabled", stop)
        repository.save("a", "enabled")
        assert wait_until(lambda: took and watcher_threads() == [])
        assert took[0] < 5
        assert service.enabled == {"a"}


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["on_enable", "on_config_changed", "listener"])
def test_no_exception_ends_the_watcher(
    database_url: str, service: Service, repository: Repository, error: type[BaseException], where: str
) -> None:
    raised: list[str] = []

    def fail(*_: object) -> None:
        if not raised:
            raised.append(where)
            raise error("broken")

    if where == "listener":
        service.manager.event_dispatcher.add_listener("plugin.enabled", fail)
    else:
        service["a"].then[where] = fail
    with following(service, database_url) as watcher:
        repository.save("a", "enabled")
        assert wait_until(lambda: service.calls)
        repository.save("a", "enabled", {"key": 1})
        assert wait_until(lambda: raised)
        repository.save("b", "enabled")
        assert wait_until(lambda: "b" in service.enabled)
        assert wait_until(lambda: watcher.healthy)
        assert len(watcher_threads()) == 1


class UnprintableError(BaseException):
    def __str__(self) -> str:
        raise RuntimeError("broken")


def test_error_without_text_does_not_end_the_watcher(database_url: str) -> None:
    manager = PluginManager()
    with patch.object(manager, "sync", side_effect=UnprintableError()), PluginWatcher(manager, database_url) as watcher:
        assert wait_until(lambda: watcher.problem == "UnprintableError")
        assert len(watcher_threads()) == 1
