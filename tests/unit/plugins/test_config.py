"""A plugin's config: defaults, then stored, then pending, merged by top-level key."""

from contextlib import nullcontext
from typing import Any

import pytest
from recorder import FailingStore, Recorder, events_of, restored, rows, started

from plugin_store import InvalidConfigError, PluginManager, PluginStatus, StoreUnavailableError


def running(config: dict[str, Any] | None = None, **defaults: Any) -> tuple[PluginManager, FailingStore, Recorder]:
    """Return a manager whose plugin ``mail`` runs with this stored config, its store and the plugin."""
    store, mail = FailingStore(), Recorder("mail")
    store.save("mail", "enabled", config or {})
    manager = restored(store, mail, **defaults)
    store.called.clear()
    mail.calls.clear()
    return manager, store, mail


def refuse_port_0(config: dict[str, Any]) -> Any:
    if config.get("port") == 0:
        raise ValueError("port must not be 0")
    return ("parsed", config.get("port"))


def test_config_merges_three_layers_by_top_level_key() -> None:
    _, _, mail = running({"b": 2, "c": 2, "tls": {"on": True}}, a=1, b=1, c=1, tls={"on": False, "ca": "x"})
    mail.set_config("c", 3)
    assert mail._config == {"a": 1, "b": 2, "c": 3, "tls": {"on": True}}
    assert [mail.get_config(key, 7) for key in ("a", "b", "c", "tls", "absent")] == [1, 2, 3, {"on": True}, 7]
    assert mail.get_config("absent") is None


def test_config_shares_nothing_with_its_users() -> None:
    hosts = ["a"]
    manager, store, mail = running({"tls": {"ca": ["x"]}}, default={"hosts": hosts})
    mail.set_config("hosts", hosts)
    hosts.append("b")
    mail.get_config("hosts").append("c")
    mail.get_config("tls")["ca"].append("y")
    before = mail._config
    before["tls"] = None
    mail.set_config("m", 1)
    assert "m" not in before
    manager.update_config("mail", {"n": 1}, remove=["m"])
    assert rows(store)["mail"][1] == {"hosts": ["a"], "tls": {"ca": ["x"]}, "n": 1}
    assert mail._config == {"default": {"hosts": ["a"]}, **rows(store)["mail"][1]}
    assert "n" not in before


def test_defaults_are_never_stored() -> None:
    manager = started(None, mail := Recorder("mail"), password="sesame", port=25)
    manager.enable_plugin("mail")
    manager.disable_plugin("mail")
    manager.save_config("mail", {"port": 587})
    manager.update_config("mail", {"tls": True}, remove=["port"])
    manager.enable_defaults("mail")
    assert rows(manager.store) == {"mail": ("disabled", {"tls": True})}
    assert mail._config == {"password": "sesame", "port": 25, "tls": True}


def test_new_default_holds_after_release() -> None:
    manager = started(None, Recorder("mail"), interval=5, legacy=True)
    manager.enable_defaults("mail")
    restored(manager.store, new := Recorder("mail"), interval=10)
    assert (new.status, new._config) == (PluginStatus.ENABLED, {"interval": 10})


@pytest.mark.parametrize("method", ["enable_plugin", "disable_plugin"])
def test_pending_config_is_stored_with_status(method: str) -> None:
    manager, store, mail = running({"a": 1})
    mail.set_config("b", 2)
    store.update_config("mail", {"b": 3, "c": 3})
    manager.sync()
    assert mail._config == {"a": 1, "b": 2, "c": 3}
    getattr(manager, method)("mail")
    assert rows(store)["mail"][1] == mail._config == {"a": 1, "b": 2, "c": 3}


def test_pending_config_stays_pending_when_store_fails() -> None:
    manager, store, mail = running()
    mail.set_config("a", 1)
    store.fails = {"save"}
    with pytest.raises(Exception, match="database is away"):
        manager.enable_plugin("mail")
    store.fails = set()
    assert mail._config == {"a": 1}
    manager.disable_plugin("mail")
    assert rows(store) == {"mail": ("disabled", {"a": 1})}


def test_hook_may_set_config() -> None:
    manager = started(None, mail := Recorder("mail"))
    mail.then = {
        "on_enable": lambda: mail.set_config("state", ["on"]),
        "on_disable": lambda: mail.set_config("state", [*mail.get_config("state"), "off"]),
    }
    manager.enable_plugin("mail")
    assert rows(manager.store) == {"mail": ("enabled", {"state": ["on"]})}
    manager.disable_plugin("mail")
    assert rows(manager.store) == {"mail": ("disabled", {"state": ["on", "off"]})}
    mail.then = {"on_enable": lambda: mail.set_config("state", {1})}
    with pytest.raises(InvalidConfigError, match="is a set"):
        manager.enable_plugin("mail")
    assert not manager.is_enabled("mail")


def test_key_set_while_storing_stays_pending() -> None:
    manager, store, mail = running()
    mail.set_config("n", 1)
    store.after["save"] = lambda: mail.set_config("n", 2)
    manager.enable_plugin("mail")
    store.after.clear()
    assert (mail.get_config("n"), rows(store)["mail"][1]) == (2, {"n": 1})
    manager.enable_plugin("mail")
    assert rows(store)["mail"][1] == {"n": 2}


def test_enable_keeps_config_stored_by_others_meanwhile() -> None:
    manager = restored(None, mail := Recorder("mail"), port=25)
    mail.then["on_enable"] = lambda: manager.store.save_config("mail", {"host": "a"})
    manager.enable_plugin("mail")
    assert rows(manager.store) == {"mail": ("enabled", {"host": "a"})}
    manager.sync()
    assert mail._config == {"port": 25, "host": "a"}


def test_settings_follow_each_way_of_config() -> None:
    manager = started(None, mail := Recorder("mail"), a=0)
    assert mail.settings is None
    mail.parse = dict
    manager.enable_plugin("mail")
    assert mail.settings == {"a": 0}
    manager.save_config("mail", {"a": 1})
    assert mail.settings == {"a": 1}
    manager.update_config("mail", {"b": 2})
    assert mail.settings == {"a": 1, "b": 2}
    manager.store.save_config("mail", {"c": 3})
    manager.sync()
    assert mail.settings == {"a": 0, "c": 3}
    mail.set_config("c", 4)
    manager.enable_plugin("mail")
    assert mail.settings == {"a": 0, "c": 4}
    manager.disable_plugin("mail")
    manager.initialize_plugin("mail", {"a": 9})
    manager.enable_plugin("mail")
    assert mail.settings == {"a": 9, "c": 4}


def test_validate_config_sees_merged_resolved_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t0ken")
    manager = started(None, mail := Recorder("mail"), port=25)
    manager.store.save_config("mail", {"token": {"$env": "TOKEN"}, "list": [{"$env": "TOKEN"}]})
    mail.set_config("n", 1)
    seen: list[dict[str, Any]] = []
    mail.parse = seen.append
    manager.enable_plugin("mail")
    manager.sync(retry_failed=True)  # nothing has changed, so it asks no second time
    assert seen == [{"port": 25, "token": "t0ken", "list": ["t0ken"], "n": 1}]


def test_hooks_may_change_their_arguments() -> None:
    class Greedy(Recorder):
        def validate_config(self, config: dict[str, Any]) -> None:
            config.get("hosts", []).append(config.pop("port"))

        def on_config_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
            new["hosts"].append(old.pop("port"))

    manager = started(None, mail := Greedy("mail"), port=25)
    manager.enable_plugin("mail")
    manager.save_config("mail", {"hosts": ["a"]})
    assert mail._config == {"port": 25, "hosts": ["a"]}
    assert rows(manager.store)["mail"][1] == {"hosts": ["a"]}


@pytest.mark.parametrize("method", ["save_config", "update_config", "check_config"])
def test_refused_config_is_not_stored(method: str) -> None:
    manager, store, mail = running({"port": 25})
    mail.parse = refuse_port_0
    with pytest.raises(InvalidConfigError, match="plugin 'mail' refuses this config: port must not be 0"):
        getattr(manager, method)("mail", {"port": 0})
    assert rows(store) == {"mail": ("enabled", {"port": 25})}
    assert (mail._config, mail.hooks) == ({"port": 25}, [])
    manager.check_config("absent", {"port": 0})


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("call", ["sync", "enable_plugin", "enable_defaults"])
def test_plugin_does_not_run_when_config_is_refused(call: str, runs: bool) -> None:
    manager = started(None, mail := Recorder("mail"), port=0)
    mail.parse = refuse_port_0
    if runs:
        manager.update_config("mail", {"port": 25})
        manager.enable_plugin("mail")
        manager.store.update_config("mail", {}, remove=["port"])
    elif call == "sync":
        manager.store.save("mail", "enabled")
    with pytest.raises(InvalidConfigError, match="port must not be 0") if call == "enable_plugin" else nullcontext():
        getattr(manager, call)(*["mail"] * (call != "sync"))
    assert mail.hooks == ["on_enable", "on_disable"] * runs
    assert "port must not be 0" in manager.last_report.skipped["mail"]
    manager.store.save("mail", "enabled", {"port": 26})
    assert manager.sync().restored == ["mail"]
    assert mail.settings == ("parsed", 26)


@pytest.mark.parametrize(("key", "value"), [("port", 0), ("when", {1, 2})])
def test_bad_pending_config_refuses_enable_only(key: str, value: Any) -> None:
    manager, store, mail = running({"port": 25})
    mail.parse = refuse_port_0
    mail.set_config(key, value)
    with pytest.raises(InvalidConfigError, match=r"port must not be 0|'mail': config\.when is a set"):
        manager.enable_plugin("mail")
    manager.disable_plugin("mail")
    assert rows(store)["mail"][0] == "disabled"
    assert "when" not in rows(store)["mail"][1]


# -- save_config and update_config ------------------------------------------------------------------

both = pytest.mark.parametrize("change", ["save_config", "update_config"])


def test_save_config_replaces_stored_config() -> None:
    manager, store, mail = running({"a": 1, "b": 1}, port=25)
    manager.save_config("mail", {"b": 2})
    assert rows(store) == {"mail": ("enabled", {"b": 2})}
    assert mail.calls == [("mail", "on_config_changed", {"port": 25, "a": 1, "b": 1}, {"port": 25, "b": 2})]
    assert manager.is_enabled("mail")


def test_update_config_sets_and_removes_keys() -> None:
    manager, store, mail = running({"a": 1, "b": 1}, port=25)
    checked: list[Any] = []
    mail.parse = lambda config: checked.append(config) or sorted(config)
    store.update_config("mail", {"c": 3})
    manager.update_config("mail", {"b": 2}, remove=["a", "absent"])
    assert rows(store) == {"mail": ("enabled", {"b": 2, "c": 3})}
    assert mail._config == checked[0] == {"port": 25, "b": 2, "c": 3}
    assert mail.settings == ["b", "c", "port"]


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
    manager, _, mail = running({"a": 1}, port=25)
    events = events_of(manager)
    getattr(manager, change)("mail", {"a": 1})
    assert (mail.hooks, events) == ([], [])


def test_save_config_drops_pending_config() -> None:
    manager, store, mail = running(port=25)
    mail.parse = dict
    mail.set_config("a", 1)
    mail.set_config("b", 2)
    manager.save_config("mail", {"b": 2})
    assert mail._config == mail.settings == {"port": 25, "b": 2}
    manager.disable_plugin("mail")
    assert rows(store) == {"mail": ("disabled", {"b": 2})}


def test_update_config_stores_pending_config_along() -> None:
    manager, store, mail = running(port=25)
    mail.parse = dict
    for key in "abc":
        mail.set_config(key, 1)
    manager.update_config("mail", {"b": 2}, remove=["c"])
    assert rows(store) == {"mail": ("enabled", {"a": 1, "b": 2})}
    assert mail._config == mail.settings == {"port": 25, "a": 1, "b": 2}


@pytest.mark.parametrize(
    ("method", "config", "options"),
    [
        ("save_config", {"when": {1}}, {}),
        ("update_config", [], {}),
        ("update_config", {"b": 2}, {"remove": "a"}),
        ("update_config", {"b": 2}, {"remove": ["b"]}),
    ],
)
def test_unstorable_config_is_refused(method: str, config: Any, options: Any) -> None:
    manager, store, mail = running({"a": 1, "b": 1})
    with pytest.raises(InvalidConfigError, match="plugin 'mail'"):
        getattr(manager, method)("mail", config, **options)
    assert (rows(store), mail.hooks) == ({"mail": ("enabled", {"a": 1, "b": 1})}, [])


@both
def test_config_is_one_write_and_stays_when_it_fails(change: str) -> None:
    manager, store, mail = running({"a": 1}, port=25)
    mail.set_config("b", 1)
    store.fails = {change}
    with pytest.raises(StoreUnavailableError):
        getattr(manager, change)("mail", {"a": 2})
    assert (mail._config, mail.hooks) == ({"port": 25, "a": 1, "b": 1}, [])
    assert [method for method, *_ in store.called if not method.startswith("get_")] == [change]


@pytest.mark.parametrize("change", [{"changes": {"k": 5}}, {"changes": {}, "remove": ["k"]}])
def test_update_config_supersedes_unstorable_pending_value(change: dict[str, Any]) -> None:
    manager, store, mail = running()
    mail.set_config("k", {1, 2})
    manager.update_config("mail", **change)
    assert mail._config == rows(store)["mail"][1] == change["changes"]


def test_enable_refuses_config_that_on_enable_sets() -> None:
    manager = restored(None, mail := Recorder("mail"))
    mail.then["on_enable"] = lambda: mail.set_config("port", 0)
    mail.parse = lambda config: 1 / config["port"] if config else None
    with pytest.raises(InvalidConfigError, match="refuses this config"):
        manager.enable_plugin("mail")
    mail.set_config("port", 1)
    assert manager.enable_defaults("mail") == []
    assert (mail.hooks, rows(manager.store)) == (["on_enable", "on_disable"] * 2, {})
    mail.parse = lambda config: [*config.values()]
    mail.set_config("port", 1)
    mail.then["on_enable"] = lambda: mail.set_config("port", True)  # equal in Python, but not in JSON
    manager.enable_plugin("mail")
    assert str((rows(manager.store)["mail"][1], mail.settings)) == "({'port': True}, [True])"


def test_disable_does_not_store_refused_pending_config(caplog: pytest.LogCaptureFixture) -> None:
    manager, store, mail = running({"port": 25})
    mail.parse = lambda config: 1 / config["port"]
    mail.set_config("port", 0)
    manager.disable_plugin("mail")
    assert rows(store) == {"mail": ("disabled", {"port": 25})}
    assert "its pending config is not stored: plugin 'mail' refuses this config" in caplog.text


def test_default_that_json_lacks_is_no_change() -> None:
    manager, _, mail = running(limit=float("nan"))
    manager.enable_plugin("mail")
    assert mail.hooks == []
