"""``flask plugins`` in this process: it changes rows, and leaves the hooks to the services."""

import json
import os
from contextlib import redirect_stdout
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.cli import ScriptInfo
from recorder import FailingStore, Recorder, raising, restored, rows

from plugin_store import PluginStatus, StoreUnavailableError
from plugin_store.flask import init_app, plugins


class Service:
    """An app as its factory makes it, with the plugins mail, chat (which needs mail) and calendar.

    A config whose port is text is refused. The key token is secret.
    """

    def __init__(self, **defaults: Any) -> None:
        def parse(config: dict[str, Any]) -> None:
            if isinstance(config.get("port"), str):
                raise ValueError("port must be a number")

        self.store = FailingStore()
        self.plugins = [
            Recorder(*names, secret_keys=["token"]) for names in (("mail",), ("chat", "mail"), ("calendar",))
        ]
        for plugin in self.plugins:
            plugin.parse = parse
        self.manager = restored(self.store, *self.plugins, **defaults)
        self.app = Flask("service")
        init_app(self.app, self.manager)

    def run(self, *arguments: str, typed: str | None = None) -> Result:
        return self.app.test_cli_runner().invoke(args=["plugins", *arguments], input=typed)

    def done(self, *arguments: str, typed: str | None = None) -> str:
        result = self.run(*arguments, typed=typed)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def refused(self, *arguments: str) -> str:
        """Return the error of a command that changes no row and says why in one line."""
        before = rows(self.store)
        result = self.run(*arguments)
        assert (result.exit_code, result.stdout, rows(self.store)) == (1, "", before)
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
        return result.stderr


@pytest.fixture
def service() -> Service:
    return Service()


def test_list_shows_rows_else_the_process(service: Service) -> None:
    service.store.save("mail", "enabled")
    service.store.save("chat", "disabled")
    assert service.done("list") == ("mail (1.0.0) — ENABLED\nchat (1.0.0) — DISABLED\ncalendar (1.0.0) — INITIALIZED\n")


def test_commands_run_no_hook(service: Service) -> None:
    service.manager.enable_plugin("mail")
    service.plugins[0].calls.clear()
    service.done("config", "set", "mail", "port", "25")
    assert service.done("disable", "mail") == "mail (1.0.0) — DISABLED\n"
    shown = service.done("enable", "mail", "calendar", "mail")
    assert shown == "mail (1.0.0) — ENABLED\ncalendar (1.0.0) — ENABLED\n"
    assert [plugin.calls for plugin in service.plugins] == [[], [], []]
    assert service.plugins[2].status is PluginStatus.INITIALIZED


def test_enable_keeps_stored_config_without_defaults() -> None:
    service = Service(port=25, user="ann")
    service.store.save("mail", "disabled", {"port": 2525})
    service.done("enable", "mail", "calendar")
    assert rows(service.store) == {"mail": ("enabled", {"port": 2525}), "calendar": ("enabled", {})}


def test_enable_is_refused_without_its_dependency(service: Service) -> None:
    refusal = "Error: plugin 'chat' depends on 'mail', which would not be enabled: name both\n"
    assert service.refused("enable", "calendar", "chat") == refusal
    service.done("enable", "chat", "mail")
    assert service.done("enable", "chat") == "chat (1.0.0) — ENABLED\n"
    service.manager.enable_plugin("mail")
    service.store.save("mail", "disabled")  # the row counts, not this process
    assert service.refused("enable", "chat") == refusal


def test_disable_is_refused_while_others_depend(service: Service) -> None:
    service.done("enable", "mail", "chat")
    assert "plugin 'chat' depends on 'mail'" in service.refused("disable", "calendar", "mail")
    service.done("disable", "mail", "chat")


def test_enable_is_refused_for_refused_config(service: Service) -> None:
    service.store.save("mail", "disabled", {"port": "smtp"})
    assert "port must be a number" in service.refused("enable", "calendar", "mail")
    service.done("disable", "mail")


def test_faults_of_other_plugins_refuse_nothing(service: Service) -> None:
    service.store.save("mail", "disabled", {"port": "smtp"})
    service.store.save("chat", "enabled")
    service.done("enable", "calendar")
    service.done("disable", "calendar", "chat")


def test_secret_of_services_is_not_needed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAIL_TOKEN", raising=False)
    service.store.save("mail", "disabled", {"token": {"$env": "MAIL_TOKEN"}})
    service.done("enable", "mail")
    service.done("config", "set", "mail", "port", "25")
    assert rows(service.store)["mail"][0] == "enabled"


@pytest.mark.parametrize(
    "arguments", [("enable", "mail", "chatt"), ("disable", "mail", "chatt"), ("config", "set", "chatt", "port", "25")]
)
def test_unregistered_name_changes_nothing(service: Service, arguments: tuple[str, ...]) -> None:
    expected = "Error: `flask plugins list` shows no plugin 'chatt' (did you mean 'chat'?)\n"
    assert service.refused(*arguments) == expected


def test_names_joined_by_comma_get_a_hint(service: Service) -> None:
    assert service.refused("enable", "mail,chat").endswith(": separate names with blanks, 'mail chat'\n")


def test_error_is_one_line_without_password(service: Service) -> None:
    error = StoreUnavailableError("no answer from postgresql://me:pa55word@localhost/mail\nno route")
    service.store.before["save"] = raising(error)
    assert service.refused("enable", "mail") == "Error: no answer from postgresql://***@localhost/mail\\nno route\n"


IN_LOCALE_C = "größe".encode().decode("ascii", "surrogateescape")


@pytest.mark.parametrize(
    ("text", "value"),
    [("-5", -5), ('["a", {"b": 1}]', ["a", {"b": 1}]), ("1.10", "1.10"), ("-", 15), (IN_LOCALE_C, "größe")],
    ids=ascii,
)
def test_config_set_keeps_value_as_typed(service: Service, text: str, value: Any) -> None:
    shown = service.done("config", "set", "mail", "name", text, typed="15\r\n")
    assert shown == "mail: set name\n"
    assert rows(service.store) == {"mail": ("disabled", {"name": value})}


@pytest.mark.parametrize("option", ["--text", "-t"])
def test_config_set_refuses_unknown_option(service: Service, option: str) -> None:
    result = service.run("config", "set", "mail", option, "25")
    assert (result.exit_code, rows(service.store)) == (2, {})
    assert "No such option" in result.stderr and option in result.stderr


def test_config_set_keeps_other_keys_and_status(service: Service) -> None:
    service.store.save("mail", "enabled", {"port": 25, "size": 1})
    shown = service.done("config", "set", "mail", "size", "big")
    assert "size was a number, and is text now" in shown and "big" not in shown
    assert rows(service.store) == {"mail": ("enabled", {"port": 25, "size": "big"})}


def test_config_set_is_refused_by_plugin(service: Service) -> None:
    error = service.refused("config", "set", "mail", "port", "smtp")
    assert error == "Error: plugin 'mail' refuses this config: port must be a number\n"
    error = service.refused("config", "set", "mail", "token", "hunter2")
    assert "config.token is secret" in error and "hunter2" not in error
    wrong = service.run("config", "set", "mail", "token", "my", "hunter2")
    assert wrong.exit_code == 2 and "too many arguments" in wrong.stderr and "hunter2" not in wrong.output


def test_config_get_prints_stored_config(service: Service) -> None:
    service.store.save("mail", "disabled", config := {"port": 25, "token": {"$env": "MAIL_TOKEN"}})
    assert json.loads(service.done("config", "get", "mail")) == config
    assert "no plugin 'chat' is stored" in service.refused("config", "get", "chat")


@pytest.mark.parametrize("arguments", [("list",), ("enable", "mail", "chat"), ("config", "set", "mail", "port", "25")])
def test_closed_pipe_is_not_an_error(service: Service, arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed, redirect_stdout(closed), pytest.raises(SystemExit) as ended:
        service.app.cli.main(["plugins", *arguments], obj=ScriptInfo(create_app=lambda: service.app))
    assert ended.value.code == 0


def test_manager_is_found_as_attribute_of_app(service: Service) -> None:
    app = Flask("service")
    app.cli.add_command(plugins)
    result = app.test_cli_runner().invoke(args=["plugins", "list"])
    assert result.exit_code == 1
    assert result.stderr == "Error: the app has no plugin manager: call plugin_store.flask.init_app(app, manager)\n"
    app.plugin_manager = service.manager  # type: ignore[attr-defined]
    assert "mail (1.0.0)" in app.test_cli_runner().invoke(args=["plugins", "list"]).stdout


def test_commands_of_two_apps_keep_apart(service: Service) -> None:
    Service().done("enable", "mail")
    assert rows(service.store) == {}
