"""Bringing the plugins of a process to what the table says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .decision import decide, dependency_missing, in_dependency_order
from .managed import STORED, ManagedPlugin
from .plugin import PluginStatus
from .stores.model import DISABLED, PluginConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RestoreReport:
    """What became of the plugins that are to be enabled.

    ``restored`` names those that are enabled now, dependencies first. ``skipped`` gives the reason for each
    that was not tried, for its dependencies or its config, ``failed`` the error of each whose hook raised.
    """

    restored: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def follow(
    plugins: Mapping[str, ManagedPlugin], rows: Iterable[PluginConfig], outdated: Callable[[], bool]
) -> RestoreReport:
    """Make the plugins in memory what the rows say, calling hooks and announcing; store nothing.

    Configs first, to all; then what is to stop, dependents first; then what is to start, dependencies first. A config
    that a plugin cannot use, by its references or its validate_config, disables that plugin, before it is given it. A
    plugin whose status its manager is changing right now is left to that change. One whose hook has raised
    is left alone until its row changes; a SystemExit or the like, which is no Exception, is raised all the same.
    Hooks and listeners may call the manager: once ``outdated()``, because one of them changed a plugin or read newer
    rows, this stops where it is.
    """
    by_name = {row.plugin_name: row for row in rows}
    return _Following(plugins, by_name, outdated).run()


class _Following:
    def __init__(
        self, plugins: Mapping[str, ManagedPlugin], rows: Mapping[str, PluginConfig], outdated: Callable[[], bool]
    ) -> None:
        self.plugins = plugins
        self.rows = rows
        self.outdated = outdated
        self.report = RestoreReport()
        self.refused: dict[str, str] = {}

    def run(self) -> RestoreReport:
        for name in self.until_outdated(list(self.plugins)):
            self.check_config(self.plugins[name])
        startable = {
            name: managed.needs
            for name, managed in self.plugins.items()
            if managed.initialized and name not in self.refused
        }
        decision = decide(self.rows.values(), startable)
        if self.refused:  # those stop before they are given a config that they cannot use
            self.stop(self.plugins.keys() - decision.enable)
        for name in self.until_outdated(list(self.plugins)):
            if not self.plugins[name].in_change:
                self.take_config(self.plugins[name])
        for name, reason in decision.skip.items():
            self.skip(name, self.refused.get(name, reason))
        self.stop(self.plugins.keys() - decision.enable)
        for name in self.until_outdated(decision.enable):
            self.start(self.plugins[name])
        # Those whose dependency has just failed.
        self.stop(self.report.skipped)
        return self.report

    def until_outdated(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            if self.outdated():
                return
            yield name

    def check_config(self, managed: ManagedPlugin) -> None:
        """Note why a plugin that is to be enabled cannot use its config."""
        row = self.rows.get(managed.name)
        if row is None or row.status == DISABLED or not managed.initialized or managed.in_change:
            return
        if reason := managed.reason_to_refuse(row):
            self.refused[managed.name] = reason

    def take_config(self, managed: ManagedPlugin) -> None:
        row = self.rows.get(managed.name)
        running = managed.enabled
        error: BaseException | None
        try:
            error = managed.apply_config({} if row is None else row.config, STORED)
        except BaseException as exc:
            if managed.enabled or not running:  # a listener's, and not the hook's
                raise
            error = exc
        if error is not None:
            self.fail(managed, "on_config_changed", error)
        off = managed.name in self.refused or (row is not None and row.status == DISABLED)
        if off and managed.plugin.status is PluginStatus.INITIALIZED:
            managed.plugin.disable()

    def start(self, managed: ManagedPlugin) -> None:
        """Enable a plugin in memory, and announce it, unless it is enabled already."""
        missing = next((need for need in managed.needs if not self.plugins[need].enabled), None)
        if missing is not None:
            self.skip(managed.name, dependency_missing(missing))
        elif (
            not managed.enabled
            and managed.failure is not None
            and managed.failed_at == self.rows[managed.name].updated_at
        ):
            self.report.failed[managed.name] = managed.failure
        else:
            was = managed.plugin.status
            if not managed.enabled and not managed.in_change:
                try:
                    with managed.changing():
                        managed.enable()
                except BaseException as exc:
                    self.fail(managed, "on_enable", exc)
                    return
                managed.announce_status("enabled", was, STORED)
            managed.failure = managed.skipped_for = None
            if managed.enabled:  # one in change may not be so yet
                self.report.restored.append(managed.name)

    def stop(self, names: Iterable[str]) -> None:
        """Disable those of the plugins that are enabled, in memory, dependents first."""
        running = {
            name: managed
            for name in names
            if (managed := self.plugins.get(name)) is not None and managed.enabled and not managed.in_change
        }
        if not running:
            return
        order = in_dependency_order({name: running.keys() & managed.needs for name, managed in running.items()})
        for name in self.until_outdated(reversed(order)):
            error: BaseException | None = None
            try:
                with running[name].changing():
                    running[name].disable()
            except BaseException as exc:
                error = exc
            running[name].announce_status("disabled", PluginStatus.ENABLED, STORED)
            if error is not None:
                self.fail(running[name], "on_disable", error)

    def skip(self, name: str, reason: str) -> None:
        """Report that a plugin was not tried; log it when that is news."""
        self.report.skipped[name] = reason
        managed = self.plugins.get(name)
        if managed is not None and managed.skipped_for != reason:
            managed.skipped_for = reason
            logger.warning("plugin %r is not enabled: %s", name, reason)

    def fail(self, managed: ManagedPlugin, hook: str, error: BaseException) -> None:
        """Log and report that a hook raised, and remember of which version of the row; raise what is no Exception."""
        logger.error("plugin %r: %s raised", managed.name, hook, exc_info=error)
        row = self.rows.get(managed.name)
        managed.failed_at = None if row is None else row.updated_at
        managed.failure = f"{hook} raised {type(error).__name__}: {error}"
        self.report.failed[managed.name] = managed.failure
        if not isinstance(error, Exception):
            raise error
