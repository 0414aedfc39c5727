"""After a sync, a process has the same enabled plugins and stored configs as one that has just started.

A service is operated at random, while other processes edit its rows and hooks and stores fail.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from recorder import FailingStore, Recorder, events_of, started

from plugin_store import InMemoryPluginConfigStore, PluginManager, PluginStatus, PluginStoreError

NEEDS = {"base": [], "left": ["base"], "right": ["base"], "top": ["left", "right"], "alone": [], "lost": ["gone"]}
DEFAULTS = {"a": "default", "d": ["default"]}


class HookError(Exception):
    """What a hook raises."""


names = st.sampled_from(sorted(NEEDS))
statuses = st.sampled_from(["enabled", "disabled"])
configs = st.dictionaries(st.sampled_from("abc"), st.sampled_from([0, 1, True, [1], "refused"]), max_size=2)
hooks = st.sampled_from(["on_enable", "on_disable", "on_config_changed", "validate_config"])
ERRORS = (HookError, ValueError, SystemExit, KeyboardInterrupt)
failing_hooks = st.dictionaries(st.tuples(names, hooks), st.sampled_from(ERRORS), max_size=3)
failing_calls = st.sets(st.sampled_from(["get_all", "get_by_name", "save", "save_config", "update_config", "add"]))
sometimes_failing_calls = st.just(set()) | failing_calls


def is_refused(config: dict[str, Any]) -> bool:
    return "refused" in config.values()


class Life(RuleBasedStateMachine):
    """One process of the service, ``other`` processes that edit rows, and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.store = FailingStore()
        self.start()

    def start(self) -> None:
        self.plugins = self.new_plugins()
        self.manager = started(self.store, *self.plugins.values(), **DEFAULTS)
        self.events = events_of(self.manager)

    def new_plugins(self) -> dict[str, Recorder]:
        plugins = {name: Recorder(name, *needs) for name, needs in NEEDS.items()}
        for plugin in plugins.values():
            plugin.parse = self.parse_for(plugin)
        return plugins

    def parse_for(self, plugin: Recorder) -> Callable[[dict[str, Any]], Any]:
        def parse(config: dict[str, Any]) -> list[str]:
            plugin.then.get("validate_config", bool)()
            if is_refused(config):
                raise ValueError("refused")
            return sorted(config)

        return parse

    def attempt(
        self, call: Callable[[], object], broken: dict[tuple[str, str], type[BaseException]], fails: Iterable[str]
    ) -> bool:
        """Make the call while hooks and the store fail. Return whether it did not raise."""
        for (name, hook), error in broken.items():
            self.plugins[name].then[hook] = raiser(error)
        self.store.fails = set(fails)
        try:
            call()
        except (PluginStoreError, *ERRORS):
            return False
        finally:
            self.store.fails = set()
            for plugin in self.plugins.values():
                plugin.then.clear()
        return True

    def row(self, name: str) -> tuple[str, dict[str, Any]] | None:
        row = self.store.get_by_name(name)
        return None if row is None else (row.status, row.config)

    @rule(name=names, broken=failing_hooks, fails=sometimes_failing_calls)
    def enable(self, name: str, broken: Any, fails: set[str]) -> None:
        if self.attempt(lambda: self.manager.enable_plugin(name), broken, fails):
            assert self.manager.is_enabled(name)
            row = self.row(name)
            assert row is not None and row[0] == "enabled"

    @rule(name=names, broken=failing_hooks, fails=sometimes_failing_calls)
    def disable(self, name: str, broken: Any, fails: set[str]) -> None:
        if self.attempt(lambda: self.manager.disable_plugin(name), broken, fails):
            assert not self.manager.is_enabled(name)
            row = self.row(name)
            assert row is not None and row[0] == "disabled"

    @rule(chosen=st.lists(names, max_size=3), broken=failing_hooks, fails=sometimes_failing_calls)
    def enable_defaults(self, chosen: list[str], broken: Any, fails: set[str]) -> None:
        self.attempt(lambda: self.manager.enable_defaults(*chosen), broken, fails)

    @rule(name=names, config=configs, broken=failing_hooks, fails=sometimes_failing_calls)
    def save_config(self, name: str, config: dict[str, Any], broken: Any, fails: set[str]) -> None:
        if self.attempt(lambda: self.manager.save_config(name, config), broken, fails):
            assert self.plugins[name]._config == DEFAULTS | config

    @rule(name=names, config=configs, broken=failing_hooks, fails=sometimes_failing_calls)
    def update_config(self, name: str, config: dict[str, Any], broken: Any, fails: set[str]) -> None:
        self.attempt(lambda: self.manager.update_config(name, config, remove={"a", "b"} - config.keys()), broken, fails)

    @rule(name=names, value=st.sampled_from([1, 2]))
    def set_config(self, name: str, value: int) -> None:
        self.plugins[name].set_config("pending", value)

    @rule(
        chosen=st.none() | st.lists(names, max_size=3), retry=st.booleans(), broken=failing_hooks,
        fails=sometimes_failing_calls,
    )  # fmt: skip
    def sync(self, chosen: list[str] | None, retry: bool, broken: Any, fails: set[str]) -> None:
        self.attempt(lambda: self.manager.sync(names=chosen, retry_failed=retry), broken, fails)

    @rule(name=names, status=statuses, config=st.none() | configs)
    def other_saves(self, name: str, status: str, config: dict[str, Any] | None) -> None:
        InMemoryPluginConfigStore.save(self.store, name, status)
        if config is not None:
            InMemoryPluginConfigStore.save_config(self.store, name, config)

    @rule(name=names)
    def other_deletes(self, name: str) -> None:
        self.store.delete(name)

    @rule()
    def restart(self) -> None:
        self.start()
        self.manager.load_persisted_state()

    @rule()
    def compare_with_fresh_process(self) -> None:
        self.manager.sync(retry_failed=True)
        plugins = self.new_plugins()
        fresh = started(self.store, *plugins.values(), **DEFAULTS)
        report = fresh.load_persisted_state()
        ours = self.manager.last_report
        assert (ours.restored, ours.skipped.keys()) == (report.restored, report.skipped.keys())
        assert enabled(self.manager) == enabled(fresh) == sorted(report.restored)
        for name, plugin in plugins.items():
            row = self.row(name)
            if row is None or not is_refused(row[1]):
                assert without_pending(self.plugins[name]._config) == without_pending(plugin._config)

    @invariant()
    def hooks_ran_in_legal_order(self) -> None:
        for name, plugin in self.plugins.items():
            assert plugin.illegal == []
            assert self.manager.is_enabled(name) == (plugin.status is PluginStatus.ENABLED) == plugin.running

    @invariant()
    def dependencies_are_enabled(self) -> None:
        for name in enabled(self.manager):
            assert set(NEEDS[name]) <= set(enabled(self.manager))

    @invariant()
    def events_tell_what_is_enabled(self) -> None:
        told = {name: event for event, name in self.events if event in ("enabled", "disabled")}
        assert sorted(name for name, event in told.items() if event == "enabled") == enabled(self.manager)
        for name in NEEDS:
            turns = [event for event, plugin in self.events if plugin == name and event in ("enabled", "disabled")]
            assert all(one != other for one, other in pairwise(turns))


def raiser(error: type[BaseException]) -> Callable[[], None]:
    def hook() -> None:
        raise error

    return hook


def enabled(manager: PluginManager) -> list[str]:
    return sorted(plugin.metadata.name for plugin in manager.get_enabled_plugins())


def without_pending(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "pending"}


def test_sync_leaves_process_as_fresh_one() -> None:
    run_state_machine_as_test(
        Life, settings=settings(max_examples=60, stateful_step_count=20, deadline=None, database=None)
    )
