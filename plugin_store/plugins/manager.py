"""The plugin manager. It makes one change at a time, then announces it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from plugin_store.errors import (
    DependencyError,
    PluginAlreadyRegisteredError,
    PluginStateError,
    PluginStoreError,
    StoreError,
)
from plugin_store.stores.model import DISABLED, ENABLED
from plugin_store.stores.validation import check_name, checked_changes, same_json

from .apply import LOCAL, Commit, Sync, SyncReport
from .managed import Managed
from .plugin import BasePlugin, PluginStatus, check_plugin
from .registry import Registry
from .turn import one_change

if TYPE_CHECKING:
    from plugin_store.stores.model import PluginConfig, PluginConfigStore

    from .entry_points import DiscoveryReport

logger = logging.getLogger(__name__)


class PluginManager(Registry):
    """Registers, starts, stops and configures plugins, and stores their state.

    ``event_dispatcher`` announces plugin.registered, .initialized, .enabled, .disabled, .config_changed and .failed.
    The data of each event has ``plugin_name``; plugin.failed adds ``reason``. Enabled, disabled and config_changed add
    ``before``, ``after`` and ``origin``: "local" for the plugin that a call names, "stored" for all others.
    ``config_repo`` is a PluginConfigStore, by default an InMemoryPluginConfigStore.

    The manager is thread-safe and makes one change at a time. Hooks run during a change. They may read the manager,
    but its changing methods raise PluginStateError in a hook. Listeners run after the change, in order, and may
    change plugins. If a dispatch is already running, it dispatches the new events. A change waits ``wait_seconds`` for
    another thread's change, then raises PluginStateError. Methods that store raise the store's errors.
    """

    wait_seconds = 60.0

    def discover(self, group: str = "plugin_store.plugins") -> DiscoveryReport:
        """Initialize and register the plugins that installed packages name as entry points of ``group``."""
        from .entry_points import discover

        return discover(self, group)

    @one_change
    def register_plugin(self, plugin: BasePlugin) -> None:
        """Register a plugin and announce plugin.registered. If it is initialized, announce plugin.initialized too.

        Raises PluginAlreadyRegisteredError if the name is taken, InvalidNameError, and TypeError if the object is not
        a plugin or a hook is an ``async def`` function.
        """
        check_plugin(plugin)
        name = plugin.metadata.name
        check_name(name)
        if name in self._plugins:
            raise PluginAlreadyRegisteredError(f"Plugin {name!r} already registered: names are unique")
        if plugin.status is PluginStatus.DISCOVERED:
            plugin._status = PluginStatus.REGISTERED
        self._plugins[name] = Managed(plugin, self._note)
        self._rows.unregistered.pop(name, None)
        self._note("registered", name)
        if plugin._initialized:
            self._note("initialized", name)

    @one_change
    def initialize_plugin(self, name: str, config: dict[str, Any] | None = None) -> None:
        """Initialize a plugin with its defaults, and announce plugin.initialized.

        Raises PluginNotFoundError, PluginStateError while it is enabled, and what its ``initialize`` raises.
        """
        self._get(name).initialize(config)
        self._note("initialized", name)

    @one_change
    def enable_plugin(self, name: str) -> None:
        """Enable a plugin, store its status and pending config, and announce plugin.enabled.

        Then sync the other plugins, so plugins that wait for this one start. Repeating the call only stores new pending
        keys. If on_enable raises, nothing is stored and the plugin is in ERROR. If storing fails, on_disable undoes it.
        Raises PluginNotFoundError; PluginStateError ("Cannot enable") if the plugin was never initialized;
        DependencyError; InvalidConfigError or UnresolvedReferenceError for its config; and what on_enable raises.
        """
        managed = self._get(name)
        if not managed.initialized:
            raise PluginStateError(f"Cannot enable plugin {name!r}: initialize it first")
        managed.storable(managed.pending)  # raises before a hook runs
        self._rows.read(self._store)
        errors = self._apply({name: partial(self._save, managed, ENABLED)}, retried=[name])
        if name in errors:
            raise errors[name]
        if reason := self._report.skipped.get(name):
            raise DependencyError(f"Cannot enable plugin {name!r}: {reason}")

    @one_change
    def disable_plugin(self, name: str) -> None:
        """Disable a plugin, store its status and pending config, and announce plugin.disabled. Then sync the others.

        Repeating the call only stores new pending keys. Failures of other plugins do not prevent it. If on_disable
        raises, the row is disabled and the plugin is in ERROR. If storing fails, on_enable undoes it.
        Raises PluginNotFoundError; DependencyError while enabled plugins depend on it; and what on_disable raises.
        """
        managed = self._get(name)
        if self._dependents(name):  # another process may have disabled them
            self._rows.read(self._store)
            Sync(self._plugins, self._rows.by_name).stop_dependents(name)
        if dependents := self._dependents(name):
            raise DependencyError(f"Cannot disable plugin {name!r}: plugins {dependents} depend on it")
        commit = partial(self._save, managed, DISABLED, {})
        error = managed.switch(False, self._rows.by_name, origin=LOCAL, commit=commit)
        try:
            self._rows.read(self._store)
        except StoreError as exc:
            logger.error("plugin %r is disabled, but what other processes changed is not applied: %s", name, exc)
        self._apply()
        if error is not None:
            raise error

    @one_change
    def save_config(self, name: str, config: dict[str, Any]) -> None:
        """Validate a config, store it in place of the old one, and apply it. Drops the pending config.

        Before anything changes, raises PluginNotFoundError; UnresolvedReferenceError; and InvalidConfigError if the
        config cannot be stored, has a plain secret, or is refused by validate_config. If on_config_changed raises,
        the config is stored, the plugin is in ERROR, and the caller gets the error.
        """
        managed = self._get(name)
        checked, pending = managed.storable(config), managed.pending
        managed.check(checked, {})
        self._rows.read(self._store)
        self._apply_stored(managed, self._store.save_config(name, checked), pending)

    @one_change
    def update_config(self, name: str, changes: dict[str, Any], *, remove: Iterable[str] = ()) -> None:
        """Set the top-level keys of ``changes`` in a plugin's stored config, and remove the keys of ``remove``.

        Stores the pending config too. Other keys stay, even if another process changes them at the same time.
        Raises the errors of save_config.
        """
        managed = self._get(name)
        checked, gone = checked_changes(name, managed.storable(changes), remove)
        pending = managed.pending
        kept = managed.storable({key: value for key, value in pending.items() if key not in {*checked, *gone}})
        self._rows.read(self._store)
        row = self._rows.by_name.get(name)
        stored = {key: value for key, value in (row.config if row else {}).items() if key not in gone}
        managed.check({**stored, **kept, **checked}, {})
        self._apply_stored(managed, self._store.update_config(name, {**kept, **checked}, remove=gone), pending)

    @one_change
    def check_config(self, name: str, config: dict[str, Any]) -> None:
        """Raise what save_config would raise for a config, and store nothing. An unregistered name passes."""
        if name in self._plugins:
            managed = self._plugins[name]
            managed.check(managed.storable(config), {})

    @one_change
    def enable_defaults(self, *names: str) -> list[str]:
        """Enable each named plugin that has no row, and return the names of the enabled ones.

        An existing row is an operator's decision and does not change. Failures are in ``last_report`` and the log, and
        the other plugins start. Each sync tries these plugins again until they run or have a row. After a failure, only
        a sync with ``retry_failed`` does. Raises PluginNotFoundError.
        """
        found = [self._get(name).name for name in dict.fromkeys(names)]
        self._rows.read(self._store)
        new = [name for name in found if name not in self._rows.by_name]
        self._defaults.update(new)
        self._apply(retried=new)
        return [name for name in new if self.is_enabled(name)]

    @one_change
    def sync(
        self, *, store: PluginConfigStore | None = None, names: Iterable[str] | None = None, retry_failed: bool = False
    ) -> SyncReport:
        """Make this process's plugins match the store, and return a report.

        ``store`` is read instead of the manager's own. ``names`` are the plugins whose rows have changed since the
        last sync. None means all. With ``retry_failed``, plugins in ERROR are tried again even if their rows have not
        changed. Failures are in the report and the log, and do not stop other plugins. Writes no row, except that of a
        default that starts late. If the store cannot be read, its error is raised and nothing changes.
        """
        self._rows.read(self._store if store is None else store, names)
        self._apply(store=store, retried=self._plugins if retry_failed else ())
        return self._report

    def load_persisted_state(self) -> SyncReport:
        """Sync for the first time. Call it after all plugins are registered and initialized."""
        return self.sync()

    def _apply(
        self, asked: Mapping[str, Commit] | None = None, *, store: PluginConfigStore | None = None, **options: Any
    ) -> dict[str, BaseException]:
        """Run a Sync with the known rows, keep its report, log new reasons to skip, and return the errors by plugin."""
        self._defaults = {name for name in self._defaults if name not in self._rows.by_name}
        add = partial(self._add, store or self._store)
        defaults: dict[str, Commit] = {name: partial(add, self._plugins[name]) for name in self._defaults}
        sync = Sync(self._plugins, self._rows.by_name, asked={**defaults, **(asked or {})}, **options)
        sync.prepare()
        try:
            sync.run()
        finally:
            for name, reason in sync.report.skipped.items():
                if self._report.skipped.get(name) != reason:
                    logger.warning("plugin %r is not enabled: %s", name, reason)
            self._report = sync.report
            sync.report.skipped.update(self._rows.unregistered)
        return sync.errors

    def _save(self, managed: Managed, status: str, checked: Mapping[str, Any]) -> None:
        """Store a status, with the pending config. ``checked`` is the pending config that was checked last."""
        try:
            pending = managed.checked_pending(checked)
        except PluginStoreError as exc:
            if status == ENABLED:
                raise
            logger.error("plugin %r is disabled, but its pending config is not stored: %s", managed.name, exc)
            pending = {}
        self._rows.put(managed.name, self._store.save(managed.name, status, pending))
        self._defaults.discard(managed.name)
        managed.plugin._keep(pending)

    def _add(self, store: PluginConfigStore, managed: Managed, checked: Mapping[str, Any]) -> None:
        """Insert an enabled row for a default plugin, unless another process has inserted one."""
        pending = managed.checked_pending(checked)
        row = store.add(managed.name, ENABLED, pending)
        self._rows.put(managed.name, row)
        self._defaults.discard(managed.name)
        if row.status == DISABLED:
            raise PluginStateError(f"plugin {managed.name!r} was disabled meanwhile")
        if same_json(row.config, pending):  # else another process inserted the row
            managed.plugin._keep(pending)

    def _apply_stored(self, managed: Managed, row: PluginConfig, pending: Mapping[str, Any]) -> None:
        """Apply a row that was just stored. ``pending`` is the pending config that it replaces."""
        managed.plugin._keep(pending)  # get_config returns them until the sync applies the row
        self._rows.put(managed.name, row)
        if error := self._apply(configured=managed.name).get(managed.name):
            raise error
