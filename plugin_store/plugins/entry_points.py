"""Plugins that installed packages name as entry points.

Only PluginManager.discover imports this module, because importing importlib.metadata is slow.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from .plugin import BasePlugin

if TYPE_CHECKING:
    from .manager import PluginManager

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiscoveryReport:
    """The outcome of a discovery.

    ``registered`` lists the new plugins, in the order of registration. ``skipped`` maps each other entry point, written
    ``name = module:attribute``, to the reason.
    """

    registered: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def discover(manager: PluginManager, group: str) -> DiscoveryReport:
    """Initialize and register the plugins of a group, ordered by entry point name.

    An entry point names a BasePlugin class, or a callable that returns a BasePlugin. If an entry point
    fails, the log and the report say why, and the others are registered.
    """
    report = DiscoveryReport()
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        line = f"{entry.name} = {entry.value}"
        try:
            plugin = _make(entry)
            plugin.initialize()  # before registration, so a plugin that fails here is not registered
            manager.register_plugin(plugin)
        except (Exception, SystemExit) as exc:
            logger.error("entry point %r of %r is skipped", line, group, exc_info=exc)
            report.skipped[line] = f"{type(exc).__name__}: {exc}"
        else:
            report.registered.append(plugin.metadata.name)
    return report


def _make(entry: EntryPoint) -> BasePlugin:
    made = entry.load()
    plugin = made() if callable(made) else None
    if not isinstance(plugin, BasePlugin):
        raise TypeError(f"{made!r} is not a BasePlugin class, or a callable that returns a BasePlugin")
    return plugin
