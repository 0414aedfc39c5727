"""enable_plugin, and disable_plugin, the emergency brake."""

import logging
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from recorder import FailingStore, Recorder, events_of, restored, rows, started, stored

from plugin_store import DependencyError, PluginManager, PluginStateError, PluginStatus

Calls = list[tuple[str, str]]


def recorders(*names: tuple[str, ...]) -> tuple[list[Recorder], Calls]:
    """Return plugins, each with its name and dependencies, and the list of their hooks in order."""
    calls: Calls = []
    return [Recorder(*each, calls=calls) for each in names], calls


@pytest.mark.parametrize("done", ["enabled", "disabled"])
def test_switch_runs_hook_stores_and_announces(done: str) -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    if done == "disabled":
        manager.enable_plugin("mail")
    order, events = list[str](), events_of(manager)
    mail.then[f"on_{done[:-1]}"] = lambda: order.append("hook")
    store.before["save"] = lambda: order.append("store")
    manager.event_dispatcher.add_listener(f"plugin.{done}", lambda event: order.append("event"))
    switch = getattr(manager, f"{done[:-1]}_plugin")
    switch("mail")
    assert order == ["hook", "store", "event"]
    assert mail.status.value == rows(store)["mail"][0] == done
    assert manager.is_enabled("mail") == (done == "enabled")
    store.delete("mail")
    switch("mail")  # no hook runs again
    assert (order, events) == (["hook", "store", "event", "store"], [(done, "mail")])
    assert rows(store) == {"mail": (done, {})}


@pytest.mark.parametrize("hook", ["on_enable", "on_disable"])
def test_is_enabled_is_false_while_hook_runs(hook: str) -> None:
    manager = started(None, mail := Recorder("mail"))
    seen: list[object] = []
    mail.then[hook] = lambda: seen.extend([manager.is_enabled("mail"), manager.get_enabled_plugins()])
    manager.enable_plugin("mail")
    manager.disable_plugin("mail")
    assert seen == [False, []]


def test_only_enable_asks_for_initialized_plugin() -> None:
    manager, mail = PluginManager(), Recorder("mail")
    manager.register_plugin(mail)
    with pytest.raises(PluginStateError, match="Cannot enable plugin 'mail': initialize it first"):
        manager.enable_plugin("mail")
    assert rows(manager.store) == {}
    manager.disable_plugin("mail")
    assert rows(manager.store) == {"mail": ("disabled", {})}
    assert (mail.hooks, mail.status) == ([], PluginStatus.REGISTERED)


def add_failing_base(manager: PluginManager) -> None:
    base = Recorder("base")
    base.fail("on_enable")
    manager.register_plugin(base)
    manager.initialize_plugin("base")
    manager.store.save("base", "enabled")


@pytest.mark.parametrize("add", [bool, lambda manager: manager.register_plugin(Recorder("base")), add_failing_base])
def test_enable_plugin_raises_when_dependency_is_not_enabled(add: Callable[[PluginManager], object]) -> None:
    manager = started(None, mail := Recorder("mail", "base"))
    add(manager)
    with pytest.raises(DependencyError, match="Cannot enable plugin 'mail': Dependency 'base' not enabled"):
        manager.enable_plugin("mail")
    assert mail.hooks == []
    assert "mail" not in rows(manager.store)


def test_enable_plugin_names_cycle() -> None:
    manager = started(None, Recorder("a", "b"), Recorder("b", "a"))
    with pytest.raises(DependencyError, match="Cannot enable plugin 'a': dependency cycle: a -> b -> a"):
        manager.enable_plugin("a")


def test_enable_plugin_follows_other_rows() -> None:
    plugins, calls = recorders(("mail", "base"), ("base",), ("top", "mail"), ("old",), ("bad",))
    manager = restored(store := stored(old="enabled", mail="disabled"), *plugins)
    store.save("old", "disabled")
    for name in ("base", "top", "bad"):
        store.save(name, "enabled")
    plugins[-1].fail("on_enable")
    calls.clear()
    manager.enable_plugin("mail")
    assert calls[0] == ("old", "on_disable")
    assert [name for name, _ in calls if name in ("base", "mail", "top")] == ["base", "mail", "top"]
    assert manager.last_report.restored == ["base", "mail", "top"]
    assert manager.last_report.failed == {"bad": "on_enable raised ValueError: bad failed"}


def test_disable_plugin_raises_when_plugins_depend_on_it() -> None:
    store = stored(base="enabled", a="enabled", b="enabled")
    manager = restored(store, Recorder("b", "base"), Recorder("a", "base"), base := Recorder("base"))
    with pytest.raises(DependencyError, match=r"Cannot disable plugin 'base': plugins \['b', 'a'\] depend on it"):
        manager.disable_plugin("base")
    assert base.hooks == ["on_enable"]
    assert rows(store)["base"] == ("enabled", {})


def test_disable_plugin_acts_before_unrelated_plugins_stop() -> None:
    plugins, calls = recorders(("a",), ("base",), ("child", "base"), ("grandchild", "child"), ("z",))
    names = ["a", "base", "child", "grandchild", "z"]
    manager = restored(store := stored(**dict.fromkeys(names, "enabled")), *plugins)
    for name in names:
        store.save(name, "disabled")
    calls.clear()
    manager.disable_plugin("base")
    assert [name for name, _ in calls] == ["grandchild", "child", "base", "z", "a"]


def test_disable_plugin_acts_before_other_plugins_start() -> None:
    plugins, calls = recorders(("child", "base"), ("base",), ("another",))
    manager = restored(store := stored(base="enabled", child="enabled"), *plugins)
    store.save("child", "disabled")
    store.save("another", "enabled")
    calls.clear()
    seen: list[str] = []
    plugins[2].then["on_enable"] = lambda: seen.append(rows(store)["base"][0])
    manager.disable_plugin("base")
    assert calls == [("child", "on_disable"), ("base", "on_disable"), ("another", "on_enable")]
    assert seen == ["disabled"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_disable_plugin_stores_whatever_another_plugin_raises(error: type[BaseException]) -> None:
    store = stored(mail="enabled")
    manager = restored(store, other := Recorder("another"), Recorder("mail"))
    other.fail("on_enable", error=error())
    store.save("another", "enabled")
    with pytest.raises(error) if error is KeyboardInterrupt else nullcontext():
        manager.disable_plugin("mail")
    assert rows(store)["mail"] == ("disabled", {})
    assert not manager.is_enabled("mail")


def test_disable_plugin_succeeds_when_rows_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    manager = started(store := FailingStore(), Recorder("mail"))
    manager.enable_plugin("mail")
    store.fails = {"get_all"}
    manager.disable_plugin("mail")
    store.fails = set()
    assert rows(store) == {"mail": ("disabled", {})}
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [
        "plugin 'mail' is disabled, but what other processes changed is not applied: the database is away"
    ]


def test_disable_plugin_resets_error() -> None:
    manager = started(stored(mail="enabled"), mail := Recorder("mail"))
    mail.fail("on_enable")
    assert "mail" in manager.load_persisted_state().failed
    manager.disable_plugin("mail")
    assert (mail.status, mail.hooks, manager.last_report.failed) == (PluginStatus.DISABLED, ["on_enable"], {})


@pytest.mark.parametrize("method", ["load_persisted_state", "enable_plugin", "enable_defaults"])
def test_nothing_changes_when_rows_cannot_be_read(method: str) -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    store.save("mail", "enabled")
    events, report = events_of(manager), manager.last_report
    store.fails = {"get_all"}
    with pytest.raises(Exception, match="database is away"):
        getattr(manager, method)(*["mail"] * (method != "load_persisted_state"))
    assert (mail.status, mail.hooks, events) == (PluginStatus.INITIALIZED, [], [])
    assert manager.last_report is report
