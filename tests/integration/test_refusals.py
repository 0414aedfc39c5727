"""Configs that a plugin's validate_config refuses: on enabling, restore, sync and import."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from example_plugins import ExamplePlugin, FailingStore, HookError, Listener, started

from plugin_store import (
    InMemoryPluginConfigStore,
    InvalidConfigError,
    PluginConfig,
    PluginConfigRepository,
    PluginManager,
    PluginStatus,
    import_plugins,
)

REASON = "plugin 'mail' refuses this config: port must be a number, not 'x'"


class Mail(ExamplePlugin):
    """Refuses a port that is no number; ``seen`` are the configs that it was asked about."""

    def __init__(self, *needs: str, log: list[str] | None = None) -> None:
        super().__init__("mail", *needs, log=log)
        self.seen: list[dict[str, Any]] = []

    def validate_config(self, config: dict[str, Any]) -> None:
        self.seen.append(config)
        if not isinstance(config["port"], int):
            raise ValueError(f"port must be a number, not {config['port']!r}")


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


@pytest.fixture
def mail() -> Mail:
    return Mail()


@pytest.fixture
def manager(store: FailingStore, mail: Mail) -> PluginManager:
    return started(store, mail, ExamplePlugin("chat"), ExamplePlugin("news", "mail"), port=25)


def test_enabling_is_refused_before_anything_is_done(store: FailingStore, manager: PluginManager, mail: Mail) -> None:
    mail.set_config("port", "x")
    listener = Listener(manager)
    for enable in (manager.enable_plugin, manager.enable_defaults):
        with pytest.raises(InvalidConfigError, match=REASON):
            enable("mail")
    store.save("mail", "disabled", {"port": "x"})
    mail.set_config("port", 1)
    manager.sync()
    mail.set_config("port", "x")
    with pytest.raises(InvalidConfigError, match=REASON):
        manager.enable_plugin("mail")
    assert (mail.log, store.saved[1:]) == ([], [])
    assert not listener.enabled
    mail.set_config("port", 2)
    manager.enable_plugin("mail")
    assert mail.seen[-1] == {"port": 2} and listener.enabled == {"mail"}


def test_it_is_asked_about_defaults_and_references_too(
    store: FailingStore, manager: PluginManager, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_HOST", "smtp.example")
    store.save("mail", "enabled", {"host": {"$env": "TEST_HOST"}})
    manager.load_persisted_state()
    assert mail.seen == [{"port": 25, "host": "smtp.example"}]


def test_a_refused_config_on_restore_disables_only_that_plugin_in_memory(
    store: FailingStore, manager: PluginManager, mail: Mail, caplog: pytest.LogCaptureFixture
) -> None:
    for name, config in (("mail", {"port": "x"}), ("chat", {}), ("news", {})):
        store.save(name, "enabled", config)
    before = store.get_all()
    for report in (manager.load_persisted_state(), manager.sync()):
        assert (report.restored, report.failed) == (["chat"], {})
        assert report.skipped == {"mail": REASON, "news": "Dependency 'mail' not enabled"}
    assert mail.status is PluginStatus.DISABLED and mail.log == []
    assert manager.enable_defaults("mail") == []
    assert store.get_all() == before
    assert caplog.text.count(REASON) == 1

    store.save_config("mail", {"port": 26})
    assert manager.sync().restored == ["chat", "mail", "news"]


def test_a_running_plugin_stops_before_it_is_given_a_config_that_it_refuses(
    store: FailingStore, mail: Mail, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    mail = Mail(log=log)
    news = ExamplePlugin("news", "mail")
    manager = started(store, mail, ExamplePlugin("chat"), news, port=25)
    for name in ("mail", "chat", "news"):
        manager.enable_plugin(name)
    listener = Listener(manager, enabled=["mail", "chat", "news"])
    ports: list[Any] = []
    mail.on = {"on_disable": lambda: ports.append(mail.get_config("port"))}
    store.save_config("mail", {"port": "x"})

    assert manager.sync().skipped == {"mail": REASON, "news": "Dependency 'mail' not enabled"}
    assert (mail.log, mail.changes, ports) == (["on_enable", "on_disable"], [], [25])
    assert listener.events[:2] == [("disabled", "news", "stored"), ("disabled", "mail", "stored")]
    assert listener.enabled == {"chat"}
    assert [row.status for row in store.get_all()] == ["enabled"] * 3

    store.save_config("mail", {"port": 26})
    manager.sync()
    assert listener.enabled == {"mail", "chat", "news"} and mail.get_config("port") == 26


def test_it_is_not_asked_again_about_a_config_that_it_runs_with(
    store: FailingStore, manager: PluginManager, mail: Mail
) -> None:
    manager.enable_plugin("mail")
    mail.seen.clear()
    for _ in range(2):
        manager.sync()
    mail.set_config("port", "x")  # which no one has stored
    manager.sync()
    assert mail.seen == [] and manager.is_enabled("mail")


def test_a_disabled_plugin_is_not_asked(store: FailingStore, manager: PluginManager, mail: Mail) -> None:
    store.save("mail", "disabled", {"port": "x"})
    assert manager.load_persisted_state().skipped == {}
    manager.disable_plugin("mail")
    assert mail.seen == []


def test_disabling_is_never_refused(store: FailingStore, manager: PluginManager, mail: Mail) -> None:
    manager.enable_plugin("mail")
    mail.set_config("port", "x")
    manager.disable_plugin("mail")
    row = store.get_by_name("mail")
    assert row is not None and row.status == "disabled"


def test_a_validate_config_that_is_broken_stops_no_other_plugin(store: FailingStore) -> None:
    class Broken(ExamplePlugin):
        def validate_config(self, config: dict[str, Any]) -> None:
            raise HookError("oh")

    for name in ("broken", "chat"):
        store.save(name, "enabled")
    manager = started(store, Broken("broken"), ExamplePlugin("chat"))
    report = manager.load_persisted_state()
    assert (report.restored, report.skipped) == (["chat"], {"broken": "validate_config raised HookError: oh"})
    with pytest.raises(HookError):
        manager.enable_plugin("broken")


def test_a_validate_config_that_exits_refuses_as_well(store: FailingStore) -> None:
    class Picky(ExamplePlugin):
        def validate_config(self, config: dict[str, Any]) -> None:
            argparse.ArgumentParser("picky", exit_on_error=True).parse_args(["--unknown"])

    manager = started(store, Picky("picky"), ExamplePlugin("chat"))
    reason = "plugin 'picky' refuses this config: validate_config raised SystemExit: 2"
    with pytest.raises(InvalidConfigError, match=reason):
        manager.save_config("picky", {})
    for name in ("picky", "chat"):
        store.save(name, "enabled")
    report = manager.load_persisted_state()
    assert (report.restored, report.skipped) == (["chat"], {"picky": reason})


def test_an_uninitialized_plugin_is_not_asked() -> None:
    store, mail = InMemoryPluginConfigStore(), Mail()
    store.save("mail", "enabled")
    manager = PluginManager(config_repo=store)
    manager.register_plugin(mail)
    assert manager.load_persisted_state().skipped == {"mail": "is not registered and initialized here"}
    with pytest.raises(ValueError, match="Cannot enable"):
        manager.enable_plugin("mail")
    assert mail.seen == []


def test_a_hook_that_enables_another_while_a_refused_one_stops_is_heard(store: FailingStore) -> None:
    mail, chat = Mail(), ExamplePlugin("chat")
    manager = started(store, mail, chat, port=25)
    manager.enable_plugin("mail")
    mail.on["on_disable"] = lambda: manager.enable_plugin("chat")
    store.save_config("mail", {"port": "x"})
    assert manager.sync().restored == ["chat"]
    assert not manager.is_enabled("mail") and manager.is_enabled("chat")


def test_an_import_from_python_can_ask_the_registered_plugins(
    repository: PluginConfigRepository, connection: psycopg.Connection[Any]
) -> None:
    manager = started(repository, Mail(), port=25)

    def importing(*plugins: PluginConfig) -> Callable[[], object]:
        return lambda: import_plugins(connection, plugins, check=manager.check_config)

    with pytest.raises(InvalidConfigError, match=REASON):
        importing(PluginConfig("unknown"), PluginConfig("mail", "enabled", {"port": "x"}))()
    assert repository.get_all() == []
    importing(PluginConfig("unknown"), PluginConfig("mail", "enabled", {"port": 26}))()
    assert manager.sync().restored == ["mail"]
