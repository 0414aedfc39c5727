"""Restarts for real: each start of the service is an operating-system process, and the table is all they share.

There is a test for every row of the list of what is mended in the source.
"""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import recorder
from recorder import until

from plugin_store import PluginConfigRepository

SERVICE = """
import json, os, sys
from datetime import datetime
from recorder import Recorder, events_of, started
from plugin_store import DependencyError, PluginConfigRepository, PluginStoreError

answer = None
with PluginConfigRepository.open(os.environ["DATABASE_URL"]) as store:
{}
print(json.dumps(answer, default=str))
"""


@pytest.fixture(autouse=True)
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(Path(recorder.__file__).parent), *filter(None, sys.path), os.getcwd()]),
    )


@contextmanager
def starting(*program: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a process that runs the program with ``store`` at hand; it does not outlive the block."""
    code = SERVICE.format("\n".join(textwrap.indent(textwrap.dedent(part), "    ") for part in program))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def answer_of(process: "subprocess.Popen[str]") -> Any:
    """Return what the program put into ``answer``, once it has ended well."""
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def run(*program: str, **variables: str) -> Any:
    """Run the program in a process of its own from start to end, and return its ``answer``."""
    with starting(*program, **variables) as process:
        return answer_of(process)


START = """
    plugin = Recorder("analytics")
    manager = started(store, plugin)
    manager.load_persisted_state()
"""


def test_a_plugin_disabled_by_hand_does_not_come_back(repository: PluginConfigRepository) -> None:
    start = """
        plugins = [Recorder("analytics"), Recorder("reports")]
        manager = started(store, *plugins)
        manager.load_persisted_state()
        manager.enable_defaults("analytics")
        answer = [plugin.metadata.name for plugin in manager.get_enabled_plugins()]
    """
    assert run(start) == ["analytics"]
    assert run(start, "manager.disable_plugin('analytics')") == ["analytics"]
    assert run(start) == []
    assert run(start) == []
    # A plugin that is new gets its default, and changes nothing for the one that was decided on.
    assert run(start.replace('defaults("analytics")', 'defaults("analytics", "reports")')) == ["reports"]


def test_what_was_enabled_comes_back_and_what_was_disabled_by_psql_does_not(
    connection: psycopg.Connection[Any],
) -> None:
    start = START, "answer = plugin.status.name"
    assert run(*start) == "INITIALIZED"
    run(START, "manager.enable_plugin('analytics')")
    assert run(*start) == "ENABLED"
    connection.execute("UPDATE plugin_config SET status = 'disabled' WHERE plugin_name = 'analytics'")
    assert run(*start) == "DISABLED"


def test_a_process_killed_right_after_enable_plugin_returned_has_stored_it() -> None:
    with starting(START, "manager.enable_plugin('analytics'); print('enabled', flush=True); input()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "enabled\n"
        process.kill()
        assert process.wait(timeout=60) != 0
    assert run(START, "answer = plugin.status.name, plugin.hooks") == ["ENABLED", ["on_enable"]]


def test_first_starts_at_once_make_one_row(database_url: str, connection: psycopg.Connection[Any]) -> None:
    start = """
        plugin = Recorder("analytics")
        manager = started(store, plugin, interval=5)
        manager.load_persisted_state()
        manager.enable_defaults("analytics")
        answer = plugin.status.name, str(store.get_by_name("analytics").id)
    """
    with psycopg.connect(database_url) as blocker:
        PluginConfigRepository(blocker).save("analytics", "disabled")  # and never commits
        with starting(start) as one, starting(start) as two, starting(start) as three:
            waiting = b"SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            until(lambda: len(connection.execute(waiting).fetchall()) == 3)
            blocker.rollback()
            answers = [answer_of(process) for process in (one, two, three)]
    rows = connection.execute("SELECT id, status, config FROM plugin_config").fetchall()
    assert [(status, config) for _, status, config in rows] == [("enabled", {})]
    assert answers == [["ENABLED", str(rows[0][0])]] * 3


def test_a_new_disabled_row_has_disabled_at() -> None:
    run(START, "manager.disable_plugin('analytics')")
    row = run("row = store.get_by_name('analytics'); answer = row.status, row.disabled_at, row.enabled_at")
    assert row[0] == "disabled" and row[1] is not None and row[2] is None


def test_the_config_of_a_disabled_plugin_survives_its_enabling() -> None:
    run(START, "manager.save_config('analytics', {'interval': 5}); manager.disable_plugin('analytics')")
    run(START, "manager.enable_plugin('analytics')")
    run(START, "manager.disable_plugin('analytics')")
    assert run(START, "answer = plugin._config, store.get_by_name('analytics').config") == [{"interval": 5}] * 2


def test_an_old_config_is_not_written_over_a_newer_one() -> None:
    wait = "print(flush=True); input()"
    with starting(START, "manager.enable_plugin('analytics')", wait, "manager.disable_plugin('analytics')") as old:
        assert old.stdout is not None
        old.stdout.readline()
        run(START, "manager.save_config('analytics', {'by': 'the newer process'})")
        assert old.communicate("\n", timeout=60)[1] == ""
    answer = run(START, "answer = plugin.status.name, store.get_by_name('analytics').config")
    assert answer == ["DISABLED", {"by": "the newer process"}]


def test_nothing_is_announced_and_nothing_runs_if_storing_fails(connection: psycopg.Connection[Any]) -> None:
    connection.execute("ALTER TABLE plugin_config ADD CONSTRAINT not_now CHECK (status = 'disabled') NOT VALID")
    attempt = """
        events = events_of(manager)
        try:
            manager.enable_plugin("analytics")
        except PluginStoreError as exc:
            answer = plugin.status.name, plugin.hooks, events, "not_now" in str(exc)
    """
    assert run(START, attempt) == ["INITIALIZED", ["on_enable", "on_disable"], [], True]
    connection.execute("ALTER TABLE plugin_config DROP CONSTRAINT not_now")
    assert run(START, "answer = plugin.status.name") == "INITIALIZED"


def test_a_hook_that_fails_at_a_restart_leaves_the_row_and_the_next_restart_tries_again() -> None:
    run(START, "manager.enable_plugin('analytics')")
    failing = START.replace("manager = ", "plugin.fail('on_enable'); manager = ")
    assert run(failing, "answer = plugin.status.name, store.get_by_name('analytics').status") == [
        "ERROR",
        "enabled",
    ]
    assert run(START, "answer = plugin.status.name") == "ENABLED"


def test_a_child_comes_up_after_its_parent_and_never_without_it(connection: psycopg.Connection[Any]) -> None:
    start = """
        log = []
        child = Recorder("a child", "the parent")
        parent = Recorder("the parent")
        child.then["on_enable"] = lambda: log.append("child")
        parent.then["on_enable"] = lambda: log.append("parent")
        manager = started(store, child, parent)
        report = manager.load_persisted_state()
        answer = log, report.skipped
    """
    run(start, "manager.enable_plugin('the parent'); manager.enable_plugin('a child')")
    assert run(start) == [["parent", "child"], {}]
    connection.execute("UPDATE plugin_config SET status = 'disabled' WHERE plugin_name = 'the parent'")
    assert run(start) == [[], {"a child": "Dependency 'the parent' not enabled"}]
    connection.execute("UPDATE plugin_config SET status = 'enabled' WHERE plugin_name = 'the parent'")
    assert run(start) == [["parent", "child"], {}]


def test_timestamps_mean_the_same_moment_in_every_time_zone(connection: psycopg.Connection[Any]) -> None:
    here = "manager.enable_plugin('analytics'); answer = store.get_by_name('analytics').enabled_at"
    there = "answer = store.get_by_name('analytics').enabled_at"
    east = datetime.fromisoformat(run(START, here, TZ="Asia/Kolkata", PGTZ="Asia/Kolkata"))
    west = datetime.fromisoformat(run(there, TZ="America/Lima", PGTZ="America/Lima"))
    now = connection.execute("SELECT clock_timestamp()").fetchone()
    assert now is not None
    assert east.utcoffset() == timedelta(hours=5, minutes=30) and west.utcoffset() == timedelta(hours=-5)
    assert east == west
    assert timedelta() < now[0] - east < timedelta(minutes=2)


def test_enabled_at_moves_with_the_status_and_not_with_the_config() -> None:
    times = "row = store.get_by_name('analytics'); answer = [str(row.enabled_at), str(row.updated_at)]"
    run(START, "manager.enable_plugin('analytics')")
    first = run(times)
    run(START, "manager.save_config('analytics', {'a': 1}); manager.enable_plugin('analytics')")
    second = run(times)
    assert second[0] == first[0] and second[1] > first[1]
    run(START, "manager.disable_plugin('analytics'); manager.enable_plugin('analytics')")
    assert run(times)[0] > first[0]


def test_enabling_and_disabling_by_several_workers_can_be_repeated() -> None:
    worker = """
        for line in sys.stdin:
            getattr(manager, line.strip() + "_plugin")("analytics")
            print(plugin.status.name, flush=True)
        answer = plugin.hooks
    """
    with starting(START, worker) as one, starting(START, worker) as two:
        for command, status in (("enable", "ENABLED"), ("disable", "DISABLED"), ("enable", "ENABLED")):
            for process in (one, two, one):
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(f"{command}\n")
                process.stdin.flush()
                assert process.stdout.readline() == f"{status}\n"
        assert answer_of(one) == answer_of(two) == ["on_enable", "on_disable", "on_enable"]
    assert run(START, "answer = plugin.status.name") == "ENABLED"


def test_delete_says_whether_there_was_a_row() -> None:
    run(START, "manager.enable_plugin('analytics')")
    assert run("answer = store.delete('analytics')") is True
    assert run("answer = store.delete('analytics')") is False
    assert run(START, "answer = plugin.status.name") == "INITIALIZED"


def test_a_service_whose_store_cannot_be_read_does_not_start_with_everything_off(
    connection: psycopg.Connection[Any],
) -> None:
    run(START, "manager.enable_plugin('analytics')")
    connection.execute("ALTER TABLE plugin_config RENAME TO elsewhere")
    with starting(START) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "SchemaError" in errors and "plugin-store migrate" in errors
    connection.execute("ALTER TABLE elsewhere RENAME TO plugin_config")
    assert run(START, "answer = plugin.status.name") == "ENABLED"


def test_what_was_set_in_psql_while_the_service_was_down_is_laid_over_the_defaults(
    connection: psycopg.Connection[Any],
) -> None:
    connection.execute(
        "INSERT INTO plugin_config (plugin_name, status, config) VALUES ('analytics', 'enabled', '{\"interval\": 9}')"
    )
    start = START.replace("started(store, plugin)", "started(store, plugin, interval=5, limit=100)")
    assert run(start, "answer = plugin._config") == {"interval": 9, "limit": 100}
    connection.execute("UPDATE plugin_config SET config = config - 'interval'")
    assert run(start, "answer = plugin._config") == {"interval": 5, "limit": 100}
