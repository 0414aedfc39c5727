"""``flask plugins`` in this process: it changes rows, and leaves the hooks to the services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from plugin_store import (
    BasePlugin,
    InMemoryPluginConfigStore,
    PluginConfig,
    PluginManager,
    PluginMetadata,
    PluginStatus,
    StoreUnavailableError,
)
from plugin_store.flask import init_app, plugins


class Plugin(BasePlugin):
    """A plugin that notes its hooks. It refuses a config whose port is text, and needs the secret it refers to."""

    def __init__(self, name: str, *needs: str) -> None:
        super().__init__()
        self._metadata = PluginMetadata(name, "1.0.0", "tests", "for tests", list(needs), secret_keys=("token",))
        self.ran: list[str] = []

    @property
    def metadata(self) -> PluginMetadata:
        return self._metadata

    def on_enable(self) -> None:
        self.ran.append("on_enable")

    def on_disable(self) -> None:
        self.ran.append("on_disable")

    def on_config_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self.ran.append("on_config_changed")

    def validate_config(self, config: dict[str, Any]) -> None:
        if isinstance(config.get("port"), str):
            raise ValueError("port must be a number")


class Service:
    """An app as its factory makes it, with the plugins mail, chat (which needs mail) and calendar."""

    def __init__(self, store: InMemoryPluginConfigStore | None = None, config: dict[str, Any] | None = None) -> None:
        self.store = InMemoryPluginConfigStore() if store is None else store
        self.plugins = [Plugin("mail"), Plugin("chat", "mail"), Plugin("calendar")]
        self.manager = PluginManager(config_repo=self.store)
        for plugin in self.plugins:
            self.manager.register_plugin(plugin)
            self.manager.initialize_plugin(plugin.metadata.name, config)
        self.manager.load_persisted_state()
        self.app = Flask("service")
        init_app(self.app, self.manager)

    def run(self, *arguments: str) -> Result:
        return self.app.test_cli_runner().invoke(args=["plugins", *arguments])

    def done(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def refused(self, *arguments: str) -> str:
        """Return the error of a command that changes no row and says why in one line."""
        before = self.rows()
        result = self.run(*arguments)
        assert (result.exit_code, result.stdout, self.rows()) == (1, "", before)
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
        return result.stderr

    def rows(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {row.plugin_name: (row.status, row.config) for row in self.store.get_all()}


@pytest.fixture
def service() -> Service:
    return Service()


def test_list_shows_rows_else_the_process(service: Service) -> None:
    service.store.save("mail", "enabled")
    service.store.save("chat", "disabled")
    assert service.done("list") == ("mail (1.0.0) — ENABLED\nchat (1.0.0) — DISABLED\ncalendar (1.0.0) — INITIALIZED\n")


def test_switched_plugin_is_listed_with_its_status(service: Service) -> None:
    assert service.done("enable", "mail") == "mail (1.0.0) — ENABLED\n"
    assert service.done("list").startswith("mail (1.0.0) — ENABLED\n")
    assert service.done("disable", "mail") == "mail (1.0.0) — DISABLED\n"
    assert service.done("list").startswith("mail (1.0.0) — DISABLED\n")


def test_commands_run_no_hook() -> None:
    service = Service()
    service.manager.enable_plugin("mail")
    service.plugins[0].ran.clear()
    service.done("config", "set", "mail", "port", "25")
    service.done("disable", "mail")
    service.done("enable", "mail", "calendar")
    assert [plugin.ran for plugin in service.plugins] == [[], [], []]
    assert service.plugins[2].status is PluginStatus.INITIALIZED


def test_enable_keeps_the_stored_config(service: Service) -> None:
    service.store.save("mail", "disabled", {"port": 2525})
    service.done("enable", "mail")
    assert service.rows() == {"mail": ("enabled", {"port": 2525})}


def test_enable_stores_no_default() -> None:
    service = Service(config={"port": 25})
    service.done("enable", "mail")
    assert service.rows() == {"mail": ("enabled", {})}


def test_enable_is_refused_without_its_dependency(service: Service) -> None:
    assert service.refused("enable", "calendar", "chat") == (
        "Error: plugin 'chat' depends on 'mail', which would not be enabled\n"
    )
    service.done("enable", "chat", "mail")
    assert service.done("enable", "chat") == "chat (1.0.0) — ENABLED\n"


def test_enable_judges_dependencies_by_the_table(service: Service) -> None:
    service.manager.enable_plugin("mail")
    service.store.save("mail", "disabled")
    assert "depends on 'mail'" in service.refused("enable", "chat")


def test_disable_is_refused_while_others_depend(service: Service) -> None:
    service.done("enable", "mail", "chat")
    assert "plugin 'chat' depends on 'mail'" in service.refused("disable", "calendar", "mail")
    service.done("disable", "mail", "chat")


def test_broken_dependency_of_others_refuses_nothing(service: Service) -> None:
    service.store.save("chat", "enabled")
    service.done("enable", "calendar")
    service.done("disable", "calendar", "chat")


def test_enable_is_refused_for_a_refused_config(service: Service) -> None:
    service.store.save("mail", "disabled", {"port": "smtp"})
    assert "port must be a number" in service.refused("enable", "calendar", "mail")
    assert service.done("disable", "mail") == "mail (1.0.0) — DISABLED\n"


def test_refused_config_of_others_refuses_nothing(service: Service) -> None:
    service.store.save("mail", "enabled", {"port": "smtp"})
    assert service.done("enable", "calendar", "calendar") == "calendar (1.0.0) — ENABLED\n"


def test_secret_of_the_services_is_not_needed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAIL_TOKEN", raising=False)
    service.store.save("mail", "disabled", {"token": {"$env": "MAIL_TOKEN"}})
    service.done("enable", "mail")
    service.done("config", "set", "mail", "port", "25")
    assert service.rows()["mail"][0] == "enabled"


@pytest.mark.parametrize(
    "arguments", [("enable", "mail", "chatt"), ("disable", "mail", "chatt"), ("config", "set", "chatt", "port", "25")]
)
def test_unregistered_name_changes_nothing(service: Service, arguments: tuple[str, ...]) -> None:
    assert service.refused(*arguments) == "Error: no plugin 'chatt' is registered: see `flask plugins list`\n"


def test_several_names_are_switched_in_one_transaction() -> None:
    class Transactional(InMemoryPluginConfigStore):
        @contextmanager
        def transaction(self) -> Iterator[InMemoryPluginConfigStore]:
            copy = Failing()
            copy.save_many(self.get_all())
            yield copy
            self.save_many(copy.get_all())

    class Failing(InMemoryPluginConfigStore):
        def save(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
            if plugin_name == "mail":
                raise StoreUnavailableError("no answer from postgresql://me:pa55word@localhost/mail\nno route")
            return super().save(plugin_name, status, config)

    service = Service(Transactional())
    assert service.refused("enable", "calendar", "mail") == (
        "Error: no answer from postgresql://***@localhost/mail\\nno route\n"
    )
    service.done("enable", "calendar")
    assert service.rows() == {"calendar": ("enabled", {})}


@pytest.mark.parametrize(
    ("text", "value"),
    [("15", 15), ("-5", -5), ("true", True), ('["a", {"b": 1}]', ["a", {"b": 1}]), ('"15"', "15"), ("1.10", "1.10")],
)
def test_config_set_keeps_a_value_as_typed(service: Service, text: str, value: Any) -> None:
    assert service.done("config", "set", "mail", "size", text) == "mail: size is set\n"
    assert service.rows() == {"mail": ("disabled", {"size": value})}


def test_config_set_reads_standard_input(service: Service) -> None:
    arguments = ["plugins", "config", "set", "mail", "size", "-"]
    assert service.app.test_cli_runner().invoke(args=arguments, input="15\r\n").exit_code == 0
    assert service.rows() == {"mail": ("disabled", {"size": 15})}


def test_config_set_keeps_other_keys_and_the_status(service: Service) -> None:
    service.store.save("mail", "enabled", {"port": 25, "user": "ann"})
    service.done("config", "set", "mail", "user", "bob")
    assert service.rows() == {"mail": ("enabled", {"port": 25, "user": "bob"})}


def test_config_set_takes_any_key(service: Service) -> None:
    for key in ("name", "store", "manager"):
        service.done("config", "set", "mail", key, "x")
    assert service.rows()["mail"][1] == {"name": "x", "store": "x", "manager": "x"}


def test_config_set_says_that_the_type_changes(service: Service) -> None:
    service.store.save("mail", "disabled", {"size": 15})
    output = service.done("config", "set", "mail", "size", "big")
    assert "size was a number, and is text now" in output and "big" not in output


def test_config_set_is_refused_by_the_plugin(service: Service) -> None:
    error = service.refused("config", "set", "mail", "port", "smtp")
    assert error == "Error: plugin 'mail' refuses this config: port must be a number\n"


def test_config_set_of_a_plain_secret_is_refused(service: Service) -> None:
    error = service.refused("config", "set", "mail", "token", "hunter2")
    assert "config.token is secret" in error and "hunter2" not in error


def test_config_get_prints_the_stored_config(service: Service) -> None:
    service.store.save("mail", "disabled", {"port": 25, "token": {"$env": "MAIL_TOKEN"}})
    assert json.loads(service.done("config", "get", "mail")) == {"port": 25, "token": {"$env": "MAIL_TOKEN"}}
    assert "no plugin 'chat' is stored" in service.refused("config", "get", "chat")


def test_app_without_a_manager_is_told_what_to_call() -> None:
    app = Flask("service")
    app.cli.add_command(plugins)
    result = app.test_cli_runner().invoke(args=["plugins", "list"])
    assert result.exit_code == 1
    assert result.stderr == "Error: the app has no plugin manager: call plugin_store.flask.init_app(app, manager)\n"


def test_manager_is_found_as_an_attribute(service: Service) -> None:
    app = Flask("service")
    app.plugin_manager = service.manager  # type: ignore[attr-defined]
    app.cli.add_command(plugins)
    assert "mail (1.0.0)" in app.test_cli_runner().invoke(args=["plugins", "list"]).stdout


def test_commands_of_two_apps_keep_apart() -> None:
    first, second = Service(), Service()
    first.done("enable", "mail")
    assert (first.rows(), second.rows()) == ({"mail": ("enabled", {})}, {})
