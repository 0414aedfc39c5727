"""PluginWatcher on a real PostgreSQL: workers follow the table, whatever happens to their connections."""

from __future__ import annotations

import gc
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool
from recorder import Service
from workers import PLUGINS, CountingManager, Crew, OwnServer, fresh_state, made_up_pid, pgbouncer, wait_until

from plugin_store import (
    InMemoryPluginConfigStore,
    InvalidDatabaseURLError,
    PluginConfigRepository,
    PluginManager,
    PluginWatcher,
)
from plugin_store.cli.migrate import migrate
from plugin_store.listen import LONGEST_DELAY, TableListener

# For whatever a busy machine does meanwhile. Nothing here takes that long unless it is broken.
MARGIN = 20.0


@pytest.fixture
def listen_url(database_url: str) -> str:
    """A URL for watchers, by which their sessions can be told from those of the stores."""
    return f"{database_url}&application_name=watcher"


@pytest.fixture
def service(repository: PluginConfigRepository) -> Service:
    return Service(repository, PLUGINS, CountingManager)


def syncs(service: Service) -> int:
    assert isinstance(service.manager, CountingManager)
    return service.manager.syncs


def sessions(connection: psycopg.Connection[Any]) -> list[int]:
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'watcher' AND datname = current_database()"
    return [pid for (pid,) in connection.execute(query)]


def end_sessions(connection: psycopg.Connection[Any]) -> None:
    for pid in sessions(connection):
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])


def watcher_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "plugin-watcher"]


@contextmanager
def settled(watcher: PluginWatcher, service: Service) -> Iterator[None]:
    """Run the watcher, from after its first sync on."""
    before = syncs(service)
    with watcher:
        assert wait_until(lambda: syncs(service) > before and watcher.last_sync_age is not None)
        yield


def test_its_session_tells_who_it_is(database_url: str, service: Service, connection: psycopg.Connection[Any]) -> None:
    names = "SELECT array_agg(application_name) FROM pg_stat_activity WHERE datname = current_database()"
    with settled(PluginWatcher(service.manager, database_url), service):
        row = connection.execute(names).fetchone()
        assert row is not None and "plugin_store watcher" in row[0]


# -- workers --------------------------------------------------------------------------------------


def change_by_sql(connection: psycopg.Connection[Any], number: int) -> None:
    """Make one change of a fixed sequence, as a person in psql would."""
    name = list(PLUGINS)[number % len(PLUGINS)]
    if number % 10 == 9:
        connection.execute("DELETE FROM plugin_config WHERE plugin_name = %s", [name])
    elif number % 3 == 0:
        connection.execute(
            """UPDATE plugin_config SET config = config || jsonb_build_object('sql', %s::int) WHERE plugin_name = %s""",
            [number, name],
        )
    else:
        connection.execute(
            """INSERT INTO plugin_config (plugin_name, status) VALUES (%s, 'enabled')
               ON CONFLICT (plugin_name) DO UPDATE
               SET status = CASE plugin_config.status WHEN 'enabled' THEN 'disabled' ELSE 'enabled' END""",
            [name],
        )


def run_changes(
    crew: Crew, url: str, connection: psycopg.Connection[Any], disturb: Callable[[int], object] = bool
) -> None:
    """Make 200 changes, by plain SQL and by the last worker in turn, and see all workers agree with the table."""
    for number in range(200):
        disturb(number)
        if number % 2:
            change_by_sql(connection, number)
        else:
            crew.ask("change", number, worker=8)
    # One more, that everyone must see: the state is then not by chance that of before.
    connection.execute(
        """INSERT INTO plugin_config (plugin_name, status, config) VALUES ('a', 'enabled', '{"last": true}')
           ON CONFLICT (plugin_name) DO UPDATE SET status = excluded.status, config = excluded.config"""
    )
    state = fresh_state(url)
    assert state["a"] == 'enabled {"last": true}'
    assert wait_until(lambda: crew.agrees(state), LONGEST_DELAY + MARGIN), (state, crew.ask_all("state"))


def test_8_workers_follow_200_changes(database_url: str, connection: psycopg.Connection[Any]) -> None:
    with Crew(database_url, 9) as crew:
        run_changes(crew, database_url, connection)
        assert all(len(calls) > 50 for calls in crew.ask_all("calls"))


def test_8_workers_follow_while_their_connections_are_killed(
    database_url: str, listen_url: str, connection: psycopg.Connection[Any]
) -> None:

    def kill(number: int) -> None:
        if number % 10 == 0:
            assert wait_until(lambda: len(sessions(connection)) == 9), "they do not come back"
            end_sessions(connection)

    with Crew(database_url, 9, listen_url) as crew:
        run_changes(crew, database_url, connection, kill)


def test_8_workers_follow_over_a_restart_of_the_server() -> None:
    with OwnServer() as server:
        migrate(server.url)
        connections = [psycopg.connect(server.url, autocommit=True)]

        def restart(number: int) -> None:
            if number == 100:
                connections.pop().close()
                server.stop()
                # A change while the server is away is refused, and the worker goes on.
                assert crew.ask("change", number, worker=8) is False
                server.start()
                connections.append(psycopg.connect(server.url, autocommit=True))

        class Current:
            def execute(self, *arguments: Any) -> Any:
                return connections[0].execute(*arguments)

        with Crew(server.url, 9) as crew:
            run_changes(crew, server.url, Current(), restart)  # type: ignore[arg-type]
        connections[0].close()


def test_two_processes_that_toggle_a_plugin_end_as_the_table_says(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    heard = 0

    def listen_on(seconds: float) -> None:
        nonlocal heard
        heard += sum(1 for _ in connection.notifies(timeout=seconds))

    connection.execute("LISTEN plugin_config")
    with Crew(database_url, 2) as crew:
        for worker in range(2):
            crew.tell("toggle", "a", 3.0, worker=worker)
        counts = [crew.answer(worker) for worker in range(2)]
        assert min(counts) > 10
        assert wait_until(lambda: crew.agrees(fresh_state(database_url)))

        def quiet() -> bool:
            before = heard, crew.ask_all("syncs")
            listen_on(1.0)
            return (heard, crew.ask_all("syncs")) == before

        # No echo: following a change makes none. Soon nothing is said any more, and no one syncs any more.
        assert wait_until(quiet)
        assert heard > 0
        assert heard <= 2 * sum(counts)


# -- what makes it sync ---------------------------------------------------------------------------


def test_a_save_that_changes_nothing_tells_no_one(
    connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    service = Service(repository, PLUGINS)
    service.manager.enable_plugin("a")
    service.manager.save_config("a", {"key": 1})
    connection.execute("LISTEN plugin_config")
    service.manager.enable_plugin("a")
    service.manager.save_config("a", {"key": 1})
    service.manager.enable_defaults("a")
    repository.save("a", "enabled", {"key": 1})
    repository.add("a", "disabled", {})
    repository.update_config("a", {"key": 1}, remove=["none"])
    repository.save_many(repository.get_all())
    assert list(connection.notifies(timeout=0.2)) == []
    repository.save("a", "disabled")
    assert len(list(connection.notifies(timeout=10, stop_after=1))) == 1


def test_a_change_that_is_rolled_back_is_not_followed(
    service: Service, database_url: str, connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    with settled(PluginWatcher(service.manager, database_url), service):
        with connection.transaction(force_rollback=True):
            connection.execute("INSERT INTO plugin_config (plugin_name, status) VALUES ('a', 'enabled')")
        repository.save("b", "enabled")
        assert wait_until(lambda: "b" in service.enabled)
    assert service.enabled == {"b"}


CHANGES = [
    "UPDATE plugin_config SET status = 'disabled' WHERE plugin_name = 'a'",
    """UPDATE plugin_config SET config = '{"key": true}' WHERE plugin_name = 'a'""",
    "INSERT INTO plugin_config (plugin_name) VALUES ('c'), ('d')",
    "DELETE FROM plugin_config WHERE plugin_name = 'a'",
    "UPDATE plugin_config SET plugin_name = 'new' WHERE plugin_name = 'a'",
    "TRUNCATE plugin_config",
]


@pytest.mark.parametrize("statement", CHANGES)
def test_a_running_process_follows_each_change(
    service: Service,
    database_url: str,
    connection: psycopg.Connection[Any],
    repository: PluginConfigRepository,
    statement: str,
) -> None:
    repository.save("a", "enabled", {"key": 1})
    repository.save("b", "disabled", {"key": 1})
    with settled(PluginWatcher(service.manager, database_url), service):
        assert service.enabled == {"a"}
        connection.execute(statement.encode())
        expected = fresh_state(database_url)
        assert wait_until(lambda: service.state() == expected)


def test_a_burst_is_handled_as_one(
    service: Service, database_url: str, connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    goes_on, entered = threading.Event(), threading.Event()
    service["a"].then["on_enable"] = lambda: (entered.set(), goes_on.wait(30))
    with settled(PluginWatcher(service.manager, database_url), service):
        before = syncs(service)
        repository.save("a", "enabled")
        assert entered.wait(10)
        for number in range(100):
            repository.save("b", "enabled", {"number": number})
        goes_on.set()
        assert wait_until(lambda: service["b"].get_config("number") == 99)
        assert wait_until(lambda: "b" in service.enabled)
        assert 2 <= syncs(service) - before <= 4


@pytest.mark.parametrize("triggers", ["dropped", "there"])
def test_it_syncs_every_resync_seconds_whatever_happens(
    service: Service,
    database_url: str,
    connection: psycopg.Connection[Any],
    repository: PluginConfigRepository,
    triggers: str,
) -> None:
    if triggers == "dropped":
        connection.execute("DROP TRIGGER plugin_config_notify_rows ON plugin_config")
    with settled(PluginWatcher(service.manager, database_url, resync_seconds=0.2), service):
        repository.save("a", "enabled")
        assert wait_until(lambda: "a" in service.enabled)
        began, before = time.monotonic(), syncs(service)
        assert wait_until(lambda: syncs(service) > before + 3)
        assert time.monotonic() - began > 0.5, "more often than that"


def test_it_syncs_though_its_own_connection_cannot_be_made(
    service: Service, database_url: str, repository: PluginConfigRepository, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = f"{database_url}&dbname=no_such_database"
    with settled(PluginWatcher(service.manager, nowhere, resync_seconds=0.2), service):
        repository.save("a", "enabled")
        assert wait_until(lambda: "a" in service.enabled)
        before = syncs(service)
        assert wait_until(lambda: syncs(service) > before + 1)
    (message,) = caplog.messages
    assert "no news of plugin_config, trying again" in message
    assert 'database "no_such_database" does not exist' in message


def test_it_waits_for_a_database_that_is_away_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with OwnServer() as server:
        migrate(server.url)
        with PluginConfigRepository.open(server.url, timeout=5) as repository:
            service = Service(repository, PLUGINS, CountingManager)
            server.stop()
            with PluginWatcher(service.manager, server.url) as watcher:
                assert wait_until(lambda: caplog.messages)
                assert not watcher.healthy
                assert watcher.last_sync_age is None
                server.start()
                assert wait_until(lambda: watcher.healthy, LONGEST_DELAY + MARGIN)
                repository.save("a", "enabled")
                assert wait_until(lambda: "a" in service.enabled)
        listen = [record.getMessage() for record in caplog.records if record.name == "plugin_store.listen"]
        assert len(listen) == 1


def test_a_server_that_says_goodbye_is_not_asked_for_rows(caplog: pytest.LogCaptureFixture) -> None:
    # The store's pool may wait for a server that is away much longer than the watcher does.
    with OwnServer() as server:
        migrate(server.url)
        with PluginConfigRepository.open(server.url) as repository:
            service = Service(repository, PLUGINS, CountingManager)
            with settled(PluginWatcher(service.manager, server.url), service):
                before = syncs(service)
                server.stop()
                assert wait_until(lambda: any("trying again" in message for message in caplog.messages))
                assert syncs(service) == before
                server.start()
                assert wait_until(lambda: syncs(service) > before, LONGEST_DELAY + MARGIN)


# -- where LISTEN cannot work ---------------------------------------------------------------------


def polling_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("polling")]


def test_on_a_replica_it_polls_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with OwnServer() as server:
        migrate(server.url)
        with server.standby() as replica, PluginConfigRepository.open(server.url) as repository:
            service = Service(repository, PLUGINS, CountingManager)
            watcher = PluginWatcher(service.manager, replica, resync_seconds=0.5, poll_seconds=0.05)
            with settled(watcher, service):
                for round_ in range(4):  # over some intervals, at the end of each of which LISTEN is tried again
                    before = syncs(service)
                    repository.save("a", "disabled" if round_ % 2 else "enabled")
                    assert wait_until(lambda: ("a" in service.enabled) == (round_ % 2 == 0))  # noqa: B023
                    assert wait_until(lambda: syncs(service) > before + 8)  # noqa: B023
                assert watcher.healthy
    assert polling_messages(caplog) == ["polling plugin_config every 0.05 s: the server is a read-only replica"]


@pytest.mark.parametrize(
    "how",
    [
        "DROP FUNCTION plugin_config_notify() CASCADE",
        "DROP TRIGGER plugin_config_notify_update ON plugin_config",
        "ALTER TABLE plugin_config DISABLE TRIGGER plugin_config_notify_rows",
        "ALTER TABLE plugin_config DISABLE TRIGGER plugin_config_notify_update",
        "ALTER TABLE plugin_config DISABLE TRIGGER plugin_config_notify_truncate",
        "ALTER TABLE plugin_config ENABLE REPLICA TRIGGER plugin_config_notify_update",
    ],
)
def test_without_all_of_the_triggers_it_polls_and_says_what_to_run(
    service: Service,
    database_url: str,
    repository: PluginConfigRepository,
    connection: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    connection.execute(how.encode())
    repository.save("a", "disabled")
    with settled(PluginWatcher(service.manager, database_url, poll_seconds=0.05), service):
        repository.save("a", "enabled")
        assert wait_until(lambda: "a" in service.enabled)
    assert polling_messages(caplog) == [
        "polling plugin_config every 0.05 s: the table does not announce its changes: run `plugin-store migrate`, "
        "which makes the triggers, or ALTER TABLE plugin_config ENABLE TRIGGER USER if they are disabled"
    ]


def test_it_listens_to_triggers_that_are_always_enabled(
    service: Service,
    database_url: str,
    repository: PluginConfigRepository,
    connection: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection.execute("ALTER TABLE plugin_config ENABLE ALWAYS TRIGGER plugin_config_notify_rows")
    with settled(PluginWatcher(service.manager, database_url), service):
        repository.save("a", "enabled")
        assert wait_until(lambda: "a" in service.enabled)
    assert polling_messages(caplog) == []


def test_it_listens_again_when_the_replica_becomes_the_primary() -> None:
    with OwnServer() as server:
        migrate(server.url)
        with server.standby() as replica, PluginConfigRepository.open(replica) as repository:
            service = Service(repository, PLUGINS, CountingManager)
            url = f"{replica}?application_name=watcher"
            watcher = PluginWatcher(service.manager, url, resync_seconds=0.2, poll_seconds=0.05)
            with settled(watcher, service), psycopg.connect(replica, autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
                # One that finds that it has to poll does not keep its session, nor asks this of it.
                listening = "SELECT pid FROM pg_stat_activity WHERE application_name = 'watcher' AND query LIKE %s"
                assert wait_until(lambda: connection.execute(listening, ["%pg_trigger%"]).fetchall())
                (pid,) = sessions(connection)
                repository.save("a", "enabled")
                assert wait_until(lambda: "a" in service.enabled)
                assert sessions(connection) == [pid]


@pytest.fixture
def pooler(database_url: str, tmp_path: Path) -> Iterator[str]:
    """The URL of the test's database through a PgBouncer in transaction mode."""
    with pgbouncer(database_url, tmp_path) as url:
        yield url


def test_behind_a_pooler_it_polls_and_says_so_once(
    service: Service, repository: PluginConfigRepository, pooler: str, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = PluginWatcher(service.manager, pooler, resync_seconds=0.5, poll_seconds=0.05)
    with settled(watcher, service):
        for round_ in range(4):
            before = syncs(service)
            repository.save("a", "disabled" if round_ % 2 else "enabled")
            assert wait_until(lambda: ("a" in service.enabled) == (round_ % 2 == 0))  # noqa: B023
            assert wait_until(lambda: syncs(service) > before + 8)  # noqa: B023
    assert polling_messages(caplog) == [
        "polling plugin_config every 0.05 s: there is a connection pooler before the server"
    ]


def test_also_behind_a_pooler_of_another_kind(
    service: Service, repository: PluginConfigRepository, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        made_up_pid(database_url) as url,
        settled(PluginWatcher(service.manager, url, poll_seconds=0.05), service),
    ):
        repository.save("a", "enabled")
        assert wait_until(lambda: "a" in service.enabled)
    assert len(polling_messages(caplog)) == 1


def test_store_and_watcher_may_both_be_behind_a_pooler(pooler: str) -> None:
    # Prepared statements would stay behind on the server connection that the pooler gives to the next.
    kwargs = {"prepare_threshold": None}
    with ConnectionPool(pooler, kwargs=kwargs, min_size=2, max_size=4, open=True) as pool:
        repository = PluginConfigRepository(pool)
        service = Service(repository, PLUGINS, CountingManager)
        with settled(PluginWatcher(service.manager, pooler, poll_seconds=0.05), service):
            for round_ in range(10):
                repository.save("a", "disabled" if round_ % 2 else "enabled", {"round": round_})
                assert wait_until(lambda: service["a"].get_config("round") == round_)  # noqa: B023


# -- starting and stopping ------------------------------------------------------------------------


def test_it_stops_promptly_from_any_thread_and_twice(service: Service, database_url: str) -> None:
    watcher = PluginWatcher(service.manager, database_url)
    with settled(watcher, service):
        began = time.monotonic()
        stoppers = [threading.Thread(target=watcher.stop) for _ in range(3)]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join(MARGIN)
        watcher.stop()
        assert watcher_threads() == []
        assert time.monotonic() - began < MARGIN
    watcher.stop()


def test_it_can_be_started_twice_and_again(
    service: Service, database_url: str, repository: PluginConfigRepository
) -> None:
    watcher = PluginWatcher(service.manager, database_url)
    for round_ in range(3):
        with settled(watcher, service):
            watcher.start()
            assert len(watcher_threads()) == 1
            repository.save("a", "disabled" if round_ % 2 else "enabled")
            assert wait_until(lambda: ("a" in service.enabled) == (round_ % 2 == 0))  # noqa: B023
        assert watcher_threads() == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts the descriptors in /proc")
def test_it_leaves_no_thread_and_no_descriptor(
    database_url: str, listen_url: str, connection: psycopg.Connection[Any]
) -> None:
    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    with ConnectionPool(database_url, min_size=1, max_size=1, open=True) as pool:  # which does not grow meanwhile
        service = Service(PluginConfigRepository(pool), PLUGINS, CountingManager)
        watcher = PluginWatcher(service.manager, listen_url)
        with settled(watcher, service):
            pass
        before = count()
        for _ in range(5):
            with settled(watcher, service):
                end_sessions(connection)
            with watcher:
                pass
        assert wait_until(lambda: sessions(connection) == [])
        # One that was about to connect is not waited for by stop().
        assert wait_until(lambda: (count(), watcher_threads()) == (before, []))


def test_stop_waits_for_a_sync_under_way(
    service: Service, database_url: str, repository: PluginConfigRepository
) -> None:
    entered, goes_on = threading.Event(), threading.Event()
    service["a"].then["on_enable"] = lambda: (entered.set(), goes_on.wait(30))
    with settled(watcher := PluginWatcher(service.manager, database_url), service):
        repository.save("a", "enabled")
        assert entered.wait(10)
        stopper = threading.Thread(target=watcher.stop)
        stopper.start()
        stopper.join(0.8)
        assert stopper.is_alive()
        goes_on.set()
        stopper.join(10)
        assert not stopper.is_alive()
    assert service.enabled == {"a"}


def test_a_hook_may_stop_it(service: Service, database_url: str, repository: PluginConfigRepository) -> None:
    watcher = PluginWatcher(service.manager, database_url)
    service["a"].then["on_enable"] = watcher.stop
    with settled(watcher, service):
        repository.save("a", "enabled")
        assert wait_until(lambda: watcher_threads() == [])
        assert service.enabled == {"a"}
        assert not watcher.healthy


def test_a_hook_of_a_local_change_may_stop_it_while_it_waits_to_sync(
    service: Service, database_url: str, repository: PluginConfigRepository
) -> None:
    # The watcher's thread waits for the manager, and the manager, in the hook, would wait for the thread.
    watcher = PluginWatcher(service.manager, database_url)

    def hook() -> None:
        before = syncs(service)
        repository.save("b", "enabled")
        assert wait_until(lambda: syncs(service) > before)
        watcher.stop()

    service["a"].then["on_enable"] = hook
    with settled(watcher, service):
        local = threading.Thread(target=service.manager.enable_plugin, args=["a"], daemon=True)
        local.start()
        local.join(10)
        assert not local.is_alive(), "a deadlock"
        assert wait_until(lambda: watcher_threads() == [])


def test_stop_does_not_wait_for_a_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/none?connect_timeout=60"
        watcher = PluginWatcher(PluginManager(config_repo=InMemoryPluginConfigStore()), url)
        watcher.start()
        silent.settimeout(10)
        connection, _ = silent.accept()
        with connection:
            began = time.monotonic()
            watcher.stop()
            assert time.monotonic() - began < MARGIN
        assert wait_until(lambda: watcher_threads() == [])


def test_a_conninfo_that_cannot_be_read_is_refused_at_once() -> None:
    with pytest.raises(InvalidDatabaseURLError):
        PluginWatcher(PluginManager(), "postgresql://me:sec@ret@somewhere/db")


@pytest.mark.parametrize("name", ["resync_seconds", "poll_seconds"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e10])
def test_seconds_that_are_no_time_to_wait_are_refused(name: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0 and at most 86400, not {seconds}"):
        PluginWatcher(PluginManager(), **{name: seconds})


def test_a_listener_may_be_stopped_when_it_has_ended() -> None:
    listener = TableListener("", lambda: None, resync_seconds=1, poll_seconds=1)
    listener.stop()
    listener.run()
    listener.stop()


# -- health ---------------------------------------------------------------------------------------


def test_health_follows_the_last_sync(service: Service, database_url: str, repository: PluginConfigRepository) -> None:
    watcher = PluginWatcher(service.manager, database_url, resync_seconds=0.3)
    assert watcher.last_sync_age is None
    assert not watcher.healthy
    entered, goes_on = threading.Event(), threading.Event()
    service["a"].then["on_enable"] = lambda: (entered.set(), goes_on.wait(30))
    with settled(watcher, service):
        assert wait_until(lambda: watcher.healthy)
        repository.save("a", "enabled")
        assert entered.wait(10)
        assert wait_until(lambda: not watcher.healthy), "a hook that hangs is not healthy"
        assert watcher.last_sync_age is not None
        assert watcher.last_sync_age >= 0.6
        goes_on.set()
        assert wait_until(lambda: watcher.healthy)
    assert not watcher.healthy


# -- what may not end it --------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
@pytest.mark.parametrize("where", ["on_enable", "on_config_changed", "listener", "sync"])
def test_no_exception_ends_the_thread(
    service: Service,
    database_url: str,
    repository: PluginConfigRepository,
    caplog: pytest.LogCaptureFixture,
    error: type[BaseException],
    where: str,
) -> None:
    raised = []

    def fails(*_: object) -> None:
        raised.append(where)
        if len(raised) == 1 or where != "sync":
            raise error("broken")

    class Failing(CountingManager):
        def sync(self) -> Any:
            if self.syncs:
                fails()
            return super().sync()

    if where == "listener":
        service.manager.event_dispatcher.add_listener("plugin.enabled", fails)
    elif where == "sync":
        service = Service(repository, PLUGINS, Failing)
    else:
        service["a"].then[where] = fails
    watcher = PluginWatcher(service.manager, database_url)
    with settled(watcher, service):
        repository.save("a", "enabled")
        if where == "on_config_changed":
            assert wait_until(lambda: "a" in service.enabled)
            repository.save_config("a", {"key": 1})
        assert wait_until(lambda: raised)
        if where == "listener":
            service.manager.event_dispatcher.remove_listener("plugin.enabled", fails)
        repository.save("b", "enabled")
        assert wait_until(lambda: "b" in service.enabled), "the hook of another holds it up"
        service["a"].then.clear()
        service["a"].running = False
        repository.save("a", "disabled", {"key": 2})
        assert wait_until(lambda: service.enabled == {"b"}), service.state()
        assert len(watcher_threads()) == 1
        assert wait_until(lambda: watcher.healthy)
    assert any(record.exc_info for record in caplog.records if record.levelno >= logging.WARNING)


TROUBLE = {
    "lock": ("BEGIN; LOCK TABLE plugin_config", "COMMIT", "the database refused: .* lock timeout"),
    "role": (
        "REVOKE ALL ON plugin_config FROM follower",
        "GRANT ALL ON plugin_config TO follower",
        "the database role may not do this",
    ),
    "table": (
        "ALTER TABLE plugin_config RENAME TO gone",
        "ALTER TABLE gone RENAME TO plugin_config",
        "plugin-store migrate",
    ),
}


@pytest.fixture
def follower(database_url: str, connection: psycopg.Connection[Any]) -> Iterator[PluginConfigRepository]:
    """A repository of a role that may only read and write rows, and does not wait for locks."""
    connection.execute("CREATE ROLE follower")
    try:
        connection.execute("GRANT ALL ON plugin_config TO follower")
        kwargs = {"options": "-c role=follower -c lock_timeout=50"}
        with ConnectionPool(database_url, kwargs=kwargs, min_size=1, max_size=2, open=True) as pool:
            yield PluginConfigRepository(pool)
    finally:
        connection.execute("DROP OWNED BY follower; DROP ROLE follower")


@pytest.mark.parametrize("what", TROUBLE)
def test_it_outlives_trouble_with_the_table(
    follower: PluginConfigRepository,
    database_url: str,
    connection: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    begin, end, message = TROUBLE[what]
    service = Service(follower, PLUGINS, CountingManager)
    with settled(PluginWatcher(service.manager, database_url), service):
        connection.execute(begin.encode())
        connection.execute("NOTIFY plugin_config")
        if what == "lock":  # the transaction sends its notification at its end
            with psycopg.connect(database_url, autocommit=True) as another:
                another.execute("NOTIFY plugin_config")
        assert wait_until(lambda: re.search(message, caplog.text))
        connection.execute(end.encode())
        follower.save("a", "enabled")
        assert wait_until(lambda: "a" in service.enabled, LONGEST_DELAY + MARGIN)


def test_a_connection_that_is_lost_is_logged_without_its_password(
    service: Service, listen_url: str, connection: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with settled(PluginWatcher(service.manager, listen_url), service):
        for times in (1, 2):  # each time it begins anew
            before = syncs(service)
            end_sessions(connection)
            assert wait_until(lambda: syncs(service) > before)  # noqa: B023
            assert [record.name for record in caplog.records] == ["plugin_store.listen"] * times
    password = conninfo_to_dict(listen_url)["password"]
    assert password and password not in caplog.text
    assert not any(record.exc_info for record in caplog.records), "it needs no traceback"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_it_outlives_a_shortage_of_descriptors(
    service: Service, listen_url: str, connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    with settled(PluginWatcher(service.manager, listen_url), service):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, limits[1]))
            with suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            end_sessions(connection)
            assert not wait_until(lambda: not watcher_threads(), 0.5)
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        repository.save("a", "enabled")
        assert wait_until(lambda: "a" in service.enabled, LONGEST_DELAY + MARGIN)
