"""load_persisted_state and sync: the process follows the table."""

import logging
from collections.abc import Callable
from unittest.mock import patch

import pytest
from recorder import FailingStore, Recorder, events_of, raising, restored, rows, started, stored

from plugin_store import InMemoryPluginConfigStore, PluginConfig, PluginManager, PluginStatus
from plugin_store.plugins.apply import SyncReport

BOTH = ["on_enable", "on_disable"]


def running(**config: object) -> tuple[InMemoryPluginConfigStore, PluginManager, Recorder]:
    """Return a store, a manager and its plugin ``mail``, which runs with this stored config."""
    store = InMemoryPluginConfigStore()
    store.save("mail", "enabled", config)
    manager = restored(store, mail := Recorder("mail"), port=25)
    return store, manager, mail


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """Return the messages of this level, and forget all."""
    found = [record.getMessage() for record in caplog.records if record.levelno == level]
    caplog.clear()
    return found


def test_restore_brings_up_enabled_rows_in_order() -> None:
    calls: list[tuple[str, str]] = []
    plugins = [Recorder(*names, calls=calls) for names in (("a", "c"), ("b",), ("c", "d"), ("d",), ("no-row",))]
    manager = started(stored(a="enabled", b="disabled", c="enabled", d="enabled"), *plugins)
    assert manager.load_persisted_state() == SyncReport(["d", "c", "a"], {}, {})
    assert calls == [("d", "on_enable"), ("c", "on_enable"), ("a", "on_enable")]
    assert [plugin.status.name for plugin in plugins] == ["ENABLED", "DISABLED", "ENABLED", "ENABLED", "INITIALIZED"]


@pytest.mark.parametrize("status", ["enabled", "disabled"])
def test_restore_gives_config_before_on_enable(status: str) -> None:
    store, mail, seen = InMemoryPluginConfigStore(), Recorder("mail"), list[object]()
    store.save("mail", status, {"port": 587})
    mail.then["on_enable"] = lambda: seen.append(mail.get_config("port"))
    restored(store, mail, port=25)
    assert (mail.get_config("port"), seen) == (587, [587] * (status == "enabled"))


def test_restore_writes_nothing() -> None:
    store = FailingStore()
    store.save_many([PluginConfig(name, "enabled") for name in ("mail", "gone", "bad")])
    manager = started(store, Recorder("mail"), bad := Recorder("bad"))
    bad.fail("on_enable")
    store.called.clear()
    manager.load_persisted_state()
    assert store.called == [("get_all",)]


def test_sync_follows_rows() -> None:
    store = stored(a="enabled", b="disabled", c="enabled")
    manager = restored(store, a := Recorder("a"), b := Recorder("b"), c := Recorder("c"), port=25)
    store.save("a", "disabled")
    store.save("b", "enabled", {"port": 587})
    store.delete("c")
    assert manager.sync() == SyncReport(["b"], {}, {})
    assert (a.hooks, b.hooks, c.hooks) == (BOTH, ["on_enable"], BOTH)
    assert b.get_config("port") == 587


@pytest.mark.parametrize(("old", "new"), [(["a"], ["b"]), (1, True)])
def test_sync_tells_running_plugin_of_changed_config(old: object, new: object) -> None:
    store, manager, mail = running(key=old)
    store.save_config("mail", {"key": new})
    manager.sync()
    assert mail.calls[1:] == [("mail", "on_config_changed", {"port": 25, "key": old}, {"port": 25, "key": new})]
    assert repr(mail.get_config("key")) == repr(new)


def test_sync_does_nothing_when_nothing_changed() -> None:
    store, manager, mail = running(flag=True, n=1)
    events = events_of(manager)
    store.save("mail", "enabled", {"n": 1})
    assert manager.sync() == manager.load_persisted_state() == SyncReport(["mail"], {}, {})
    assert (mail.hooks, events) == (["on_enable"], [])


def test_sync_stops_dependents_and_restarts_them() -> None:
    store, calls = stored(base="enabled", child="enabled"), list[tuple[str, str]]()
    manager = restored(store, Recorder("child", "base", calls=calls), Recorder("base", calls=calls))
    calls.clear()
    store.save("base", "disabled")
    assert manager.sync() == SyncReport([], {"child": "Dependency 'base' not enabled"}, {})
    store.save("base", "enabled")
    assert manager.sync() == SyncReport(["base", "child"], {}, {})
    assert calls == [("child", "on_disable"), ("base", "on_disable"), ("base", "on_enable"), ("child", "on_enable")]


def test_sync_starts_plugin_registered_late() -> None:
    manager = started(stored(late="enabled", other="enabled"), Recorder("other"))
    assert manager.load_persisted_state().skipped == {"late": "not registered and initialized here"}
    manager.register_plugin(Recorder("late"))
    assert "late" in manager.sync().skipped
    manager.initialize_plugin("late")
    assert manager.sync(names=["other"]) == SyncReport(["late", "other"], {}, {})


def test_sync_reports_every_kind_of_outcome() -> None:
    store = stored(good="enabled", bad="enabled", child="enabled", gone="enabled", off="disabled", off2="disabled")
    manager = started(store, Recorder("good"), bad := Recorder("bad"), Recorder("child", "bad"), Recorder("off"))
    bad.fail("on_enable")
    report = manager.load_persisted_state()
    assert report == SyncReport(
        ["good"],
        {"gone": "not registered and initialized here", "child": "Dependency 'bad' not enabled"},
        {"bad": "on_enable raised ValueError: bad failed"},
    )
    assert manager.last_report is report
    bad.fail()
    assert manager.sync(retry_failed=True).restored == ["bad", "good", "child"]


def failed_once() -> tuple[PluginManager, Recorder]:
    """Return a restored manager whose plugin ``mail`` failed, and would start now."""
    manager = started(stored(mail="enabled"), mail := Recorder("mail"))
    mail.fail("on_enable")
    manager.load_persisted_state()
    assert mail.status is PluginStatus.ERROR
    mail.fail()
    return manager, mail


def test_failed_plugin_is_left_alone_by_sync() -> None:
    manager, mail = failed_once()
    events = events_of(manager)
    assert manager.sync() == SyncReport([], {}, {"mail": "on_enable raised ValueError: mail failed"})
    assert (mail.hooks, events) == (["on_enable"], [])


RETRIES: dict[str, Callable[[PluginManager], object]] = {
    "retry": lambda manager: manager.sync(retry_failed=True),
    "enabled here": lambda manager: manager.enable_plugin("mail"),
    "row changed": lambda manager: (manager.store.update_config("mail", {"port": 587}), manager.sync()),
    "initialized again": lambda manager: (manager.initialize_plugin("mail"), manager.sync()),
}


@pytest.mark.parametrize("retry", RETRIES)
def test_failed_plugin_starts_when_tried_again(retry: str) -> None:
    manager, mail = failed_once()
    RETRIES[retry](manager)
    assert manager.last_report == SyncReport(["mail"], {}, {})
    assert mail.status is PluginStatus.ENABLED


def test_sync_with_names_reads_only_them() -> None:
    store = FailingStore()
    store.save_many([PluginConfig(name, "enabled") for name in "abc"])
    manager = started(store, *map(Recorder, "abcd"))
    assert manager.sync(names=["a"]).restored == ["a", "b", "c"]  # the first sync reads all
    store.save_many([PluginConfig("a", "disabled"), PluginConfig("b", "disabled"), PluginConfig("d", "enabled")])
    store.delete("c")
    store.called.clear()
    assert manager.sync(names=iter(["b", "c", "d", "absent"])).restored == ["a", "d"]
    assert store.called == [("get_by_name", name) for name in ("b", "c", "d", "absent")]
    assert manager.sync().restored == ["d"]


def test_sync_changes_nothing_when_one_name_fails() -> None:
    store = FailingStore()
    store.save_many([PluginConfig(name, "enabled") for name in "ab"])
    manager = restored(store, *map(Recorder, "ab"))
    store.save_many([PluginConfig(name, "disabled") for name in "ab"])
    store.after["get_by_name"] = lambda: store.fails.add("get_by_name")
    with pytest.raises(Exception, match="database is away"):
        manager.sync(names=["a", "b"])
    assert manager.is_enabled("a") and manager.is_enabled("b")


def test_sync_reads_from_given_store() -> None:
    own = FailingStore()
    manager = started(own, Recorder("a"), Recorder("b"))
    assert manager.sync(store=stored(a="enabled")).restored == ["a"]
    assert manager.sync(store=stored(a="enabled", b="enabled"), names=["b"]).restored == ["a", "b"]
    assert (own.called, manager.store) == ([], own)


def test_log_names_enabled_row_without_plugin_once(caplog: pytest.LogCaptureFixture) -> None:
    store = stored(on="enabled", off="disabled")
    manager = restored(store, Recorder("mail"))
    assert messages(caplog, logging.WARNING) == ["plugin 'on' is not enabled: not registered and initialized here"]
    manager.sync()
    manager.enable_plugin("mail")
    assert messages(caplog, logging.WARNING) == []
    store.save("off", "enabled")
    manager.sync(names=["off"])
    assert messages(caplog, logging.WARNING) == ["plugin 'off' is not enabled: not registered and initialized here"]
    manager.disable_plugin("mail")
    assert rows(store) == {"on": ("enabled", {}), "off": ("enabled", {}), "mail": ("disabled", {})}


def test_log_has_one_line_per_change_with_origin(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = stored(base="enabled", child="enabled")
    manager = restored(store, Recorder("base"), Recorder("child", "base"))
    manager.sync()
    manager.enable_plugin("base")
    both = [f"plugin {name!r}: enabled (origin stored)" for name in ("base", "child")]
    assert messages(caplog, logging.INFO) == both
    manager.disable_plugin("child")
    manager.enable_plugin("child")
    manager.update_config("base", {"n": 1})
    changes = ["'child': disabled", "'child': enabled", "'base': config changed"]
    assert messages(caplog, logging.INFO) == [f"plugin {change} (origin local)" for change in changes]
    store.update_config("base", {"n": 2})
    store.save("child", "disabled")
    manager.sync()
    changes = ["'child': disabled", "'base': config changed"]
    assert messages(caplog, logging.INFO) == [f"plugin {change} (origin stored)" for change in changes]


def test_log_warns_of_skipped_plugin_once(caplog: pytest.LogCaptureFixture) -> None:
    store = stored(base="disabled", child="enabled")
    manager = restored(store, Recorder("base"), Recorder("child", "base"))
    manager.sync()
    for status in ("disabled", "enabled"):
        store.save("child", status)
        manager.sync()
    assert messages(caplog, logging.WARNING) == ["plugin 'child' is not enabled: Dependency 'base' not enabled"] * 2


def test_log_has_failure_once_per_reason(caplog: pytest.LogCaptureFixture) -> None:
    manager = started(stored(mail="enabled"), mail := Recorder("mail"))
    mail.fail("on_enable")
    manager.load_persisted_state()
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.exc_info
    assert messages(caplog, logging.ERROR) == ["plugin 'mail' failed: on_enable raised ValueError: mail failed"]
    events = events_of(manager)
    manager.sync(retry_failed=True)
    assert (messages(caplog, logging.ERROR), events) == ([], [("failed", "mail")])
    mail.fail("on_enable", error=OSError("disk is full"))
    manager.sync(retry_failed=True)
    assert messages(caplog, logging.ERROR) == ["plugin 'mail' failed: on_enable raised OSError: disk is full"]


def test_interrupted_read_keeps_known_rows(caplog: pytest.LogCaptureFixture) -> None:
    manager = restored(store := stored(mail="enabled", news="enabled"), Recorder("mail"), Recorder("news"))
    store.save("absent", "enabled")
    with patch.object(caplog.handler, "emit", raising(KeyboardInterrupt())), pytest.raises(KeyboardInterrupt):
        manager.sync()
    assert manager.sync(names=["mail"]).restored == ["mail", "news"]


@pytest.mark.parametrize("method", ["save_config", "update_config"])
def test_config_change_applies_current_rows_of_other_plugins(method: str) -> None:
    manager = restored(store := stored(mail="enabled", news="enabled"), Recorder("mail"), Recorder("news"))
    store.save("news", "disabled")
    getattr(manager, method)("mail", {"n": 1})
    assert not manager.is_enabled("news")


def test_sync_reports_new_reason_of_plugin_in_error(caplog: pytest.LogCaptureFixture) -> None:
    manager, mail = failed_once()
    mail.parse = raising(ValueError("no port"))
    reason = "plugin 'mail' refuses this config: no port"
    assert "mail" in manager.sync().failed
    for report in (manager.sync(retry_failed=True), manager.sync()):
        assert (report.failed, report.skipped) == ({}, {"mail": reason})
    assert mail.status is PluginStatus.DISABLED
    assert f"plugin 'mail' is not enabled: {reason}" in caplog.text
    mail.parse = bool
    manager.store.save_config("mail", {"port": 25})
    assert manager.sync().restored == ["mail"]


@pytest.mark.parametrize("change", [["save", "mail", "disabled"], ["delete", "mail"]])
def test_error_ends_when_row_wants_plugin_off(change: list[str]) -> None:
    manager, mail = failed_once()
    getattr(manager.store, change[0])(*change[1:])
    assert manager.sync().failed == {}
    assert (mail.status, mail.hooks) == (PluginStatus.DISABLED, ["on_enable"])


def test_error_of_on_disable_stays_until_row_changes() -> None:
    manager = started(store := stored(mail="enabled"), mail := Recorder("mail"))
    manager.load_persisted_state()
    mail.fail("on_disable")
    with pytest.raises(ValueError, match="mail failed"):
        manager.disable_plugin("mail")
    for report in (manager.last_report, manager.sync(), manager.sync(retry_failed=True)):
        assert "mail" in report.failed
    store.save_config("mail", {"n": 1})
    assert manager.sync().failed == {}


def test_interrupted_sync_fills_report() -> None:
    manager = restored(store := stored(mail="enabled"), mail := Recorder("mail"), Recorder("news"))
    mail.fail("on_disable", error=KeyboardInterrupt())
    store.save("mail", "disabled")
    with pytest.raises(KeyboardInterrupt):
        manager.sync()
    assert manager.last_report.restored == []
    assert "KeyboardInterrupt" in manager.last_report.failed["mail"]


def test_interrupt_in_validate_config_keeps_report() -> None:
    manager = restored(store := stored(mail="enabled"), mail := Recorder("mail"))
    report = manager.last_report
    mail.parse = raising(KeyboardInterrupt())
    store.save_config("mail", {"n": 1})
    with pytest.raises(KeyboardInterrupt):
        manager.sync()
    assert manager.last_report is report


def test_status_follows_row_after_plugin_enable_raised() -> None:
    manager = restored(stored(mail="disabled"), mail := Recorder("mail"))
    mail.fail("on_enable")
    with pytest.raises(ValueError, match="mail failed"):
        mail.enable()
    manager.sync()
    assert mail.status is PluginStatus.DISABLED
