"""The plan: a pure function of what should run, what runs and what depends on what."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin_store.plugins.plan import Plan, dependency_order, make_plan

graphs = st.dictionaries(st.sampled_from("abcdefg"), st.lists(st.sampled_from("abcdefgx"), max_size=3))
names = st.sets(st.sampled_from("abcdefgy"))


def test_plan_starts_dependencies_first_then_by_name() -> None:
    needs = {"child": ["parent"], "grandchild": ["child"], "parent": [], "a": [], "z": ["a", "a"]}
    assert make_plan(needs, needs, set(), {}) == Plan([], ["a", "parent", "z", "child", "grandchild"], {})


def test_plan_stops_dependents_first() -> None:
    needs = {"child": ["parent"], "grandchild": ["child"], "parent": [], "off": ["parent"]}
    plan = make_plan(["child"], needs, needs.keys() - {"off"}, {})
    assert plan == Plan(["grandchild", "child", "parent"], [], {"child": "Dependency 'parent' not enabled"})


def test_plan_says_why_plugin_is_skipped() -> None:
    plan = make_plan("abcde", {"a": ["b", "gone"], "b": [], "d": [], "e": ["d"]}, {"d"}, {"d": "refused"})
    missing = {"a": "Dependency 'gone' not enabled", "c": "not registered and initialized here"}
    assert plan == Plan(["d"], ["b"], missing | {"d": "refused", "e": "Dependency 'd' not enabled"})


def test_plan_names_cycle() -> None:
    plan = make_plan("abdf", {"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"], "f": ["f"]}, set(), {})
    cycle = "dependency cycle: a -> b -> c -> a"  # also if c is not wanted
    assert plan.skip == {"a": cycle, "b": cycle, "d": "Dependency 'a' not enabled", "f": "dependency cycle: f -> f"}


def test_plan_shortens_long_cycle() -> None:
    names = [f"p{number:03}" for number in range(100)]
    needs = {name: [names[number - 1]] for number, name in enumerate(names)}
    reason = make_plan(names, needs, set(), {}).skip["p050"]
    assert reason.startswith("dependency cycle: p") and reason.endswith(" -> …") and len(reason) < 400


@settings(deadline=None, database=None)
@given(needs=graphs, wanted=names, running=names, blocked=names)
def test_plan_agrees_with_naive_model(
    needs: dict[str, list[str]], wanted: set[str], running: set[str], blocked: set[str]
) -> None:
    def may_run(name: str, on_the_way: tuple[str, ...] = ()) -> bool:
        return (
            name in wanted & needs.keys()
            and name not in {*blocked, *on_the_way}
            and all(may_run(need, (*on_the_way, name)) for need in needs[name])
        )

    running &= needs.keys()
    plan = make_plan(wanted, needs, running, dict.fromkeys(blocked, "blocked"))
    assert sorted(plan.run) == sorted(name for name in wanted if may_run(name))
    assert sorted(plan.stop) == sorted(running - set(plan.run))
    assert plan.skip.keys() == wanted - set(plan.run)
    for place, name in enumerate(plan.run):
        assert set(needs[name]) <= set(plan.run[:place])
    for name, reason in plan.skip.items():
        if reason.startswith("dependency cycle: "):
            cycle = reason.removeprefix("dependency cycle: ").split(" -> ")
            assert name in cycle and cycle[0] == cycle[-1]
            assert all(after in needs[before] for before, after in pairwise(cycle))
        elif name in needs and name not in blocked:
            assert any(reason == f"Dependency {need!r} not enabled" and need not in plan.run for need in needs[name])


def test_dependency_order_leaves_out_what_cannot_run() -> None:
    assert dependency_order({"a": [], "b": ["gone"], "c": ["b"], "d": ["d"], "e": ["a"]}) == ["a", "e"]


class Counted(str):
    """A name that counts how often names are looked up and compared."""

    count = 0

    def __hash__(self) -> int:
        Counted.count += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        Counted.count += 1
        return super().__eq__(other)


@pytest.mark.parametrize("first", [0, 1])
def test_plan_is_linear_in_chain_length(first: int) -> None:
    def steps(length: int) -> int:
        """Return the steps of a plan for a chain of plugins, all of which can run if the first is wanted."""
        names = [Counted(f"{number:05}") for number in range(length)]
        needs = {name: [before] for before, name in pairwise(names)} | {names[0]: []}
        wanted, running = names[first:], set(names[: length // 2])
        Counted.count = 0
        make_plan(wanted, needs, running, {})
        return Counted.count

    assert steps(400) < 5 * steps(100)
