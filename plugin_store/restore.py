"""Bringing the plugins of a process to what the table says."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .decision import decide, dependency_missing, in_dependency_order
from .managed import STORED, ManagedPlugin
from .plugin import PluginStatus
from .store import DISABLED, PluginConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RestoreReport:
    """What became of the plugins that are to be enabled.

    ``restored`` names those that are enabled now, dependencies first. ``skipped`` gives the reason for each
    that was not tried, ``failed`` the error of each whose hook raised.
    """

    restored: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def skip(self, name: str, reason: str) -> None:
        """Note, and log, that a plugin was not tried."""
        self.skipped[name] = reason
        logger.warning("plugin %r is not enabled: %s", name, reason)

    def fail(self, name: str, hook: str, error: Exception) -> None:
        """Note, and log, that a hook of a plugin raised."""
        self.failed[name] = f"{hook} raised {type(error).__name__}: {error}"
        logger.error("plugin %r: %s raised", name, hook, exc_info=error)


def follow(plugins: Mapping[str, ManagedPlugin], rows: Iterable[PluginConfig]) -> RestoreReport:
    """Make the plugins in memory what the rows say, calling hooks and announcing; store nothing.

    Configs first, to all; then what is to stop, dependents first; then what is to start, dependencies first. A
    plugin that one of its own hooks is changing right now is left to that change.
    """
    by_name = {row.plugin_name: row for row in rows}
    report = RestoreReport()
    free = {name: managed for name, managed in plugins.items() if not managed.in_change}
    for name, managed in free.items():
        row = by_name.get(name)
        error = managed.apply_config({} if row is None else row.config, STORED)
        if error is not None:
            report.fail(name, "on_config_changed", error)
        if row is not None and row.status == DISABLED and managed.plugin.status is PluginStatus.INITIALIZED:
            managed.plugin.disable()

    startable = {name: managed.needs for name, managed in plugins.items() if managed.initialized}
    decision = decide(by_name.values(), startable)
    for name, reason in decision.skip.items():
        if name in plugins:
            report.skip(name, reason)
        else:
            report.skipped[name] = reason
    _stop(free, set(free).difference(decision.enable), report)
    for name in decision.enable:
        if name not in report.failed:
            _start(plugins, name, report)
    _stop(free, report.skipped, report)
    return report


def _start(plugins: Mapping[str, ManagedPlugin], name: str, report: RestoreReport) -> None:
    """Enable a plugin in memory, and announce it, unless it is enabled already."""
    managed = plugins[name]
    missing = next((need for need in managed.needs if not plugins[need].enabled), None)
    if missing is not None:
        report.skip(name, dependency_missing(missing))
        return
    if not managed.enabled and not managed.in_change:
        try:
            with managed.changing():
                managed.plugin.enable()
        except Exception as exc:
            report.fail(name, "on_enable", exc)
            return
        managed.announce("enabled", origin=STORED)
    report.restored.append(name)


def _stop(plugins: Mapping[str, ManagedPlugin], names: Iterable[str], report: RestoreReport) -> None:
    """Disable those of the plugins that are enabled, in memory, dependents first."""
    running = {name for name in names if name in plugins and plugins[name].enabled}
    order = in_dependency_order({name: running.intersection(plugins[name].needs) for name in running})
    for name in reversed(order):
        managed = plugins[name]
        try:
            with managed.changing():
                managed.plugin.disable()
        except Exception as exc:
            report.fail(name, "on_disable", exc)
        managed.announce("disabled", origin=STORED)
