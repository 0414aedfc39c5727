"""What a sync has to do: a pure function of what should run, what runs and what depends on what."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Set
from typing import NamedTuple

NOT_HERE = "not registered and initialized here"


class Plan(NamedTuple):
    """What a sync does.

    ``stop`` are the plugins to stop, dependents first. ``run`` are the plugins that should run afterwards,
    dependencies first. ``skip`` maps each other wanted plugin to the reason why it cannot run.
    """

    stop: list[str]
    run: list[str]
    skip: dict[str, str]


def make_plan(
    wanted: Collection[str], needs: Mapping[str, Collection[str]], running: Set[str], blocked: Mapping[str, str]
) -> Plan:
    """Plan for the ``wanted`` plugins, in time linear in plugins and dependencies.

    ``needs`` maps each initialized plugin to the names that it depends on. ``running`` are the plugins that are
    enabled now. ``blocked`` maps plugins that cannot run to the reason, such as a refused config.
    """
    possible = {name: needs[name] for name in sorted(wanted) if name in needs and name not in blocked}
    run = dependency_order(possible)
    able = set(run)
    skip = {name: NOT_HERE for name in sorted(wanted) if name not in needs}
    skip |= {name: blocked[name] for name in sorted(wanted) if name in blocked}
    missing = {name: _first_missing(needed, able) for name, needed in needs.items() if name not in able}
    reasons = _reasons({name: need for name, need in missing.items() if need is not None})
    skip |= {name: reasons[name] for name in possible if name not in able}
    running_order = dependency_order({name: running & set(needs.get(name, ())) for name in sorted(running)})
    cyclic = sorted(running - set(running_order))  # if metadata changed while the plugins ran
    return Plan([name for name in [*cyclic, *reversed(running_order)] if name not in able], run, skip)


def dependency_order(needs: Mapping[str, Collection[str]]) -> list[str]:
    """Return the names that can run, dependencies first.

    A name cannot run if it needs a name that is missing from ``needs``, or itself by way of others.
    """
    waiting = {name: len(set(needed)) for name, needed in needs.items()}
    dependents: dict[str, list[str]] = {}
    for name, needed in needs.items():
        for need in set(needed):
            dependents.setdefault(need, []).append(name)
    ready = deque(name for name, count in waiting.items() if not count)
    order = []
    while ready:
        order.append(name := ready.popleft())
        for dependent in dependents.get(name, ()):
            waiting[dependent] -= 1
            if not waiting[dependent]:
                ready.append(dependent)
    return order


def dependency_missing(name: str) -> str:
    """Return the reason of a plugin whose dependency does not run."""
    return f"Dependency {name!r} not enabled"


def _first_missing(needed: Collection[str], able: Set[str]) -> str | None:
    return next((need for need in needed if need not in able), None)


def _reasons(missing: Mapping[str, str]) -> dict[str, str]:
    """Return the reason for each plugin; ``missing`` maps it to the first dependency that cannot run.

    Following ``missing`` from plugin to plugin ends outside of it, or goes round in a cycle.
    """
    reasons = {name: dependency_missing(need) for name, need in missing.items()}
    seen: set[str] = set()
    for name in missing:
        path = []
        while name in missing and name not in seen:
            seen.add(name)
            path.append(name)
            name = missing[name]
        if name in path:
            cycle = [*path[path.index(name) :], name]
            reasons |= dict.fromkeys(cycle, f"dependency cycle: {' -> '.join(cycle)}")
    return reasons
