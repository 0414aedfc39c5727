"""Plugins that installed packages name as entry points.

A module of its own, loaded by PluginManager.discover alone: importlib.metadata costs more than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from .plugin import BasePlugin


@dataclass(frozen=True)
class DiscoveryReport:
    """What became of the entry points of a group.

    ``registered`` names the plugins that are registered and initialized now, in that order. ``skipped`` gives the
    reason for each entry point that is not, under the line that its package has for it: ``name = module:attribute``.
    """

    registered: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def candidates(group: str) -> Iterator[tuple[str, Callable[[], BasePlugin]]]:
    """Yield the line of each entry point of the group, in order, and what makes its plugin or raises."""
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        yield f"{entry.name} = {entry.value}", partial(_make, entry)


def _make(entry: EntryPoint) -> BasePlugin:
    made = entry.load()
    plugin = made() if callable(made) else None
    if not isinstance(plugin, BasePlugin):
        raise TypeError(f"{made!r} is no BasePlugin class, nor a callable that returns a BasePlugin")
    return plugin
