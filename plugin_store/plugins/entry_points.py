"""Plugins that installed packages name as entry points.

Only PluginManager.discover imports this module, because importing importlib.metadata is slow.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from .plugin import BasePlugin, check_plugin
from .secrets import text_of

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
        plugin = None
        try:
            plugin = _make(entry)
            check_plugin(plugin)
            plugin.initialize()  # before registration, so a plugin that fails here is not registered
            manager.register_plugin(plugin)
            report.registered.append(plugin.metadata.name)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            secret = plugin is not None and plugin._knows_secret
            report.skipped[line] = reason = text_of(exc, secret=secret)
            logger.error("entry point %r of %r is skipped: %s", line, group, reason, exc_info=None if secret else exc)
    return report


def _make(entry: EntryPoint) -> BasePlugin:
    made = entry.load()
    plugin = made() if callable(made) else None
    if not isinstance(plugin, BasePlugin):
        raise TypeError(f"{made!r} is not a BasePlugin class, or a callable that returns a BasePlugin")
    return plugin
