"""A watcher on one server: what it follows, how often it reads, and what it says where it cannot listen."""

from __future__ import annotations

import gc
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from recorder import Service
from relay import Relay
from watching import end_sessions, following, service_on, sessions, syncs, watcher_threads
from workers import fresh_state, made_up_pid, pgbouncer, wait_until

from plugin_store import PluginConfigRepository, PluginWatcher
from plugin_store.cli.migrate import migrate

POLLING = {"resync_seconds": 0.5, "poll_seconds": 0.05}
CHANGES = [
    "UPDATE plugin_config SET status = 'disabled' WHERE plugin_name = 'a'",
    """UPDATE plugin_config SET config = '{"key": true}' WHERE plugin_name = 'a'""",
    "INSERT INTO plugin_config (plugin_name, status) VALUES ('c', 'enabled'), ('d', 'enabled')",
    "DELETE FROM plugin_config WHERE plugin_name = 'a'",
    "UPDATE plugin_config SET plugin_name = 'c' WHERE plugin_name = 'a'",
    "TRUNCATE plugin_config",
]


@pytest.fixture
def service(repository: PluginConfigRepository) -> Service:
    return service_on(repository)


def is_followed(service: Service, repository: PluginConfigRepository, **how: str) -> bool:
    """Change a plugin, and return whether the service follows."""
    number = time.monotonic_ns()
    repository.save("a", "enabled", {"number": number})
    return wait_until(lambda: service["a"].get_config("number") == number)


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """Return the messages of the watcher from this level on."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "plugin_store.watcher" and record.levelno >= level
    ]


# -- what is followed ----------------------------------------------------------------------------


@pytest.mark.parametrize("statement", CHANGES)
def test_process_follows_change(
    database_url: str, connection: psycopg.Connection[Any], repository: PluginConfigRepository, statement: str
) -> None:
    repository.save("a", "enabled", {"key": 1})
    service = service_on(repository)
    with following(service, database_url):
        connection.execute(statement.encode())
        expected = fresh_state(database_url)
        assert wait_until(lambda: service.state() == expected)


def test_process_ignores_change_that_is_rolled_back(
    service: Service, database_url: str, connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    with following(service, database_url):
        with connection.transaction(force_rollback=True):
            connection.execute("INSERT INTO plugin_config (plugin_name, status) VALUES ('b', 'enabled')")
        assert is_followed(service, repository)
        assert service.enabled == {"a"}


def test_change_is_read_by_name(
    service: Service, database_url: str, connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    with following(service, database_url):
        syncs(service).clear()
        connection.execute("INSERT INTO plugin_config (plugin_name, status) VALUES ('a', 'enabled'), ('b', 'enabled')")
        assert wait_until(lambda: service.enabled == {"a", "b"})
        assert [sync["names"] for sync in syncs(service)] == [{"a", "b"}]


def test_watcher_reads_on_its_own_connection(
    service: Service, database_url: str, connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    with following(service, database_url):
        repository.save("a", "enabled")
        assert wait_until(lambda: "a" in service.enabled)
        (pid,) = sessions(connection)
        row = connection.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
        assert row is not None and "FROM plugin_config" in row[0]


def test_foreign_announcements_cause_no_sync(
    service: Service, database_url: str, connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    connection.execute("CREATE SCHEMA other")
    migrate(make_conninfo(database_url, options="-c search_path=other"))
    with following(service, database_url):
        syncs(service).clear()
        connection.execute("NOTIFY plugin_config, 'x'")
        connection.execute("INSERT INTO other.plugin_config (plugin_name, status) VALUES ('a', 'enabled')")
        connection.execute("TRUNCATE other.plugin_config")
        repository.save("b", "enabled")
        assert wait_until(lambda: "b" in service.enabled)
        assert [sync["names"] for sync in syncs(service)] == [{"b"}]


def test_stream_of_changes_causes_ten_syncs_a_second(
    service: Service, database_url: str, repository: PluginConfigRepository
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


def test_resync_tries_failed_plugins_again(
    service: Service, database_url: str, repository: PluginConfigRepository
) -> None:
    service["a"].fail("on_enable")
    with following(service, database_url, resync_seconds=0.3):
        repository.save("a", "enabled")
        assert wait_until(lambda: "a" in service.manager.last_report.failed)
        service["a"].then.clear()
        assert wait_until(lambda: service.enabled == {"a"})
        assert not syncs(service)[0]["retry_failed"]


# -- where nothing is heard ----------------------------------------------------------------------


def assert_polls(
    service: Service, url: str, repository: PluginConfigRepository, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    with following(service, url, **POLLING):
        for _ in range(2):
            assert is_followed(service, repository)
            before = len(syncs(service))
            assert wait_until(lambda: len(syncs(service)) > before + 12)  # noqa: B023  (over a resync)
    (message,) = logged(caplog)
    assert re.match(f"polling plugin_config every 0.05 s: .*{reason}", message)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP FUNCTION plugin_config_notify() CASCADE",
        "ALTER TABLE plugin_config DISABLE TRIGGER plugin_config_notify_update",
        "ALTER TABLE plugin_config DISABLE TRIGGER USER",
    ],
)
def test_watcher_polls_until_triggers_are_repaired(
    database_url: str,
    connection: psycopg.Connection[Any],
    service: Service,
    repository: PluginConfigRepository,
    caplog: pytest.LogCaptureFixture,
    statement: str,
) -> None:
    connection.execute(statement.encode())
    assert_polls(service, database_url, repository, caplog, "plugin_config_notify_update.*plugin-store migrate")
    with following(service, database_url, **POLLING):
        migrate(database_url)
        assert wait_until(lambda: {"a"} in [sync["names"] for sync in syncs(service)] or not repository.save(
            "a", "enabled", {"number": time.monotonic_ns()}
        ))  # fmt: skip


def test_watcher_polls_when_server_refuses_listen(
    database_url: str, service: Service, repository: PluginConfigRepository, caplog: pytest.LogCaptureFixture
) -> None:
    with Relay(database_url, lambda data: re.sub(rb"LISTEN(?= plugin_config)", b"LISTEX", data)) as relay:
        assert_polls(service, relay.url, repository, caplog, "the server refuses LISTEN: syntax error")


def test_watcher_polls_behind_pgbouncer(
    database_url: str,
    service: Service,
    repository: PluginConfigRepository,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    with pgbouncer(database_url, tmp_path) as url:
        assert_polls(service, url, repository, caplog, "there is a connection pooler before the server")


def test_watcher_polls_behind_other_poolers(
    database_url: str, service: Service, repository: PluginConfigRepository, caplog: pytest.LogCaptureFixture
) -> None:
    with made_up_pid(database_url) as url:
        assert_polls(service, url, repository, caplog, "there is a connection pooler before the server")


def test_watcher_says_that_table_hides_another(
    database_url: str, connection: psycopg.Connection[Any], service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    connection.execute("CREATE SCHEMA hidden CREATE TABLE plugin_config (id int)")
    watcher_url = make_conninfo(database_url, options="-c search_path=public,hidden")
    with PluginWatcher(service.manager, watcher_url, resync_seconds=0.1):
        assert wait_until(lambda: logged(caplog))
        time.sleep(0.3)
    (message,) = logged(caplog)
    assert re.match("plugin_config is not in order: .* hides the one in 'hidden'", message)


# -- what it cannot read -------------------------------------------------------------------------


def test_watcher_says_that_there_is_no_table(
    empty_url: str, service: Service, repository: PluginConfigRepository, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "plugin_store")
    with PluginWatcher(service.manager, empty_url) as watcher:
        assert wait_until(lambda: "plugin-store migrate" in (watcher.problem or ""))
        assert not watcher.healthy
        migrate(empty_url)
        assert wait_until(lambda: watcher.healthy)
    assert [message.partition(":")[0] for message in logged(caplog, logging.INFO)] == [
        "not following plugin_config, trying again",
        "following plugin_config again",
    ]


TROUBLE = {
    "rights": ("REVOKE SELECT ON plugin_config FROM {}", "GRANT SELECT ON plugin_config TO {}", "role may not"),
    "table": (
        "ALTER TABLE plugin_config RENAME TO gone",
        "ALTER TABLE gone RENAME TO plugin_config",
        "plugin-store migrate",
    ),
    "row security": (
        "ALTER TABLE plugin_config ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE plugin_config DISABLE ROW LEVEL SECURITY",
        "row-level security",
    ),
}


@pytest.fixture
def role(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """A role that may read and write the rows."""
    name = f"role_{os.getpid()}"
    connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'".encode())
    connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON plugin_config TO {name}".encode())
    yield name
    connection.execute(f"DROP OWNED BY {name}".encode())
    connection.execute(f"DROP ROLE {name}".encode())


@pytest.mark.parametrize("what", TROUBLE)
def test_watcher_switches_nothing_off_in_trouble(
    database_url: str,
    connection: psycopg.Connection[Any],
    role: str,
    repository: PluginConfigRepository,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    begin, end, reason = (text.format(role) for text in TROUBLE[what])
    repository.save("a", "enabled")
    service = service_on(repository)
    url = make_conninfo(database_url, user=role, password="secret")
    with following(service, url, resync_seconds=0.5) as watcher:
        connection.execute(begin.encode())
        assert wait_until(lambda: reason in (watcher.problem or "")), watcher.problem
        assert not watcher.healthy
        assert service.enabled == {"a"}
        connection.execute(end.encode())
        repository.save("b", "enabled")
        assert wait_until(lambda: service.enabled == {"a", "b"})
        assert wait_until(lambda: watcher.healthy)
    assert "secret" not in caplog.text


def test_watcher_logs_each_lost_connection_once(
    database_url: str,
    connection: psycopg.Connection[Any],
    service: Service,
    repository: PluginConfigRepository,
    caplog: pytest.LogCaptureFixture,
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


# -- start and stop ------------------------------------------------------------------------------


def test_watcher_runs_once_and_starts_again(
    database_url: str, service: Service, repository: PluginConfigRepository
) -> None:
    with following(service, database_url) as watcher:
        for _ in range(2):
            watcher.start()
            assert len(watcher_threads()) == 1
            assert is_followed(service, repository)
            watcher.stop()
            watcher.stop()
            assert watcher_threads() == []
            assert watcher.problem == "the watcher is not started"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts the descriptors in /proc")
def test_stop_leaves_no_descriptor(database_url: str, connection: psycopg.Connection[Any], service: Service) -> None:
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


def test_stop_waits_for_sync_under_way(database_url: str, service: Service, repository: PluginConfigRepository) -> None:
    entered, goes_on = threading.Event(), threading.Event()
    service["a"].then["on_enable"] = lambda: (entered.set(), goes_on.wait(30))
    with following(service, database_url) as watcher:
        repository.save("a", "enabled")
        assert entered.wait(20)
        stopping = threading.Thread(target=watcher.stop)
        stopping.start()
        stopping.join(0.5)
        assert stopping.is_alive()
        goes_on.set()
        stopping.join(20)
        assert not stopping.is_alive()
    assert service.enabled == {"a"}
    assert watcher_threads() == []


@pytest.mark.parametrize("where", ["hook", "listener"])
def test_stop_returns_at_once_in_its_thread(
    database_url: str, service: Service, repository: PluginConfigRepository, where: str
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


def test_stop_ends_while_hook_hangs(database_url: str, service: Service, repository: PluginConfigRepository) -> None:
    entered, goes_on = threading.Event(), threading.Event()
    service["a"].then["on_enable"] = lambda: (entered.set(), goes_on.wait(60))
    with following(service, database_url, resync_seconds=0.5) as watcher:
        repository.save("a", "enabled")
        assert entered.wait(20)
        assert wait_until(lambda: watcher.problem == "no sync has ended in time")
        stopping = threading.Thread(target=watcher.stop)
        stopping.start()
        stopping.join(30)
        assert not stopping.is_alive()
        goes_on.set()
    assert wait_until(lambda: watcher_threads() == [])


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["on_enable", "on_config_changed", "listener"])
def test_no_exception_ends_the_watcher(
    database_url: str,
    service: Service,
    repository: PluginConfigRepository,
    error: type[BaseException],
    where: str,
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


def test_stop_ends_thread_of_idle_watcher(service: Service, database_url: str) -> None:
    watcher = PluginWatcher(service.manager, database_url, resync_seconds=600)
    watcher.start()
    assert wait_until(lambda: watcher.healthy)
    time.sleep(0.5)  # until it waits for announcements, with nothing due for ten minutes
    watcher.stop()
    assert watcher_threads() == []
