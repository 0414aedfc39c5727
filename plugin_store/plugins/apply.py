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

    ``asked`` maps each plugin to enable to its commit, which stores the status and the checked pending config.
    ``configured`` is the plugin whose config the caller changed. ``retried`` names plugins to try again after a
    failure, even if their rows are unchanged. Call ``prepare``, then ``run``. They fill ``errors`` with the error of
    each plugin, and ``run`` fills ``report``.
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
        self._wanted = {name for name in plugins if name in self._asked or self._row_status(name) == ENABLED}
        self._blocked: dict[str, str] = {}
        self._checked: dict[str, tuple[dict[str, Any], Any]] = {}  # pending config and settings of each checked plugin
        self._old_failures = {name: managed.failure for name, managed in plugins.items()}
        self._plan = Plan([], [], {})

    def prepare(self) -> None:
        """Validate the configs that this sync applies, and plan. Nothing changes, whatever validate_config raises.

        Blocks each plugin that refuses its config, and each plugin that failed and should not be tried again.
        """
        for name in self._needs:
            managed = self._plugins[name]
            starts = name in self._wanted and not managed.enabled
            if starts and (failure := self._lasting_failure(managed)):
                self._blocked[name] = failure.text
            elif starts or self._may_change_config(managed):
                try:
                    pending = managed.pending
                    if starts and name in self._asked:
                        managed.storable(pending)
                    self._checked[name] = pending, managed.check(self._stored(name), pending)
                except PluginStoreError as exc:
                    self._blocked[name], self.errors[name] = str(exc), exc
        self._make_plan()

    def run(self) -> None:
        """Stop plugins that should not run, apply configs, then start plugins that should run."""
        try:
            self._stop(self._plan.stop, {})
            if raised := self._configure():
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
        """Stop the dependents of this plugin that should not run."""
        self._make_plan()
        found = {name}
        for other in reversed(self._plan.stop):  # dependencies first
            if found.intersection(self._needs[other]):
                found.add(other)
        self._stop([other for other in self._plan.stop if other in found and other != name], {})

    def _configure(self) -> dict[str, BaseException]:
        """Apply the stored configs. Return the errors of on_config_changed, by plugin."""
        raised = {}
        for name, (_, settings) in self._checked.items():
            error = self._plugins[name].configure(self._stored(name), settings, self._origin(name))
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
            commit = partial(self._asked[name], self._checked[name][0]) if name in self._asked else None
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
                if name not in self._rows and not managed.enabled and not self._has_failed(managed):
                    # Without a row, each sync would try again. With a failure, only a resync does.
                    managed.failure = Failure(skip[name], None)

    def _settle(self) -> None:
        """Set the status of plugins that are off, but not for a failure, to DISABLED. No hook runs.

        A failure is over if the row changed, or if this sync found another reason.
        """
        for name, managed in self._plugins.items():
            if not managed.enabled and not self._has_failed(managed) and not self._lasting_failure(managed):
                is_over = managed.failure is not None or managed.plugin.status is PluginStatus.ERROR
                if is_over or self._row_status(name) == DISABLED:
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
        """Return the failure that keeps the plugin off in this sync, or None."""
        failure, name = managed.failure, managed.name
        lasts = failure is not None and failure.row == self._rows.get(name)
        is_retried = name in self._retried and name in self._wanted
        return failure if lasts and not is_retried else None

    def _has_failed(self, managed: Managed) -> bool:
        """Return whether the plugin has failed in this sync."""
        return managed.failure is not self._old_failures[managed.name] and managed.failure is not None

    def _origin(self, name: str) -> str:
        return LOCAL if name in self._asked or name == self._configured else STORED

    def _missing(self, name: str) -> str | None:
        """Return a dependency that failed to start in this sync, or None."""
        return next((need for need in self._needs[name] if not self._plugins[need].enabled), None)

    def _stored(self, name: str) -> dict[str, Any]:
        row = self._rows.get(name)
        return {} if row is None else row.config

    def _row_status(self, name: str) -> str | None:
        row = self._rows.get(name)
        return None if row is None else row.status
