"""One sync: makes the plugins of this process match the rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from plugin_store.errors import PluginStoreError
from plugin_store.stores.model import DISABLED, ENABLED, PluginConfig

from .managed import Failure, Managed
from .plan import Plan, dependency_missing, make_plan
from .plugin import PluginStatus

# The origin of a change: a call of this manager, or a row in the store.
LOCAL = "local"
STORED = "stored"

Commit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class SyncReport:
    """The outcome of a sync.

    ``restored`` lists the plugins that run, dependencies first. ``skipped`` maps each wanted plugin that does not
    run to the reason, such as a missing dependency. ``failed`` maps each plugin in ERROR to its hook's error.
    """

    restored: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class Sync:
    """Applies rows to plugins, once.

    ``asked`` maps each plugin that the caller enables to the function that stores its status. The function gets the
    pending config that was checked before the hook ran. ``configured`` is the plugin whose config the caller changed.
    ``retried`` are the plugins that are tried again if they are in ERROR, even if their rows have not changed. ``run``
    fills ``report``, and ``errors`` with the error of each plugin.
    """

    def __init__(
        self,
        plugins: Mapping[str, Managed],
        rows: Mapping[str, PluginConfig],
        *,
        asked: Mapping[str, Commit] | None = None,
        configured: str | None = None,
        retried: Collection[str] = (),
    ) -> None:
        self.report = SyncReport()
        self.errors: dict[str, BaseException] = {}
        self._plugins = plugins
        self._rows = rows
        self._asked = asked or {}
        self._configured = configured
        self._retried = retried
        self._needs = {name: managed.needs for name, managed in plugins.items() if managed.initialized}
        self._wanted = {name for name in plugins if name in self._asked or self._is_row(name, ENABLED)}
        self._blocked: dict[str, str] = {}
        self._checked: dict[str, dict[str, Any]] = {}  # the pending configs that _check has checked
        self._old_failures = {name: managed.failure for name, managed in plugins.items()}
        self._plan = Plan([], [], {})

    def run(self) -> None:
        """Stop plugins that should not run, apply configs, then start plugins that should run."""
        try:
            settings = self._check()
            self._make_plan()
            self._stop(self._plan.stop, {})
            if raised := self._configure(settings):
                self._blocked |= dict.fromkeys(raised, "on_config_changed raised")
                self._make_plan()
                self._stop(self._plan.stop, raised)
                for error in raised.values():
                    if isinstance(error, KeyboardInterrupt):
                        raise error
            self._start()
            self._settle()
        finally:
            self._fill_report()

    def stop_dependents(self, name: str) -> None:
        """Of the plugins that should not run, stop those that depend on this one."""
        self._make_plan()
        found = {name}
        for other in reversed(self._plan.stop):  # dependencies first
            if found.intersection(self._needs[other]):
                found.add(other)
        found.discard(name)
        self._stop([other for other in self._plan.stop if other in found], {})

    def _check(self) -> dict[str, Any]:
        """Validate the configs that this sync applies, and return the settings.

        Block each plugin that refuses its config, and each plugin that failed and should not be tried again.
        """
        settings = {}
        for name in self._needs:
            managed = self._plugins[name]
            starts = name in self._wanted and not managed.enabled
            if starts and (failure := self._lasting_failure(managed)):
                self._blocked[name] = failure.text
            elif starts or self._may_change_config(managed):
                try:
                    pending = self._checked[name] = managed.pending
                    if starts and name in self._asked:
                        managed.storable(pending)
                    settings[name] = managed.check(self._stored(name), pending)
                except PluginStoreError as exc:
                    self._blocked[name], self.errors[name] = str(exc), exc
        return settings

    def _configure(self, settings: Mapping[str, Any]) -> dict[str, BaseException]:
        """Apply the stored configs. Return the errors of on_config_changed, by plugin."""
        raised = {}
        for name, parsed in settings.items():
            error = self._plugins[name].configure(self._stored(name), parsed, self._origin(name))
            if error is not None:
                raised[name] = error
            if isinstance(error, KeyboardInterrupt):
                break
        return raised

    def _stop(self, names: Iterable[str], raised: Mapping[str, BaseException]) -> None:
        for name in names:
            managed = self._plugins[name]
            managed.switch(False, self._rows, origin=self._origin(name))
            if name in raised:
                managed.fail("on_config_changed", raised[name], self._rows)
                self.errors[name] = raised[name]

    def _start(self) -> None:
        skip = self._plan.skip
        for name in self._plan.run:
            managed = self._plugins[name]
            commit = partial(self._asked[name], self._checked[name]) if name in self._asked else None
            try:
                if managed.enabled:
                    if commit is not None:
                        commit()
                elif (missing := self._missing(name)) is not None:
                    skip[name] = dependency_missing(missing)
                else:
                    error = managed.switch(True, self._rows, origin=self._origin(name), commit=commit)
                    if error is not None:
                        self.errors[name] = error
            except Exception as exc:
                if commit is None:
                    raise
                skip[name], self.errors[name] = str(exc) or repr(exc), exc
                if name not in self._rows:  # a default: try again at the next resync, not at the next sync
                    managed.failure = managed.failure or Failure(skip[name], None)

    def _settle(self) -> None:
        """Set the status of new plugins with a disabled row, and of those whose failure is over, to DISABLED.

        No hook runs. A failure is over if its reason does not hold any more, and no hook has failed in this sync.
        """
        for name, managed in self._plugins.items():
            is_new = managed.plugin.status is PluginStatus.INITIALIZED and self._is_row(name, DISABLED)
            is_old = managed.failure is not None and managed.failure is self._old_failures[name]
            if is_new or (is_old and not self._lasting_failure(managed)):
                managed.switch(False, self._rows, origin=STORED)

    def _fill_report(self) -> None:
        plan = self._plan
        self.report.restored.extend(name for name in plan.run if self._plugins[name].enabled)
        for name, managed in self._plugins.items():
            if managed.plugin.status is PluginStatus.ERROR and managed.failure is not None:
                self.report.failed[name] = managed.failure.text
            elif name in plan.skip and not managed.enabled:
                self.report.skipped[name] = plan.skip[name]

    def _make_plan(self) -> None:
        running = {name for name, managed in self._plugins.items() if managed.enabled}
        self._plan = make_plan(self._wanted, self._needs, running, self._blocked)

    def _may_change_config(self, managed: Managed) -> bool:
        return self._origin(managed.name) == LOCAL or not managed.has_stored(self._stored(managed.name))

    def _lasting_failure(self, managed: Managed) -> Failure | None:
        """Return the plugin's failure, unless its row has changed since, or this sync tries it again."""
        failure, name = managed.failure, managed.name
        if failure is None or failure.row != self._rows.get(name) or (name in self._retried and name in self._wanted):
            return None
        return failure

    def _origin(self, name: str) -> str:
        return LOCAL if name in self._asked or name == self._configured else STORED

    def _missing(self, name: str) -> str | None:
        """Return a dependency that failed to start in this sync, or None."""
        return next((need for need in self._needs[name] if not self._plugins[need].enabled), None)

    def _stored(self, name: str) -> dict[str, Any]:
        row = self._rows.get(name)
        return {} if row is None else row.config

    def _is_row(self, name: str, status: str) -> bool:
        row = self._rows.get(name)
        return row is not None and row.status == status
