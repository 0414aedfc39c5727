"""References in place of secrets: what they stand for, and that nothing else tells it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from example_plugins import EVENTS, ExamplePlugin, FailingStore, Listener, started

from plugin_store import (
    Event,
    InMemoryPluginConfigStore,
    InvalidConfigError,
    PluginMetadata,
    PluginStatus,
    PluginStoreError,
    UnresolvedReferenceError,
    dump_plugins,
)

SECRET = "sk_live_51H8x\nd"
KEY = {"$env": "TEST_KEY"}


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", SECRET)
    monkeypatch.delenv("TEST_NONE", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_bytes(b"pa\r\n\xc3\xa9\n\n")
    return file


class Keyed(ExamplePlugin):
    """A plugin with a secret key."""

    def __init__(self, name: str = "pay") -> None:
        super().__init__(name)
        self.metadata.secret_keys = ("api_key",)


def refusing(error: Callable[[dict[str, Any]], Exception]) -> type[ExamplePlugin]:
    """A plugin that refuses each config with an error made of it."""

    class Refusing(ExamplePlugin):
        def validate_config(self, config: dict[str, Any]) -> None:
            raise error(config)

    return Refusing


# -- what a plugin gets -------------------------------------------------------------------------------


def test_get_config_gives_what_references_stand_for_at_any_depth_and_each_time_anew(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = ExamplePlugin()
    nested = {"list": [1, KEY, {"deep": {"$file": str(file)}}]}
    plugin.initialize({"key": KEY, "nested": nested})
    assert plugin.get_config("key") == SECRET
    assert plugin.get_config("nested") == {"list": [1, SECRET, {"deep": "pa\r\né\n"}]}
    assert plugin._config == {"key": KEY, "nested": nested}
    monkeypatch.setenv("TEST_KEY", "")
    file.write_text("new")
    assert plugin.get_config("key") == ""
    assert plugin.get_config("nested")["list"][2] == {"deep": "new"}
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(UnresolvedReferenceError, match=r"'analytics': config\.key needs .* 'TEST_KEY'"):
        plugin.get_config("key")


def test_a_value_without_references_is_itself() -> None:
    plugin = ExamplePlugin()
    plugin.initialize({"list": [{"$other": 1}], "env": {"ENV": "TEST_KEY"}})
    for key in ("list", "env"):
        assert plugin.get_config(key) is plugin._config[key]
    assert plugin.get_config("none", default := ["x"]) is default


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ({"$env": "TEST_NONE"}, "needs the environment variable 'TEST_NONE': set it where"),
        ({"$env": "\ud800"}, r"needs '\ud800', which is not text in UTF-8"),
        ({"$file": "/nonexistent/file"}, "needs the file '/nonexistent/file', which cannot be read: No such file"),
        ({"$file": "/"}, "needs the file '/', which cannot be read: it is no regular file"),
        ({"$env": 5}, 'is no reference: that is {"$env": "NAME"} or {"$file": "PATH"}, and nothing beside it'),
        ({"$env": "TEST_KEY", "default": ""}, "is no reference"),
        ({"$env": "TEST_KEY", "$file": "/"}, "is no reference"),
    ],
)
def test_what_cannot_be_resolved_is_refused_at_enabling_and_saving(reference: Any, problem: str) -> None:
    store, plugin = FailingStore(), ExamplePlugin("pay")
    manager = started(store, plugin)
    listener = Listener(manager)
    plugin.set_config("list", [{"key": reference}])
    with pytest.raises(UnresolvedReferenceError) as raised:
        manager.enable_plugin("pay")
    assert str(raised.value).startswith(f"plugin 'pay': config.list[0].key {problem}")
    assert (plugin.log, listener.events, store.saved) == ([], [], [])
    assert plugin.status is PluginStatus.INITIALIZED
    for save in (manager.save_config, manager.update_config):
        with pytest.raises(PluginStoreError, match=r"config\.key"):
            save("pay", {"key": reference})
    assert store.saved == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_a_file_that_its_reader_would_wait_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    plugin = ExamplePlugin()
    opened: list[int] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *given: opened.append(real(*given)) or opened[-1])
    for path in (tmp_path / "fifo", os.devnull):
        plugin.initialize({"key": {"$file": str(path)}})
        with pytest.raises(UnresolvedReferenceError, match="cannot be read: it is no regular file"):
            plugin.get_config("key")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(opened.pop())


def test_a_file_that_is_not_utf_8_is_refused_without_a_trace_of_what_is_in_it(file: Path) -> None:
    file.write_bytes(b"secret \xff")
    plugin = ExamplePlugin()
    plugin.initialize({"key": {"$file": str(file)}})
    with pytest.raises(UnresolvedReferenceError, match="is not text in UTF-8") as raised:
        plugin.get_config("key")
    assert raised.value.__cause__ is None and raised.value.__context__ is None


# -- restore and sync ---------------------------------------------------------------------------------


def test_on_restore_such_a_plugin_is_not_enabled_and_comes_back_when_it_can(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, pay, shop, mail = InMemoryPluginConfigStore(), Keyed(), ExamplePlugin("shop", "pay"), ExamplePlugin("mail")
    for name, config in (("pay", {"api_key": {"$env": "TEST_NONE"}}), ("shop", {}), ("mail", {})):
        store.save(name, "enabled", config)
    manager = started(store, pay, shop, mail)
    for report in (manager.load_persisted_state(), manager.sync()):
        assert report.restored == ["mail"]
        assert report.skipped["pay"].startswith(
            "plugin 'pay': config.api_key needs the environment variable 'TEST_NONE'"
        )
        assert report.skipped["shop"] == "Dependency 'pay' not enabled"
    assert pay.status is PluginStatus.DISABLED and pay.log == []
    assert manager.enable_defaults("pay") == []
    assert [record.getMessage()[:30] for record in caplog.records] == [
        "plugin 'pay' is not enabled: p",
        "plugin 'shop' is not enabled: ",
    ]
    row = store.get_by_name("pay")
    assert row is not None and row.status == "enabled"

    monkeypatch.setenv("TEST_NONE", "x")
    assert manager.sync().restored == ["mail", "pay", "shop"]
    assert pay.get_config("api_key") == "x"


def test_a_plugin_that_comes_back_with_its_dependency_needs_its_references_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = InMemoryPluginConfigStore()
    store.save("base", "enabled")
    store.save("pay", "enabled", {"api_key": KEY})
    manager = started(store, ExamplePlugin("base"), ExamplePlugin("pay", "base"))
    assert manager.load_persisted_state().restored == ["base", "pay"]
    store.save("base", "disabled")
    manager.sync()
    monkeypatch.delenv("TEST_KEY")
    store.save("base", "enabled")
    report = manager.sync()
    assert (report.restored, list(report.skipped)) == (["base"], ["pay"])


# -- secret keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [SECRET, 5, False, "", {"a": SECRET}, ["x"], [KEY, "x"], KEY | {"x": "y"}, {"$env": 5}]
)
def test_a_plain_value_under_a_secret_key_is_not_stored(value: Any) -> None:
    store, plugin = FailingStore(), Keyed()
    manager = started(store, plugin)
    cure = r"'pay': config\.api_key is secret, .* store \{\"\$env\": \"NAME\"\} or \{\"\$file\": \"PATH\"\}"
    for save in (manager.save_config, manager.update_config, manager.check_config):
        with pytest.raises(InvalidConfigError, match=cure) as raised:
            save("pay", {"api_key": value})
        assert "sk_live" not in str(raised.value)
    plugin.set_config("api_key", value)
    for enable in (manager.enable_plugin, manager.enable_defaults):
        with pytest.raises(PluginStoreError, match=f"{cure}|is no reference"):
            enable("pay")
    assert (plugin.log, store.saved) == ([], [])


@pytest.mark.parametrize("value", [KEY, None, [], {}, [KEY, None], {"old": KEY}])
def test_references_and_nothing_are_stored_under_a_secret_key(value: Any) -> None:
    store = InMemoryPluginConfigStore()
    manager = started(store, Keyed())
    manager.save_config("pay", {"api_key": value, "other": "plain"})
    manager.enable_plugin("pay")
    assert store.get_by_name("pay").config == {"api_key": value, "other": "plain"}


@pytest.mark.parametrize("known", [False, True])
def test_a_plain_value_that_on_enable_sets_undoes_the_enabling(known: bool) -> None:
    store, plugin = FailingStore(), Keyed()
    if known:
        store.save("pay", "disabled", {})
    manager = started(store, plugin)
    plugin.on["on_enable"] = lambda: plugin.set_config("api_key", SECRET)
    with pytest.raises(InvalidConfigError, match="is secret"):
        manager.enable_plugin("pay") if known else manager.enable_defaults("pay")
    assert plugin.log == ["on_enable", "on_disable"]
    assert store.get_by_name("pay").config == {}


def test_a_plain_value_does_not_hold_the_brake_and_is_not_stored(caplog: pytest.LogCaptureFixture) -> None:
    store, plugin = InMemoryPluginConfigStore(), Keyed()
    manager = started(store, plugin)
    manager.enable_plugin("pay")
    plugin.set_config("api_key", SECRET)
    manager.disable_plugin("pay")
    row = store.get_by_name("pay")
    assert row is not None and (row.status, row.config) == ("disabled", {})
    assert "is secret" in caplog.text and "sk_live" not in caplog.text


def test_a_row_that_has_a_plain_value_already_is_not_refused() -> None:
    store, plugin = InMemoryPluginConfigStore(), Keyed()
    store.save("pay", "enabled", {"api_key": "old"})
    manager = started(store, plugin)
    assert manager.load_persisted_state().restored == ["pay"]
    manager.disable_plugin("pay")
    manager.enable_plugin("pay")
    manager.update_config("pay", {"other": 1})
    assert store.get_by_name("pay").config == {"api_key": "old", "other": 1}


def test_one_secret_key_may_be_given_as_a_str() -> None:
    assert PluginMetadata("a", "1", "b", "c", secret_keys="api_key").secret_keys == ("api_key",)
    assert PluginMetadata("a", "1", "b", "c").secret_keys == ()


# -- nothing tells ------------------------------------------------------------------------------------


def test_no_row_export_event_or_log_line_has_the_secret(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    store, plugin, events = InMemoryPluginConfigStore(), Keyed(), list[Event]()
    used: list[str] = []
    plugin.on = {"on_enable": lambda: used.append(plugin.get_config("api_key"))}
    manager = started(store, plugin, api_key=KEY)
    for name in EVENTS:
        manager.event_dispatcher.add_listener(f"plugin.{name}", events.append)
    manager.enable_plugin("pay")
    manager.save_config("pay", {"api_key": KEY, "n": 1})
    manager.update_config("pay", {"n": 2})
    manager.disable_plugin("pay")
    manager.enable_plugin("pay")
    monkeypatch.delenv("TEST_KEY")
    store.update_config("pay", {"n": 3})
    manager.sync()
    assert used == [SECRET, SECRET]
    told = dump_plugins(store.get_all()) + repr([store.get_all(), events, plugin.changes]) + caplog.text
    assert "$env" in told and "sk_" not in told


def test_no_event_has_a_value_of_a_secret_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store, plugin, events = InMemoryPluginConfigStore(), Keyed(), list[Event]()
    manager = started(store, plugin, api_key="plain")
    manager.event_dispatcher.add_listener("plugin.config_changed", events.append)
    store.save("pay", "enabled", {"api_key": {"a": ["plain"]}, "n": 1})
    manager.sync()
    store.save("pay", "enabled", {"api_key": KEY, "n": 1})
    manager.sync()
    assert [(event.data["before"], event.data["after"]) for event in events] == [
        ({"api_key": "***"}, {"api_key": "***", "n": 1}),
        ({"api_key": "***", "n": 1}, {"api_key": KEY, "n": 1}),
    ]
    assert "plain" not in caplog.text


@pytest.mark.parametrize("quoted", [repr, json.dumps])
@pytest.mark.parametrize("secret", ["p\\x\\y\\z", "\n\t\n\t", "\x1b\a\x1b\a", "äöüß"])
def test_a_secret_is_known_when_it_is_quoted(
    secret: str, quoted: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", secret)
    manager = started(None, refusing(lambda config: ValueError(f"bad: {quoted(config['key'])}"))("pay"))
    with pytest.raises(InvalidConfigError, match="not repeated"):
        manager.save_config("pay", {"key": KEY})


MESSAGES: list[Callable[[str], str]] = [
    lambda secret: f"{secret!r} is too short",
    lambda secret: f"input_value={secret[:6]}...",
    lambda secret: secret,
]


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("kind", [ValueError, KeyError])
def test_a_refusal_that_would_show_a_secret_is_not_repeated(
    message: Callable[[str], str], kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    store = InMemoryPluginConfigStore()
    manager = started(store, refusing(lambda config: kind(message(config.get("key", ""))))("pay"))
    with pytest.raises(InvalidConfigError, match=f"'pay' refuses this config: .* raised {kind.__name__}") as raised:
        manager.save_config("pay", {"key": KEY})
    assert raised.value.__cause__ is None and raised.value.__context__ is None
    store.save("pay", "enabled", {"key": KEY})
    report = manager.load_persisted_state()
    assert "sk_" not in str(raised.value) + repr(report) + caplog.text
    assert report.skipped["pay"] == str(raised.value)


def chained(config: dict[str, Any]) -> Exception:
    error = ValueError("bad")
    error.__cause__ = KeyError(config["key"])
    error.__context__ = error.__cause__
    return error


def noted(config: dict[str, Any]) -> Exception:
    error = ValueError("bad")
    error.__notes__ = [config["key"]]  # type: ignore[attr-defined]  # from 3.11 on add_note does this
    return error


class GroupError(ValueError):
    """As an ExceptionGroup, from 3.11 on."""

    exceptions: tuple[Exception, ...] = ()


def grouped(config: dict[str, Any]) -> Exception:
    error = GroupError("bad")
    error.exceptions = (KeyError(config["key"]),)
    return error


@pytest.mark.parametrize("error", [chained, noted, grouped])
def test_an_error_that_is_chained_noted_or_grouped_shows_a_secret_too(
    error: Callable[[dict[str, Any]], Exception],
) -> None:
    manager = started(None, refusing(error)("pay"))
    with pytest.raises(InvalidConfigError, match="not repeated") as raised:
        manager.save_config("pay", {"key": KEY})
    assert raised.value.__cause__ is None and raised.value.__context__ is None


@pytest.mark.parametrize(("secret", "shown"), [("", True), ("ab", False), ("port is 0", False), ("xyz", True)])
def test_a_refusal_that_shows_no_secret_is_repeated(secret: str, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", secret)
    manager = started(None, refusing(lambda config: ValueError("the port is 0, about"))("pay"))
    with pytest.raises(InvalidConfigError, match="refuses") as raised:
        manager.save_config("pay", {"key": KEY})
    assert ("the port is 0" in str(raised.value)) is shown
