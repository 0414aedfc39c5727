"""enable_defaults."""

from contextlib import suppress

import pytest
from recorder import FailingStore, Recorder, events_of, restored, rows, started, stored

from plugin_store import InMemoryPluginConfigStore, PluginManager, PluginStatus, StoreUnavailableError


def test_enable_defaults_enables_plugins_without_row() -> None:
    store = stored(off="disabled", on="enabled")
    manager = started(store, off := Recorder("off"), *map(Recorder, ("on", "new", "other")))
    assert manager.enable_defaults("off", "on", "new") == ["new"]
    assert off.hooks == []
    assert rows(store) == {"off": ("disabled", {}), "on": ("enabled", {}), "new": ("enabled", {})}
    assert [plugin.metadata.name for plugin in manager.get_enabled_plugins()] == ["on", "new"]


def test_enable_defaults_starts_dependencies_and_plugins_that_wait() -> None:
    store, calls = stored(top="enabled"), list[tuple[str, str]]()
    plugins = [Recorder(*names, calls=calls) for names in (("top", "child"), ("child", "parent"), ("parent",))]
    manager = restored(store, *plugins)
    assert sorted(manager.enable_defaults("child", "parent")) == ["child", "parent"]
    assert calls == [("parent", "on_enable"), ("child", "on_enable"), ("top", "on_enable")]


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


def test_failed_default_is_tried_again_at_resync() -> None:
    manager = started(None, bad := Recorder("bad"), Recorder("needs-bad", "bad"))
    bad.fail("on_enable")
    manager.enable_defaults("bad", "needs-bad")
    bad.fail()
    assert manager.sync().skipped == {"needs-bad": "Dependency 'bad' not enabled"}
    assert (bad.hooks, rows(manager.store)) == (["on_enable"], {})
    report = manager.sync(retry_failed=True)
    assert (report.restored, report.failed, report.skipped) == (["bad", "needs-bad"], {}, {})
    assert rows(manager.store) == {"bad": ("enabled", {}), "needs-bad": ("enabled", {})}


def test_waiting_default_starts_when_dependency_is_enabled() -> None:
    manager = started(store := stored(base="disabled"), Recorder("base"), child := Recorder("child", "base"))
    assert manager.enable_defaults("child") == []
    store.save("base", "enabled")
    assert manager.sync().restored == ["base", "child"]
    assert (child.hooks, rows(store)["child"]) == (["on_enable"], ("enabled", {}))


def test_unstored_default_is_tried_again_at_resync() -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    store.fails = {"add"}
    manager.enable_defaults("mail")
    store.fails = set()
    assert manager.sync().skipped == {"mail": "the database is away"}
    assert mail.hooks == ["on_enable", "on_disable"]
    assert manager.sync(retry_failed=True).restored == ["mail"]


@pytest.mark.parametrize("had_row", [False, True])
def test_deleted_default_stays_off_at_resync(had_row: bool) -> None:
    manager = started(stored(mail="enabled") if had_row else None, Recorder("mail"))
    manager.enable_defaults("mail")
    manager.store.delete("mail")
    assert manager.sync(retry_failed=True).restored == []


def test_enable_defaults_continues_when_pending_config_is_unstorable() -> None:
    manager = started(None, bad := Recorder("bad"), good := Recorder("good"))
    bad.set_config("when", {1})
    good.set_config("port", 587)
    assert manager.enable_defaults("bad", "good") == ["good"]
    assert "config.when is a set" in manager.last_report.skipped["bad"]
    assert bad.hooks == []
    assert rows(manager.store) == {"good": ("enabled", {"port": 587})}


def test_enable_defaults_undoes_hooks_when_storing_fails() -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    events = events_of(manager)
    store.fails = {"add"}
    assert manager.enable_defaults("mail") == []
    assert (mail.hooks, mail.status, events) == (["on_enable", "on_disable"], PluginStatus.INITIALIZED, [])
    assert manager.last_report.skipped == {"mail": "the database is away"}


def test_enable_defaults_respects_row_disabled_meanwhile() -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    store.before["add"] = lambda: InMemoryPluginConfigStore.save(store, "mail", "disabled")
    assert manager.enable_defaults("mail") == []
    assert mail.hooks == ["on_enable", "on_disable"]
    assert rows(store) == {"mail": ("disabled", {})}


def test_enable_defaults_keeps_pending_config_of_lost_race() -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
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


def test_running_default_without_row_stores_no_plain_secret() -> None:
    manager = restored(None, mail := Recorder("mail", secret_keys=["password"]))
    manager.enable_plugin("mail")
    manager.store.delete("mail")
    mail.set_config("password", "walnut")
    assert manager.enable_defaults("mail") == ["mail"]  # it runs, but its row is not stored
    assert rows(manager.store) == {}


@pytest.mark.parametrize("method", ["enable_defaults", "enable_plugin"])
def test_running_plugin_stays_on_when_add_fails(method: str) -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    manager.enable_plugin("mail")
    store.delete("mail")
    store.fails = {"add", "save"}
    with suppress(StoreUnavailableError):
        getattr(manager, method)("mail")
    store.fails = set()
    store.save("mail", "enabled")
    assert manager.sync().restored == ["mail"]
    assert mail.hooks == ["on_enable"]


def failed_default() -> tuple[PluginManager, FailingStore, Recorder]:
    """Return a manager, its store and its default ``mail``, which failed and would start now."""
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    mail.fail("on_enable")
    manager.enable_defaults("mail")
    mail.fail()
    return manager, store, mail


def test_failed_default_starts_once_when_store_fails() -> None:
    manager, store, mail = failed_default()
    store.fails = {"add"}
    manager.sync(retry_failed=True)
    manager.sync()
    assert mail.hooks == ["on_enable", "on_enable", "on_disable"]


def test_disabled_default_waits_no_longer() -> None:
    manager, store, mail = failed_default()
    store.after["save"] = lambda: store.delete("mail")
    manager.disable_plugin("mail")
    manager.sync(retry_failed=True)
    assert mail.hooks == ["on_enable"]


def test_sync_adds_default_to_given_store() -> None:
    manager, store, _ = failed_default()
    manager.sync(store=(own := stored()), retry_failed=True)
    assert (rows(own), rows(store)) == ({"mail": ("enabled", {})}, {})
