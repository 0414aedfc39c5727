"""Watchers in processes of their own: workers agree with the table, and forks, signals and exits go well."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import workers
from watching import end_sessions, following, service_on, sessions, syncs
from workers import PLUGINS, Crew, OwnServer, environment, fresh_state, wait_until

from plugin_store import PluginConfigRepository
from plugin_store.cli.migrate import migrate

CHANGES = 100


# -- workers -------------------------------------------------------------------------------------


def change_by_sql(connection: psycopg.Connection[Any], number: int) -> None:
    """Make one change of a fixed sequence, as a person in psql would."""
    name = list(PLUGINS)[number % len(PLUGINS)]
    if number % 10 == 9:
        connection.execute("DELETE FROM plugin_config WHERE plugin_name = %s", [name])
    elif number % 3 == 0:
        connection.execute(
            "UPDATE plugin_config SET config = config || jsonb_build_object('sql', %s::int) WHERE plugin_name = %s",
            [number, name],
        )
    else:
        connection.execute(
            """INSERT INTO plugin_config (plugin_name, status) VALUES (%s, 'enabled')
               ON CONFLICT (plugin_name) DO UPDATE
               SET status = CASE plugin_config.status WHEN 'enabled' THEN 'disabled' ELSE 'enabled' END""",
            [name],
        )


def run_changes(crew: Crew, url: str, disturb: Callable[[int], object] = bool) -> None:
    """Make changes, by plain SQL and by the last worker in turn, and assert that all workers agree with the table."""
    for number in range(CHANGES):
        disturb(number)
        if number % 2:
            with psycopg.connect(url, autocommit=True) as connection:
                change_by_sql(connection, number)
        else:
            crew.ask("change", number, worker=8)
    with psycopg.connect(url, autocommit=True) as connection:  # a state that differs from all before
        connection.execute(
            """INSERT INTO plugin_config (plugin_name, status, config) VALUES ('a', 'enabled', '{"last": true}')
               ON CONFLICT (plugin_name) DO UPDATE SET status = excluded.status, config = excluded.config"""
        )
    state = fresh_state(url)
    assert state["a"] == 'enabled {"last": true}'
    assert wait_until(lambda: crew.agrees(state), 28), (state, crew.ask_all("state"))  # before a resync


def test_workers_follow_while_sessions_are_killed(database_url: str, connection: psycopg.Connection[Any]) -> None:
    def kill(number: int) -> None:
        if number % 20 == 10:
            assert wait_until(lambda: len(sessions(connection)) == 9), "they do not come back"
            end_sessions(connection)

    with Crew(database_url, 9) as crew:
        run_changes(crew, database_url, kill)


def test_workers_follow_over_restart_of_server() -> None:
    with OwnServer() as server:
        migrate(server.url)

        def restart(number: int) -> None:
            if number == CHANGES // 2:
                server.stop()
                assert crew.ask("change", number, worker=8) is False
                server.start()

        with Crew(server.url, 9) as crew:
            run_changes(crew, server.url, restart)


def test_two_workers_that_toggle_a_plugin_agree(database_url: str, connection: psycopg.Connection[Any]) -> None:
    connection.execute("LISTEN plugin_config")
    with Crew(database_url, 2) as crew:
        for worker in range(2):
            crew.tell("toggle", "a", 2.0, worker=worker)
        assert min(crew.answer(worker) for worker in range(2)) > 10
        assert wait_until(lambda: crew.agrees(fresh_state(database_url)))
        # Following a change announces none.
        assert wait_until(lambda: list(connection.notifies(timeout=1.0)) == [])


# -- replicas ------------------------------------------------------------------------------------


def test_watcher_polls_replica_and_listens_once_promoted(caplog: pytest.LogCaptureFixture) -> None:
    with OwnServer() as server:
        migrate(server.url)
        with server.standby() as replica, PluginConfigRepository.open(server.url) as repository:
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
    messages = [message for message in caplog.messages if message.startswith("polling")]
    assert messages == [
        "polling plugin_config every 0.05 s: the server refuses LISTEN: cannot execute LISTEN during recovery"
    ]


# -- forks, signals and exits --------------------------------------------------------------------

PREAMBLE = """
    import ctypes, logging, os, signal, sys, threading, time
    from watching import service_on
    from workers import wait_until
    from plugin_store import PluginConfigRepository, PluginWatcher
    import psycopg

    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
    url = os.environ["DATABASE_URL"]
    opened = PluginConfigRepository.open(url)
    repository = opened.__enter__()
    service = service_on(repository)
    watcher = PluginWatcher(service.manager, url)

    def say(*what):
        sys.stdout.write(" ".join(map(str, what)) + "\\n")
        sys.stdout.flush()
"""


def run(program: str, url: str) -> list[str]:
    """Run a program after PREAMBLE, and return what it prints. It must end without an error."""
    code = textwrap.dedent(PREAMBLE) + textwrap.dedent(program)
    env = environment(DATABASE_URL=url)
    env["PYTHONPATH"] += os.pathsep + str(Path(workers.__file__).parent)
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def test_watcher_says_what_to_set_after_fork_in_c(database_url: str) -> None:
    program = """
    watcher.start()
    wait_until(lambda: watcher.healthy)
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        say(watcher.healthy, watcher.healthy, "py-call-uwsgi-fork-hooks" in watcher.problem)
        watcher.stop()
        watcher.start()
        say(wait_until(lambda: watcher.healthy))
        watcher.stop()
        os._exit(0)
    os.waitpid(child, 0)
    repository.save("a", "enabled")
    say(wait_until(lambda: service.enabled == {"a"}), watcher.healthy)
    """
    advice, *rest = run(program, database_url)
    assert "set lazy-apps or py-call-uwsgi-fork-hooks" in advice
    assert rest == ["False False True", "True", "True True"]


def test_signal_handler_may_stop_watcher_at_any_moment(database_url: str) -> None:
    program = """
    import faulthandler
    faulthandler.dump_traceback_later(80, exit=True)
    signal.signal(signal.SIGALRM, lambda *_: watcher.stop())
    for number in range(200):
        signal.setitimer(signal.ITIMER_REAL, 0.00002 + number % 40 * 0.00002)
        watcher.start()
        signal.setitimer(signal.ITIMER_REAL, 0)
        watcher.stop()
    watcher.start()
    say(wait_until(lambda: watcher.healthy))
    """
    assert run(program, database_url) == ["True"]


ENDS = {
    "following": "",
    "in a hook": """
        entered = threading.Event()
        service["a"].then["on_enable"] = lambda: (entered.set(), time.sleep(60))
        repository.save("a", "enabled")
        entered.wait(20)
        """,
    "while the table is locked": """
        session.execute("LOCK TABLE plugin_config")
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_notify('plugin_config', '{\\"schema\\": \\"public\\", \\"plugin\\": \\"a\\"}')")
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            wait_until(lambda: other.execute(waiting).fetchone() == (1,))
        """,
}


@pytest.mark.parametrize("when", ENDS)
def test_interpreter_exits_quietly(database_url: str, when: str) -> None:
    program = """
    import atexit
    session = psycopg.connect(url)
    atexit.register(session.close)
    watcher.start()
    wait_until(lambda: watcher.healthy)
    """
    assert run(textwrap.dedent(program) + textwrap.dedent(ENDS[when]), database_url) == []


def test_watcher_works_in_process_patched_by_gevent(database_url: str) -> None:
    pytest.importorskip("gevent")
    code = "from gevent import monkey; monkey.patch_all()\n"
    program = """
    watcher.start()
    say(wait_until(lambda: watcher.healthy))
    repository.save("a", "enabled")
    say(wait_until(lambda: service.enabled == {"a"}))
    watcher.stop()
    say([thread.name for thread in threading.enumerate() if thread.name == "plugin-watcher"])
    """
    env = environment(DATABASE_URL=database_url)
    env["PYTHONPATH"] += os.pathsep + str(Path(workers.__file__).parent)
    command = [sys.executable, "-c", code + textwrap.dedent(PREAMBLE) + textwrap.dedent(program)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["True", "True", "[]"]), done.stderr
