"""Hooks and stores that fail: each failure has one outcome."""

import logging
from asyncio import CancelledError
from unittest.mock import patch

import pytest
from recorder import FailingStore, Recorder, events_of, raising, restored, rows, started, stored

from plugin_store import PluginManager, PluginStatus, StoreUnavailableError

ERROR, ENABLED, DISABLED = PluginStatus.ERROR, PluginStatus.ENABLED, PluginStatus.DISABLED


class MuteError(ValueError):
    """An exception that cannot say what happened."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


ERRORS: list[type[BaseException]] = [ValueError, MuteError, SystemExit, CancelledError, GeneratorExit]
each_error = pytest.mark.parametrize("error", [*ERRORS, KeyboardInterrupt])
each_but_interrupt = pytest.mark.parametrize("error", ERRORS)
each_hook = pytest.mark.parametrize("hook", ["on_enable", "on_disable", "on_config_changed", "validate_config"])


def running(store: FailingStore | None = None) -> tuple[PluginManager, Recorder, Recorder, list[tuple[str, str]]]:
    """Return a manager, the running plugin ``base``, its running dependent ``child``, and the next events."""
    manager = started(store, base := Recorder("base"), child := Recorder("child", "base"))
    manager.enable_defaults("base", "child")
    base.calls.clear()
    child.calls.clear()
    return manager, base, child, events_of(manager)


def retry(manager: PluginManager, plugin: Recorder) -> None:
    """Enable the plugin again, with working hooks and a working store."""
    plugin.fail()
    if isinstance(manager.store, FailingStore):
        manager.store.fails = set()
        manager.store.before.clear()
    manager.enable_plugin(plugin.metadata.name)
    assert manager.is_enabled(plugin.metadata.name)
    assert plugin.illegal == []


@each_error
@pytest.mark.parametrize("hook", ["on_enable", "on_disable"])
def test_only_disable_plugin_stores_when_hook_raises(hook: str, error: type[BaseException]) -> None:
    manager = started(None, base := Recorder("base"))
    if hook == "on_disable":
        manager.enable_plugin("base")
    events = events_of(manager)
    base.fail(hook, error=error())
    with pytest.raises(error):
        (manager.enable_plugin if hook == "on_enable" else manager.disable_plugin)("base")
    stopped = hook == "on_disable"
    assert (base.status, rows(manager.store)) == (ERROR, {"base": ("disabled", {})} if stopped else {})
    assert events == [("disabled", "base")] * stopped + [("failed", "base")]
    retry(manager, base)


@each_but_interrupt
@pytest.mark.parametrize("stops", [True, False])
def test_plugin_is_stopped_when_on_config_changed_raises(stops: bool, error: type[BaseException]) -> None:
    manager, base, child, events = running()
    base.fail("on_config_changed", *["on_disable"] * (not stops), error=error())
    with pytest.raises(error):
        manager.update_config("base", {"n": 1})
    assert (base.status, base.hooks) == (ERROR, ["on_config_changed", "on_disable"])
    assert (child.status, child.hooks) == (DISABLED, ["on_disable"])
    assert rows(manager.store)["base"] == ("enabled", {"n": 1})
    announced = [("config_changed", "base"), ("disabled", "child"), ("disabled", "base"), ("failed", "base")]
    assert events == announced + [("failed", "base")] * (not stops)
    assert "on_config_changed raised" in manager.last_report.failed["base"]
    assert manager.last_report.skipped == {"child": "Dependency 'base' not enabled"}
    retry(manager, base)
    assert manager.is_enabled("child")


def failing_in_sync(hook: str, error: BaseException) -> tuple[PluginManager, Recorder, Recorder]:
    """Return a manager whose next sync runs the hook of ``bad``, which raises, before it starts ``last``."""
    store = stored(bad="disabled" if hook == "on_enable" else "enabled")
    manager = restored(store, bad := Recorder("bad"), last := Recorder("last"))
    bad.fail(hook, error=error)
    if hook == "validate_config":
        bad.parse = raising(error)
    store.save("bad", "disabled" if hook == "on_disable" else "enabled", {"n": 1})
    store.save("last", "enabled")
    return manager, bad, last


@each_but_interrupt
@each_hook
def test_sync_continues_when_hook_raises(hook: str, error: type[BaseException]) -> None:
    manager, bad, _ = failing_in_sync(hook, error())
    report = manager.sync()
    assert report.restored == ["last"]
    reason = report.skipped["bad"] if hook == "validate_config" else report.failed["bad"]
    assert "plugin 'bad' refuses this config" in reason or f"{hook} raised" in reason
    assert not manager.is_enabled("bad")
    assert bad.illegal == []


@each_hook
def test_sync_passes_interrupt_on(hook: str) -> None:
    manager, bad, last = failing_in_sync(hook, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        manager.sync()
    assert last.hooks == []
    assert (bad.status is ERROR) == (hook != "validate_config")
    bad.fail()
    bad.parse = bool
    manager.sync(retry_failed=True)
    assert (manager.is_enabled("bad"), last.hooks) == (hook != "on_disable", ["on_enable"])
    assert bad.illegal == []


def test_sync_repeats_config_change_after_interrupt(caplog: pytest.LogCaptureFixture) -> None:
    manager, base, _, _ = running()
    caplog.set_level(logging.INFO, "plugin_store")
    with patch.object(caplog.handler, "emit", raising(KeyboardInterrupt())), pytest.raises(KeyboardInterrupt):
        manager.save_config("base", {"port": 25})
    manager.sync()
    assert base.calls == [("base", "on_config_changed", {}, {"port": 25})]


def test_failed_event_has_reason() -> None:
    manager = started(None, mail := Recorder("mail"))
    reasons: list[str] = []
    manager.event_dispatcher.add_listener("plugin.failed", lambda event: reasons.append(event.data["reason"]))
    mail.fail("on_enable", error=MuteError())
    manager.enable_defaults("mail")
    assert reasons[0].startswith("on_enable raised") and "MuteError" in reasons[0]
    assert manager.last_report.failed == {"mail": reasons[0]}


@pytest.mark.parametrize("error", [StoreUnavailableError, SystemExit, KeyboardInterrupt])
def test_enable_plugin_undoes_hook_when_storing_fails(error: type[BaseException]) -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    events = events_of(manager)
    store.before["save"] = raising(error())
    with pytest.raises(error):
        manager.enable_plugin("mail")
    assert (mail.hooks, mail.status, events) == (["on_enable", "on_disable"], PluginStatus.INITIALIZED, [])
    if error is StoreUnavailableError:
        assert "mail" in manager.last_report.skipped
    retry(manager, mail)


def test_disable_plugin_undoes_hook_when_storing_fails() -> None:
    store = FailingStore()
    manager, base, child, events = running(store)
    store.fails = {"save"}
    with pytest.raises(StoreUnavailableError):
        manager.disable_plugin("child")
    assert (child.hooks, child.status, events) == (["on_disable", "on_enable"], ENABLED, [])
    assert (base.hooks, rows(store)["child"][0]) == ([], "enabled")


@pytest.mark.parametrize(
    ("method", "failing", "hooks"),
    [
        ("enable_plugin", "on_disable", ["on_enable", "on_disable"]),
        ("disable_plugin", "on_enable", ["on_disable", "on_enable"]),
        ("disable_plugin", "on_disable", ["on_disable"]),
    ],
)
def test_plugin_is_in_error_when_hook_and_store_fail(method: str, failing: str, hooks: list[str]) -> None:
    manager = started(store := FailingStore(), mail := Recorder("mail"))
    if method == "disable_plugin":
        manager.enable_plugin("mail")
    mail.calls.clear()
    events = events_of(manager)
    store.fails = {"save"}
    mail.fail(failing)
    with pytest.raises(StoreUnavailableError):
        getattr(manager, method)("mail")
    assert (mail.status, mail.hooks) == (ERROR, hooks)
    assert events == [("disabled", "mail")] * (method == "disable_plugin") + [("failed", "mail")]
    retry(manager, mail)
