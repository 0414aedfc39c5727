"""manager.sync(): a process follows the table. Each test on both stores; another process is a second service."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, NoReturn

import psycopg
import pytest
from example_plugins import raising
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool
from recorder import Recorder, Service

from plugin_store import (
    DependencyError,
    InMemoryPluginConfigStore,
    PluginConfigRepository,
    PluginConfigStore,
    PluginManager,
    PluginStatus,
    RestoreReport,
    StoreError,
)


@pytest.fixture(params=["memory", "postgresql"])
def store(request: pytest.FixtureRequest) -> PluginConfigStore:
    if request.param == "memory":
        return InMemoryPluginConfigStore()
    repository: PluginConfigRepository = request.getfixturevalue("repository")
    return repository


def fails(message: str = "broken") -> Any:
    def hook() -> NoReturn:
        raise RuntimeError(message)

    return hook


# -- what it does ---------------------------------------------------------------------------------


def test_it_enables_and_disables_what_others_did(store: PluginConfigStore) -> None:
    here, there = (Service(store, {"a": (), "b": ()}) for _ in range(2))
    there.manager.enable_plugin("a")
    assert here.manager.sync().restored == ["a"]
    assert here.enabled == {"a"}
    there.manager.disable_plugin("a")
    there.manager.enable_plugin("b")
    assert here.manager.sync().restored == ["b"]
    assert here.enabled == {"b"}
    assert here.calls == [("a", "on_enable"), ("a", "on_disable"), ("b", "on_enable")]


def test_it_applies_only_differences(store: PluginConfigStore) -> None:
    store.save("a", "enabled", {"key": [1, {"deep": 2}]})
    store.save("b", "enabled")
    here = Service(store, {"b": ("a",), "a": (), "c": ()}, defaults={"default": 1})
    first = here.report
    here.forget()
    for _ in range(3):
        assert here.manager.sync() == first
    assert (here.calls, here.events) == ([], [])


def test_events_tell_a_local_change_from_one_that_came_from_the_table(store: PluginConfigStore) -> None:
    here, there = (Service(store, {"a": ()}) for _ in range(2))
    there.manager.enable_plugin("a")
    there.manager.save_config("a", {"key": 1})
    there.manager.disable_plugin("a")
    assert there.events == [("enabled", "a", "local"), ("config_changed", "a", "local"), ("disabled", "a", "local")]
    for _ in range(2):
        store.save("a", "enabled", {"key": 2})
        here.manager.sync()
        store.save("a", "disabled")
        here.manager.sync()
    assert here.events == [
        ("config_changed", "a", "stored"),
        ("enabled", "a", "stored"),
        ("disabled", "a", "stored"),
        ("enabled", "a", "stored"),
        ("disabled", "a", "stored"),
    ]


def test_a_restart_is_a_change_from_the_table(store: PluginConfigStore) -> None:
    store.save("a", "enabled")
    assert Service(store, {"a": ()}).events == [("enabled", "a", "stored")]


def test_the_report_says_what_was_restored_skipped_and_failed(store: PluginConfigStore) -> None:
    here = Service(store, {"z": (), "a": ("z",), "c": ("d",), "d": ("c",), "e": ("f",), "f": (), "g": ()})
    here["g"].then["on_enable"] = fails("no disk")
    for name in ("a", "c", "d", "e", "g", "unknown", "z"):
        store.save(name, "enabled")
    report = here.manager.sync()
    assert report.restored == ["z", "a"]
    assert report.skipped == {
        "c": "is in a dependency cycle: c -> d -> c",
        "d": "is in a dependency cycle: d -> c -> d",
        "e": "Dependency 'f' not enabled",
        "unknown": "is not registered and initialized here",
    }
    assert report.failed == {"g": "on_enable raised RuntimeError: no disk"}
    assert here.manager.sync() == report


def test_it_writes_nothing(store: PluginConfigStore) -> None:
    here = Service(store, {"a": (), "b": ("a",)}, defaults={"default": 1})
    store.save("a", "enabled", {"key": 1})
    store.save("b", "enabled")
    here.manager.sync()
    store.save("a", "disabled")
    rows = store.get_all()
    here.manager.sync()
    assert store.get_all() == rows


def test_without_a_store_there_is_nothing_to_do() -> None:
    here = Service(None, {"a": ()})
    here.manager.enable_plugin("a")
    assert here.manager.sync() == here.report
    assert here.enabled == {"a"}


def test_a_plugin_that_is_not_initialized_is_skipped(store: PluginConfigStore) -> None:
    manager = PluginManager(config_repo=store)
    plugin = Recorder("a")
    manager.register_plugin(plugin)
    store.save("a", "enabled")
    assert manager.sync().skipped == {"a": "is not registered and initialized here"}
    manager.initialize_plugin("a")
    assert manager.sync().restored == ["a"]


def test_what_is_registered_and_disabled_is_disabled(store: PluginConfigStore) -> None:
    here = Service(store, {"a": ()})
    assert here["a"].status is PluginStatus.INITIALIZED
    store.save("a", "disabled")
    here.manager.sync()
    assert here["a"].status is PluginStatus.DISABLED
    assert (here.calls, here.events) == ([], [])


@pytest.mark.parametrize("what", ["sync", "enable_plugin", "disable_plugin"])
def test_a_store_that_cannot_be_read_changes_nothing(pool: ConnectionPool[Any], what: str) -> None:
    here = Service(PluginConfigRepository(pool), {"a": (), "b": ()})
    here.manager.enable_plugin("a")
    here.forget()
    with pool.connection() as connection:
        connection.execute("DROP TABLE plugin_config")
    with pytest.raises(StoreError, match="plugin-store migrate"):
        getattr(here.manager, what)(*(() if what == "sync" else ("a",)))
    assert (here.calls, here.events, here.enabled) == ([], [], {"a"})


# -- configs --------------------------------------------------------------------------------------


def test_a_config_change_reaches_a_running_plugin(store: PluginConfigStore) -> None:
    store.save("a", "enabled", {"key": 1, "gone": 1})
    here = Service(store, {"a": ()}, defaults={"key": 0, "default": 0, "gone": 0})
    here.forget()
    store.update_config("a", {"key": 2, "new": 3}, remove=["gone"])
    here.manager.sync()
    old, new = {"key": 1, "default": 0, "gone": 1}, {"key": 2, "default": 0, "gone": 0, "new": 3}
    assert here.calls == [("a", "on_config_changed", old, new)]
    assert here.events == [("config_changed", "a", "stored")]
    assert here["a"]._config == new


def test_a_plugin_has_its_config_when_the_hook_runs(store: PluginConfigStore) -> None:
    here = Service(store, {"a": ()})
    seen: list[Any] = []
    here["a"].then["on_enable"] = lambda: seen.append(here["a"].get_config("key"))
    here["a"].then["on_config_changed"] = lambda: seen.append(here["a"].get_config("key"))
    store.save("a", "enabled", {"key": 1})
    here.manager.sync()
    store.save_config("a", {"key": 2})
    here.manager.sync()
    assert seen == [1, 2]


def test_a_plugin_that_does_not_run_gets_its_config_without_a_hook(store: PluginConfigStore) -> None:
    here = Service(store, {"a": ()})
    store.save_config("a", {"key": 1})
    here.manager.sync()
    assert here["a"].get_config("key") == 1
    assert here.calls == []
    assert here.events == [("config_changed", "a", "stored")]


@pytest.mark.parametrize(("before", "after"), [(1, True), (False, 0), ([1], [True]), ({"a": 0}, {"a": False})])
def test_true_is_not_1_in_a_config(store: PluginConfigStore, before: object, after: object) -> None:
    # In Python they are equal, in JSON they are not.
    store.save("a", "enabled", {"key": before})
    here = Service(store, {"a": ()})
    store.save_config("a", {"key": after})
    here.manager.sync()
    assert repr(here["a"].get_config("key")) == repr(after)
    assert here.calls[1:] == [("a", "on_config_changed", {"key": before}, {"key": after})]


def test_what_a_plugin_set_itself_is_kept_until_it_is_stored(store: PluginConfigStore) -> None:
    store.save("a", "enabled", {"mine": 1, "theirs": 1, "dropped": 1})
    here = Service(store, {"a": ()})
    here["a"].set_config("mine", 2)
    del here["a"]._config["dropped"]
    store.update_config("a", {"mine": 3, "theirs": 3})
    here.manager.sync()
    assert here["a"]._config == {"mine": 2, "theirs": 3}
    here.manager.enable_plugin("a")
    assert store.get_by_name("a").config == {"mine": 2, "theirs": 3}


# -- rows that come and go ------------------------------------------------------------------------


def test_a_deleted_row_disables_the_plugin_and_leaves_the_defaults(store: PluginConfigStore) -> None:
    store.save("a", "enabled", {"key": 1})
    here = Service(store, {"a": ()}, defaults={"default": 0})
    store.delete("a")
    assert here.manager.sync().restored == []
    assert here["a"].status is PluginStatus.DISABLED
    assert here["a"]._config == {"default": 0}
    store.save("a", "enabled", {"key": 2})
    here.manager.sync()
    assert here.enabled == {"a"}
    assert here["a"]._config == {"default": 0, "key": 2}


def test_a_renamed_row_is_followed(repository: PluginConfigRepository, connection: psycopg.Connection[Any]) -> None:
    repository.save("a", "enabled", {"key": 1})
    here = Service(repository, {"a": (), "b": ()})
    connection.execute("UPDATE plugin_config SET plugin_name = 'b'")
    here.manager.sync()
    assert here.enabled == {"b"}
    assert here["a"]._config == {}
    assert here["b"]._config == {"key": 1}


# -- dependencies ---------------------------------------------------------------------------------


def test_dependents_stop_with_their_dependency_and_come_back_with_it(store: PluginConfigStore) -> None:
    for name in ("a", "b", "c"):
        store.save(name, "enabled")
    here = Service(store, {"a": (), "b": ("a",), "c": ("b",)})
    here.forget()
    store.save("a", "disabled")
    report = here.manager.sync()
    assert here.calls == [("c", "on_disable"), ("b", "on_disable"), ("a", "on_disable")]
    assert report.skipped == {"b": "Dependency 'a' not enabled", "c": "Dependency 'b' not enabled"}
    assert [row.status for row in store.get_all()] == ["disabled", "enabled", "enabled"]
    here.forget()
    store.save("a", "enabled")
    assert here.manager.sync().restored == ["a", "b", "c"]
    assert here.calls == [("a", "on_enable"), ("b", "on_enable"), ("c", "on_enable")]
    assert here.events == [("enabled", name, "stored") for name in ("a", "b", "c")]


def test_what_stops_stops_before_anything_starts(store: PluginConfigStore) -> None:
    store.save("z", "enabled")
    here = Service(store, {"a": (), "z": ()})
    here.forget()
    store.save("z", "disabled")
    store.save("a", "enabled")
    here.manager.sync()
    assert here.calls == [("z", "on_disable"), ("a", "on_enable")]


def test_a_plugin_that_is_skipped_is_logged_when_that_is_news(
    store: PluginConfigStore, caplog: pytest.LogCaptureFixture
) -> None:
    here = Service(store, {"a": (), "b": ("a",)})
    store.save("b", "enabled")
    for _ in range(3):
        here.manager.sync()
    assert caplog.messages == ["plugin 'b' is not enabled: Dependency 'a' not enabled"]
    store.save("a", "enabled")
    here.manager.sync()
    store.save("a", "disabled")
    here.manager.sync()
    assert caplog.messages == ["plugin 'b' is not enabled: Dependency 'a' not enabled"] * 2


def test_enable_sees_a_dependency_that_another_process_enabled(store: PluginConfigStore) -> None:
    here, there = (Service(store, {"a": (), "b": ("a",)}) for _ in range(2))
    there.manager.enable_plugin("a")
    here.manager.enable_plugin("b")
    assert here.calls == [("a", "on_enable"), ("b", "on_enable")]
    assert here.events == [("enabled", "a", "stored"), ("enabled", "b", "local")]


def test_enable_sees_that_another_process_disabled_a_dependency(store: PluginConfigStore) -> None:
    here, there = (Service(store, {"a": (), "b": ("a",)}) for _ in range(2))
    here.manager.enable_plugin("a")
    there.manager.disable_plugin("a")
    with pytest.raises(DependencyError, match="Dependency 'a' not enabled"):
        here.manager.enable_plugin("b")
    assert here.enabled == set()
    assert store.get_by_name("b") is None


def test_disable_sees_a_dependent_that_another_process_enabled(store: PluginConfigStore) -> None:
    here, there = (Service(store, {"a": (), "b": ("a",)}) for _ in range(2))
    here.manager.enable_plugin("a")
    there.manager.enable_plugin("b")
    with pytest.raises(DependencyError, match=r"\['b'\] depend on it"):
        here.manager.disable_plugin("a")
    assert here.enabled == {"a", "b"}


def test_disable_sees_that_another_process_disabled_a_dependent(store: PluginConfigStore) -> None:
    store.save("a", "enabled")
    store.save("b", "enabled")
    here, there = (Service(store, {"a": (), "b": ("a",)}) for _ in range(2))
    there.manager.disable_plugin("b")
    here.manager.disable_plugin("a")
    assert here.events[2:] == [("disabled", "b", "stored"), ("disabled", "a", "local")]
    assert [row.status for row in store.get_all()] == ["disabled", "disabled"]


def test_disable_takes_dependents_down_that_another_process_orphaned(store: PluginConfigStore) -> None:
    store.save("a", "enabled")
    store.save("b", "enabled")
    here = Service(store, {"a": (), "b": ("a",)})
    store.save("a", "disabled")
    here.forget()
    here.manager.disable_plugin("a")
    assert here.calls == [("b", "on_disable"), ("a", "on_disable")]


def test_enable_brings_the_dependents_back(store: PluginConfigStore) -> None:
    for name in ("a", "b", "c"):
        store.save(name, "enabled" if name != "a" else "disabled")
    here = Service(store, {"a": (), "b": ("a",), "c": ("b",)})
    here.manager.enable_plugin("a")
    assert here.events == [("enabled", "a", "local"), ("enabled", "b", "stored"), ("enabled", "c", "stored")]


def test_enable_leaves_the_plugin_itself_to_the_caller(
    store: PluginConfigStore, caplog: pytest.LogCaptureFixture
) -> None:
    # Its row says enabled already: it is this call that starts it, and raises if that fails.
    here = Service(store, {"a": ()})
    store.save("a", "enabled", {"key": 1})
    here["a"].then["on_enable"] = fails()
    with pytest.raises(RuntimeError, match="broken"):
        here.manager.enable_plugin("a")
    assert here.calls == [("a", "on_enable")]
    del here["a"].then["on_enable"]
    here.manager.enable_plugin("a")
    assert here.events == [("config_changed", "a", "stored"), ("enabled", "a", "local")]
    assert caplog.messages == []


# -- hooks that fail ------------------------------------------------------------------------------


def test_a_hook_that_raises_is_logged_and_reported_and_stops_no_other(
    store: PluginConfigStore, caplog: pytest.LogCaptureFixture
) -> None:
    here = Service(store, {"a": (), "b": ("a",), "c": ()})
    here["a"].then["on_enable"] = fails("no disk")
    for name in ("a", "b", "c"):
        store.save(name, "enabled")
    report = here.manager.sync()
    assert report.failed == {"a": "on_enable raised RuntimeError: no disk"}
    assert report.skipped == {"b": "Dependency 'a' not enabled"}
    assert report.restored == ["c"]
    assert here["a"].status is PluginStatus.ERROR
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [(error.getMessage(), error.exc_info is not None) for error in errors] == [
        ("plugin 'a': on_enable raised", True)
    ]


def test_a_hook_that_raised_is_tried_again_when_its_row_changes(
    store: PluginConfigStore, caplog: pytest.LogCaptureFixture
) -> None:
    here = Service(store, {"a": (), "b": ("a",), "c": ()})
    here["a"].then["on_enable"] = fails()
    store.save("a", "enabled")
    store.save("b", "enabled")
    report = here.manager.sync()
    caplog.clear()
    store.save("c", "enabled")  # another row
    store.save("a", "enabled")  # its own row, unchanged
    again = here.manager.sync()
    assert (again.failed, again.skipped) == (report.failed, report.skipped)
    assert here.calls == [("a", "on_enable"), ("c", "on_enable")]
    assert caplog.messages == []
    store.save_config("a", {"key": 1})
    assert here.manager.sync().failed == report.failed
    assert here.calls[2:] == [("a", "on_enable")]
    del here["a"].then["on_enable"]
    assert here.manager.sync().failed == report.failed
    store.save_config("a", {"key": 2})
    report = here.manager.sync()
    assert (report.failed, report.restored) == ({}, ["a", "b", "c"])


def test_a_plugin_that_was_disabled_after_its_hook_raised_is_tried_again(store: PluginConfigStore) -> None:
    here = Service(store, {"a": ()})
    here["a"].then["on_enable"] = fails()
    store.save("a", "enabled")
    here.manager.sync()
    store.save("a", "disabled")
    assert here.manager.sync().failed == {}
    del here["a"].then["on_enable"]
    store.save("a", "enabled")
    assert here.manager.sync().restored == ["a"]


def test_a_local_enable_ends_the_failure(store: PluginConfigStore) -> None:
    here = Service(store, {"a": ()})
    here["a"].then["on_enable"] = fails()
    store.save("a", "enabled")
    here.manager.sync()
    del here["a"].then["on_enable"]
    here.manager.enable_plugin("a")  # writes what the row says already, so that is no change of the row
    report = here.manager.sync()
    assert (report.restored, report.failed) == (["a"], {})


def test_on_disable_that_raises_leaves_error_and_is_announced(store: PluginConfigStore) -> None:
    store.save("a", "enabled")
    store.save("b", "enabled")
    here = Service(store, {"a": (), "b": ("a",)})
    here.forget()
    here["b"].then["on_disable"] = fails("stuck")
    store.save("a", "disabled")
    report = here.manager.sync()
    assert here["b"].status is PluginStatus.ERROR
    assert report.failed == {"b": "on_disable raised RuntimeError: stuck"}
    assert here.events == [("disabled", "b", "stored"), ("disabled", "a", "stored")]
    store.save("a", "enabled")
    assert here.manager.sync().restored == ["a"]
    store.save("b", "disabled")
    here.manager.sync()
    store.save("b", "enabled")
    assert here.manager.sync().restored == ["a", "b"]


def test_on_config_changed_that_raises_leaves_error_and_takes_the_dependents_down(store: PluginConfigStore) -> None:
    store.save("a", "enabled")
    store.save("b", "enabled")
    here = Service(store, {"a": (), "b": ("a",)})
    here.forget()
    here["a"].then["on_config_changed"] = fails("bad port")
    store.save_config("a", {"port": 0})
    for _ in range(2):
        report = here.manager.sync()
        assert report.failed == {"a": "on_config_changed raised RuntimeError: bad port"}
        assert report.skipped == {"b": "Dependency 'a' not enabled"}
    assert here["a"].status is PluginStatus.ERROR
    assert here.events == [
        ("config_changed", "a", "stored"),
        ("disabled", "a", "stored"),
        ("disabled", "b", "stored"),
    ]
    here["a"].running = False
    store.save_config("a", {"port": 25})
    assert here.manager.sync().restored == ["a", "b"]


def test_a_config_that_went_with_its_row_may_fail_too(store: PluginConfigStore) -> None:
    store.save("a", "enabled", {"port": 25})
    here = Service(store, {"a": ()})
    here["a"].then["on_config_changed"] = fails()
    store.delete("a")
    assert here.manager.sync().failed == {"a": "on_config_changed raised RuntimeError: broken"}
    assert here["a"].status is PluginStatus.ERROR
    here["a"].running = False
    store.save("a", "enabled")
    assert here.manager.sync().restored == ["a"]


def test_a_listener_that_raises_stops_nothing(store: PluginConfigStore) -> None:
    here = Service(store, {"a": (), "b": ()})
    here.manager.event_dispatcher.add_listener("plugin.enabled", lambda event: fails()())
    store.save("a", "enabled")
    store.save("b", "enabled")
    assert here.manager.sync().restored == ["a", "b"]


# -- hooks that call the manager again ------------------------------------------------------------


@pytest.mark.parametrize("hook", ["on_enable", "on_disable", "on_config_changed"])
def test_a_hook_may_sync(store: PluginConfigStore, hook: str) -> None:
    for name in ("c", "d", "e"):
        store.save(name, "enabled")
    here = Service(store, {"a": (), "b": ("a",), "c": (), "d": ("c",), "e": ()})
    here.forget()
    for plugin in here.plugins.values():
        plugin.then[hook] = here.manager.sync
    store.save("a", "enabled")
    store.save("b", "enabled")
    store.save("c", "disabled")
    store.save_config("e", {"key": 1})
    report = here.manager.sync()
    assert sorted(here.calls) == [
        ("a", "on_enable"),
        ("b", "on_enable"),
        ("c", "on_disable"),
        ("d", "on_disable"),
        ("e", "on_config_changed", {}, {"key": 1}),
    ]
    assert sorted(here.events) == [
        ("config_changed", "e", "stored"),
        ("disabled", "c", "stored"),
        ("disabled", "d", "stored"),
        ("enabled", "a", "stored"),
        ("enabled", "b", "stored"),
    ]
    assert sorted(report.restored) == ["a", "b", "e"]
    assert here.enabled == {"a", "b", "e"}


def test_a_plugin_whose_hook_syncs_is_not_restored_yet(store: PluginConfigStore) -> None:
    here = Service(store, {"a": (), "b": ()})
    reports: list[RestoreReport] = []
    here["a"].then["on_enable"] = lambda: reports.append(here.manager.sync())
    store.save("a", "enabled")
    store.save("b", "enabled")
    reports.append(here.manager.sync())
    assert [report.restored for report in reports] == [["b"], ["a", "b"]]


@pytest.mark.parametrize("by", ["sync", "enable_plugin"])
def test_a_hook_may_enable_and_configure_another(store: PluginConfigStore, by: str) -> None:
    store.save("d", "enabled")
    here = Service(store, {"a": (), "b": (), "c": (), "d": ("b",)})
    here["b"].then["on_enable"] = lambda: (
        here.manager.enable_plugin("a"),
        here.manager.enable_plugin("c"),
        here.manager.save_config("c", {"key": 1}),
    )
    if by == "sync":
        store.save("b", "enabled")
        here.manager.sync()
    else:
        here.manager.enable_plugin("b")
    assert here.enabled == {"a", "b", "c", "d"}
    assert [row.status for row in store.get_all()] == ["enabled"] * 4
    assert here["c"]._config == store.get_by_name("c").config == {"key": 1}
    assert sorted(call[:2] for call in here.calls if call[1] == "on_enable") == [
        (name, "on_enable") for name in ("a", "b", "c", "d")
    ]


def test_what_a_hook_configures_is_not_undone(store: PluginConfigStore) -> None:
    # The config of "b" in the rows that this sync has read is older than what the hook of "a" stores.
    store.save("a", "enabled")
    store.save("b", "enabled")
    here = Service(store, {"a": (), "b": ()})
    here["a"].then["on_config_changed"] = lambda: here.manager.save_config("b", {"key": "newer"})
    here.forget()
    store.save_config("a", {"key": 1})
    store.save_config("b", {"key": "older"})
    here.manager.sync()
    assert here["b"]._config == store.get_by_name("b").config == {"key": "newer"}
    assert [call[3] for call in here.calls if call[0] == "b"] == [{"key": "newer"}]


@pytest.mark.parametrize("hook", ["on_enable", "on_disable"])
def test_what_a_hook_disables_stays_disabled(store: PluginConfigStore, hook: str) -> None:
    # "b" is enabled in the rows that this sync has read; a hook has decided otherwise since.
    here = Service(store, {"a": (), "b": (), "c": ("b",)})
    here["a"].then[hook] = lambda: here.manager.disable_plugin("b")
    if hook == "on_disable":
        here.manager.enable_plugin("a")
        store.save("a", "disabled")
    else:
        store.save("a", "enabled")
    store.save("b", "enabled")
    store.save("c", "enabled")
    here.manager.sync()
    row = store.get_by_name("b")
    assert row is not None and row.status == "disabled"
    assert "b" not in here.enabled
    assert "c" not in here.enabled


def test_what_a_hook_enables_stays_enabled(store: PluginConfigStore) -> None:
    store.save("a", "enabled")
    store.save("b", "enabled")
    here = Service(store, {"a": (), "b": ()})
    here["b"].then["on_disable"] = lambda: here.manager.enable_plugin("a")
    store.save("a", "disabled")
    store.save("b", "disabled")
    here.manager.sync()
    row = store.get_by_name("a")
    assert row is not None
    assert (row.status == "enabled") == ("a" in here.enabled)


def test_a_hook_may_register_a_plugin(store: PluginConfigStore) -> None:
    store.save("a", "enabled")
    here = Service(store, {"a": (), "b": ()})
    here["a"].then["on_config_changed"] = lambda: here.manager.register_plugin(Recorder("new"))
    store.save_config("a", {"key": 1})
    here.manager.sync()
    assert here.manager.get_plugin("new") is not None


@pytest.mark.parametrize("hook", ["on_enable", "on_disable", "on_config_changed"])
def test_a_hook_that_exits_is_met_once_and_then_the_others_follow(store: PluginConfigStore, hook: str) -> None:
    here = Service(store, {"a": (), "b": ()})
    if hook != "on_enable":
        store.save("a", "enabled")
        here.manager.sync()
    here["a"].then[hook] = raising(SystemExit("bye"))
    store.save("a", "disabled" if hook == "on_disable" else "enabled", {"key": 1})
    store.save("b", "enabled")
    with pytest.raises(SystemExit):
        here.manager.sync()
    assert here["a"].status is PluginStatus.ERROR
    report = here.manager.sync()
    assert (here.enabled, report.restored) == ({"b"}, ["b"])
    if hook != "on_disable":
        assert report.failed == {"a": f"{hook} raised SystemExit: bye"}
    assert last_heard(here, "a") == ("" if hook == "on_enable" else "disabled")
    here.forget()
    here.manager.sync()
    assert (here.calls, here.events) == ([], [])


def test_the_exit_of_a_listener_is_no_failure_of_the_plugin(
    store: PluginConfigStore, caplog: pytest.LogCaptureFixture
) -> None:
    here = Service(store, {"a": ()})
    leave = raising(SystemExit("bye"))

    def listener(_: object) -> None:
        leave()

    here.manager.event_dispatcher.add_listener("plugin.config_changed", listener)
    store.save("a", "enabled", {"key": 1})
    with pytest.raises(SystemExit):
        here.manager.sync()
    assert here.manager.sync() == RestoreReport(["a"])
    store.save_config("a", {"key": 2})
    with pytest.raises(SystemExit):
        here.manager.sync()
    assert here.enabled == {"a"}
    assert here.manager.sync() == RestoreReport(["a"])
    assert "on_config_changed" not in caplog.text


def test_a_plugin_that_has_failed_and_runs_now_is_not_reported_as_failed(store: PluginConfigStore) -> None:
    here = Service(store, {"a": ()})
    here["a"].then["on_enable"] = fails()
    store.save("a", "enabled")
    assert "a" in here.manager.sync().failed
    here["a"].then.clear()
    here.manager.event_dispatcher.add_listener("plugin.enabled", lambda _: here.manager.sync())
    here.manager.enable_plugin("a")
    report = here.manager.sync()
    assert (report.restored, report.failed) == (["a"], {})


def test_a_row_that_cannot_be_read_does_not_hold_up_disabling_another(
    repository: PluginConfigRepository, connection: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    here = Service(repository, {"a": (), "b": ("a",), "c": ()})
    for name in ("a", "b"):
        here.manager.enable_plugin(name)
    deep = '{"x": ' * 150 + "0" + "}" * 150
    connection.execute("INSERT INTO plugin_config (plugin_name, config) VALUES ('strange', %s)", (deep,))
    with pytest.raises(StoreError, match="row of plugin 'strange'"):
        here.manager.enable_plugin("c")
    with pytest.raises(DependencyError):
        here.manager.disable_plugin("a")
    here.manager.disable_plugin("b")
    assert here.enabled == {"a"}
    stored = repository.get_by_name("b")
    assert stored is not None and stored.status == "disabled"
    assert "plugin 'b' is disabled without a sync of the others: the row of plugin 'strange'" in caplog.text


def test_a_hook_cannot_switch_its_own_plugin(store: PluginConfigStore) -> None:
    here = Service(store, {"a": ()})
    here["a"].then["on_enable"] = lambda: here.manager.disable_plugin("a")
    store.save("a", "enabled")
    assert "its own hooks cannot change its status" in here.manager.sync().failed["a"]


# -- the law --------------------------------------------------------------------------------------


NAMES = ["a", "b", "c", "d", "e"]
configs = st.dictionaries(
    st.sampled_from(["x", "y"]), st.sampled_from([0, 1, True, False, None, "1", [1], [True], {"z": 1}]), max_size=2
)
names = st.sampled_from(NAMES)
# Each plugin with the names that it depends on: cycles, itself and a name that is not there included.
plugins = st.fixed_dictionaries(
    {name: st.lists(st.sampled_from([*NAMES, "missing"]), max_size=2).map(tuple) for name in NAMES}
)
edits = st.one_of(
    st.tuples(st.just("sql status"), names, st.sampled_from(["enabled", "disabled"])),
    st.tuples(st.just("sql config"), names, configs),
    st.tuples(st.just("sql delete"), names),
    st.tuples(st.just("sql rename"), names, names),
    st.tuples(st.just("sql truncate")),
    st.tuples(st.sampled_from(["here enable_plugin", "there enable_plugin", "there disable_plugin"]), names),
    st.tuples(st.sampled_from(["here disable_plugin", "there enable_defaults"]), names),
    st.tuples(st.sampled_from(["here save_config", "there save_config"]), names, configs),
    st.tuples(st.sampled_from(["here sync", "there sync"])),
)


def edit_by_sql(connection: psycopg.Connection[Any], what: str, *arguments: Any) -> None:
    if what == "status":
        connection.execute(
            """INSERT INTO plugin_config (plugin_name, status) VALUES (%s, %s)
               ON CONFLICT (plugin_name) DO UPDATE SET status = excluded.status""",
            arguments,
        )
    elif what == "config":
        connection.execute(
            """INSERT INTO plugin_config (plugin_name, config) VALUES (%s, %s)
               ON CONFLICT (plugin_name) DO UPDATE SET config = excluded.config""",
            (arguments[0], Jsonb(arguments[1])),
        )
    elif what == "delete":
        connection.execute("DELETE FROM plugin_config WHERE plugin_name = %s", arguments)
    elif what == "rename":
        connection.execute(
            """UPDATE plugin_config SET plugin_name = %(new)s WHERE plugin_name = %(old)s
                  AND NOT EXISTS (SELECT FROM plugin_config WHERE plugin_name = %(new)s)""",
            {"old": arguments[0], "new": arguments[1]},
        )
    else:
        connection.execute("TRUNCATE plugin_config")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(needs=plugins, steps=st.lists(edits, max_size=20))
def test_after_a_sync_a_process_is_as_one_that_has_just_started(
    repository: PluginConfigRepository,
    connection: psycopg.Connection[Any],
    needs: dict[str, tuple[str, ...]],
    steps: list[tuple[Any, ...]],
) -> None:
    connection.execute("TRUNCATE plugin_config")
    defaults = {"x": "default"}
    services = {who: Service(repository, needs, defaults=defaults) for who in ("here", "there")}
    for step, *arguments in steps:
        who, what = step.split()
        if who == "sql":
            edit_by_sql(connection, what, *arguments)
        else:
            with suppress(DependencyError):
                getattr(services[who].manager, what)(*arguments)
    rows = repository.get_all()
    fresh = Service(repository, needs, defaults=defaults)
    for service in services.values():
        report = service.manager.sync()
        assert service.state() == fresh.state()
        assert set(report.restored) == service.enabled == set(fresh.report.restored)
        assert (report.skipped, report.failed) == (fresh.report.skipped, {})
        # What listeners heard is what is so. That hooks run in turn, each plugin sees to itself.
        heard = {name for name in NAMES if (last := last_heard(service, name)) and last == "enabled"}
        assert heard == service.enabled == {name for name in NAMES if service[name].running}
        service.forget()
        service.manager.sync()
        assert (service.calls, service.events) == ([], [])
    assert repository.get_all() == rows


def last_heard(service: Service, plugin: str) -> str:
    """Return what was announced last of a plugin's status."""
    return next((what for what, name, _ in reversed(service.events) if name == plugin and what != "config_changed"), "")
