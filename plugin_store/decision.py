"""Which plugins should be enabled: a pure function of the rows and the registered plugins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from .stores.model import ENABLED, PluginConfig


class Decision(NamedTuple):
    """What should be enabled, in the order in which to enable it, and why not the rest of what rows want."""

    enable: list[str]
    skip: dict[str, str]


def decide(rows: Iterable[PluginConfig], plugins: Mapping[str, Collection[str]]) -> Decision:
    """Return which plugins should be enabled, dependencies first and else by name.

    ``plugins`` are the initialized plugins of the process, each with the names that it depends on. A
    plugin should be enabled if its row is enabled and all its dependencies should be too.
    """
    wanted = {row.plugin_name for row in rows if row.status == ENABLED}
    waiting = {name: plugins[name] for name in sorted(wanted & plugins.keys())}
    enable = in_dependency_order(waiting)
    enabled = set(enable)
    left = {name: needs for name, needs in waiting.items() if name not in enabled}
    skip = dict.fromkeys(sorted(wanted - plugins.keys()), "is not registered and initialized here")
    for name, needs in left.items():
        if circle := _circle(name, left):
            skip[name] = f"is in a dependency cycle: {' -> '.join(circle)}"
        else:
            missing = next(need for need in needs if need not in enabled)
            skip[name] = dependency_missing(missing)
    return Decision(enable, skip)


def in_dependency_order(plugins: Mapping[str, Collection[str]]) -> list[str]:
    """Return those plugins that can be enabled, each after what it depends on, else by name.

    Left out are those that depend on a name that is not among them, or on themselves in a circle.
    """
    dependents: dict[str, list[str]] = {}
    missing = {name: len(set(needs)) for name, needs in plugins.items()}
    for name, needs in plugins.items():
        for need in set(needs):
            dependents.setdefault(need, []).append(name)
    ready = [name for name, count in missing.items() if not count]
    heapify(ready)
    order = []
    while ready:
        order.append(name := heappop(ready))
        for dependent in dependents.get(name, ()):
            missing[dependent] -= 1
            if not missing[dependent]:
                heappush(ready, dependent)
    return order


def dependency_missing(name: str) -> str:
    """Return the sentence for a dependency that is not there."""
    return f"Dependency {name!r} not enabled"


def _circle(start: str, graph: Mapping[str, Collection[str]]) -> list[str]:
    """Return a way from ``start`` back to it along dependencies, or [] if there is none."""
    ways, seen = [[start]], set()
    while ways:
        way = ways.pop(0)
        for name in graph[way[-1]]:
            if name == start:
                return [*way, start]
            if name in graph and name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []
