"""Watchers in processes of their own: workers agree with the table, and signals and exits go well."""

import time

import psycopg
import pytest
from programs import output_of
from watching import end_sessions, following, service_on, sessions, syncs
from workers import PLUGINS, Crew, OwnServer, fresh_state, wait_until

from plugin_store import PluginConfigRepository

# As a person in psql would.
TOGGLE = """
    INSERT INTO plugin_config (plugin_name, status) VALUES (%(name)s, 'enabled')
    ON CONFLICT (plugin_name) DO UPDATE
    SET status = CASE plugin_config.status WHEN 'enabled' THEN 'disabled' ELSE 'enabled' END, config = %(config)s
"""


def test_workers_follow_over_killed_sessions_and_restart(own_server: OwnServer) -> None:
    with Crew(own_server.url, 9) as crew:
        for number in range(100):
            with psycopg.connect(own_server.url, autocommit=True) as connection:
                if number % 20 == 10:
                    assert wait_until(lambda: len(sessions(connection)) == 9), "they do not come back"
                    end_sessions(connection)
                if number % 2:
                    name = list(PLUGINS)[number % len(PLUGINS)]
                    connection.execute(TOGGLE, {"name": name, "config": f'{{"sql": {number}}}'})
                elif number % 10 == 6:
                    connection.execute("DELETE FROM plugin_config WHERE plugin_name = 'left'")
                else:
                    crew.ask_last("change", number)
            if number == 50:
                own_server.stop()
                assert crew.ask_last("change", number) is False
                own_server.start()
        with PluginConfigRepository.open(own_server.url) as repository:
            repository.save("a", "enabled", {"last": True})  # differs from all states before
        state = fresh_state(own_server.url)
        assert wait_until(lambda: crew.agrees(state), 28), (state, crew.ask("state"))  # before a resync


def test_workers_that_toggle_a_plugin_agree(database_url: str) -> None:
    with Crew(database_url, 2) as crew:
        assert min(crew.ask("toggle", "a", 2.0)) > 10
        assert wait_until(lambda: crew.agrees(fresh_state(database_url)))


def test_watcher_polls_replica_and_listens_once_promoted(
    own_server: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server.standby() as replica, PluginConfigRepository.open(own_server.url) as repository:
        service = service_on(repository)
        with (
            following(service, replica, resync_seconds=0.5, poll_seconds=0.05),
            psycopg.connect(replica, autocommit=True) as connection,
        ):
            repository.save("a", "enabled")
            assert wait_until(lambda: service.enabled == {"a"})
            connection.execute("SELECT pg_promote()")

            def is_heard() -> bool:
                PluginConfigRepository(connection).save("b", "enabled", {"number": time.monotonic_ns()})
                return wait_until(lambda: {"b"} in [sync["names"] for sync in syncs(service)], 1.0)

            assert wait_until(is_heard)
    assert [message for message in caplog.messages if message.startswith("polling")] == [
        "polling plugin_config every 0.05 s: the server refuses LISTEN: cannot execute LISTEN during recovery"
    ]


START = """
import faulthandler, os, signal, threading, time
from watching import service_on
from workers import wait_until
from plugin_store import PluginConfigRepository, PluginWatcher

url = os.environ["DATABASE_URL"]
repository = PluginConfigRepository.open(url)
service = service_on(repository)
watcher = PluginWatcher(service.manager, url)
watcher.start()
wait_until(lambda: watcher.healthy)
"""


def test_signal_handler_may_stop_watcher_at_any_moment(database_url: str) -> None:
    program = """
    faulthandler.dump_traceback_later(80, exit=True)
    signal.signal(signal.SIGALRM, lambda *_: watcher.stop())
    for number in range(200):
        signal.setitimer(signal.ITIMER_REAL, 0.00002 + number % 40 * 0.00002)
        watcher.start()
        signal.setitimer(signal.ITIMER_REAL, 0)
        watcher.stop()
    watcher.start()
    print(wait_until(lambda: watcher.healthy))
    """
    assert output_of(START, program, DATABASE_URL=database_url) == ["True"]


IN_A_HOOK = """
    entered = threading.Event()
    service["a"].then["on_enable"] = lambda: (entered.set(), time.sleep(60))
    repository.save("a", "enabled")
    entered.wait(20)
"""


@pytest.mark.parametrize("when", ["", IN_A_HOOK], ids=["following", "hook"])
def test_interpreter_exits_quietly(database_url: str, when: str) -> None:
    assert output_of(START, when, DATABASE_URL=database_url) == []
