"""The plugin manager: the plugins' life cycle, kept in step with a store.

It knows plugins, events and the PluginConfigStore protocol; what is behind a store it never sees.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Any

from ._fork import renew_after_fork
from .decision import dependency_missing, in_dependency_order
from .errors import (
    DependencyError,
    InvalidConfigError,
    PluginAlreadyRegisteredError,
    PluginNotFoundError,
    StoreError,
    StoreUnavailableError,
)
from .events import EventDispatcher
from .managed import LOCAL, STORED, ManagedPlugin
from .plugin import BasePlugin, PluginStatus
from .restore import RestoreReport, follow
from .stores.model import DISABLED, ENABLED, PluginConfig
from .stores.validation import check_name, checked_changes, copy_json

if TYPE_CHECKING:
    from flask import Blueprint

    from .discovery import DiscoveryReport
    from .stores.model import PluginConfigStore

logger = logging.getLogger(__name__)

# Seconds after which a thread that waits for the manager says in the log what holds it up.
PATIENCE = 5.0
# How often at most, for each plugin, a sync begins again because hooks or listeners changed something.
ROUNDS = 10


class PluginManager:
    """Registers plugins and takes them through their life cycle; with a store, their state outlives the process.

    ``event_dispatcher`` announces plugin.registered, plugin.initialized, plugin.enabled, plugin.disabled and
    plugin.config_changed. Each event's data has ``plugin_name``. The last three have ``origin``, "local" for what
    was asked of this manager, "stored" for what it found in the store, and ``before`` and ``after``: the values of
    PluginStatus, or the configs with references as they are. ``config_repo`` is a PluginConfigStore;
    without one everything works in memory.

    Thread-safe, one change at a time: hooks and listeners run while the manager is locked. They may call it
    again from their own thread, except to enable or disable the plugin whose hook is running, or of whose change
    they are being told. Reading takes no lock. Errors of the store go to the caller of the method that met them.
    Who waits for another thread's hook for more than 5 seconds says so in the log, once, and waits on.
    """

    def __init__(
        self, event_dispatcher: EventDispatcher | None = None, config_repo: PluginConfigStore | None = None
    ) -> None:
        self._event_dispatcher = EventDispatcher() if event_dispatcher is None else event_dispatcher
        self._store = config_repo
        self._lock = RLock()
        self._plugins: dict[str, ManagedPlugin] = {}
        # Grows with each change and each reading of rows: who finds it grown after a hook has old rows in hand.
        self._version = 0
        renew_after_fork(self)

    @property
    def event_dispatcher(self) -> EventDispatcher:
        """The dispatcher that announces; add listeners to it."""
        return self._event_dispatcher

    def get_plugin(self, name: str) -> BasePlugin | None:
        """Return the registered plugin of that name, or None."""
        managed = self._plugins.get(name)
        return None if managed is None else managed.plugin

    def get_all_plugins(self) -> list[BasePlugin]:
        """Return the registered plugins in the order of their registration."""
        return [managed.plugin for managed in list(self._plugins.values())]

    def get_enabled_plugins(self) -> list[BasePlugin]:
        """Return the plugins that are enabled in this process, in the order of their registration."""
        return [plugin for plugin in self.get_all_plugins() if plugin.status is PluginStatus.ENABLED]

    def get_plugin_blueprints(self) -> list[tuple[Blueprint, str | None]]:
        """Return blueprint and URL prefix of each enabled plugin that has a blueprint."""
        found = [(plugin.get_blueprint(), plugin.get_url_prefix()) for plugin in self.get_enabled_plugins()]
        return [(blueprint, prefix) for blueprint, prefix in found if blueprint is not None]

    def is_enabled(self, name: str) -> bool:
        """Return whether the plugin is enabled in this process; False for an unknown name. No lock, no query."""
        managed = self._plugins.get(name)
        return managed is not None and managed.plugin.status is PluginStatus.ENABLED

    def register_plugin(self, plugin: BasePlugin) -> None:
        """Make a plugin known; announces plugin.registered.

        Raises PluginAlreadyRegisteredError for a second one of that name, and InvalidNameError for a
        name that cannot be stored.
        """
        managed = ManagedPlugin(plugin, self._event_dispatcher)
        check_name(managed.name)
        with self._locked():
            if managed.name in self._plugins:
                raise PluginAlreadyRegisteredError(f"Plugin {managed.name!r} already registered: names are unique")
            if plugin.status is PluginStatus.DISCOVERED:
                plugin._status = PluginStatus.REGISTERED
            self._plugins[managed.name] = managed
            managed.announce("registered")

    def initialize_plugin(self, name: str, config: dict[str, Any] | None = None) -> None:
        """Initialize a plugin, with the defaults of its config; announces plugin.initialized.

        Raises PluginNotFoundError, PluginStateError for an enabled plugin, InvalidConfigError for a config that is no
        dict, and what the plugin's own initialize raises.
        """
        with self._changing(name) as managed:
            managed.call("initialize", managed.plugin.initialize, config)
            managed.take_defaults()
            managed.announce("initialized")

    def discover(self, group: str = "plugin_store.plugins") -> DiscoveryReport:
        """Register and initialize the plugins that installed packages name as entry points of ``group``.

        An entry point names a BasePlugin class, or a callable that returns a BasePlugin; they are taken by name. What
        cannot be imported, made, initialized or registered is logged, is in the report, and stops none of the others.
        Call it before load_persisted_state, which restores those that are registered.
        """
        from .discovery import DiscoveryReport, candidates

        report = DiscoveryReport()
        for entry, make in candidates(group):
            try:
                plugin = make()
                plugin.initialize()  # first, so that one that cannot be is never registered
                self.register_plugin(plugin)
            except (Exception, SystemExit) as exc:
                logger.error("entry point %r of %r is skipped", entry, group, exc_info=exc)
                report.skipped[entry] = f"{type(exc).__name__}: {exc}"
            else:
                name = plugin.metadata.name
                self._plugins[name].announce("initialized")
                report.registered.append(name)
        return report

    def enable_plugin(self, name: str) -> None:
        """Enable a plugin, store that it is enabled, and announce plugin.enabled.

        Syncs first, so that it sees what other processes did; afterwards those plugins come back that depend on
        it and whose rows are enabled. May be repeated: one that is enabled runs no hook and announces nothing.

        Raises PluginNotFoundError, PluginStateError ("Cannot enable …") if it was never initialized, DependencyError if
        a dependency is not enabled, and for its config what save_config raises, before anything is done; what
        on_enable raises, which stores nothing and leaves ERROR; and what the store raises, after on_disable has
        undone on_enable.
        """
        with self._changing(name) as managed:
            rows = self._sync_others()
            version = self._version
            row = self._read(managed)
            self._enable(managed, row, lambda: self._save(managed, ENABLED, row))
            if rows is not None:
                # Those that depend on it, and whose rows are enabled already, come back with it.
                if not self._has_changed_since(version):
                    rows = [*(other for other in rows if other.plugin_name != name), PluginConfig(name, ENABLED)]
                    self._follow(rows)
                else:  # its hook, or a listener, changed others
                    self._sync_others()

    def disable_plugin(self, name: str) -> None:
        """Disable a plugin, store that it is disabled, and announce plugin.disabled.

        Syncs first, and goes on without a sync if the row of another plugin cannot be read. May be repeated. Raises
        PluginNotFoundError, and DependencyError while enabled plugins depend on it. What on_disable raises goes to the
        caller too, but the plugin is stored as disabled all the same, and is in ERROR. What the store raises goes to
        the caller after on_enable has undone on_disable.
        """
        with self._changing(name) as managed:
            try:
                self._sync_others()
            except StoreUnavailableError:
                raise
            except StoreError as exc:  # such as another's row that cannot be read: it must not hold the brake
                logger.error("plugin %r is disabled without a sync of the others: %s", name, exc)
            row = self._read(managed)
            if dependents := [other.name for other in self._plugins.values() if other.enabled and name in other.needs]:
                raise DependencyError(f"Cannot disable plugin {name!r}: plugins {dependents} depend on it")
            was, failure = managed.plugin.status, None
            try:
                managed.disable()
            except BaseException as exc:
                failure = exc
            try:
                self._save(managed, DISABLED, row)
            except BaseException:
                if failure is not None:
                    # Half-disabled, there is no way back: it runs no more, and listeners must know.
                    logger.error("plugin %r: on_disable raised", name, exc_info=failure)
                    managed.announce_status("disabled", was, LOCAL)
                elif was is PluginStatus.ENABLED:
                    managed.undo(managed.enable, was)
                else:
                    managed.plugin._status = was
                raise
            if was is PluginStatus.ENABLED:
                managed.announce_status("disabled", was, LOCAL)
            if failure is not None:
                raise failure

    def save_config(self, name: str, config: dict[str, Any]) -> None:
        """Replace a plugin's stored config, lay it over the defaults, and announce plugin.config_changed.

        Raises PluginNotFoundError, InvalidConfigError for a config that cannot be stored, that has a plain value under
        a secret key or that the plugin's validate_config refuses, UnresolvedReferenceError for a reference that
        stands for nothing in this process, and what the store raises, all before anything changed. A running
        plugin learns of it by on_config_changed; what that raises goes to the caller and leaves ERROR, and
        the config is stored.
        """
        with self._locked():
            managed = self._get(name)
            self._version += 1
            checked = managed.storable(config)
            managed.check(managed.defaults | checked)
            if self._store is not None:
                self._store.save_config(name, checked)
            _take_config(managed, checked)

    def update_config(self, name: str, changes: dict[str, Any], *, remove: Iterable[str] = ()) -> None:
        """Set the top-level keys of ``changes`` in a plugin's stored config and take out those of ``remove``.

        Keys that another process writes meanwhile stay, and no default is stored. Else as save_config.
        """
        with self._locked():
            managed = self._get(name)
            self._version += 1
            checked, gone = checked_changes(name, managed.storable(changes), remove)
            row = None if self._store is None else self._store.get_by_name(name)
            stored = row.config if row else {} if self._store else managed.plugin._config
            new = {key: value for key, value in (stored | checked).items() if key not in gone}
            managed.check(managed.defaults | new)
            if self._store is not None:
                new = self._store.update_config(name, checked, remove=gone).config
            _take_config(managed, new)

    def check_config(self, name: str, config: dict[str, Any]) -> None:
        """Raise what save_config would raise for a config, and store nothing; a name that is not registered passes.

        For what is to be stored by other ways: ``import_plugins(…, check=manager.check_config)``.
        """
        with self._locked():
            if (managed := self._plugins.get(name)) is not None:
                managed.check(managed.defaults | managed.storable(config))

    def enable_defaults(self, *names: str) -> list[str]:
        """Enable those of the named plugins that no one has decided on, and return their names.

        For a first run, and for a plugin that is new. A row is the operator's decision and stands, and one that
        says enabled is followed; without a store, so does an earlier disable_plugin. Call it after
        load_persisted_state. Dependencies come first; a plugin that needs one which is not enabled is logged and
        left for the next time. Else raises as enable_plugin.
        """
        with self._locked():
            needs = {name: set(names).intersection(self._get(name).needs) for name in names}
            order = in_dependency_order(needs)
            return [name for name in [*order, *sorted(needs.keys() - set(order))] if self._enable_default(name)]

    def load_persisted_state(self) -> RestoreReport:
        """Bring this process's plugins to what the store says: restore, at start-up.

        Call it once all plugins are registered and initialized. The rows' configs go to all plugins; those
        whose rows are enabled are enabled, dependencies first, and announced. A plugin whose dependency is missing,
        that is in a cycle, or that cannot use its config is skipped, one whose hook raises is in ERROR; each is logged,
        is in the report, and stops none of the others. Rows without a registered plugin are left alone. If the store
        cannot be read its error is raised and nothing is changed.
        """
        with self._locked():
            return RestoreReport() if self._store is None else self._follow(_all_rows(self._store))[0]

    def sync(self) -> RestoreReport:
        """Bring this process's plugins to what the store says, again: apply what has changed since.

        After it the process has the same enabled plugins and configs as one that has just started and restored,
        save for what set_config changed here and has not stored yet. Hooks are called and events announced, with the
        origin "stored". A plugin whose dependency went away is disabled in memory, while its row stays as the
        operator set it, and comes back when the dependency does. One whose hook raised is tried again when
        its row changes. Report and errors are those of load_persisted_state, which is the same at start-up.
        """
        return self.load_persisted_state()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._lock
        if not lock.acquire(timeout=PATIENCE):
            calls = [(*call, managed.name) for managed in list(self._plugins.values()) if (call := managed.running)]
            # Of those within each other, the innermost.
            hook, since, name = max(calls, key=lambda call: call[1], default=("", 0.0, ""))
            logger.warning(
                "waiting for the plugin manager: another thread is in %s; all changes wait for it",
                f"{hook} of plugin {name!r}, for {monotonic() - since:.1f} s" if hook else "a change, at the store",
            )
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _locked_here(self) -> bool:
        """Return whether the calling thread is within the manager, in a hook or listener."""
        here: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # threading.Condition uses it too
        return here

    def _after_fork(self) -> None:
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:  # held by a thread that is not in this process, nor is the change that it was making
            self._lock = RLock()
            for managed in self._plugins.values():
                managed.abandon_change()

    def _get(self, name: str) -> ManagedPlugin:
        try:
            return self._plugins[name]
        except KeyError:
            known = ", ".join(map(repr, self._plugins)) or "none"
            raise PluginNotFoundError(f"Plugin {name!r} not found: registered are {known}") from None

    @contextmanager
    def _changing(self, name: str) -> Iterator[ManagedPlugin]:
        with self._locked():
            managed = self._get(name)
            self._version += 1
            with managed.changing():
                yield managed

    def _sync_others(self) -> list[PluginConfig] | None:
        """Bring the plugins up to date, save for the one in change, and return the rows.

        None without a store, and with a mock of one in a test: what that answers is no row, and no reason to
        stop the plugins.
        """
        rows = None if self._store is None else self._store.get_all()
        return self._follow(rows)[1] if isinstance(rows, list) else None

    def _follow(self, rows: list[PluginConfig]) -> tuple[RestoreReport, list[PluginConfig]]:
        """Apply the rows just read, and then newer ones if a hook or listener changed or read any meanwhile.

        Returns the report, and the rows that were applied in the end.
        """
        rounds = 0
        while True:
            self._version += 1
            outdated = partial(self._has_changed_since, self._version)
            report = follow(self._plugins, rows, outdated)
            rounds += 1
            if not outdated():
                return report, rows
            if rounds > ROUNDS * len(self._plugins):
                logger.error(
                    "hooks or listeners changed plugins again in each of %s rounds of a sync: it ends here, before all "
                    "is as the rows say; let hooks change only what is not yet as they want it",
                    rounds,
                )
                return report, rows
            assert self._store is not None  # it gave the rows
            rows = _all_rows(self._store)

    def _has_changed_since(self, version: int) -> bool:
        return self._version != version

    def _read(self, managed: ManagedPlugin) -> PluginConfig | None:
        """Return the plugin's row, if there is one, having brought the plugin's config up to date with it."""
        if self._store is None:
            return None
        row = self._store.get_by_name(managed.name)
        if not isinstance(row, PluginConfig):
            row = None  # None, or what a mock in a test answers
        managed.apply_config({} if row is None else row.config, STORED)
        return row

    def _save(self, managed: ManagedPlugin, status: str, row: PluginConfig | None) -> None:
        """Store a status, and the config only if there is no row yet or this process changed it.

        So no process writes an old config over a newer one.
        """
        if self._store is not None:
            try:
                config = _config_to_save(managed, row)
            except InvalidConfigError as exc:
                if status != DISABLED:
                    raise
                logger.error("not stored with plugin %r as it is disabled: %s", managed.name, exc)
                config = None  # it must not hold the brake
            self._store.save(managed.name, status, config)
            if config is not None:
                managed.config_is_stored(config)

    def _enable_default(self, name: str) -> bool:
        with self._changing(name) as managed:
            row, status = self._read(managed), managed.plugin.status
            if self._store is None:
                decided = status in (PluginStatus.ENABLED, PluginStatus.DISABLED)
            elif row is not None:
                # One that is enabled, but not here: another process made it, on its own first run, since
                # this one restored.
                decided = row.status == DISABLED or status is not PluginStatus.INITIALIZED
            else:
                decided = False
            if decided:
                return False
            stored: dict[str, Any] | None = None
            version = self._version

            def add() -> None:
                nonlocal stored
                if self._store is not None:
                    found = self._store.add(name, ENABLED, managed.storable(managed.plugin._config))
                    if found.status == DISABLED and self._has_changed_since(version):
                        found = self._store.save(name, ENABLED)  # it was the hook here that made it, by save_config
                    if found.status == DISABLED:
                        raise _DecidedMeanwhileError
                    stored = found.config

            try:
                self._enable(managed, row, add)
            except DependencyError as exc:
                logger.warning("%s", exc)
                return False
            except _DecidedMeanwhileError:
                return False
            if stored is not None:  # another process may have made the row, with its config
                managed.apply_config(stored, STORED)
            return managed.enabled

    def _enable(self, managed: ManagedPlugin, row: PluginConfig | None, store: Callable[[], None]) -> None:
        """Check all that can be, run the hook, call ``store``, announce; undo the hook if storing fails."""
        self._check_needs(managed)
        was = managed.plugin.status
        if managed.initialized:
            managed.check(managed.plugin._config)
            if self._store is not None:
                _config_to_save(managed, row)
        managed.enable()
        try:
            self._check_needs(managed)  # again: the hook may have disabled one
            store()
        except BaseException:
            if was is not PluginStatus.ENABLED:
                managed.undo(managed.disable, was)
            raise
        if was is not PluginStatus.ENABLED:
            managed.announce_status("enabled", was, LOCAL)

    def _check_needs(self, managed: ManagedPlugin) -> None:
        for need in managed.needs:
            if not self.is_enabled(need):
                raise DependencyError(f"Cannot enable plugin {managed.name!r}: {dependency_missing(need)}")


def _config_to_save(managed: ManagedPlugin, row: PluginConfig | None) -> dict[str, Any] | None:
    """Return the config to store with a status, None to keep that of the row; InvalidConfigError if it must not be."""
    config = managed.config_to_store() if row is not None else copy_json(managed.plugin._config)
    return None if config is None else managed.storable(config)


def _take_config(managed: ManagedPlugin, config: dict[str, Any]) -> None:
    managed.config_is_stored()  # so that nothing set by set_config before is kept over it
    if (error := managed.apply_config(config, LOCAL)) is not None:
        raise error


class _DecidedMeanwhileError(Exception):
    """Another process made the plugin's row, as disabled, while its hook ran here."""


def _all_rows(store: PluginConfigStore) -> list[PluginConfig]:
    rows = store.get_all()
    # The mocks of older tests answer get_enabled only, and get_all with another mock.
    return rows if isinstance(rows, list) else store.get_enabled()
