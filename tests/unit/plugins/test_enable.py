"""enable_plugin."""

import pytest
from recorder import FailingStore, Recorder, events_of, rows, started, stored

from plugin_store import DependencyError, InMemoryPluginConfigStore, PluginManager, PluginStateError, PluginStatus


def test_enable_plugin_runs_hook_stores_and_announces() -> None:
    store, mail = FailingStore(), Recorder("mail")
    manager = started(store, mail)
    order: list[str] = []
    mail.then["on_enable"] = lambda: order.append("hook")
    store.before["save"] = lambda: order.append("store")
    manager.event_dispatcher.add_listener("plugin.enabled", lambda event: order.append("event"))
    manager.enable_plugin("mail")
    assert order == ["hook", "store", "event"]
    assert (mail.status, manager.is_enabled("mail")) == (PluginStatus.ENABLED, True)
    assert rows(store) == {"mail": ("enabled", {})}


def test_enable_plugin_can_be_repeated() -> None:
    manager = started(InMemoryPluginConfigStore(), mail := Recorder("mail"))
    events = events_of(manager)
    manager.enable_plugin("mail")
    manager.enable_plugin("mail")
    assert mail.hooks == ["on_enable"]
    assert events == [("enabled", "mail")]


def test_enable_plugin_stores_again_when_row_is_gone() -> None:
    store = InMemoryPluginConfigStore()
    manager = started(store, mail := Recorder("mail"))
    manager.enable_plugin("mail")
    store.delete("mail")
    manager.enable_plugin("mail")
    assert mail.hooks == ["on_enable"]
    assert rows(store) == {"mail": ("enabled", {})}


def test_enable_plugin_overrules_disabled_row() -> None:
    store = stored(mail="disabled")
    manager = started(store, Recorder("mail"))
    manager.load_persisted_state()
    manager.enable_plugin("mail")
    assert manager.is_enabled("mail")
    assert rows(store) == {"mail": ("enabled", {})}


def test_enable_plugin_uses_memory_without_store() -> None:
    manager = started(None, Recorder("mail"))
    manager.enable_plugin("mail")
    assert rows(manager.store) == {"mail": ("enabled", {})}


def test_enable_plugin_raises_when_plugin_is_not_initialized() -> None:
    manager, mail = PluginManager(), Recorder("mail")
    manager.register_plugin(mail)
    with pytest.raises(PluginStateError, match="Cannot enable plugin 'mail': initialize it first"):
        manager.enable_plugin("mail")
    assert (mail.hooks, rows(manager.store)) == ([], {})


@pytest.mark.parametrize("state", ["disabled", "not registered", "not initialized", "failing"])
def test_enable_plugin_raises_when_dependency_is_not_enabled(state: str) -> None:
    base, store = Recorder("base"), stored()
    manager = started(store, mail := Recorder("mail", "base"))
    if state != "not registered":
        manager.register_plugin(base)
    if state in ("disabled", "failing"):
        manager.initialize_plugin("base")
    if state == "failing":
        base.fail("on_enable")
        store.save("base", "enabled")
    with pytest.raises(DependencyError, match="Cannot enable plugin 'mail': Dependency 'base' not enabled"):
        manager.enable_plugin("mail")
    assert mail.hooks == []
    assert "mail" not in rows(store)


def test_enable_plugin_names_cycle() -> None:
    manager = started(None, Recorder("a", "b"), Recorder("b", "c"), Recorder("c", "a"), Recorder("self", "self"))
    for name, cycle in {"a": "a -> b -> c -> a", "self": "self -> self"}.items():
        with pytest.raises(DependencyError, match=f"Cannot enable plugin '{name}': dependency cycle: {cycle}"):
            manager.enable_plugin(name)


def test_enable_plugin_starts_dependency_that_row_enables() -> None:
    store = InMemoryPluginConfigStore()
    calls: list[tuple[str, str]] = []
    manager = started(store, Recorder("mail", "base", calls=calls), Recorder("base", calls=calls))
    store.save("base", "enabled")
    manager.enable_plugin("mail")
    assert calls == [("base", "on_enable"), ("mail", "on_enable")]


def test_enable_plugin_starts_plugins_that_wait() -> None:
    store = stored(top="enabled", middle="enabled")
    calls: list[tuple[str, str]] = []
    plugins = [Recorder(*names, calls=calls) for names in (("top", "middle"), ("middle", "base"), ("base",))]
    manager = started(store, *plugins)
    assert manager.load_persisted_state().restored == []
    manager.enable_plugin("base")
    assert calls == [("base", "on_enable"), ("middle", "on_enable"), ("top", "on_enable")]
    assert manager.last_report.restored == ["base", "middle", "top"]


def test_enable_plugin_follows_other_rows() -> None:
    store = stored(old="enabled")
    manager = started(store, Recorder("old"), Recorder("new"), Recorder("mail"))
    manager.load_persisted_state()
    store.save("old", "disabled")
    store.save("new", "enabled")
    manager.enable_plugin("mail")
    assert [manager.is_enabled(name) for name in ("old", "new", "mail")] == [False, True, True]


def test_enable_plugin_succeeds_when_another_plugin_fails() -> None:
    store = stored(bad="enabled")
    manager = started(store, bad := Recorder("bad"), Recorder("mail"))
    bad.fail("on_enable")
    manager.enable_plugin("mail")
    assert manager.is_enabled("mail")
    assert manager.last_report.failed == {"bad": "on_enable raised ValueError: bad failed"}


def test_enable_plugin_changes_nothing_when_reading_fails() -> None:
    store = FailingStore()
    manager = started(store, mail := Recorder("mail"))
    events = events_of(manager)
    store.fails = {"get_all"}
    with pytest.raises(Exception, match="database is away"):
        manager.enable_plugin("mail")
    assert (mail.status, mail.hooks, events) == (PluginStatus.INITIALIZED, [], [])


def test_is_enabled_is_false_while_on_enable_runs() -> None:
    manager = started(None, mail := Recorder("mail"))
    seen: list[object] = []
    mail.then["on_enable"] = lambda: seen.extend([manager.is_enabled("mail"), manager.get_enabled_plugins()])
    manager.enable_plugin("mail")
    assert seen == [False, []]
