"""A plugin that notes what happens to it, and a service of such plugins, for the tests that follow a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from plugin_store import BasePlugin, Event, PluginConfigStore, PluginManager, PluginMetadata


class Recorder(BasePlugin):
    """Notes the calls of its hooks in ``calls``; ``then`` has what a hook is to do besides, by its name."""

    def __init__(self, name: str, *needs: str, calls: list[tuple[Any, ...]] | None = None) -> None:
        super().__init__()
        self._metadata = PluginMetadata(name, "1.0.0", "tests", "Notes what happens to it.", list(needs))
        self.calls: list[tuple[Any, ...]] = [] if calls is None else calls
        self.then: dict[str, Callable[[], object]] = {}
        self.running = False

    @property
    def metadata(self) -> PluginMetadata:
        return self._metadata

    def on_enable(self) -> None:
        assert not self.running, f"{self.metadata.name} is enabled twice"
        self._note("on_enable")
        self.running = True

    def on_disable(self) -> None:
        assert self.running, f"{self.metadata.name} is disabled, and was not enabled"
        self.running = False
        self._note("on_disable")

    def on_config_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        assert self.running, f"{self.metadata.name} is told of a config, and is not enabled"
        self._note("on_config_changed", old, new)

    def _note(self, hook: str, *details: Any) -> None:
        self.calls.append((self.metadata.name, hook, *details))
        self.then.get(hook, bool)()


class Service:
    """A manager with plugins of the given names and needs, restored, as a process has them at start-up.

    ``calls`` notes the hooks of all of them, in order, and ``events`` what is announced: name, plugin, origin.
    """

    def __init__(
        self,
        store: PluginConfigStore | None,
        plugins: dict[str, tuple[str, ...]],
        manager: type[PluginManager] = PluginManager,
        defaults: dict[str, Any] | None = None,
    ) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.events: list[tuple[str, str, str]] = []
        self.manager = manager(config_repo=store)
        self.plugins = {name: Recorder(name, *needs, calls=self.calls) for name, needs in plugins.items()}
        for what in ("enabled", "disabled", "config_changed"):
            self.manager.event_dispatcher.add_listener(f"plugin.{what}", self._note)
        for name, plugin in self.plugins.items():
            self.manager.register_plugin(plugin)
            self.manager.initialize_plugin(name, defaults)
        self.report = self.manager.load_persisted_state()

    def _note(self, event: Event) -> None:
        self.events.append((event.name.removeprefix("plugin."), event.data["plugin_name"], event.data["origin"]))

    def __getitem__(self, name: str) -> Recorder:
        return self.plugins[name]

    @property
    def enabled(self) -> set[str]:
        return {plugin.metadata.name for plugin in self.manager.get_enabled_plugins()}

    def state(self) -> dict[str, str]:
        """What must be the same in all processes: of each plugin its config, as JSON, if it is enabled or not."""
        return {
            name: f"{'enabled' if name in self.enabled else 'not enabled'} {json.dumps(plugin._config, sort_keys=True)}"
            for name, plugin in self.plugins.items()
        }

    def forget(self) -> None:
        """Begin a new page of ``calls`` and ``events``."""
        self.calls.clear()
        self.events.clear()
