"""Plugins, a listener and a store that note what happens to them, and fail when a test says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from plugin_store import (
    BasePlugin,
    Event,
    InMemoryPluginConfigStore,
    PluginConfig,
    PluginConfigStore,
    PluginManager,
    PluginMetadata,
    StoreUnavailableError,
)

EVENTS = ("registered", "initialized", "enabled", "disabled", "config_changed")


class HookError(Exception):
    """What a hook of an ExamplePlugin raises."""


class ExamplePlugin(BasePlugin):
    """Notes its hooks in ``log``, and does in each what the test put into ``on``."""

    def __init__(self, name: str = "analytics", *needs: str, log: list[str] | None = None) -> None:
        super().__init__()
        self._metadata = PluginMetadata(name, "1.0.0", "Ada", "An example.", list(needs))
        self.log: list[str] = [] if log is None else log
        self.changes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.on: dict[str, Callable[[], object]] = {}

    @property
    def metadata(self) -> PluginMetadata:
        return self._metadata

    def on_enable(self) -> None:
        self._called("on_enable")

    def on_disable(self) -> None:
        self._called("on_disable")

    def on_config_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self.changes.append((old, new))
        self._called("on_config_changed")

    def fail(self, *hooks: str, error: BaseException | None = None) -> None:
        """Have these hooks raise, and no others."""
        self.on = dict.fromkeys(hooks, raising(error or HookError(f"{self.metadata.name} failed")))

    def _called(self, hook: str) -> None:
        self.log.append(hook)
        if hook in self.on:
            self.on[hook]()


def raising(error: BaseException) -> Callable[[], None]:
    def hook() -> None:
        raise error

    return hook


class Listener:
    """Notes the events of a manager, and tells from them alone which plugins are enabled."""

    def __init__(self, manager: PluginManager, log: list[str] | None = None, *, enabled: Iterable[str] = ()) -> None:
        self.events: list[tuple[str, ...]] = []
        self.log: list[str] = [] if log is None else log
        self._before = set(enabled)
        for name in EVENTS:
            manager.event_dispatcher.add_listener(f"plugin.{name}", self)

    def __call__(self, event: Event) -> None:
        origin = [event.data["origin"]] if "origin" in event.data else []
        self.events.append((event.name.removeprefix("plugin."), event.data["plugin_name"], *origin))
        self.log.append(event.name)

    @property
    def enabled(self) -> set[str]:
        enabled = set(self._before)
        for what, name, *_ in self.events:
            if what == "enabled":
                assert name not in enabled, f"{name} was announced as enabled twice"
                enabled.add(name)
            elif what == "disabled":
                assert name in enabled, f"{name} was announced as disabled, and was not enabled"
                enabled.remove(name)
        return enabled


class FailingStore(InMemoryPluginConfigStore):
    """Notes the calls of a manager, and refuses those in ``fails``; ``before`` runs ahead of a call."""

    def __init__(self, log: list[str] | None = None) -> None:
        super().__init__()
        self.fails: set[str] = set()
        self.saved: list[tuple[Any, ...]] = []
        self.before: dict[str, Callable[[], object]] = {}
        self.log: list[str] = [] if log is None else log

    def get_by_name(self, plugin_name: str) -> PluginConfig | None:
        self._called("get_by_name")
        return super().get_by_name(plugin_name)

    def get_all(self) -> list[PluginConfig]:
        self._called("get_all")
        return super().get_all()

    def save(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        self._called("save", plugin_name, status, config)
        return super().save(plugin_name, status, config)

    def save_config(self, plugin_name: str, config: dict[str, Any], **more: Any) -> PluginConfig:
        self._called("save_config", plugin_name, config)
        return super().save_config(plugin_name, config, **more)

    def update_config(self, plugin_name: str, changes: dict[str, Any], **more: Any) -> PluginConfig:
        self._called("update_config", plugin_name, changes)
        return super().update_config(plugin_name, changes, **more)

    def add(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        self._called("add", plugin_name, status, config)
        return super().add(plugin_name, status, config)

    def _called(self, method: str, *values: Any) -> None:
        self.log.append(method)
        if before := self.before.pop(method, None):
            before()
        if method in self.fails:
            raise StoreUnavailableError("the database is away")
        if values:
            self.saved.append((method, *values))


def started(store: PluginConfigStore | None, *plugins: BasePlugin, **defaults: Any) -> PluginManager:
    """Return a manager as a process has it after start-up: plugins registered and initialized, nothing restored."""
    manager = PluginManager(config_repo=store)
    for plugin in plugins:
        manager.register_plugin(plugin)
        manager.initialize_plugin(plugin.metadata.name, dict(defaults))
    return manager


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Return when the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
