"""The read-only part of a manager. It takes no lock and runs no query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugin_store.errors import PluginNotFoundError
from plugin_store.stores.memory import InMemoryPluginConfigStore
from plugin_store.stores.per_process import PerProcess

from .apply import SyncReport
from .events import Event, EventDispatcher
from .managed import RUNNING, Managed
from .plugin import BasePlugin
from .rows import KnownRows
from .turn import Turn

if TYPE_CHECKING:
    from flask import Blueprint

    from plugin_store.stores.model import PluginConfigStore


class Registry:
    """The plugins of one process, the store in use and the last report."""

    def __init__(
        self, event_dispatcher: EventDispatcher | None = None, config_repo: PluginConfigStore | None = None
    ) -> None:
        self._event_dispatcher = EventDispatcher() if event_dispatcher is None else event_dispatcher
        self._store: PluginConfigStore = InMemoryPluginConfigStore() if config_repo is None else config_repo
        self._plugins: dict[str, Managed] = {}
        self._rows = KnownRows(self._plugins)
        self._report = SyncReport()
        self._defaults: set[str] = set()  # plugins that enable_defaults wants, and that have no row yet
        self._turns = PerProcess(Turn)

    @property
    def event_dispatcher(self) -> EventDispatcher:
        """The dispatcher that announces changes. Add listeners to it."""
        return self._event_dispatcher

    @property
    def store(self) -> PluginConfigStore:
        """The store in use."""
        return self._store

    @property
    def last_report(self) -> SyncReport:
        """The report of the last sync."""
        return self._report

    def is_enabled(self, name: str) -> bool:
        """Return whether the plugin runs in this process; False for an unknown name. No lock, no query."""
        managed = self._plugins.get(name)
        return managed is not None and managed.plugin._status is RUNNING

    def get_plugin(self, name: str) -> BasePlugin | None:
        """Return the registered plugin of that name, or None."""
        managed = self._plugins.get(name)
        return None if managed is None else managed.plugin

    def get_all_plugins(self) -> list[BasePlugin]:
        """Return the registered plugins in the order of their registration."""
        return [managed.plugin for managed in list(self._plugins.values())]

    def get_enabled_plugins(self) -> list[BasePlugin]:
        """Return the plugins that run in this process, in the order of their registration."""
        return [managed.plugin for managed in list(self._plugins.values()) if managed.enabled]

    def get_plugin_blueprints(self) -> list[tuple[Blueprint, str | None]]:
        """Return the blueprint and URL prefix of each enabled plugin that has a blueprint."""
        found = [(plugin.get_blueprint(), plugin.get_url_prefix()) for plugin in self.get_enabled_plugins()]
        return [(blueprint, prefix) for blueprint, prefix in found if blueprint is not None]

    def _note(self, what: str, name: str, **data: Any) -> None:
        self._turns.get().noted.append(Event(f"plugin.{what}", {"plugin_name": name, **data}))

    def _get(self, name: str) -> Managed:
        try:
            return self._plugins[name]
        except KeyError:
            known = ", ".join(map(repr, self._plugins)) or "none"
            raise PluginNotFoundError(f"Plugin {name!r} not found: registered are {known}") from None

    def _dependents(self, name: str) -> list[str]:
        return [other.name for other in self._plugins.values() if other.enabled and name in other.needs]
