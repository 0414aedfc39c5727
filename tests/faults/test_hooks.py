"""Hooks and listeners that raise, hang, call the manager, enable others, fork: each with its documented end.

Beside those of the ordinary suite (test_manager.py, test_sync.py, test_fork.py) on the store in memory: what takes a
real table, watchers, threads and processes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from example_plugins import raising
from recorder import Service
from workers import fresh_state, wait_until

from plugin_store import DependencyError, PluginConfigRepository, PluginManager, PluginStatus, PluginWatcher

PLUGINS: dict[str, tuple[str, ...]] = {"base": (), "child": ("base",), "other": ()}
# What a test may do by the time that its hook is said to hang.
BOUND = 20


@pytest.fixture
def service(repository: PluginConfigRepository, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service with base and other enabled, which complains of a hook that hangs after a second."""
    monkeypatch.setattr("plugin_store.manager.PATIENCE", 1.0)
    service = Service(repository, PLUGINS)
    for name in ("base", "other"):
        service.manager.enable_plugin(name)
    service.forget()
    return service


@pytest.fixture
def watched(service: Service, database_url: str) -> Iterator[Service]:
    with PluginWatcher(service.manager, database_url):
        yield service


class Hang:
    """A hook that hangs until it is let go."""

    def __init__(self) -> None:
        self.there, self.go_on = Event(), Event()

    def __call__(self, *_: object) -> None:
        self.there.set()
        assert self.go_on.wait(BOUND)


def waiting(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("waiting for the plugin manager")]


def test_a_hook_that_hangs_in_the_watcher_holds_up_changes_not_readers_and_the_log_says_so(
    watched: Service, repository: PluginConfigRepository, caplog: pytest.LogCaptureFixture
) -> None:
    hang = watched["child"].then["on_enable"] = Hang()
    repository.save("child", "enabled")
    assert hang.there.wait(BOUND)
    change = Thread(target=watched.manager.disable_plugin, args=("other",))
    change.start()
    assert wait_until(lambda: waiting(caplog))
    (message,) = waiting(caplog)
    assert re.search(r"another thread is in on_enable of plugin 'child', for \d+\.\d s", message)
    # Who only asks is not held up, and sees what is.
    began = time.monotonic()
    assert [watched.manager.is_enabled(name) for name in PLUGINS] == [True, False, True]
    assert len(watched.manager.get_enabled_plugins()) == 2
    assert time.monotonic() - began < BOUND / 2
    assert change.is_alive()
    hang.go_on.set()
    change.join(BOUND)
    assert wait_until(lambda: watched.enabled == {"base", "child"})
    assert len(waiting(caplog)) == 1


def test_a_hook_that_waits_for_a_thread_which_calls_the_manager_is_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    # The README forbids it: it would wait for ever, did the hook here not give up.
    def deadlock() -> None:
        thread = Thread(target=service.manager.disable_plugin, args=("other",))
        thread.start()
        assert wait_until(lambda: waiting(caplog))
        threads.append(thread)

    threads: list[Thread] = []
    service["child"].then["on_enable"] = deadlock
    service.manager.enable_plugin("child")
    threads[0].join(BOUND)
    assert service.enabled == {"base", "child"}
    assert "is in on_enable of plugin 'child'" in waiting(caplog)[0]


def test_a_change_that_waits_for_the_database_is_in_the_log_too(
    service: Service, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(database_url) as blocker:
        blocker.execute("LOCK TABLE plugin_config IN SHARE MODE")
        threads = [Thread(target=service.manager.enable_plugin, args=(name,)) for name in ("child", "other")]
        for thread in threads:
            thread.start()
        assert wait_until(lambda: waiting(caplog))
        assert "another thread is in a change, at the store" in waiting(caplog)[0]
        blocker.rollback()
    for thread in threads:
        thread.join(BOUND)
    assert service.enabled == set(PLUGINS)


@pytest.mark.parametrize(
    "error", [ValueError("no"), RecursionError("no"), MemoryError("no"), SystemExit(), KeyboardInterrupt()]
)
@pytest.mark.parametrize("hook", ["on_enable", "on_disable", "on_config_changed"])
def test_whatever_a_hook_raises_the_watcher_goes_on_and_the_table_stands(
    watched: Service, repository: PluginConfigRepository, database_url: str, hook: str, error: BaseException
) -> None:
    plugin = watched["base"] if hook != "on_enable" else watched["child"]
    plugin.then[hook] = raising(error)
    row = repository.save(plugin.metadata.name, "disabled" if hook == "on_disable" else "enabled", {"k": 1})
    assert wait_until(lambda: plugin.status is PluginStatus.ERROR)
    assert repository.get_by_name(plugin.metadata.name) == row
    plugin.then.clear()
    plugin.running = False
    repository.save(plugin.metadata.name, "enabled", {"k": 2})
    repository.save("other", "disabled")
    assert wait_until(lambda: watched.state() == fresh_state(database_url, PLUGINS)), watched.state()


def test_a_hook_that_disables_what_its_plugin_needs_leaves_neither_enabled(
    watched: Service, repository: PluginConfigRepository, database_url: str
) -> None:
    watched["child"].then["on_enable"] = lambda: watched.manager.disable_plugin("base")
    with pytest.raises(DependencyError, match="Cannot enable plugin 'child': Dependency 'base' not enabled"):
        watched.manager.enable_plugin("child")
    assert watched.enabled == {"other"}
    assert {row.plugin_name: row.status for row in repository.get_all()} == {"base": "disabled", "other": "enabled"}
    # By way of the table it ends the same.
    watched.manager.enable_plugin("base")
    repository.save("child", "enabled")
    assert wait_until(lambda: watched.state() == fresh_state(database_url, PLUGINS) and watched.enabled == {"other"})


CALLS: dict[str, Callable[[PluginManager], object]] = {
    "enable": lambda manager: manager.enable_plugin("child"),
    "disable": lambda manager: manager.disable_plugin("other"),
    "enable and disable": lambda manager: (manager.disable_plugin("other"), manager.enable_plugin("other")),
    "save_config": lambda manager: manager.save_config("other", {"by": "a hook"}),
    "update_config": lambda manager: manager.update_config("other", {"by": "a hook"}),
    "sync": lambda manager: manager.sync(),
    "enable_defaults": lambda manager: manager.enable_defaults("child"),
}


@pytest.mark.parametrize(
    "where", ["plugin.enabled", "plugin.disabled", "plugin.config_changed", "on_enable", "on_disable"]
)
@pytest.mark.parametrize("what", CALLS)
def test_hooks_and_listeners_that_call_the_manager_leave_memory_and_table_in_step(
    watched: Service, repository: PluginConfigRepository, database_url: str, what: str, where: str
) -> None:
    def call(event: Any = None) -> None:
        if event is None or event.data["plugin_name"] == "base":
            with suppress(DependencyError):  # of child, while base is on its way
                CALLS[what](watched.manager)

    if where.startswith("plugin"):
        watched.manager.event_dispatcher.add_listener(where, call)
    else:
        watched["base"].then[where] = call
    for status, config in (("disabled", {}), ("enabled", {"k": 1}), ("enabled", {"k": 2}), ("disabled", {"k": 2})):
        repository.save("base", status, config)
        assert wait_until(lambda: watched["base"].get_config("k") == config.get("k"))  # noqa: B023
        assert wait_until(lambda: watched.manager.is_enabled("base") == (status == "enabled"))  # noqa: B023
    watched.manager.event_dispatcher.remove_listener(where, call)
    watched["base"].then.clear()
    assert wait_until(lambda: watched.state() == fresh_state(database_url, PLUGINS)), watched.state()


def test_hooks_that_change_something_each_time_do_not_keep_a_sync_from_ending(
    watched: Service, repository: PluginConfigRepository, caplog: pytest.LogCaptureFixture, database_url: str
) -> None:
    tries = []

    def fail() -> None:
        tries.append(len(tries))
        watched.manager.update_config("child", {"tries": len(tries)})
        raise ValueError("never")

    watched["child"].then["on_enable"] = fail
    repository.save("child", "enabled")
    said = "hooks or listeners changed plugins again in each of 31 rounds of a sync"
    assert wait_until(lambda: said in caplog.text)
    # Others get their turn, and it ends with its cause.
    watched.manager.disable_plugin("other")
    assert repository.get_by_name("other").status == "disabled"  # type: ignore[union-attr]  # it is there
    del watched["child"].then["on_enable"]
    watched["child"].running = False
    assert wait_until(lambda: watched.enabled == {"base", "child"})


def test_a_hook_that_saves_its_own_config_at_each_change_ends_in_error(
    service: Service, repository: PluginConfigRepository
) -> None:
    def again() -> None:
        service.manager.save_config("base", {"n": service["base"].get_config("n", 0) + 1})

    service["base"].then["on_config_changed"] = again
    with pytest.raises(RecursionError):
        service.manager.save_config("base", {"n": 1})
    assert service["base"].status is PluginStatus.ERROR
    service["base"].then.clear()
    service["base"].running = False
    service.manager.enable_plugin("base")
    assert service["base"]._config == repository.get_by_name("base").config


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("hook", ["on_enable", "on_disable", "on_config_changed"])
def test_a_hook_of_a_watched_service_may_fork(
    watched: Service, repository: PluginConfigRepository, database_url: str, hook: str
) -> None:
    children = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                # The hook's own plugin is in change here too; others can be changed, on a connection of its own.
                watched.manager.disable_plugin("other")
                status = 0 if repository.get_by_name("other").status == "disabled" else 2  # type: ignore[union-attr]
            finally:
                os._exit(status)
        children.append(child)

    watched["base"].then[hook] = fork
    if hook == "on_enable":
        watched.manager.disable_plugin("base")
    repository.save("base", "disabled" if hook == "on_disable" else "enabled", {"k": 1})
    assert wait_until(lambda: children)
    ended: list[int] = []

    def has_ended() -> bool:
        pid, status = os.waitpid(children[0], os.WNOHANG)
        if pid:
            ended.append(os.waitstatus_to_exitcode(status))
        return bool(ended)

    try:
        assert wait_until(has_ended, BOUND)
    finally:
        if not ended:
            os.kill(children[0], 9)
            os.waitpid(children[0], 0)
    assert ended == [0]
    watched["base"].then.clear()
    assert wait_until(lambda: watched.state() == fresh_state(database_url, PLUGINS)), watched.state()
    assert "other" not in watched.enabled
