"""disable_plugin: the emergency brake."""

import logging
from contextlib import nullcontext

import pytest
from recorder import FailingStore, Recorder, events_of, restored, rows, started, stored

from plugin_store import DependencyError, PluginManager, PluginStatus


def test_disable_plugin_runs_hook_stores_and_announces() -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    manager.enable_plugin("mail")
    order: list[str] = []
    mail.then["on_disable"] = lambda: order.append("hook")
    store.before["save"] = lambda: order.append("store")
    manager.event_dispatcher.add_listener("plugin.disabled", lambda event: order.append("event"))
    manager.disable_plugin("mail")
    assert order == ["hook", "store", "event"]
    assert (mail.status, manager.is_enabled("mail")) == (PluginStatus.DISABLED, False)
    assert rows(store) == {"mail": ("disabled", {})}


def test_disable_plugin_can_be_repeated() -> None:
    manager = started(None, mail := Recorder("mail"))
    manager.enable_plugin("mail")
    events = events_of(manager)
    manager.disable_plugin("mail")
    manager.disable_plugin("mail")
    assert (mail.hooks, events) == (["on_enable", "on_disable"], [("disabled", "mail")])


def test_disable_plugin_stores_row_of_plugin_never_enabled() -> None:
    manager = PluginManager()
    manager.register_plugin(mail := Recorder("mail"))
    manager.disable_plugin("mail")
    assert rows(manager.store) == {"mail": ("disabled", {})}
    assert (mail.status, mail.hooks) == (PluginStatus.REGISTERED, [])


def test_disable_plugin_raises_when_plugins_depend_on_it() -> None:
    store = stored(base="enabled", a="enabled", b="enabled")
    manager = restored(store, Recorder("b", "base"), Recorder("a", "base"), base := Recorder("base"))
    with pytest.raises(DependencyError, match=r"Cannot disable plugin 'base': plugins \['b', 'a'\] depend on it"):
        manager.disable_plugin("base")
    assert base.hooks == ["on_enable"]
    assert rows(store)["base"] == ("enabled", {})


def test_disable_plugin_first_stops_dependents_disabled_elsewhere() -> None:
    store, calls = stored(base="enabled", child="enabled", slow="disabled"), list[tuple[str, str]]()
    names = (("child", "base"), ("base",), ("slow",))
    manager = restored(store, *(Recorder(*each, calls=calls) for each in names))
    store.save("child", "disabled")
    store.save("slow", "enabled")
    calls.clear()
    manager.disable_plugin("base")
    assert calls == [("child", "on_disable"), ("base", "on_disable"), ("slow", "on_enable")]


def test_disable_plugin_acts_before_other_plugins_start() -> None:
    store = stored(mail="enabled")
    manager = restored(store, slow := Recorder("another"), mail := Recorder("mail"))
    seen: list[object] = []
    slow.then["on_enable"] = lambda: seen.extend([mail.hooks, rows(store)["mail"][0]])
    store.save("another", "enabled")
    manager.disable_plugin("mail")
    assert seen == [["on_enable", "on_disable"], "disabled"]
    assert manager.is_enabled("another")


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
    assert errors == ["plugin 'mail' is disabled, but the other plugins are not synced: the database is away"]


def test_disable_plugin_resets_error() -> None:
    manager = started(stored(mail="enabled"), mail := Recorder("mail"))
    mail.fail("on_enable")
    manager.load_persisted_state()
    assert mail.status is PluginStatus.ERROR
    manager.disable_plugin("mail")
    assert (mail.status, mail.hooks) == (PluginStatus.DISABLED, ["on_enable"])
    assert manager.last_report.failed == {}
