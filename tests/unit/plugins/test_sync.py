"""load_persisted_state and sync: the process follows the table."""

import logging
from typing import Any

import pytest
from recorder import FailingStore, Recorder, events_of, rows, started, stored

from plugin_store import InMemoryPluginConfigStore, PluginConfig, PluginManager, PluginStatus
from plugin_store.plugins.apply import SyncReport


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """Return the messages of this level, and forget all."""
    found = [record.getMessage() for record in caplog.records if record.levelno == level]
    caplog.clear()
    return found


def failing_once(store: Any) -> tuple[PluginManager, Recorder]:
    """Return a restored manager whose plugin ``mail`` failed, and would start now."""
    manager = started(store, mail := Recorder("mail"))
    mail.fail("on_enable")
    manager.load_persisted_state()
    assert mail.status is PluginStatus.ERROR
    mail.fail()
    return manager, mail


def test_restore_brings_up_enabled_rows_in_order() -> None:
    calls: list[tuple[str, str]] = []
    plugins = [Recorder(*names, calls=calls) for names in (("a", "c"), ("b",), ("c", "d"), ("d",), ("no-row",))]
    store = stored(a="enabled", b="disabled", c="enabled", d="enabled")
    manager = started(store, *plugins)
    report = manager.load_persisted_state()
    assert report == SyncReport(["d", "c", "a"], {}, {})
    assert calls == [("d", "on_enable"), ("c", "on_enable"), ("a", "on_enable")]
    assert [plugin.status.name for plugin in plugins] == ["ENABLED", "DISABLED", "ENABLED", "ENABLED", "INITIALIZED"]


def test_restore_gives_disabled_plugins_their_config() -> None:
    store = InMemoryPluginConfigStore()
    store.save_config("mail", {"port": 587})
    started(store, mail := Recorder("mail"), port=25).load_persisted_state()
    assert (mail.get_config("port"), mail.hooks) == (587, [])


def test_restore_gives_config_before_on_enable() -> None:
    store, mail, seen = InMemoryPluginConfigStore(), Recorder("mail"), []
    store.save("mail", "enabled", {"port": 587})
    mail.then["on_enable"] = lambda: seen.append(mail.get_config("port"))
    started(store, mail).load_persisted_state()
    assert (seen, mail.hooks) == ([587], ["on_enable"])


def test_restore_writes_nothing() -> None:
    store = FailingStore()
    store.save_many([PluginConfig("mail", "enabled"), PluginConfig("gone", "enabled"), PluginConfig("bad", "enabled")])
    manager = started(store, Recorder("mail"), bad := Recorder("bad"))
    bad.fail("on_enable")
    before = store.get_all()
    store.called.clear()
    manager.load_persisted_state()
    assert store.called == [("get_all",)]
    assert store.get_all() == before


def test_restore_raises_when_rows_cannot_be_read() -> None:
    store = FailingStore()
    store.save("mail", "enabled")
    manager = started(store, mail := Recorder("mail"))
    store.fails = {"get_all"}
    with pytest.raises(Exception, match="database is away"):
        manager.load_persisted_state()
    assert (mail.status, manager.last_report) == (PluginStatus.INITIALIZED, SyncReport())


def test_sync_follows_rows() -> None:
    store = stored(a="enabled", b="disabled", c="enabled")
    plugins = {name: Recorder(name) for name in "abc"}
    manager = started(store, *plugins.values(), port=25)
    manager.load_persisted_state()
    store.save("a", "disabled")
    store.save("b", "enabled", {"port": 587})
    store.delete("c")
    assert manager.sync() == SyncReport(["b"], {}, {})
    assert plugins["a"].hooks == plugins["c"].hooks == ["on_enable", "on_disable"]
    assert plugins["b"].hooks == ["on_enable"]
    assert plugins["b"].get_config("port") == 587


def test_sync_tells_running_plugin_of_changed_config() -> None:
    store = InMemoryPluginConfigStore()
    store.save("mail", "enabled", {"hosts": ["a"]})
    manager = started(store, mail := Recorder("mail"), port=25)
    manager.load_persisted_state()
    store.save_config("mail", {"hosts": ["b"]})
    manager.sync()
    old, new = {"port": 25, "hosts": ["a"]}, {"port": 25, "hosts": ["b"]}
    assert mail.calls[1:] == [("mail", "on_config_changed", old, new)]


def test_sync_does_nothing_when_nothing_changed() -> None:
    store = InMemoryPluginConfigStore()
    store.save("mail", "enabled", {"flag": True, "n": 1})
    manager = started(store, mail := Recorder("mail"))
    manager.load_persisted_state()
    events = events_of(manager)
    store.save("mail", "enabled", {"n": 1})
    assert manager.sync() == manager.load_persisted_state() == SyncReport(["mail"], {}, {})
    assert (mail.hooks, events) == (["on_enable"], [])


def test_sync_tells_true_from_1() -> None:
    store = InMemoryPluginConfigStore()
    store.save("mail", "enabled", {"flag": 1})
    manager = started(store, mail := Recorder("mail"))
    manager.load_persisted_state()
    store.save_config("mail", {"flag": True})
    manager.sync()
    assert mail.get_config("flag") is True
    assert mail.hooks == ["on_enable", "on_config_changed"]


def test_sync_drops_config_of_deleted_row() -> None:
    store = InMemoryPluginConfigStore()
    store.save("mail", "enabled", {"port": 587})
    manager = started(store, mail := Recorder("mail"), port=25)
    manager.load_persisted_state()
    store.delete("mail")
    manager.sync()
    assert (mail._config, mail.status) == ({"port": 25}, PluginStatus.DISABLED)


def test_sync_stops_dependents_and_restarts_them() -> None:
    store = stored(base="enabled", child="enabled")
    calls: list[tuple[str, str]] = []
    manager = started(store, Recorder("child", "base", calls=calls), Recorder("base", calls=calls))
    manager.load_persisted_state()
    calls.clear()
    store.save("base", "disabled")
    assert manager.sync() == SyncReport([], {"child": "Dependency 'base' not enabled"}, {})
    store.save("base", "enabled")
    assert manager.sync() == SyncReport(["base", "child"], {}, {})
    assert calls == [("child", "on_disable"), ("base", "on_disable"), ("base", "on_enable"), ("child", "on_enable")]


def test_sync_stops_plugins_whose_metadata_became_cyclic() -> None:
    manager = started(None, a := Recorder("a"), b := Recorder("b", "a"))
    manager.enable_defaults("a", "b")
    a.metadata.dependencies = ["b"]
    assert "dependency cycle" in manager.sync().skipped["a"]
    assert (a.hooks, b.hooks) == (["on_enable", "on_disable"],) * 2


def test_sync_starts_plugin_registered_late() -> None:
    store = stored(late="enabled", other="enabled")
    manager = started(store, Recorder("other"))
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


def test_failed_plugin_is_left_alone_by_sync() -> None:
    manager, mail = failing_once(stored(mail="enabled"))
    events = events_of(manager)
    assert manager.sync() == SyncReport([], {}, {"mail": "on_enable raised ValueError: mail failed"})
    assert (mail.hooks, events) == (["on_enable"], [])


def test_failed_plugin_starts_when_sync_retries() -> None:
    manager, mail = failing_once(stored(mail="enabled"))
    assert manager.sync(retry_failed=True) == SyncReport(["mail"], {}, {})
    assert mail.status is PluginStatus.ENABLED


def test_failed_plugin_starts_when_its_row_changes() -> None:
    store = stored(mail="enabled")
    manager, mail = failing_once(store)
    store.update_config("mail", {"port": 587})
    assert manager.sync().restored == ["mail"]
    assert mail._config == {"port": 587}


def test_failed_plugin_starts_when_enabled_here() -> None:
    manager, _ = failing_once(stored(mail="enabled"))
    manager.enable_plugin("mail")
    assert manager.is_enabled("mail")
    assert manager.last_report == SyncReport(["mail"], {}, {})


def test_failed_plugin_stays_off_when_row_is_disabled() -> None:
    store = stored(mail="enabled")
    manager, mail = failing_once(store)
    store.save("mail", "disabled")
    manager.sync(retry_failed=True)
    assert mail.hooks == ["on_enable"]
    store.save("mail", "enabled")
    assert manager.sync().restored == ["mail"]


def test_failed_plugin_starts_when_initialized_again() -> None:
    manager, mail = failing_once(stored(mail="enabled"))
    manager.initialize_plugin("mail", {"port": 587})
    assert manager.sync() == SyncReport(["mail"], {}, {})
    assert mail._config == {"port": 587}


def test_dependents_start_when_failed_plugin_recovers() -> None:
    manager = started(stored(base="enabled", child="enabled"), base := Recorder("base"), Recorder("child", "base"))
    base.fail("on_enable")
    assert manager.load_persisted_state().restored == []
    base.fail()
    assert manager.sync(retry_failed=True).restored == ["base", "child"]


def test_sync_with_names_reads_only_them() -> None:
    store = FailingStore()
    store.save_many([PluginConfig(name, "enabled") for name in "abc"])
    manager = started(store, *map(Recorder, "abcd"))
    manager.load_persisted_state()
    store.save_many([PluginConfig("a", "disabled"), PluginConfig("b", "disabled"), PluginConfig("d", "enabled")])
    store.delete("c")
    store.called.clear()
    assert manager.sync(names=iter(["b", "c", "d", "absent"])).restored == ["a", "d"]
    assert store.called == [("get_by_name", name) for name in ("b", "c", "d", "absent")]
    assert manager.sync().restored == ["d"]


def test_sync_with_names_reads_all_at_first() -> None:
    manager = started(stored(a="enabled", b="enabled"), Recorder("a"), Recorder("b"))
    assert manager.sync(names=["a"]).restored == ["a", "b"]


def test_sync_changes_nothing_when_one_name_fails() -> None:
    store = FailingStore()
    store.save_many([PluginConfig(name, "enabled") for name in "ab"])
    manager = started(store, *map(Recorder, "ab"))
    manager.load_persisted_state()
    store.save_many([PluginConfig(name, "disabled") for name in "ab"])
    store.after["get_by_name"] = lambda: store.fails.add("get_by_name")
    with pytest.raises(Exception, match="database is away"):
        manager.sync(names=["a", "b"])
    assert manager.is_enabled("a") and manager.is_enabled("b")


def test_sync_reads_from_given_store() -> None:
    own = FailingStore()
    manager = started(own, Recorder("a"), Recorder("b"))
    own.called.clear()
    assert manager.sync(store=stored(a="enabled")).restored == ["a"]
    assert manager.sync(store=stored(a="enabled", b="enabled"), names=["b"]).restored == ["a", "b"]
    assert own.called == []
    assert manager.store is own


def test_sync_leaves_row_without_plugin_alone() -> None:
    store = InMemoryPluginConfigStore()
    store.save("old-name", "enabled", {"n": 1})
    manager = started(store, Recorder("mail"))
    manager.load_persisted_state()
    manager.enable_plugin("mail")
    manager.disable_plugin("mail")
    assert rows(store)["old-name"] == ("enabled", {"n": 1})


def test_log_names_enabled_row_without_plugin_once(caplog: pytest.LogCaptureFixture) -> None:
    store = stored(on="enabled", off="disabled")
    manager = started(store, Recorder("mail"))
    manager.load_persisted_state()
    assert messages(caplog, logging.WARNING) == ["plugin 'on' has an enabled row, but is not registered here"]
    manager.sync()
    manager.enable_plugin("mail")
    assert messages(caplog, logging.WARNING) == []
    store.save("off", "enabled")
    manager.sync(names=["off"])
    assert messages(caplog, logging.WARNING) == ["plugin 'off' has an enabled row, but is not registered here"]


def test_log_has_one_line_per_change_with_origin(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = stored(base="enabled", child="enabled")
    manager = started(store, Recorder("base"), Recorder("child", "base"))
    manager.load_persisted_state()
    both = [f"plugin {name!r}: enabled (origin stored)" for name in ("base", "child")]
    assert messages(caplog, logging.INFO) == both
    manager.sync()
    manager.enable_plugin("base")
    assert messages(caplog, logging.INFO) == []
    manager.disable_plugin("child")
    manager.enable_plugin("child")
    both = [f"plugin 'child': {what} (origin local)" for what in ("disabled", "enabled")]
    assert messages(caplog, logging.INFO) == both
    manager.update_config("base", {"n": 1})
    assert messages(caplog, logging.INFO) == ["plugin 'base': config changed (origin local)"]
    store.update_config("base", {"n": 2})
    store.save("child", "disabled")
    manager.sync()
    both = ["plugin 'child': disabled (origin stored)", "plugin 'base': config changed (origin stored)"]
    assert messages(caplog, logging.INFO) == both


def test_log_warns_of_skipped_plugin_once(caplog: pytest.LogCaptureFixture) -> None:
    store = stored(base="disabled", child="enabled")
    manager = started(store, Recorder("base"), Recorder("child", "base"))
    warning = "plugin 'child' is not enabled: Dependency 'base' not enabled"
    manager.load_persisted_state()
    manager.sync()
    assert messages(caplog, logging.WARNING) == [warning]
    for status in ("disabled", "enabled"):
        store.save("child", status)
        manager.sync()
    assert messages(caplog, logging.WARNING) == [warning]


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
    mail.fail()
    manager.sync(retry_failed=True)
    mail.fail("on_disable", error=OSError("disk is full"))
    with pytest.raises(OSError, match="disk is full"):
        manager.disable_plugin("mail")
    assert messages(caplog, logging.ERROR) == ["plugin 'mail' failed: on_disable raised OSError: disk is full"]
