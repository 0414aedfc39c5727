"""Plans a sync: a pure function of wanted plugins, running plugins and dependencies."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Set
from typing import NamedTuple

# A reason shows at most this many names of a cycle.
MAX_CYCLE_NAMES = 30

NOT_HERE = "not registered and initialized here"


class Plan(NamedTuple):
    """The steps of a sync.

    ``stop`` lists the plugins to stop, dependents first. ``run`` lists the plugins that should run, dependencies
    first. ``skip`` maps each wanted plugin that cannot run to the reason.
    """

    stop: list[str]
    run: list[str]
    skip: dict[str, str]


def make_plan(
    wanted: Collection[str], needs: Mapping[str, Collection[str]], running: Set[str], blocked: Mapping[str, str]
) -> Plan:
    """Return a plan for the ``wanted`` plugins. Apart from sorting names, the time is linear.

    ``needs`` maps each initialized plugin to its dependencies. ``running`` lists the enabled plugins. ``blocked``
    maps plugins that must not run to the reason, such as a refused config.
    """
    wanted = sorted(wanted)
    possible = {name: needs[name] for name in wanted if name in needs and name not in blocked}
    run = dependency_order(possible)
    able = set(run)
    skip = {name: NOT_HERE for name in wanted if name not in needs}
    skip |= {name: blocked[name] for name in wanted if name in blocked}
    missing = {name: _first_missing(needed, able) for name, needed in needs.items() if name not in able}
    reasons = _reasons({name: need for name, need in missing.items() if need is not None})
    skip |= {name: reasons[name] for name in possible if name not in able}
    running_order = dependency_order({name: running & set(needs.get(name, ())) for name in sorted(running)})
    cyclic = sorted(running - set(running_order))  # a plugin changed its metadata while it ran
    return Plan([name for name in [*cyclic, *reversed(running_order)] if name not in able], run, skip)


def dependency_order(needs: Mapping[str, Collection[str]]) -> list[str]:
    """Return the names that can run, dependencies first.

    A name cannot run if it is in a cycle, or if a dependency cannot run or is missing from ``needs``.
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
    """Return the reason to skip a plugin: its dependency ``name`` does not run."""
    return f"Dependency {name!r} not enabled"


def _first_missing(needed: Collection[str], able: Set[str]) -> str | None:
    return next((need for need in needed if need not in able), None)


def _reasons(missing: Mapping[str, str]) -> dict[str, str]:
    """Return the reason to skip each plugin. ``missing`` maps a plugin to its first dependency that cannot run.

    Each path through ``missing`` leaves the dict or ends in a cycle.
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
            shown = cycle if len(cycle) <= MAX_CYCLE_NAMES else [*cycle[:MAX_CYCLE_NAMES], "…"]
            reasons |= dict.fromkeys(cycle, f"dependency cycle: {' -> '.join(shown)}")
    return reasons
