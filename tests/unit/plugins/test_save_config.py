"""save_config and update_config of a manager: check, store, apply."""

from typing import Any

import pytest
from recorder import FailingStore, Recorder, events_of, rows, started

from plugin_store import InvalidConfigError, PluginManager, StoreUnavailableError


def running(**config: Any) -> tuple[PluginManager, FailingStore, Recorder]:
    store = FailingStore()
    manager = started(store, mail := Recorder("mail"), port=25)
    store.save("mail", "enabled", config)
    manager.load_persisted_state()
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
    store.update_config("mail", {"c": 3})
    manager.update_config("mail", {"b": 2}, remove=["a", "absent"])
    assert rows(store) == {"mail": ("enabled", {"b": 2, "c": 3})}
    assert mail._config == {"port": 25, "b": 2, "c": 3}


def test_update_config_removes_keys_before_validation() -> None:
    manager, _, mail = running(a=1, b=1)
    mail.parse = sorted
    manager.update_config("mail", {"c": 1}, remove=["a"])
    assert mail.settings == ["b", "c", "port"]
    checked: list[dict[str, Any]] = []
    mail.parse = checked.append
    manager.update_config("mail", {}, remove=["b"])
    assert all("b" not in config for config in checked)


def test_config_of_disabled_plugin_changes_without_hook() -> None:
    manager, store, mail = running()
    manager.disable_plugin("mail")
    mail.calls.clear()
    manager.save_config("mail", {"a": 1})
    manager.update_config("mail", {"b": 2})
    assert (mail.hooks, mail._config) == ([], {"port": 25, "a": 1, "b": 2})
    assert rows(store) == {"mail": ("disabled", {"a": 1, "b": 2})}


@both
def test_config_makes_disabled_row(change: str) -> None:
    manager = started(None, Recorder("mail"))
    getattr(manager, change)("mail", {"a": 1})
    assert rows(manager.store) == {"mail": ("disabled", {"a": 1})}
    assert not manager.is_enabled("mail")


@both
def test_unchanged_config_announces_nothing(change: str) -> None:
    manager, _, mail = running(a=1)
    events = events_of(manager)
    getattr(manager, change)("mail", {"a": 1})
    assert (mail.hooks, events) == ([], [])


def test_save_config_drops_pending_config() -> None:
    manager, store, mail = running()
    mail.set_config("a", 1)
    manager.save_config("mail", {"b": 2})
    assert mail._config == {"port": 25, "b": 2}
    manager.disable_plugin("mail")
    assert rows(store) == {"mail": ("disabled", {"b": 2})}


def test_update_config_stores_pending_config_along() -> None:
    manager, store, mail = running()
    for key in "abc":
        mail.set_config(key, 1)
    manager.update_config("mail", {"b": 2}, remove=["c"])
    assert rows(store) == {"mail": ("enabled", {"a": 1, "b": 2})}
    assert mail._config == {"port": 25, "a": 1, "b": 2}


@both
@pytest.mark.parametrize("config", [{"when": {1}}, {1: 2}, {"n": float("nan")}, [], None])
def test_unstorable_config_is_refused(change: str, config: Any) -> None:
    manager, store, mail = running(a=1)
    with pytest.raises(InvalidConfigError, match="plugin 'mail': config"):
        getattr(manager, change)("mail", config)
    assert rows(store) == {"mail": ("enabled", {"a": 1})}
    assert mail.hooks == []


@pytest.mark.parametrize("remove", ["a", [1], ["b"], None])
def test_update_config_refuses_keys_to_remove(remove: Any) -> None:
    manager, store, _ = running(a=1, b=1)
    with pytest.raises(InvalidConfigError, match="plugin 'mail'"):
        manager.update_config("mail", {"b": 2}, remove=remove)
    assert rows(store) == {"mail": ("enabled", {"a": 1, "b": 1})}


@both
def test_config_stays_when_store_fails(change: str) -> None:
    manager, store, mail = running(a=1)
    mail.set_config("b", 1)
    store.fails = {"save_config", "update_config"}
    with pytest.raises(StoreUnavailableError):
        getattr(manager, change)("mail", {"a": 2})
    assert (mail._config, mail.hooks) == ({"port": 25, "a": 1, "b": 1}, [])


@both
def test_config_is_one_write(change: str) -> None:
    manager, store, _ = running(a=1)
    getattr(manager, change)("mail", {"a": 2})
    assert [method for method, *_ in store.called if method != "get_by_name"] in (["save_config"], ["update_config"])


def test_config_change_starts_plugin_that_was_refused() -> None:
    manager, store, mail = running()

    def parse(config: dict[str, Any]) -> None:
        if config["port"] == 0:
            raise ValueError("port must not be 0")

    mail.parse = parse
    store.update_config("mail", {"port": 0})
    manager.sync()
    assert not manager.is_enabled("mail")
    manager.update_config("mail", {"port": 26})
    assert manager.is_enabled("mail")
