"""``flask plugins …`` for any app that has a manager, in processes and in this one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
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
    PluginStoreError,
)
from plugin_store.flask import init_app, plugins

ROOT = Path(__file__).parents[2]


class Plugin(BasePlugin):
    """A plugin whose hooks raise what ``raises`` holds for them."""

    def __init__(self, name: str, needs: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._metadata = PluginMetadata(name, "1.0.0", "tests", "for tests", list(needs))
        self.raises: dict[str, Exception] = {}

    @property
    def metadata(self) -> PluginMetadata:
        return self._metadata

    def on_enable(self) -> None:
        self._hook("on_enable")

    def on_disable(self) -> None:
        self._hook("on_disable")

    def on_config_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._hook("on_config_changed")

    def validate_config(self, config: dict[str, Any]) -> None:
        self._hook("validate_config")

    def _hook(self, name: str) -> None:
        if name in self.raises:
            raise self.raises[name]


def manager_of(*given: BasePlugin, config: dict[str, Any] | None = None, store: Any = None) -> PluginManager:
    manager = PluginManager(config_repo=store)
    for plugin in given:
        manager.register_plugin(plugin)
        manager.initialize_plugin(plugin.metadata.name, config)
    manager.load_persisted_state()
    return manager


def app_of(manager: PluginManager) -> Flask:
    app = Flask("service")
    init_app(app, manager)
    app.cli.add_command(plugins)
    return app


def run(manager: PluginManager, *arguments: str) -> Result:
    return app_of(manager).test_cli_runner().invoke(args=["plugins", *arguments])


def row(store: InMemoryPluginConfigStore, name: str) -> PluginConfig:
    stored = store.get_by_name(name)
    assert stored is not None
    return stored


# -- the commands as processes, each of which makes the app anew ------------------------------------

SERVICE = """
import atexit, os
from contextlib import ExitStack
from flask import Flask
from plugin_store import BasePlugin, PluginConfigRepository, PluginManager, PluginMetadata
from plugin_store.flask import init_app

class Mail(BasePlugin):
    metadata = PluginMetadata("mail", "2.1.0", "tests", "for tests")

    def on_enable(self):
        if self.get_config("port") == 0:
            raise OSError("no port to listen on")

def create_app():
    stack = ExitStack()
    atexit.register(stack.close)
    repository = stack.enter_context(PluginConfigRepository.open(os.environ["DATABASE_URL"]))
    manager = PluginManager(config_repo=repository)
    manager.register_plugin(Mail())
    manager.initialize_plugin("mail", {"host": "localhost", "port": 25})
    manager.load_persisted_state()
    app = Flask(__name__)
    init_app(app, manager)
    return app
"""

FlaskCommand = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def flask(tmp_path: Path, database_url: str) -> FlaskCommand:
    """Run ``flask --app service …``, with the entry points of an installed plugin_store, on the test's database."""
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "bare.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    installed = tmp_path / "plugin_store-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-store\nVersion: 0\n")
    (installed / "entry_points.txt").write_text("[flask.commands]\nplugins = plugin_store.flask:plugins\n")

    def command(*arguments: str, app: str = "service", **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"DATABASE_URL": database_url, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", app, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"} | environment | variables,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )

    return command


def printed(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the error on stderr of a command that failed, and printed nothing else."""
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    return done.stderr


def test_what_a_command_switches_is_so_in_new_processes(
    flask: FlaskCommand, connection: psycopg.Connection[Any]
) -> None:
    assert printed(flask("plugins", "enable", "mail")) == "mail (2.1.0) — ENABLED\n"
    assert printed(flask("plugins", "list")) == "mail (2.1.0) — ENABLED\n"
    assert printed(flask("plugins", "disable", "mail")) == "mail (2.1.0) — DISABLED\n"
    assert printed(flask("plugins", "list")) == "mail (2.1.0) — DISABLED\n"
    assert connection.execute("SELECT plugin_name, status FROM plugin_config").fetchall() == [("mail", "disabled")]


def test_only_what_is_set_is_stored(flask: FlaskCommand, connection: psycopg.Connection[Any]) -> None:
    assert json.loads(printed(flask("plugins", "config", "set", "mail", "port", "2525"))) == {
        "host": "localhost",
        "port": 2525,
    }
    assert connection.execute("SELECT config FROM plugin_config").fetchall() == [({"port": 2525},)]
    assert printed(flask("plugins", "config", "get", "mail", "port")) == "2525\n"
    assert json.loads(printed(flask("plugins", "config", "unset", "mail", "port")))["port"] == 25
    assert connection.execute("SELECT config FROM plugin_config").fetchall() == [({},)]


def test_a_hook_that_raises_fails_the_command(flask: FlaskCommand, connection: psycopg.Connection[Any]) -> None:
    printed(flask("plugins", "config", "set", "mail", "port", "0"))
    done = flask("plugins", "enable", "mail")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        "\nerror: plugin 'mail' is not enabled: its on_enable raised OSError: no port to listen on\n"
    )
    assert "Traceback" in done.stderr and "in on_enable" in done.stderr
    assert connection.execute("SELECT status FROM plugin_config").fetchall() == [("disabled",)]


def test_a_database_that_cannot_be_used_is_an_error_without_the_password(
    flask: FlaskCommand, database_url: str
) -> None:
    port = urlsplit(database_url).query
    unreachable = "postgresql://someone:pa55word@127.0.0.1:1/postgres"
    assert "cannot be reached" in (line := refused(flask("plugins", "list", DATABASE_URL=unreachable)))
    assert "pa55word" not in line
    wrong = f"postgresql://postgres:pa55word@/nowhere?{port}"
    assert "cannot be reached" in (line := refused(flask("plugins", "enable", "mail", DATABASE_URL=wrong)))
    assert "pa55word" not in line
    unreadable = "postgresql://someone:pa55@word@localhost/postgres"
    assert "cannot be read" in (line := refused(flask("plugins", "list", DATABASE_URL=unreadable)))
    assert "pa55" not in line and "word@" not in line


def test_a_missing_table_is_an_error_that_says_how_to_migrate(flask: FlaskCommand, empty_url: str) -> None:
    assert "plugin-store migrate" in refused(flask("plugins", "list", DATABASE_URL=empty_url))


def test_an_app_without_a_manager_is_told_how_to_get_one(flask: FlaskCommand) -> None:
    line = refused(flask("plugins", "list", app="bare"))
    assert "the app 'bare' has no plugin manager" in line and "plugin_store.flask.init_app(app, manager)" in line


def test_a_terminal_without_a_dash_gets_an_escape(flask: FlaskCommand) -> None:
    assert printed(flask("plugins", "enable", "mail", PYTHONIOENCODING="latin-1")) == "mail (2.1.0) \\u2014 ENABLED\n"


# -- the commands, in this process ------------------------------------------------------------------


def test_the_manager_of_an_app_is_found_where_the_source_keeps_it() -> None:
    app = Flask("service")
    app.plugin_manager = manager_of(Plugin("mail"))  # type: ignore[attr-defined]
    app.cli.add_command(plugins)
    result = app.test_cli_runner().invoke(args=["plugins", "list"])
    assert (result.exit_code, result.output) == (0, "mail (1.0.0) — INITIALIZED\n")


def test_list_has_all_plugins_as_they_were_registered() -> None:
    broken = Plugin("broken")
    manager = manager_of(Plugin("mail"), broken, Plugin("chat"))
    manager.enable_plugin("chat")
    broken.raises["on_enable"] = RuntimeError()
    with pytest.raises(RuntimeError):
        manager.enable_plugin("broken")
    assert run(manager, "list").stdout == "mail (1.0.0) — INITIALIZED\nbroken (1.0.0) — ERROR\nchat (1.0.0) — ENABLED\n"


def test_list_without_plugins_says_so_on_stderr() -> None:
    result = run(manager_of(), "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no plugin is registered\n")


def test_the_output_may_be_any_object_that_can_be_written_to() -> None:
    with app_of(manager_of(Plugin("mail"))).app_context(), redirect_stdout(io.StringIO()) as output:
        plugins.main(["list"], standalone_mode=False)
    assert output.getvalue() == "mail (1.0.0) — INITIALIZED\n"


def test_several_plugins_are_switched_in_the_order_given_each_once() -> None:
    manager = manager_of(Plugin("mail"), Plugin("chat", needs=("mail",)))
    assert run(manager, "enable", "mail", "chat", "mail").stdout == "mail (1.0.0) — ENABLED\nchat (1.0.0) — ENABLED\n"
    assert run(manager, "disable", "chat", "mail").stdout == "chat (1.0.0) — DISABLED\nmail (1.0.0) — DISABLED\n"


def test_what_the_manager_refuses_fails_the_command() -> None:
    result = run(manager_of(Plugin("mail"), Plugin("chat", needs=("mail",))), "enable", "chat")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: Cannot enable plugin 'chat': Dependency 'mail' not enabled\n"


@pytest.mark.parametrize(
    "arguments", [("enable", "mail", "chatt"), ("disable", "mail", "chatt"), ("config", "get", "chatt")]
)
def test_an_unknown_name_lists_near_ones_and_nothing_is_changed(arguments: tuple[str, ...]) -> None:
    manager = manager_of(Plugin("mail"), Plugin("chat"))
    result = run(manager, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: no plugin 'chatt' is registered (did you mean 'chat'?); `flask plugins list` lists those that are\n"
    )
    assert {plugin.status for plugin in manager.get_all_plugins()} == {PluginStatus.INITIALIZED}


def test_a_name_like_no_other_has_no_near_ones() -> None:
    assert "'xyz' is registered; " in run(manager_of(Plugin("mail")), "enable", "xyz").stderr


def test_a_plugin_whose_on_disable_raises_is_disabled_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    store, mail = InMemoryPluginConfigStore(), Plugin("mail")
    manager = manager_of(mail, store=store)
    manager.enable_plugin("mail")
    mail.raises["on_disable"] = KeyError("socket")
    result = run(manager, "disable", "mail")
    assert result.exit_code == 1
    assert "error: plugin 'mail' is stored as disabled, but its on_disable raised KeyError: 'socket'\n" in result.stderr
    assert row(store, "mail").status == "disabled"
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_our_errors_show_no_password_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    mail = Plugin("mail")
    mail.raises["on_enable"] = PluginStoreError("no answer from postgresql://mail:pa55word@localhost/mail")
    result = run(manager_of(mail), "enable", "mail")
    assert (result.exit_code, result.stderr) == (1, "error: no answer from postgresql://***@localhost/mail\n")
    assert caplog.records == []


def test_config_get_shows_the_defaults_with_what_is_stored_over_them() -> None:
    store = InMemoryPluginConfigStore()
    store.save("mail", "disabled", {"port": 2525})
    manager = manager_of(Plugin("mail"), config={"host": "localhost", "port": 25, "tls": {"on": True}}, store=store)
    assert json.loads(run(manager, "config", "get", "mail").stdout) == {
        "host": "localhost",
        "port": 2525,
        "tls": {"on": True},
    }
    assert run(manager, "config", "get", "mail", "host").stdout == "localhost\n"
    assert run(manager, "config", "get", "mail", "port").stdout == "2525\n"
    assert json.loads(run(manager, "config", "get", "mail", "tls").stdout) == {"on": True}
    result = run(manager, "config", "get", "mail", "hostname")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: plugin 'mail': no key 'hostname' in its config (did you mean 'host'?)\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("15", 15),
        ("-5", -5),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ('["a", {"b": 1}]', ["a", {"b": 1}]),
        ('"15"', "15"),
        ("plain text", "plain text"),
        ("", ""),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_is_json_if_it_reads_as_json_else_text(text: str, value: Any) -> None:
    store = InMemoryPluginConfigStore()
    assert run(manager_of(Plugin("mail"), store=store), "config", "set", "mail", "key", text).exit_code == 0
    assert row(store, "mail").config == {"key": value}


def test_set_and_unset_keep_the_other_stored_keys_and_store_no_default() -> None:
    store = InMemoryPluginConfigStore()
    store.save("mail", "enabled", {"port": 2525, "user": "post"})
    manager = manager_of(Plugin("mail"), config={"host": "localhost", "port": 25}, store=store)
    result = run(manager, "config", "set", "mail", "user", "paul")
    assert json.loads(result.stdout) == {"host": "localhost", "port": 2525, "user": "paul"}
    assert row(store, "mail").config == {"port": 2525, "user": "paul"}
    assert json.loads(run(manager, "config", "unset", "mail", "port").stdout)["port"] == 25
    assert row(store, "mail").config == {"user": "paul"}
    assert row(store, "mail").status == "enabled"


def test_what_is_stored_meanwhile_is_kept() -> None:
    store = InMemoryPluginConfigStore()
    manager = manager_of(Plugin("mail"), store=store)
    store.save("mail", "disabled", {"port": 2525})
    assert run(manager, "config", "set", "mail", "user", "paul").exit_code == 0
    assert row(store, "mail").config == {"port": 2525, "user": "paul"}


def test_unset_takes_several_keys_and_refuses_one_that_is_not_there() -> None:
    store = InMemoryPluginConfigStore()
    store.save("mail", "disabled", {"port": 2525, "user": "post", "tls": True})
    manager = manager_of(Plugin("mail"), config={"domain": "localhost"}, store=store)
    result = run(manager, "config", "unset", "mail", "port", "xyz")
    assert (result.exit_code, result.stderr) == (1, "error: plugin 'mail': no key 'xyz' in its config\n")
    assert row(store, "mail").config == {"port": 2525, "user": "post", "tls": True}
    assert run(manager, "config", "unset", "mail", "port", "user", "domain").exit_code == 0
    assert row(store, "mail").config == {"tls": True}
    assert run(manager, "config", "get", "mail", "domain").stdout == "localhost\n"


def test_keys_that_another_process_sets_at_the_same_time_are_kept() -> None:
    class Crowded(InMemoryPluginConfigStore):
        def get_config(self, plugin_name: str) -> dict[str, Any]:
            config = super().get_config(plugin_name)
            super().update_config(plugin_name, {"port": 2525})
            return config

    store = Crowded()
    assert run(manager_of(Plugin("mail"), store=store), "config", "set", "mail", "user", "paul").exit_code == 0
    assert row(store, "mail").config == {"port": 2525, "user": "paul"}


def test_a_config_that_the_plugin_refuses_is_not_stored() -> None:
    store, mail = InMemoryPluginConfigStore(), Plugin("mail")
    mail.raises["validate_config"] = ValueError("port must be a number")
    result = run(manager_of(mail, store=store), "config", "set", "mail", "port", "x")
    assert result.exit_code == 1
    assert result.stderr == "error: plugin 'mail' refuses this config: port must be a number\n"
    assert store.get_by_name("mail") is None


def test_a_plugin_whose_on_config_changed_raises_has_its_config_stored() -> None:
    store, mail = InMemoryPluginConfigStore(), Plugin("mail")
    manager = manager_of(mail, store=store)
    manager.enable_plugin("mail")
    mail.raises["on_config_changed"] = OSError("in use")
    result = run(manager, "config", "set", "mail", "port", "25")
    assert result.exit_code == 1
    assert "error: plugin 'mail' has its new config stored, but its on_config_changed raised OSError: in use\n" in (
        result.stderr
    )
    assert row(store, "mail").config == {"port": 25}


def test_a_manager_without_a_store_is_configured_in_memory() -> None:
    manager = manager_of(Plugin("mail"), config={"host": "localhost", "port": 25})
    result = run(manager, "config", "set", "mail", "port", "2525")
    assert json.loads(result.stdout) == {"host": "localhost", "port": 2525}
