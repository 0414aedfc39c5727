"""Hooks and stores that fail: each failure has one outcome."""

from asyncio import CancelledError

import pytest
from recorder import FailingStore, Recorder, events_of, raising, rows, started, stored

from plugin_store import InvalidConfigError, PluginManager, PluginStatus, StoreUnavailableError

ERROR, ENABLED, DISABLED = PluginStatus.ERROR, PluginStatus.ENABLED, PluginStatus.DISABLED


class MuteError(ValueError):
    """An exception that cannot say what happened."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


ERRORS: list[type[BaseException]] = [ValueError, MuteError, SystemExit, CancelledError, GeneratorExit]
each_error = pytest.mark.parametrize("error", [*ERRORS, KeyboardInterrupt])
each_but_interrupt = pytest.mark.parametrize("error", ERRORS)


def running(store: FailingStore | None = None) -> tuple[PluginManager, Recorder, Recorder, list[tuple[str, str]]]:
    """Return a manager, the running plugin ``base``, its running dependent ``child``, and the next events."""
    manager = started(store, base := Recorder("base"), child := Recorder("child", "base"))
    manager.enable_defaults("base", "child")
    base.calls.clear()
    child.calls.clear()
    return manager, base, child, events_of(manager)


def fresh(store: FailingStore) -> tuple[PluginManager, Recorder]:
    mail = Recorder("mail")
    return started(store, mail), mail


def retry(manager: PluginManager, base: Recorder) -> None:
    """Enable ``base`` again, with working hooks."""
    base.fail()
    manager.enable_plugin("base")
    assert manager.is_enabled("base")
    assert base.illegal == []


@each_error
def test_enable_plugin_stores_nothing_when_on_enable_raises(error: type[BaseException]) -> None:
    manager = started(None, base := Recorder("base"))
    events = events_of(manager)
    base.fail("on_enable", error=error())
    with pytest.raises(error):
        manager.enable_plugin("base")
    assert (base.status, rows(manager.store), events) == (ERROR, {}, [("failed", "base")])
    retry(manager, base)


@each_error
def test_disable_plugin_stores_when_on_disable_raises(error: type[BaseException]) -> None:
    manager = started(None, base := Recorder("base"))
    manager.enable_plugin("base")
    events = events_of(manager)
    base.fail("on_disable", error=error())
    with pytest.raises(error):
        manager.disable_plugin("base")
    assert (base.status, rows(manager.store)["base"][0]) == (ERROR, "disabled")
    assert events == [("disabled", "base"), ("failed", "base")]
    retry(manager, base)


@each_but_interrupt
def test_plugin_is_stopped_when_on_config_changed_raises(error: type[BaseException]) -> None:
    manager, base, child, events = running()
    base.fail("on_config_changed", error=error())
    with pytest.raises(error):
        manager.update_config("base", {"n": 1})
    assert (base.status, base.hooks) == (ERROR, ["on_config_changed", "on_disable"])
    assert (child.status, child.hooks) == (DISABLED, ["on_disable"])
    assert rows(manager.store)["base"] == ("enabled", {"n": 1})
    assert events == [("config_changed", "base"), ("disabled", "child"), ("disabled", "base"), ("failed", "base")]
    retry(manager, base)
    assert manager.is_enabled("child")


def test_plugin_is_in_error_when_stopping_fails() -> None:
    manager, base, child, _ = running()
    base.fail("on_config_changed", "on_disable")
    with pytest.raises(ValueError, match="base failed"):
        manager.update_config("base", {"n": 1})
    assert (base.status, base.hooks) == (ERROR, ["on_config_changed", "on_disable"])
    assert manager.last_report.failed == {"base": "on_config_changed raised ValueError: base failed"}
    assert manager.last_report.skipped == {"child": "Dependency 'base' not enabled"}
    assert not child.running


@each_but_interrupt
def test_config_is_refused_when_validate_config_raises(error: type[BaseException]) -> None:
    manager, base, _, events = running()
    base.parse = raising(error())
    with pytest.raises(InvalidConfigError, match="plugin 'base' refuses this config"):
        manager.save_config("base", {"n": 1})
    assert (base.status, rows(manager.store)["base"], events) == (ENABLED, ("enabled", {}), [])


@each_but_interrupt
@pytest.mark.parametrize("hook", ["on_enable", "on_disable", "on_config_changed", "validate_config"])
def test_sync_continues_when_hook_raises(hook: str, error: type[BaseException]) -> None:
    store = stored(bad="disabled" if hook == "on_enable" else "enabled", a="disabled", c="disabled")
    manager = started(store, *map(Recorder, "ac"), bad := Recorder("bad"))
    manager.load_persisted_state()
    bad.fail(hook, error=error())
    if hook == "validate_config":
        bad.parse = raising(error())
    store.save("bad", "disabled" if hook == "on_disable" else "enabled", {"n": 1})
    store.save("a", "enabled")
    store.save("c", "enabled")
    report = manager.sync()
    assert report.restored == ["a", "c"]
    reason = report.skipped["bad"] if hook == "validate_config" else report.failed["bad"]
    assert "plugin 'bad' refuses this config" in reason or f"{hook} raised" in reason
    assert not manager.is_enabled("bad")
    assert bad.illegal == []


@pytest.mark.parametrize("hook", ["on_enable", "on_disable", "on_config_changed", "validate_config"])
def test_sync_passes_interrupt_on(hook: str) -> None:
    store = stored(mail="disabled" if hook == "on_enable" else "enabled")
    manager = started(store, mail := Recorder("mail"), other := Recorder("z"))
    manager.load_persisted_state()
    mail.fail(hook, error=KeyboardInterrupt())
    if hook == "validate_config":
        mail.parse = raising(KeyboardInterrupt())
    store.save("mail", "disabled" if hook == "on_disable" else "enabled", {"n": 1})
    store.save("z", "enabled")
    with pytest.raises(KeyboardInterrupt):
        manager.sync()
    assert other.hooks == []
    mail.fail()
    mail.parse = bool
    manager.sync(retry_failed=True)
    assert (manager.is_enabled("mail"), other.hooks) == (hook != "on_disable", ["on_enable"])
    assert mail.illegal == []


def test_failed_event_has_reason() -> None:
    manager = started(None, mail := Recorder("mail"))
    data: list[object] = []
    manager.event_dispatcher.add_listener("plugin.failed", lambda event: data.append(event.data))
    mail.fail("on_enable", error=MuteError())
    with pytest.raises(MuteError):
        manager.enable_plugin("mail")
    (only,) = data
    assert isinstance(only, dict) and only["plugin_name"] == "mail"
    assert only["reason"].startswith("on_enable raised") and "MuteError" in only["reason"]
    assert manager.last_report.failed == {"mail": only["reason"]}


def test_enable_plugin_undoes_hook_when_storing_fails() -> None:
    store = FailingStore()
    manager, mail = fresh(store)
    events = events_of(manager)
    store.fails = {"save"}
    with pytest.raises(StoreUnavailableError):
        manager.enable_plugin("mail")
    assert (mail.hooks, mail.status, events) == (["on_enable", "on_disable"], PluginStatus.INITIALIZED, [])
    assert "mail" in manager.last_report.skipped


def test_disable_plugin_undoes_hook_when_storing_fails() -> None:
    store = FailingStore()
    manager, base, child, events = running(store)
    store.fails = {"save"}
    with pytest.raises(StoreUnavailableError):
        manager.disable_plugin("child")
    assert (child.hooks, child.status, events) == (["on_disable", "on_enable"], ENABLED, [])
    assert (base.hooks, rows(store)["child"][0]) == ([], "enabled")


def test_disable_plugin_fails_when_hook_and_store_fail() -> None:
    store = FailingStore()
    manager, _, child, events = running(store)
    store.fails = {"save"}
    child.fail("on_disable")
    with pytest.raises(StoreUnavailableError):
        manager.disable_plugin("child")
    assert (child.hooks, child.status) == (["on_disable"], ERROR)
    assert events == [("disabled", "child"), ("failed", "child")]
    store.fails = set()
    child.fail()
    assert manager.sync(retry_failed=True).restored == ["base", "child"]


@pytest.mark.parametrize("enable", [True, False])
def test_plugin_is_in_error_when_undoing_fails(enable: bool) -> None:
    store = FailingStore()
    manager, mail = fresh(store)
    if not enable:
        manager.enable_plugin("mail")
    events = events_of(manager)
    store.fails = {"save"}
    mail.fail("on_disable" if enable else "on_enable")
    with pytest.raises(StoreUnavailableError):
        (manager.enable_plugin if enable else manager.disable_plugin)("mail")
    assert mail.status is ERROR
    assert events == [("failed", "mail")] if enable else [("disabled", "mail"), ("failed", "mail")]
    store.fails = set()
    mail.fail()
    manager.enable_plugin("mail")
    assert (manager.is_enabled("mail"), mail.illegal) == (True, [])


def test_error_stays_when_storing_retry_fails() -> None:
    store = FailingStore()
    manager, mail = fresh(store)
    mail.fail("on_enable")
    with pytest.raises(ValueError, match="mail failed"):
        manager.enable_plugin("mail")
    mail.fail()
    store.fails = {"save"}
    for call in (manager.enable_plugin, manager.disable_plugin):
        with pytest.raises(StoreUnavailableError):
            call("mail")
        assert mail.status is ERROR
    assert mail.hooks == ["on_enable", "on_enable", "on_disable"]


@pytest.mark.parametrize("error", [OSError, SystemExit, KeyboardInterrupt])
def test_enable_plugin_undoes_hook_whatever_store_raises(error: type[BaseException]) -> None:
    store = FailingStore()
    manager, mail = fresh(store)
    store.before["save"] = raising(error())
    with pytest.raises(error):
        manager.enable_plugin("mail")
    assert (mail.hooks, mail.status) == (["on_enable", "on_disable"], PluginStatus.INITIALIZED)
    store.before.clear()
    manager.enable_plugin("mail")
    assert manager.is_enabled("mail")
