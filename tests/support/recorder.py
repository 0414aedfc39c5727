"""A plugin that records its hooks, a store that fails on request, and a service of such plugins."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from plugin_store import (
    BasePlugin,
    InMemoryPluginConfigStore,
    PluginConfig,
    PluginConfigStore,
    PluginManager,
    PluginMetadata,
    StoreUnavailableError,
)

EVENTS = ("registered", "initialized", "enabled", "disabled", "config_changed", "failed")


class Recorder(BasePlugin):
    """Appends ``(name, hook, *details)`` to ``calls``.

    ``then`` maps a hook's name to a function that the hook calls. Hooks that are called in an order that is not legal
    are in ``illegal``.
    """

    def __init__(
        self, name: str, *needs: str, calls: list[tuple[Any, ...]] | None = None, secret_keys: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.metadata = PluginMetadata(name, "1.0.0", "tests", "Records its hooks.", list(needs), secret_keys)
        self.calls: list[tuple[Any, ...]] = [] if calls is None else calls
        self.illegal: list[str] = []
        self.then: dict[str, Callable[[], object]] = {}
        self.parse: Callable[[dict[str, Any]], Any] = lambda config: None
        self.running = False

    def validate_config(self, config: dict[str, Any]) -> Any:
        return self.parse(config)

    def on_enable(self) -> None:
        self._record("on_enable", expected=not self.running)
        self.running = True

    def on_disable(self) -> None:
        was, self.running = self.running, False
        self._record("on_disable", expected=was)

    def on_config_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._record("on_config_changed", old, new, expected=self.running)

    @property
    def hooks(self) -> list[str]:
        """The names of the hooks that were called on this plugin."""
        return [hook for name, hook, *_ in self.calls if name == self.metadata.name]

    def fail(self, *hooks: str, error: BaseException | None = None) -> None:
        """Make these hooks raise, and no others."""
        self.then = dict.fromkeys(hooks, raising(error or ValueError(f"{self.metadata.name} failed")))

    def _record(self, hook: str, *details: Any, expected: bool) -> None:
        if not expected:
            self.illegal.append(hook)
        self.calls.append((self.metadata.name, hook, *details))
        self.then.get(hook, bool)()


def raising(error: BaseException) -> Callable[..., None]:
    """Return a function that raises the error."""

    def function(*args: object) -> None:
        raise error

    return function


class FailingStore(InMemoryPluginConfigStore):
    """Appends calls to ``called``. Methods in ``fails`` raise. ``before`` and ``after`` map methods to functions."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: set[str] = set()
        self.called: list[tuple[Any, ...]] = []
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}

    def __getattribute__(self, method: str) -> Any:
        found = super().__getattribute__(method)
        if method not in ("get_by_name", "get_all", "save", "save_config", "update_config", "add"):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self.called.append((method, *args))
            self.before.get(method, bool)()
            if method in self.fails:
                raise StoreUnavailableError("the database is away")
            result = found(*args, **kwargs)
            self.after.get(method, bool)()
            return result

        return call


class Service:
    """A manager with plugins of the given names and needs, restored, as a process has them after its start.

    ``calls`` has the hooks of all plugins in order.
    """

    def __init__(
        self,
        store: PluginConfigStore | None,
        plugins: dict[str, tuple[str, ...]],
        manager: type[PluginManager] = PluginManager,
    ) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.manager = manager(config_repo=store)
        self.plugins = {name: Recorder(name, *needs, calls=self.calls) for name, needs in plugins.items()}
        for name, plugin in self.plugins.items():
            self.manager.register_plugin(plugin)
            self.manager.initialize_plugin(name)
        self.manager.load_persisted_state()

    def __getitem__(self, name: str) -> Recorder:
        return self.plugins[name]

    @property
    def enabled(self) -> set[str]:
        return {plugin.metadata.name for plugin in self.manager.get_enabled_plugins()}

    def state(self) -> dict[str, str]:
        """Return of each plugin whether it is enabled, and its config as JSON. It is the same in all processes."""
        return {
            name: f"{'enabled' if name in self.enabled else 'not enabled'} {json.dumps(plugin._config, sort_keys=True)}"
            for name, plugin in self.plugins.items()
        }


def started(store: PluginConfigStore | None, *plugins: BasePlugin, **defaults: Any) -> PluginManager:
    """Return a manager with these plugins registered and initialized. Nothing is restored."""
    manager = PluginManager(config_repo=store)
    for plugin in plugins:
        manager.register_plugin(plugin)
        manager.initialize_plugin(plugin.metadata.name, dict(defaults))
    return manager


def restored(store: PluginConfigStore | None, *plugins: BasePlugin, **defaults: Any) -> PluginManager:
    """Return a started manager that has applied the rows."""
    manager = started(store, *plugins, **defaults)
    manager.load_persisted_state()
    return manager


def events_of(manager: PluginManager) -> list[tuple[str, str]]:
    """Return a list to which the manager's next events are added as (event, plugin)."""
    events: list[tuple[str, str]] = []
    for name in EVENTS:
        manager.event_dispatcher.add_listener(
            f"plugin.{name}", lambda event: events.append((event.name[7:], event.data["plugin_name"]))
        )
    return events


def rows(store: PluginConfigStore) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the status and config of each row, by plugin."""
    return {row.plugin_name: (row.status, row.config) for row in store.get_all()}


def stored(**statuses: str) -> InMemoryPluginConfigStore:
    """Return a store with rows of these statuses."""
    store = InMemoryPluginConfigStore()
    store.save_many([PluginConfig(name, status) for name, status in statuses.items()])
    return store
