"""enable_defaults."""

import pytest
from recorder import FailingStore, Recorder, events_of, rows, started, stored

from plugin_store import InMemoryPluginConfigStore, PluginStatus


def test_enable_defaults_enables_plugins_without_row() -> None:
    store = stored(off="disabled", on="enabled")
    manager = started(store, *map(Recorder, ("off", "on", "new", "other")))
    manager.load_persisted_state()
    assert manager.enable_defaults("off", "on", "new") == ["new"]
    assert {name: status for name, (status, _) in rows(store).items()} == {
        "off": "disabled", "on": "enabled", "new": "enabled",
    }  # fmt: skip
    assert [plugin.metadata.name for plugin in manager.get_enabled_plugins()] == ["on", "new"]


def test_enable_defaults_does_nothing_at_second_start() -> None:
    store = InMemoryPluginConfigStore()
    first = started(store, Recorder("mail"))
    first.enable_defaults("mail")
    first.disable_plugin("mail")
    second = started(store, mail := Recorder("mail"))
    second.load_persisted_state()
    assert second.enable_defaults("mail") == []
    assert mail.status is PluginStatus.DISABLED


def test_enable_defaults_takes_dependencies_in_any_order() -> None:
    calls: list[tuple[str, str]] = []
    manager = started(None, Recorder("a", "b", calls=calls), Recorder("b", calls=calls))
    assert sorted(manager.enable_defaults("a", "b")) == ["a", "b"]
    assert calls == [("b", "on_enable"), ("a", "on_enable")]


def test_enable_defaults_starts_plugins_that_wait() -> None:
    store = stored(report="enabled")
    manager = started(store, Recorder("report", "core"), Recorder("core"))
    assert "core" in manager.load_persisted_state().skipped["report"]
    assert manager.enable_defaults("core") == ["core"]
    assert manager.is_enabled("report")


def test_enable_defaults_stores_pending_config() -> None:
    manager = started(None, mail := Recorder("mail"))
    mail.set_config("port", 587)
    manager.enable_defaults("mail")
    assert rows(manager.store) == {"mail": ("enabled", {"port": 587})}


def test_enable_defaults_continues_when_hook_raises() -> None:
    manager = started(None, bad := Recorder("bad"), Recorder("good"), Recorder("needs-bad", "bad"))
    events = events_of(manager)
    bad.fail("on_enable")
    assert manager.enable_defaults("bad", "needs-bad", "good") == ["good"]
    assert manager.last_report.failed == {"bad": "on_enable raised ValueError: bad failed"}
    assert manager.last_report.skipped == {"needs-bad": "Dependency 'bad' not enabled"}
    assert rows(manager.store) == {"good": ("enabled", {})}
    assert events == [("failed", "bad"), ("enabled", "good")]
    bad.fail()
    assert manager.enable_defaults("bad", "needs-bad", "good") == ["bad", "needs-bad"]


def test_enable_defaults_continues_when_pending_config_is_unstorable() -> None:
    manager = started(None, bad := Recorder("bad"), Recorder("good"))
    bad.set_config("when", {1})
    assert manager.enable_defaults("bad", "good") == ["good"]
    assert "config.when is a set" in manager.last_report.skipped["bad"]
    assert bad.hooks == ["on_enable", "on_disable"]


def test_enable_defaults_undoes_hooks_when_storing_fails() -> None:
    store = FailingStore()
    manager = started(store, mail := Recorder("mail"))
    events = events_of(manager)
    store.fails = {"add"}
    assert manager.enable_defaults("mail") == []
    assert mail.hooks == ["on_enable", "on_disable"]
    assert manager.last_report.skipped == {"mail": "the database is away"}
    assert (mail.status, events) == (PluginStatus.INITIALIZED, [])


def test_enable_defaults_raises_when_rows_cannot_be_read() -> None:
    store = FailingStore()
    manager = started(store, mail := Recorder("mail"))
    store.fails = {"get_all"}
    with pytest.raises(Exception, match="database is away"):
        manager.enable_defaults("mail")
    assert mail.hooks == []


def test_enable_defaults_respects_row_disabled_meanwhile() -> None:
    store = FailingStore()
    manager = started(store, mail := Recorder("mail"))
    store.before["add"] = lambda: InMemoryPluginConfigStore.save(store, "mail", "disabled")
    assert manager.enable_defaults("mail") == []
    assert mail.hooks == ["on_enable", "on_disable"]
    assert rows(store) == {"mail": ("disabled", {})}


def test_enable_defaults_keeps_pending_config_of_lost_race() -> None:
    store = FailingStore()
    manager = started(store, mail := Recorder("mail"))
    mail.set_config("port", 587)
    store.before["add"] = lambda: InMemoryPluginConfigStore.save(store, "mail", "enabled", {"host": "a"})
    manager.enable_defaults("mail")
    manager.sync()
    assert mail._config == {"host": "a", "port": 587}


def test_enable_defaults_checks_all_names_first() -> None:
    manager = started(None, mail := Recorder("mail"))
    with pytest.raises(ValueError, match="'absent' not found"):
        manager.enable_defaults("mail", "absent")
    assert mail.hooks == []
