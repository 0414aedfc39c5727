"""save_config and update_config of a manager: check, store, apply."""

from typing import Any

import pytest
from recorder import FailingStore, Recorder, events_of, restored, rows, started

from plugin_store import InvalidConfigError, PluginManager, StoreUnavailableError


def running(**config: Any) -> tuple[PluginManager, FailingStore, Recorder]:
    store = FailingStore()
    store.save("mail", "enabled", config)
    manager = restored(store, mail := Recorder("mail"), port=25)
    store.called.clear()
    mail.calls.clear()
    return manager, store, mail


both = pytest.mark.parametrize("change", ["save_config", "update_config"])


def test_save_config_replaces_stored_config() -> None:
    manager, store, mail = running(a=1, b=1)
    manager.save_config("mail", {"b": 2})
    assert rows(store) == {"mail": ("enabled", {"b": 2})}
    assert mail.calls == [("mail", "on_config_changed", {"port": 25, "a": 1, "b": 1}, {"port": 25, "b": 2})]
    assert manager.is_enabled("mail")


def test_update_config_sets_and_removes_keys() -> None:
    manager, store, mail = running(a=1, b=1)
    mail.parse = sorted
    store.update_config("mail", {"c": 3})
    manager.update_config("mail", {"b": 2}, remove=["a", "absent"])
    assert rows(store) == {"mail": ("enabled", {"b": 2, "c": 3})}
    assert mail._config == {"port": 25, "b": 2, "c": 3}
    assert mail.settings == ["b", "c", "port"]


def test_update_config_removes_keys_before_validation() -> None:
    manager, _, mail = running(a=1, b=1)
    checked: list[dict[str, Any]] = []
    mail.parse = checked.append
    manager.update_config("mail", {}, remove=["b"])
    assert checked[0] == {"port": 25, "a": 1}


def test_config_of_disabled_plugin_changes_without_hook() -> None:
    manager = started(None, mail := Recorder("mail"))
    manager.save_config("mail", {"a": 1})
    assert rows(manager.store) == {"mail": ("disabled", {"a": 1})}
    manager.update_config("mail", {"b": 2})
    assert (mail.hooks, mail._config, manager.is_enabled("mail")) == ([], {"a": 1, "b": 2}, False)
    manager.store.delete("mail")
    manager.update_config("mail", {"b": 2})
    assert rows(manager.store) == {"mail": ("disabled", {"b": 2})}


@both
def test_unchanged_config_announces_nothing(change: str) -> None:
    manager, _, mail = running(a=1)
    events = events_of(manager)
    getattr(manager, change)("mail", {"a": 1})
    assert (mail.hooks, events) == ([], [])


def test_save_config_drops_pending_config() -> None:
    manager, store, mail = running()
    mail.parse = dict
    mail.set_config("a", 1)
    mail.set_config("b", 2)
    manager.save_config("mail", {"b": 2})
    assert mail._config == mail.settings == {"port": 25, "b": 2}
    manager.disable_plugin("mail")
    assert rows(store) == {"mail": ("disabled", {"b": 2})}


def test_update_config_stores_pending_config_along() -> None:
    manager, store, mail = running()
    mail.parse = dict
    for key in "abc":
        mail.set_config(key, 1)
    manager.update_config("mail", {"b": 2}, remove=["c"])
    assert rows(store) == {"mail": ("enabled", {"a": 1, "b": 2})}
    assert mail._config == mail.settings == {"port": 25, "a": 1, "b": 2}


@both
@pytest.mark.parametrize("config", [{"when": {1}}, []])
def test_unstorable_config_is_refused(change: str, config: Any) -> None:
    manager, store, mail = running(a=1)
    with pytest.raises(InvalidConfigError, match="plugin 'mail': config"):
        getattr(manager, change)("mail", config)
    assert (rows(store), mail.hooks) == ({"mail": ("enabled", {"a": 1})}, [])


@pytest.mark.parametrize("remove", ["a", ["b"]])
def test_update_config_refuses_keys_to_remove(remove: Any) -> None:
    manager, store, _ = running(a=1, b=1)
    with pytest.raises(InvalidConfigError, match="plugin 'mail'"):
        manager.update_config("mail", {"b": 2}, remove=remove)
    assert rows(store) == {"mail": ("enabled", {"a": 1, "b": 1})}


@both
def test_config_is_one_write_and_stays_when_it_fails(change: str) -> None:
    manager, store, mail = running(a=1)
    mail.set_config("b", 1)
    store.fails = {change}
    with pytest.raises(StoreUnavailableError):
        getattr(manager, change)("mail", {"a": 2})
    assert (mail._config, mail.hooks) == ({"port": 25, "a": 1, "b": 1}, [])
    assert [method for method, *_ in store.called if method != "get_by_name"] == [change]


def test_config_change_starts_plugin_that_was_refused() -> None:
    manager, store, mail = running()
    mail.parse = lambda config: 1 / config["port"]
    store.update_config("mail", {"port": 0})
    manager.sync()
    assert not manager.is_enabled("mail")
    manager.update_config("mail", {"port": 26})
    assert manager.is_enabled("mail")
