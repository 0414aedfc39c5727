"""The plan: a pure function of what should run, what runs and what depends on what."""

from itertools import pairwise
from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st

from plugin_store.plugins.plan import Plan, dependency_order, make_plan

NOT_HERE = "not registered and initialized here"

graphs = st.dictionaries(st.sampled_from("abcdefg"), st.lists(st.sampled_from("abcdefgx"), max_size=3))
names = st.sets(st.sampled_from("abcdefgy"))


def test_plan_starts_dependencies_first() -> None:
    needs = {"child": ["parent"], "grandchild": ["child"], "parent": []}
    assert make_plan(needs, needs, set(), {}) == Plan([], ["parent", "child", "grandchild"], {})


def test_plan_orders_independent_plugins_by_name() -> None:
    assert make_plan(["c", "a", "b"], {"b": [], "c": [], "a": []}, set(), {}).run == ["a", "b", "c"]


def test_plan_stops_dependents_first() -> None:
    needs = {"child": ["parent"], "grandchild": ["child"], "parent": []}
    assert make_plan([], needs, set(needs), {}) == Plan(["grandchild", "child", "parent"], [], {})


def test_plan_stops_only_what_runs() -> None:
    assert make_plan([], {"a": [], "b": []}, {"b"}, {}) == Plan(["b"], [], {})


def test_plan_stops_dependents_of_unwanted_plugin() -> None:
    needs = {"parent": [], "child": ["parent"], "other": []}
    plan = make_plan(["child", "other"], needs, set(needs), {})
    assert plan == Plan(["child", "parent"], ["other"], {"child": "Dependency 'parent' not enabled"})


def test_plan_skips_plugin_that_is_not_initialized() -> None:
    assert make_plan(["a"], {}, set(), {}).skip == {"a": NOT_HERE}


def test_plan_skips_blocked_plugin_and_its_dependents() -> None:
    plan = make_plan(["a", "b"], {"a": [], "b": ["a"]}, {"a", "b"}, {"a": "refused"})
    assert plan == Plan(["b", "a"], [], {"a": "refused", "b": "Dependency 'a' not enabled"})


def test_plan_names_dependency_that_is_missing() -> None:
    plan = make_plan(["a", "b"], {"a": ["b", "gone"], "b": []}, set(), {})
    assert plan == Plan([], ["b"], {"a": "Dependency 'gone' not enabled"})


def test_plan_names_cycle() -> None:
    plan = make_plan("abcd", {"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}, set(), {})
    cycle = "dependency cycle: a -> b -> c -> a"
    assert plan.skip == {"a": cycle, "b": cycle, "c": cycle, "d": "Dependency 'a' not enabled"}


def test_plan_names_cycle_through_unwanted_plugin() -> None:
    plan = make_plan(["a"], {"a": ["b"], "b": ["a"]}, set(), {})
    assert plan == Plan([], [], {"a": "dependency cycle: a -> b -> a"})


def test_plan_names_self_dependency_as_cycle() -> None:
    assert make_plan(["a"], {"a": ["a"]}, set(), {}).skip == {"a": "dependency cycle: a -> a"}


def test_plan_stops_running_plugins_in_cycle() -> None:
    plan = make_plan("abc", {"a": ["b"], "b": ["a"], "c": []}, {"a", "b", "c"}, {})
    assert (sorted(plan.stop), plan.run) == (["a", "b"], ["c"])


def test_plan_takes_repeated_dependency_once() -> None:
    assert make_plan("ab", {"a": ["b", "b"], "b": []}, set(), {}).run == ["b", "a"]


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


def test_plan_time_is_linear_in_chain_length() -> None:
    def seconds(length: int) -> float:
        names = [f"{number:05}" for number in range(length)]
        needs = {name: [before] for before, name in pairwise(names)} | {names[0]: []}
        wanted, running = names[1:], set(names[: length // 2])
        times = []
        for _ in range(3):
            begin = process_time()
            make_plan(wanted, needs, running, {})
            times.append(process_time() - begin)
        return min(times)

    assert seconds(8_000) < 30 * seconds(1_000)


def test_plan_shortens_long_cycle() -> None:
    names = [f"p{number:03}" for number in range(100)]
    needs = {name: [names[number - 1]] for number, name in enumerate(names)}
    reason = make_plan(names, needs, set(), {}).skip["p050"]
    assert reason.startswith("dependency cycle: p") and reason.endswith(" -> …") and len(reason) < 400
