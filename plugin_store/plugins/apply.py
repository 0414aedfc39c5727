"""One sync: makes the plugins of this process match the rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from plugin_store.errors import PluginStoreError
from plugin_store.stores.model import DISABLED, ENABLED, PluginConfig

from .managed import Managed
from .plan import Plan, dependency_missing, make_plan
from .plugin import PluginStatus

# The origin of a change: a call of this manager, or a row in the store.
LOCAL = "local"
STORED = "stored"


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

    ``asked`` maps each plugin that the caller enables to the function that stores its status. ``configured`` is the
    plugin whose config the caller changed. ``retried`` are the plugins that are tried again if they are in ERROR, even
    if their rows have not changed. ``run`` fills ``report``, and ``errors`` with the error of each plugin.
    """

    def __init__(
        self,
        plugins: Mapping[str, Managed],
        rows: Mapping[str, PluginConfig],
        *,
        asked: Mapping[str, Callable[[], None]] | None = None,
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

    def run(self) -> None:
        """Stop plugins that should not run, apply configs, then start plugins that should run."""
        settings = self._check()
        plan = self._plan()
        self._stop(plan, {})
        if raised := self._configure(settings):
            self._blocked |= dict.fromkeys(raised, "on_config_changed raised")
            plan = self._plan()
            self._stop(plan, raised)
            for error in raised.values():
                if isinstance(error, KeyboardInterrupt):
                    raise error
        self._start(plan)
        for name, managed in self._plugins.items():
            if managed.plugin.status is PluginStatus.INITIALIZED and self._is_row(name, DISABLED):
                managed.switch(False, self._rows[name], origin=STORED)  # the status shows the row; no hook runs
        self._fill_report(plan)

    def stop_dependents(self, name: str) -> None:
        """Of the plugins that should not run, stop those that depend on this one."""
        plan, found = self._plan(), {name}
        for other in reversed(plan.stop):  # dependencies first
            if found.intersection(self._needs[other]):
                found.add(other)
        found.discard(name)
        self._stop(plan._replace(stop=[other for other in plan.stop if other in found]), {})

    def _check(self) -> dict[str, Any]:
        """Validate the configs that this sync applies, and return the settings.

        Block each plugin that refuses its config, and each plugin that failed and should not be tried again.
        """
        settings = {}
        for name in self._needs:
            managed = self._plugins[name]
            starts = name in self._wanted and not managed.enabled
            if starts and self._is_held(managed):
                self._blocked[name] = "a hook raised"
            elif starts or self._may_change_config(managed):
                try:
                    settings[name] = managed.check(self._stored(name), managed.plugin._pending)
                except PluginStoreError as exc:
                    self._blocked[name], self.errors[name] = str(exc), exc
        return settings

    def _configure(self, settings: Mapping[str, Any]) -> dict[str, BaseException]:
        """Apply the stored configs. Return the errors of on_config_changed, by plugin."""
        raised = {}
        for name, parsed in settings.items():
            origin = LOCAL if name == self._configured else STORED
            error = self._plugins[name].configure(self._stored(name), parsed, origin)
            if error is not None:
                raised[name] = error
            if isinstance(error, KeyboardInterrupt):
                break
        return raised

    def _stop(self, plan: Plan, raised: Mapping[str, BaseException]) -> None:
        for name in plan.stop:
            managed, row = self._plugins[name], self._rows.get(name)
            managed.switch(False, row, origin=STORED)
            if name in raised:
                managed.fail("on_config_changed", raised[name], row)
                self.errors[name] = raised[name]

    def _start(self, plan: Plan) -> None:
        for name in plan.run:
            managed, commit = self._plugins[name], self._asked.get(name)
            try:
                if managed.enabled:
                    if commit is not None:
                        commit()
                elif (missing := self._missing(name)) is not None:
                    plan.skip[name] = dependency_missing(missing)
                else:
                    origin = LOCAL if commit else STORED
                    error = managed.switch(True, self._rows.get(name), origin=origin, commit=commit)
                    if error is not None:
                        self.errors[name] = error
            except Exception as exc:
                if commit is None:
                    raise
                plan.skip[name], self.errors[name] = str(exc) or repr(exc), exc

    def _fill_report(self, plan: Plan) -> None:
        self.report.restored.extend(name for name in plan.run if self._plugins[name].enabled)
        for name, managed in self._plugins.items():
            if managed.plugin.status is PluginStatus.ERROR and managed.failure is not None:
                self.report.failed[name] = managed.failure.text
            elif name in plan.skip and not managed.enabled:
                self.report.skipped[name] = plan.skip[name]

    def _plan(self) -> Plan:
        running = {name for name, managed in self._plugins.items() if managed.enabled}
        return make_plan(self._wanted, self._needs, running, self._blocked)

    def _may_change_config(self, managed: Managed) -> bool:
        is_named = managed.name in self._asked or managed.name == self._configured
        return is_named or not managed.has_stored(self._stored(managed.name))

    def _is_held(self, managed: Managed) -> bool:
        """Return whether the plugin failed and should not be tried again."""
        failure, row = managed.failure, self._rows.get(managed.name)
        return failure is not None and failure.row == row and managed.name not in self._retried

    def _missing(self, name: str) -> str | None:
        """Return a dependency that failed to start in this sync, or None."""
        return next((need for need in self._needs[name] if not self._plugins[need].enabled), None)

    def _stored(self, name: str) -> dict[str, Any]:
        row = self._rows.get(name)
        return {} if row is None else row.config

    def _is_row(self, name: str, status: str) -> bool:
        row = self._rows.get(name)
        return row is not None and row.status == status
