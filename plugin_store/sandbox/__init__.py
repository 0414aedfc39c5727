"""``plugin-store sandbox``: a command with a throw-away, migrated PostgreSQL of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress

from psycopg.conninfo import make_conninfo

from plugin_store.cli.migrate import migrate
from plugin_store.errors import PluginStoreError

from .embedded import EmbeddedPostgres


def sandbox(command: list[str]) -> int:
    """Run the command with a migrated database, named by DATABASE_URL and libpq's variables. Return its exit status.

    Without a command, print the URL and wait for ^C. The server and its files are gone afterwards. Raises
    EmbeddedPostgresError without a server, InstallationError without yoyo, and PluginStoreError if the command
    cannot be run.
    """
    with EmbeddedPostgres() as server:
        migrate(make_conninfo(server.url, password=server.password))  # beats a PGPASSWORD of the caller's
        if not command:
            return _wait(server.url)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment |= {"PGHOST": server.host, "PGPORT": str(server.port), "PGPASSFILE": f"{server.host}/pgpass"}
        environment |= {"PGUSER": server.user, "PGDATABASE": "postgres", "DATABASE_URL": server.url}
        return _run(command, environment)


def _wait(url: str) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        print("a throw-away PostgreSQL runs until ^C; in another terminal:", file=sys.stderr)
        print(f"export DATABASE_URL={shlex.quote(url)}", flush=True)
        signal.pause()
    return 0


def _run(command: list[str], environment: dict[str, str]) -> int:
    children: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def terminate(number: int, frame: object) -> None:
        received.append(number)
        for child in children:
            child.terminate()

    # The terminal sends ^C to the command too. The command decides, and keeps its database until it ends.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, terminate)
    try:
        children.append(child := subprocess.Popen(command, env=environment))
    except OSError as exc:
        raise PluginStoreError(f"cannot run {command[0]!r}: {exc.strerror}") from exc
    if received:  # while the command was started
        child.terminate()
    status = child.wait()
    return status if status >= 0 else 128 - status
