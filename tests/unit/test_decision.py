"""What should be enabled: decided without a database, a thread or a hook. Random graphs are in test_properties.py."""

from itertools import pairwise

import pytest

from plugin_store import PluginConfig
from plugin_store.decision import decide, in_dependency_order


def wanted(*names: str) -> list[PluginConfig]:
    return [PluginConfig(name, "enabled") for name in names]


def test_a_plugin_should_be_enabled_if_its_row_is() -> None:
    decision = decide([PluginConfig("a", "enabled"), PluginConfig("b", "disabled")], {"a": [], "b": [], "c": []})
    assert decision == (["a"], {})


def test_dependencies_come_first_and_else_names_decide() -> None:
    plugins = {"z": [], "a": ["z"], "c": [], "b": ["a", "c"], "d": []}
    assert decide(wanted(*plugins), plugins).enable == ["c", "d", "z", "a", "b"]


def test_a_row_without_a_plugin_is_skipped() -> None:
    decision = decide(wanted("a", "unknown"), {"a": []})
    assert decision == (["a"], {"unknown": "is not registered and initialized here"})


@pytest.mark.parametrize("rows", [wanted("child"), [PluginConfig("parent", "disabled"), *wanted("child")]])
def test_a_plugin_whose_dependency_is_not_enabled_is_skipped(rows: list[PluginConfig]) -> None:
    decision = decide(rows, {"parent": [], "child": ["parent"]})
    assert decision == ([], {"child": "Dependency 'parent' not enabled"})


def test_a_plugin_whose_dependency_does_not_exist_is_skipped() -> None:
    assert decide(wanted("child"), {"child": ["parent"]}).skip == {"child": "Dependency 'parent' not enabled"}


def test_what_depends_on_a_skipped_plugin_is_skipped_too() -> None:
    decision = decide(wanted("a", "b", "c", "d"), {"a": ["missing"], "b": ["a"], "c": ["b"], "d": []})
    assert decision.enable == ["d"]
    assert decision.skip == {
        "a": "Dependency 'missing' not enabled",
        "b": "Dependency 'a' not enabled",
        "c": "Dependency 'b' not enabled",
    }


def test_the_reason_names_a_dependency_that_is_not_enabled_and_not_one_that_is() -> None:
    decision = decide(wanted("fine", "child"), {"fine": [], "child": ["fine", "missing"]})
    assert decision.skip == {"child": "Dependency 'missing' not enabled"}


def test_a_cycle_skips_its_members_and_what_depends_on_them() -> None:
    plugins = {"a": ["b"], "b": ["c"], "c": ["a"], "outside": ["a"], "free": []}
    decision = decide(wanted(*plugins), plugins)
    assert decision.enable == ["free"]
    assert decision.skip == {
        "a": "is in a dependency cycle: a -> b -> c -> a",
        "b": "is in a dependency cycle: b -> c -> a -> b",
        "c": "is in a dependency cycle: c -> a -> b -> c",
        "outside": "Dependency 'a' not enabled",
    }


def test_a_plugin_that_depends_on_itself_is_in_a_cycle() -> None:
    assert decide(wanted("a"), {"a": ["a"]}).skip == {"a": "is in a dependency cycle: a -> a"}


def test_the_cycle_that_is_named_is_the_shortest() -> None:
    plugins = {"a": ["b", "d"], "b": ["c"], "c": ["d", "b"], "d": ["a"]}
    assert decide(wanted(*plugins), plugins).skip["a"] == "is in a dependency cycle: a -> d -> a"


def test_a_dependency_named_twice_counts_once() -> None:
    assert decide(wanted("a", "b"), {"a": [], "b": ["a", "a"]}).enable == ["a", "b"]


def test_a_long_chain_and_many_plugins_are_no_problem() -> None:
    names = [f"plugin {number:04}" for number in range(2_000)]
    chain = {name: [other] for name, other in pairwise(names)} | {names[-1]: []}
    assert decide(wanted(*names), chain).enable == names[::-1]


def test_rows_and_plugins_are_left_as_they_are() -> None:
    rows, plugins = wanted("b", "a"), {"b": ["a"], "a": []}
    assert decide(iter(rows), plugins) == decide(rows, plugins)
    assert plugins == {"b": ["a"], "a": []}


def test_in_dependency_order_leaves_out_what_cannot_be_enabled() -> None:
    assert in_dependency_order({"b": ["a"], "a": [], "c": ["missing"], "d": ["d"], "e": ["c"]}) == ["a", "b"]
    assert in_dependency_order({}) == []
