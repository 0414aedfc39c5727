"""``flask plugins`` as a command: each process makes the app anew, on the test's database."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

import plugin_store

ROOT = Path(plugin_store.__file__).parents[1]

SERVICE = """
import atexit, os
from contextlib import ExitStack
from flask import Flask
from plugin_store import BasePlugin, PluginConfigRepository, PluginManager, PluginMetadata
from plugin_store.flask import init_app

class Mail(BasePlugin):
    metadata = PluginMetadata("mail", "2.1.0", "tests", "for tests")

    def on_enable(self):
        raise OSError("the port is in use: the service runs")

def create_app():
    closing = ExitStack()
    atexit.register(closing.close)
    repository = closing.enter_context(PluginConfigRepository.open(os.environ["DATABASE_URL"]))
    manager = PluginManager(config_repo=repository)
    manager.register_plugin(Mail())
    manager.initialize_plugin("mail")
    manager.load_persisted_state()
    app = Flask(__name__)
    init_app(app, manager)
    return app
"""

FlaskCommand = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def flask(tmp_path: Path, database_url: str) -> FlaskCommand:
    """Run ``flask --app service …`` with the entry point of an installed plugin_store."""
    (tmp_path / "service.py").write_text(SERVICE)
    installed = tmp_path / "plugin_store-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-store\nVersion: 0\n")
    (installed / "entry_points.txt").write_text("[flask.commands]\nplugins = plugin_store.flask:plugins\n")

    def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"DATABASE_URL": database_url, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "service", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"} | environment | variables,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )

    return command


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the error, of one line, of a command that failed and printed nothing else."""
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith("Error: ")
    return done.stderr


def test_switch_holds_in_new_processes(flask: FlaskCommand, connection: psycopg.Connection[Any]) -> None:
    assert flask("plugins", "enable", "mail").stdout == "mail (2.1.0) — ENABLED\n"
    assert flask("plugins", "list").stdout == "mail (2.1.0) — ENABLED\n"
    assert flask("plugins", "disable", "mail").stdout == "mail (2.1.0) — DISABLED\n"
    assert flask("plugins", "list").stdout == "mail (2.1.0) — DISABLED\n"
    assert connection.execute("SELECT plugin_name, status FROM plugin_config").fetchall() == [("mail", "disabled")]


def test_unusable_database_is_named_without_its_password(flask: FlaskCommand, database_url: str) -> None:
    unreachable = "postgresql://someone:pa55word@127.0.0.1:1/postgres"
    missing = f"postgresql://postgres:pa55word@/nowhere?{urlsplit(database_url).query}"
    for url in (unreachable, missing):
        line = refused(flask("plugins", "list", DATABASE_URL=url))
        assert "cannot be reached" in line and "pa55word" not in line


def test_missing_table_error_names_the_command(flask: FlaskCommand, empty_url: str) -> None:
    assert "plugin-store migrate" in refused(flask("plugins", "list", DATABASE_URL=empty_url))


def test_output_escapes_what_the_terminal_lacks(flask: FlaskCommand) -> None:
    done = flask("plugins", "enable", "mail", PYTHONIOENCODING="latin-1")
    assert done.stdout == "mail (2.1.0) \\u2014 ENABLED\n"


def test_flask_lists_its_command_once(flask: FlaskCommand) -> None:
    assert len(re.findall(r"^  plugins ", flask("--help").stdout, re.MULTILINE)) == 1
