"""What holds for anything that hypothesis comes up with."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from example_plugins import ExamplePlugin, HookError, Listener
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from plugin_store import (
    InMemoryPluginConfigStore,
    InvalidConfigError,
    PluginAlreadyRegisteredError,
    PluginConfig,
    PluginConfigRepository,
    PluginConfigStore,
    PluginManager,
    PluginStatus,
    StoreUnavailableError,
)
from plugin_store.decision import decide, in_dependency_order
from plugin_store.stores.validation import MAX_INT_BITS

# Hypothesis would complain of a store that is shared by the examples; each of them writes rows of its own.
bounded = partial(settings, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
integers = st.integers() | st.tuples(
    st.sampled_from([1, -1]), st.integers(0, MAX_INT_BITS - 1), st.integers(0, 99)
).map(lambda drawn: drawn[0] * (2 ** drawn[1] + drawn[2]))
floats = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-1e30, 1e30)
    | integers.filter(lambda number: number.bit_length() < 1000).map(float)
)
scalars = st.none() | st.booleans() | integers | floats | text
values = st.recursive(
    scalars, lambda below: st.lists(below, max_size=4) | st.dictionaries(text, below, max_size=4), max_leaves=12
)
objects = st.dictionaries(text, values, max_size=5)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=100)

unstorable = st.sampled_from([math.nan, math.inf, "\0", "a\ud800", (), b"", {1}, {1: 2}, {"\0": 1}, 1j, object()])
anything = st.recursive(
    scalars | unstorable,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text() | st.integers(), below, max_size=4),
    max_leaves=12,
)


@pytest.fixture(params=["postgresql", "memory"])
def store(request: pytest.FixtureRequest) -> PluginConfigStore:
    if request.param == "memory":
        return InMemoryPluginConfigStore()
    repository: PluginConfigRepository = request.getfixturevalue("repository")
    return repository


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal, and True is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


class TestAnyJson:
    @bounded(max_examples=80)
    @given(name=names, config=objects, replaced=objects)
    def test_any_object_that_is_accepted_comes_back_equal(
        self, store: PluginConfigStore, name: str, config: dict[str, Any], replaced: dict[str, Any]
    ) -> None:
        store.save_config(name, replaced)
        assert same(store.save(name, "enabled", config).config, replaced | config)
        assert same(store.get_by_name(name).config, replaced | config)
        store.save_many([PluginConfig(name, "disabled", replaced)])
        (row,) = [row for row in store.get_all() if row.plugin_name == name]
        assert same(row.config, replaced)

    @bounded(max_examples=80)
    @given(config=st.dictionaries(st.text(), anything, max_size=4))
    def test_anything_is_either_refused_or_comes_back_equal(
        self, store: PluginConfigStore, config: dict[str, Any]
    ) -> None:
        store.delete("analytics")
        with suppress(InvalidConfigError):
            store.save("analytics", "enabled", config)
            assert same(store.get_by_name("analytics").config, config)
            return
        assert store.get_by_name("analytics") is None

    @bounded(max_examples=60)
    @given(config=objects, changes=objects, data=st.data())
    def test_update_config_is_a_merge_of_the_top_level(
        self, store: PluginConfigStore, config: dict[str, Any], changes: dict[str, Any], data: st.DataObject
    ) -> None:
        keys = st.sampled_from(sorted(config)) | text if config else text
        remove = [key for key in data.draw(st.lists(keys, max_size=4)) if key not in changes]
        store.save_config("analytics", config)
        expected = {key: value for key, value in config.items() if key not in remove} | changes
        assert same(store.update_config("analytics", changes, remove=remove).config, expected)

    @bounded(max_examples=60)
    @given(config=objects, other=objects)
    def test_the_version_moves_when_the_config_does_and_only_then(
        self, store: PluginConfigStore, config: dict[str, Any], other: dict[str, Any]
    ) -> None:
        before = store.save_config("analytics", config).updated_at
        after = store.save_config("analytics", other).updated_at
        assert before is not None and after is not None
        assert (after == before) if same(config, other) else (after > before)

    @bounded(max_examples=40)
    @given(given_names=st.lists(names, max_size=8, unique=True))
    def test_any_names_are_listed_in_the_order_of_pythons_sort(
        self, store: PluginConfigStore, given_names: list[str]
    ) -> None:
        for row in store.get_all():
            store.delete(row.plugin_name)
        store.save_many(PluginConfig(name) for name in given_names)
        assert [row.plugin_name for row in store.get_all()] == sorted(given_names)


graphs = st.integers(1, 7).flatmap(
    lambda size: st.dictionaries(
        st.sampled_from("abcdefg"[:size]), st.lists(st.sampled_from("abcdefgx"[: size + 1]), max_size=3), max_size=size
    )
)


def naive_order(plugins: Mapping[str, list[str]]) -> list[str]:
    """Take the first name whose dependencies have all been taken, as long as there is one."""
    order: list[str] = []
    while ready := [name for name in sorted(plugins) if name not in order and set(plugins[name]) <= set(order)]:
        order.append(ready[0])
    return order


class TestDecision:
    @bounded(max_examples=300)
    @given(plugins=graphs, rows=st.dictionaries(st.sampled_from("abcdefgy"), st.booleans()))
    def test_decide_agrees_with_a_naive_model(self, plugins: dict[str, list[str]], rows: dict[str, bool]) -> None:
        def should_be_enabled(name: str, on_the_way: tuple[str, ...] = ()) -> bool:
            return (
                name in plugins
                and rows.get(name, False)
                and name not in on_the_way
                and all(should_be_enabled(need, (*on_the_way, name)) for need in plugins[name])
            )

        decision = decide(
            [PluginConfig(name, "enabled" if enabled else "disabled") for name, enabled in rows.items()], plugins
        )
        wanted = {name for name, enabled in rows.items() if enabled}
        assert set(decision.enable) == {name for name in wanted if should_be_enabled(name)}
        assert len(decision.enable) == len(set(decision.enable))
        assert set(decision.skip) == wanted - set(decision.enable)
        for name in decision.enable:
            before = decision.enable[: decision.enable.index(name)]
            assert set(plugins[name]) <= set(before)
        for name, reason in decision.skip.items():
            if name not in plugins:
                assert reason == "is not registered and initialized here"
            elif "cycle" in reason:
                circle = reason.removeprefix("is in a dependency cycle: ").split(" -> ")
                assert circle[0] == circle[-1] == name
                assert all(need in plugins[each] for each, need in pairwise(circle))
            else:
                assert any(
                    reason == f"Dependency {need!r} not enabled" and need not in decision.enable
                    for need in plugins[name]
                )

    @bounded(max_examples=300)
    @given(plugins=graphs)
    def test_in_dependency_order_agrees_with_a_naive_model(self, plugins: dict[str, list[str]]) -> None:
        assert in_dependency_order(plugins) == naive_order(plugins)


NEEDS = {"base": [], "left": ["base"], "right": ["base"], "top": ["left", "right"], "alone": []}
KEYS = st.sampled_from("ab")
SMALL = st.sampled_from([0, 1, True, "x", [1], None])
plugin_names = st.sampled_from(sorted(NEEDS))
hooks = st.sets(st.sampled_from(["on_enable", "on_disable", "on_config_changed"]), max_size=2)


class FailingRepository(PluginConfigRepository):
    """The real store, which goes away after as many calls as a test says."""

    calls_left: int | None = None

    def _read(self, run: Callable[..., Any], *args: Any) -> Any:
        self.count()
        return super()._read(run, *args)

    def _write(self, run: Callable[..., Any], *args: Any) -> Any:
        self.count()
        return super()._write(run, *args)

    def count(self) -> None:
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                raise StoreUnavailableError("the database is away")


class Life(RuleBasedStateMachine):
    """A service that is operated and restarted at random, with hooks and a store that fail at random."""

    connection: psycopg.Connection[Any]

    @initialize()
    def begin(self) -> None:
        self.connection.execute("DELETE FROM plugin_config")
        self.store = FailingRepository(self.connection)
        self.defaults: dict[str, dict[str, Any]] = {}
        self.start([])

    def start(self, names: list[str]) -> None:
        self.manager = PluginManager(config_repo=self.store)
        self.listener = Listener(self.manager)
        self.plugins: dict[str, ExamplePlugin] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        self.plugins[name] = ExamplePlugin(name, *NEEDS[name])
        self.manager.register_plugin(self.plugins[name])

    def attempt(self, name: str, failing: set[str], call: Callable[[], object]) -> bool:
        """Return whether the call worked, with the plugin's hooks failing as told; what it may raise is known."""
        if name in self.plugins:
            self.plugins[name].fail(*failing)
        try:
            call()
        except (HookError, StoreUnavailableError, ValueError):
            return False
        finally:
            for plugin in self.plugins.values():
                plugin.fail()
        return True

    @rule(name=plugin_names)
    def register(self, name: str) -> None:
        if name in self.plugins:
            with pytest.raises(PluginAlreadyRegisteredError):
                self.manager.register_plugin(ExamplePlugin(name))
        else:
            self.add(name)

    @rule(name=plugin_names, config=st.dictionaries(KEYS, SMALL))
    def initialize_one(self, name: str, config: dict[str, Any]) -> None:
        if self.attempt(name, set(), lambda: self.manager.initialize_plugin(name, config)):
            self.defaults[name] = config
            assert self.plugins[name].status is PluginStatus.INITIALIZED

    @rule(name=plugin_names, failing=hooks)
    def enable(self, name: str, failing: set[str]) -> None:
        before = self.store.get_by_name(name)
        if self.attempt(name, failing, lambda: self.manager.enable_plugin(name)):
            assert self.plugins[name].status is PluginStatus.ENABLED
            self.expect_stored(name, "enabled")
        else:
            assert self.store.get_by_name(name) == before

    @rule(name=plugin_names, failing=hooks)
    def disable(self, name: str, failing: set[str]) -> None:
        dependents = [other for other in self.manager.get_enabled_plugins() if name in NEEDS[other.metadata.name]]
        worked = self.attempt(name, failing, lambda: self.manager.disable_plugin(name))
        assert not (worked and dependents)
        if name in self.plugins and not dependents:
            self.expect_stored(name, "disabled")
            assert worked or self.plugins[name].status is PluginStatus.ERROR

    @rule(name=plugin_names, failing=hooks, enabling=st.booleans(), calls_left=st.integers(0, 2))
    def change_while_the_store_goes_away(self, name: str, failing: set[str], enabling: bool, calls_left: int) -> None:
        before = self.store.get_by_name(name)
        self.store.calls_left = calls_left
        change = self.manager.enable_plugin if enabling else self.manager.disable_plugin
        try:
            assert not self.attempt(name, failing, lambda: change(name))
        finally:
            self.store.calls_left = None
        assert self.store.get_by_name(name) == before

    @rule(chosen=st.lists(plugin_names, max_size=3), name=plugin_names, failing=hooks)
    def enable_defaults(self, chosen: list[str], name: str, failing: set[str]) -> None:
        before = {row.plugin_name: row for row in self.store.get_all()}
        self.attempt(name, failing, lambda: self.manager.enable_defaults(*chosen))
        after = {row.plugin_name: row for row in self.store.get_all()}
        assert after == before | {new: after[new] for new in after.keys() - before.keys()}
        assert all(after[new].status == "enabled" and new in chosen for new in after.keys() - before.keys())

    @rule(name=plugin_names, key=KEYS, value=SMALL)
    def set_config(self, name: str, key: str, value: Any) -> None:
        if name in self.plugins:
            self.plugins[name].set_config(key, value)

    @rule(name=plugin_names, config=st.dictionaries(KEYS, SMALL), failing=hooks)
    def save_config(self, name: str, config: dict[str, Any], failing: set[str]) -> None:
        if self.attempt(name, failing, lambda: self.manager.save_config(name, config)) or name in self.plugins:
            assert same(self.store.get_by_name(name).config, config)
            assert same(self.plugins[name]._config, self.current_defaults(name) | config)

    @rule(name=plugin_names, config=st.dictionaries(KEYS, SMALL), status=st.sampled_from(["enabled", "disabled"]))
    def edit_the_row_elsewhere(self, name: str, config: dict[str, Any], status: str) -> None:
        self.store.save(name, status, config)
        self.restore(name, set())

    @rule(name=plugin_names, failing=hooks)
    def restore(self, name: str, failing: set[str]) -> None:
        rows = self.store.get_all()
        assert self.attempt(name, failing, lambda: self.expect_restored(name, failing))
        assert self.store.get_all() == rows

    @rule(name=plugin_names, failing=hooks)
    def restart(self, name: str, failing: set[str]) -> None:
        known = list(self.plugins)
        self.start(known)
        for each in known:
            if each in self.defaults:
                self.manager.initialize_plugin(each, self.defaults[each])
        self.restore(name, failing)

    def current_defaults(self, name: str) -> dict[str, Any]:
        initialized = self.plugins[name].status not in (PluginStatus.DISCOVERED, PluginStatus.REGISTERED)
        return self.defaults[name] if initialized else {}

    def expect_stored(self, name: str, status: str) -> None:
        row = self.store.get_by_name(name)
        assert row is not None and row.status == status
        assert same(self.plugins[name]._config, self.current_defaults(name) | row.config)

    def expect_restored(self, name: str, failing: set[str]) -> None:
        report = self.manager.load_persisted_state()
        wanted = {row.plugin_name for row in self.store.get_enabled()}
        enabled = {plugin.metadata.name for plugin in self.manager.get_enabled_plugins()}
        assert enabled == set(report.restored) == wanted - report.skipped.keys() - report.failed.keys()
        assert report.failed.keys() <= ({name} if failing else set())

    @precondition(lambda self: hasattr(self, "plugins"))
    @invariant()
    def memory_and_listeners_agree(self) -> None:
        assert self.listener.enabled == {plugin.metadata.name for plugin in self.manager.get_enabled_plugins()}

    @precondition(lambda self: hasattr(self, "plugins"))
    @invariant()
    def what_runs_is_enabled_in_the_table(self) -> None:
        # The other way round holds after a restore, which says what it skipped and what failed: expect_restored.
        wanted = {row.plugin_name for row in self.store.get_enabled()}
        assert {plugin.metadata.name for plugin in self.manager.get_enabled_plugins()} <= wanted


def test_memory_table_and_events_agree_whatever_happens(connection: psycopg.Connection[Any]) -> None:
    machine = type("LifeHere", (Life,), {"connection": connection})
    run_state_machine_as_test(machine, settings=bounded(max_examples=40, stateful_step_count=25))
