"""After a sync, a process has the same enabled plugins and stored configs as one that has just started.

A service is operated at random, while other processes edit its rows and hooks and stores fail.
"""

import logging
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from recorder import FailingStore, Recorder, events_of, raising, rows, started

from plugin_store import InMemoryPluginConfigStore, PluginManager, PluginStatus, PluginStoreError

NEEDS = {"base": [], "left": ["base"], "right": ["base"], "top": ["left", "right"], "lost": ["gone"]}
DEFAULTS = {"a": "default", "d": ["default"]}
HOOKS = ["on_enable", "on_disable", "on_config_changed", "validate_config"]
STORE_METHODS = ["get_all", "get_by_name", "save", "save_config", "update_config", "add"]


class HookError(Exception):
    """What a hook raises."""


ERRORS = (HookError, ValueError, SystemExit, KeyboardInterrupt)
Config = dict[str, Any]
other_process = InMemoryPluginConfigStore

# What happens in a life. Each of these takes the life, the name of a plugin and a config.
STEPS: dict[str, Callable[["Life", str, Config], object]] = {
    "enable": lambda life, name, config: life.manager.enable_plugin(name),
    "disable": lambda life, name, config: life.manager.disable_plugin(name),
    "defaults": lambda life, name, config: life.manager.enable_defaults(name, "left"),
    "save": lambda life, name, config: life.manager.save_config(name, config),
    "update": lambda life, name, config: life.manager.update_config(name, config, remove={"a", "b"} - config.keys()),
    "set": lambda life, name, config: life.plugins[name].set_config("pending", len(config)),
    "sync": lambda life, name, config: life.manager.sync(),
    "sync two": lambda life, name, config: life.manager.sync(names=[name, "base"]),
    "retry": lambda life, name, config: life.manager.sync(retry_failed=True),
    "restart": lambda life, name, config: life.restart(),
    "other enables": lambda life, name, config: other_process.save(life.store, name, "enabled"),
    "other disables": lambda life, name, config: other_process.save(life.store, name, "disabled"),
    "other saves": lambda life, name, config: other_process.save_config(life.store, name, config),
    "other deletes": lambda life, name, config: life.store.delete(name),
}


class Life:
    """One process of the service, and what happens to it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.store = FailingStore()
        self.restart()

    def restart(self) -> None:
        self.manager, self.plugins = self.new_process()
        self.events = events_of(self.manager)
        self.manager.load_persisted_state()

    def new_process(self) -> tuple[PluginManager, dict[str, Recorder]]:
        plugins = {name: Recorder(name, *needs) for name, needs in NEEDS.items()}
        for plugin in plugins.values():
            plugin.parse = parser_of(plugin)
        return started(self.store, *plugins.values(), **DEFAULTS), plugins

    def one_step(self) -> None:
        """Do a step at random, while some hooks and methods of the store fail. Check what it promises."""
        what, name = self.random.choice([*STEPS]), self.random.choice([*NEEDS])
        config = {key: self.random.choice([0, 1, True, [1], "refused"]) for key in self.some("abc", 0.3)}
        self.store.fails = {*self.some(STORE_METHODS, 0.05)}
        broken = {hook: self.random.choice(ERRORS) for hook in self.some(HOOKS, 0.1)}
        for plugin in self.some(self.plugins.values(), 0.5):
            plugin.then = {hook: raising(error()) for hook, error in broken.items()}
        print(what, name, config, "while these fail:", self.store.fails, broken)  # pytest shows it if the test fails
        try:
            STEPS[what](self, name, config)
            succeeded = True
        except (PluginStoreError, *ERRORS):
            succeeded = False
        self.store.fails = set()
        for plugin in self.plugins.values():
            plugin.then.clear()
        if succeeded and what in ("enable", "disable"):
            assert self.manager.is_enabled(name) == (what == "enable")
            assert rows(self.store)[name][0] == f"{what}d"
        if succeeded and what == "save":
            assert self.plugins[name]._config == DEFAULTS | config

    def some(self, things: Any, probability: float) -> list[Any]:
        return [thing for thing in things if self.random.random() < probability]

    def check(self) -> None:
        """Hooks ran in a legal order, dependencies are enabled, and events tell what is enabled."""
        for name, plugin in self.plugins.items():
            assert plugin.illegal == []
            assert self.manager.is_enabled(name) == (plugin.status is PluginStatus.ENABLED) == plugin.running
            assert not plugin.running or set(NEEDS[name]) <= enabled(self.manager)
            turns = [event for event, other in self.events if other == name and event in ("enabled", "disabled")]
            assert all(one != other for one, other in pairwise(["disabled", *turns]))
            assert (turns[-1:] == ["enabled"]) == plugin.running

    def compare_with_fresh_process(self) -> None:
        ours = self.manager.sync(retry_failed=True)
        fresh, plugins = self.new_process()
        report = fresh.load_persisted_state()
        stored = rows(self.store)  # a default without a row is skipped only by the process that asked for it
        assert (ours.restored, ours.skipped.keys() & stored.keys()) == (report.restored, report.skipped.keys())
        assert enabled(self.manager) == enabled(fresh) == set(report.restored)
        for name, plugin in plugins.items():
            if "refused" not in stored.get(name, ("", {}))[1].values():
                assert without_pending(self.plugins[name]._config) == without_pending(plugin._config)


def parser_of(plugin: Recorder) -> Callable[[Config], list[str]]:
    def parse(config: Config) -> list[str]:
        plugin.then.get("validate_config", bool)()
        if "refused" in config.values():
            raise ValueError("refused")
        return sorted(config)

    return parse


def enabled(manager: PluginManager) -> set[str]:
    return {plugin.metadata.name for plugin in manager.get_enabled_plugins()}


def without_pending(config: Config) -> Config:
    return {key: value for key, value in config.items() if key != "pending"}


def test_sync_leaves_process_as_fresh_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "plugin_store")
    for seed in range(250):
        print(f"life {seed}:")
        life = Life(Random(seed))
        for _ in range(2 + seed // 10):
            life.one_step()
            life.check()
            if life.random.random() < 0.4:
                life.compare_with_fresh_process()
                life.check()
