"""Announcing: events are dispatched in order, after the change, when the manager is free."""

from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest
from recorder import Recorder, events_of, raising, restored, rows, started, stored

from plugin_store import Event, EventDispatcher, PluginManager, PluginStateError


def test_events_tell_what_changed() -> None:
    store, dispatcher = stored(mail="disabled"), EventDispatcher()
    manager = PluginManager(dispatcher, store)
    manager.register_plugin(Recorder("mail"))
    manager.initialize_plugin("mail", {"n": 1})
    heard: list[dict[str, Any]] = []
    for what in ("enabled", "disabled", "config_changed"):
        dispatcher.add_listener(f"plugin.{what}", lambda event: heard.append(event.data))
    store.save("mail", "enabled", {"a": 1})
    manager.load_persisted_state()
    manager.disable_plugin("mail")
    expected = [
        {"origin": "stored", "before": {"n": 1}, "after": {"n": 1, "a": 1}},
        {"origin": "stored", "before": "initialized", "after": "enabled"},
        {"origin": "local", "before": "enabled", "after": "disabled"},
    ]
    assert heard == [{"plugin_name": "mail", **data} for data in expected]


def test_events_come_in_order_after_whole_change() -> None:
    manager = started(stored(base="enabled", child="enabled"), Recorder("child", "base"), Recorder("base"))
    events, seen = events_of(manager), list[object]()
    listen = manager.event_dispatcher.add_listener
    listen("plugin.enabled", lambda event: seen.append((manager.is_enabled("child"), manager.last_report.restored)))
    manager.load_persisted_state()
    assert seen == [(True, ["base", "child"])] * 2
    assert events == [("enabled", "base"), ("enabled", "child")]


def test_event_data_is_copy_of_config() -> None:
    manager = started(None, mail := Recorder("mail"))
    listen = manager.event_dispatcher.add_listener
    listen("plugin.config_changed", lambda event: event.data["after"]["hosts"].append("b"))
    manager.save_config("mail", {"hosts": ["a"]})
    assert mail._config == {"hosts": ["a"]}


def test_listener_change_is_announced_after_its_event() -> None:
    manager = started(None, mail := Recorder("mail"), n=0)
    heard: list[int] = []

    def follow(event: Event) -> None:
        if event.data["after"]["n"] < 3:
            manager.update_config("mail", {"n": event.data["after"]["n"] + 1})

    listen = manager.event_dispatcher.add_listener
    listen("plugin.config_changed", follow)
    listen("plugin.config_changed", lambda event: heard.append(event.data["after"]["n"]))
    manager.update_config("mail", {"n": 1})
    assert (heard, mail.get_config("n")) == ([1, 2, 3], 3)


def test_running_dispatch_takes_over_events_of_other_threads() -> None:
    manager = started(None, Recorder("a"), Recorder("b"))
    heard: list[str] = []
    entered, goes_on = Flag(), Flag()

    def listener(event: Event) -> None:
        heard.append(event.data["plugin_name"])
        entered.set()
        assert goes_on.wait(30)

    manager.event_dispatcher.add_listener("plugin.enabled", listener)
    thread = Thread(target=manager.enable_plugin, args=["a"])
    thread.start()
    assert entered.wait(30)
    manager.enable_plugin("b")  # it does not wait for the listener
    assert (heard, manager.is_enabled("b")) == (["a"], True)
    goes_on.set()
    thread.join(30)
    assert heard == ["a", "b"]


def test_running_dispatch_waits_for_end_of_change() -> None:
    store = stored(first="disabled", base="disabled")
    manager = started(store, Recorder("first"), Recorder("base"), child := Recorder("child", "base"))
    heard: list[str] = []
    seen: list[str] = []
    inside, returned = Flag(), Flag()

    def listener(event: Event) -> None:
        heard.append(event.data["plugin_name"])
        if heard == ["first"]:
            store.save("base", "enabled")
            thread.start()
            assert inside.wait(30)

    def hook() -> None:
        inside.set()
        assert returned.wait(30)
        seen.extend(heard)

    child.then["on_enable"] = hook
    thread = Thread(target=manager.enable_plugin, args=["child"])
    manager.event_dispatcher.add_listener("plugin.enabled", listener)
    manager.enable_plugin("first")
    returned.set()
    thread.join(30)
    assert (seen, heard) == (["first"], ["first", "base", "child"])


def test_events_left_by_interrupt_come_with_next_change() -> None:
    manager = started(None, Recorder("a"), Recorder("b"))
    dispatcher, interrupt = manager.event_dispatcher, raising(KeyboardInterrupt())
    dispatcher.add_listener("plugin.enabled", interrupt)
    with pytest.raises(KeyboardInterrupt):
        manager.enable_defaults("a", "b")
    dispatcher.remove_listener("plugin.enabled", interrupt)
    events = events_of(manager)
    manager.disable_plugin("a")
    assert events == [("enabled", "b"), ("disabled", "a")]


def test_events_are_dispatched_when_method_raises() -> None:
    manager = started(stored(good="enabled"), Recorder("good"), bad := Recorder("bad"))
    events = events_of(manager)
    bad.fail("on_enable")
    with pytest.raises(ValueError, match="bad failed"):
        manager.enable_plugin("bad")
    assert events == [("failed", "bad"), ("enabled", "good")]


@pytest.mark.parametrize("hook", ["on_enable", "on_disable", "on_config_changed", "validate_config"])
def test_hook_may_read_but_not_change_manager(hook: str) -> None:
    store = stored(mail="disabled" if hook == "on_enable" else "enabled")
    manager = restored(store, mail := Recorder("mail"), other := Recorder("other"))
    refused: list[str] = []

    def change(*args: object) -> None:
        assert manager.get_plugin("other") is other and not manager.is_enabled("other")
        assert len(manager.get_all_plugins()) == 2 and manager.last_report is not None
        for call in (manager.enable_plugin, manager.disable_plugin, manager.enable_defaults, manager.initialize_plugin):
            with pytest.raises(PluginStateError, match="listener"):
                call("other")
        for refused_call in (manager.sync, manager.load_persisted_state, lambda: manager.save_config("other", {})):
            with pytest.raises(PluginStateError, match="listener"):
                refused_call()
        refused.append(hook)

    mail.then[hook] = change
    if hook == "validate_config":
        mail.parse = change
    store.save("mail", "disabled" if hook == "on_disable" else "enabled", {"n": 1})
    report = manager.sync()
    assert (refused, report.failed, report.skipped) == ([hook], {}, {})
    assert "other" not in rows(store)


def test_origin_is_local_for_plugin_that_call_names() -> None:
    manager = started(store := stored(mail="enabled"), mail := Recorder("mail"))
    mail.fail("on_enable")
    manager.load_persisted_state()
    mail.fail("on_config_changed")
    origins: list[tuple[str, str]] = []
    for what in ("enabled", "disabled"):
        manager.event_dispatcher.add_listener(
            f"plugin.{what}", lambda event: origins.append((event.name, event.data["origin"]))
        )
    manager.update_config("mail", {"n": 1})
    with pytest.raises(ValueError, match="mail failed"):
        manager.update_config("mail", {"n": 2})
    assert origins == [("plugin.enabled", "local"), ("plugin.disabled", "local")]
    assert rows(store) == {"mail": ("enabled", {"n": 2})}
