"""enable_plugin."""

from collections.abc import Callable

import pytest
from recorder import FailingStore, Recorder, events_of, restored, rows, started, stored

from plugin_store import DependencyError, PluginManager, PluginStateError, PluginStatus


def test_enable_plugin_runs_hook_stores_and_announces() -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    order: list[str] = []
    mail.then["on_enable"] = lambda: order.append("hook")
    store.before["save"] = lambda: order.append("store")
    manager.event_dispatcher.add_listener("plugin.enabled", lambda event: order.append("event"))
    manager.enable_plugin("mail")
    assert order == ["hook", "store", "event"]
    assert (mail.status, manager.is_enabled("mail")) == (PluginStatus.ENABLED, True)
    assert rows(store) == {"mail": ("enabled", {})}


def test_enable_plugin_can_be_repeated() -> None:
    manager = started(None, mail := Recorder("mail"))
    events = events_of(manager)
    manager.enable_plugin("mail")
    manager.store.delete("mail")
    manager.enable_plugin("mail")
    assert (mail.hooks, events) == (["on_enable"], [("enabled", "mail")])
    assert rows(manager.store) == {"mail": ("enabled", {})}


def test_enable_plugin_raises_when_plugin_is_not_initialized() -> None:
    manager, mail = PluginManager(), Recorder("mail")
    manager.register_plugin(mail)
    with pytest.raises(PluginStateError, match="Cannot enable plugin 'mail': initialize it first"):
        manager.enable_plugin("mail")
    assert (mail.hooks, rows(manager.store)) == ([], {})


def add_failing_base(manager: PluginManager) -> None:
    base = Recorder("base")
    base.fail("on_enable")
    manager.register_plugin(base)
    manager.initialize_plugin("base")
    manager.store.save("base", "enabled")


@pytest.mark.parametrize("make", [bool, lambda manager: manager.register_plugin(Recorder("base")), add_failing_base])
def test_enable_plugin_raises_when_dependency_is_not_enabled(make: Callable[[PluginManager], object]) -> None:
    manager = started(None, mail := Recorder("mail", "base"))
    make(manager)
    with pytest.raises(DependencyError, match="Cannot enable plugin 'mail': Dependency 'base' not enabled"):
        manager.enable_plugin("mail")
    assert mail.hooks == []
    assert "mail" not in rows(manager.store)


def test_enable_plugin_names_cycle() -> None:
    manager = started(None, Recorder("a", "b"), Recorder("b", "a"))
    with pytest.raises(DependencyError, match="Cannot enable plugin 'a': dependency cycle: a -> b -> a"):
        manager.enable_plugin("a")


def test_enable_plugin_follows_other_rows() -> None:
    store = stored(old="enabled", mail="disabled")
    calls: list[tuple[str, str]] = []
    names = (("mail", "base"), ("base",), ("top", "mail"), ("old",))
    manager = restored(store, *(Recorder(*each, calls=calls) for each in names))
    store.save("old", "disabled")
    store.save("base", "enabled")
    store.save("top", "enabled")
    manager.enable_plugin("mail")
    expected = [("old", "on_enable"), ("old", "on_disable"), *((name, "on_enable") for name in ("base", "mail", "top"))]
    assert calls == expected
    assert manager.last_report.restored == ["base", "mail", "top"]


def test_enable_plugin_succeeds_when_another_plugin_fails() -> None:
    manager = started(stored(bad="enabled"), bad := Recorder("bad"), Recorder("mail"))
    bad.fail("on_enable")
    manager.enable_plugin("mail")
    assert manager.is_enabled("mail")
    assert manager.last_report.failed == {"bad": "on_enable raised ValueError: bad failed"}


def test_enable_plugin_changes_nothing_when_reading_fails() -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    events = events_of(manager)
    store.fails = {"get_all"}
    with pytest.raises(Exception, match="database is away"):
        manager.enable_plugin("mail")
    assert (mail.status, mail.hooks, events) == (PluginStatus.INITIALIZED, [], [])


@pytest.mark.parametrize("hook", ["on_enable", "on_disable"])
def test_is_enabled_is_false_while_hook_runs(hook: str) -> None:
    manager = started(None, mail := Recorder("mail"))
    seen: list[object] = []
    mail.then[hook] = lambda: seen.extend([manager.is_enabled("mail"), manager.get_enabled_plugins()])
    manager.enable_plugin("mail")
    manager.disable_plugin("mail")
    assert seen == [False, []]
