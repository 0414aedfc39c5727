"""``flask plugins`` as a command: each process makes the app anew, on the test's database."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from databases import Connection
from programs import completed

SERVICE = """
import os
from flask import Flask
from plugin_store import BasePlugin, PluginConfigRepository, PluginManager, PluginMetadata
from plugin_store.flask import init_app

class Mail(BasePlugin):
    metadata = PluginMetadata("mail", "2.1.0", "tests", "for tests")

    def on_enable(self):
        raise OSError("the port is in use: the service runs")

def create_app():
    manager = PluginManager(config_repo=PluginConfigRepository.open(os.environ["DATABASE_URL"]))
    manager.register_plugin(Mail())
    manager.initialize_plugin("mail")
    manager.load_persisted_state()
    init_app(app := Flask(__name__), manager)
    return app
"""

FlaskCommand = Callable[..., tuple[int, str, str]]


@pytest.fixture
def flask(tmp_path: Path, database_url: str) -> FlaskCommand:
    """Run ``flask --app service …``. Return exit status, stdout and stderr."""
    (tmp_path / "service.py").write_text(SERVICE)

    def command(*arguments: str, **variables: str) -> tuple[int, str, str]:
        variables = {"DATABASE_URL": database_url, "PYTHONIOENCODING": "utf-8"} | variables
        done = completed(sys.executable, "-m", "flask", "--app", "service", *arguments, cwd=tmp_path, **variables)
        return done.returncode, done.stdout, done.stderr

    return command


def test_switch_holds_in_new_processes(flask: FlaskCommand, connection: Connection) -> None:
    assert flask("plugins", "enable", "mail") == (0, "mail (2.1.0) — ENABLED\n", "")
    assert flask("plugins", "list")[:2] == (0, "mail (2.1.0) — ENABLED\n")
    assert flask("plugins", "disable", "mail", PYTHONIOENCODING="latin-1")[1] == "mail (2.1.0) — DISABLED\n"
    assert flask("--help")[1].count("\n  plugins ") == 1
    assert connection.execute("SELECT plugin_name, status FROM plugin_config").fetchall() == [("mail", "disabled")]


def test_unusable_database_is_one_error_line(flask: FlaskCommand, empty_url: str) -> None:
    unreachable = "postgresql://someone:pa55word@127.0.0.1:1/postgres"
    for url, said in ((unreachable, "cannot be reached"), (empty_url, "plugin-store migrate")):
        status, output, error = flask("plugins", "list", DATABASE_URL=url)
        assert (status, output, error.count("\n")) == (1, "", 1)
        assert error.startswith("Error: ") and said in error and "pa55word" not in error
