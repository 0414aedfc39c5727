"""``plugin-store sandbox``: a command with a throw-away, migrated PostgreSQL of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .cli.migrate import migrate
from .embedded import EmbeddedPostgres
from .errors import PluginStoreError

# libpq's variables too, so that psql finds the database without being told.
_VARIABLES = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE", "passfile": "PGPASSFILE"}


def sandbox(command: list[str]) -> int:
    """Start an embedded PostgreSQL, migrate it, run the command with DATABASE_URL set, and return its exit status.

    Without a command, print the URL and wait for ^C. The server and all that it holds are gone afterwards,
    however this process ends. Raises EmbeddedPostgresError, InstallationError or PluginStoreError if there is
    no server, no yoyo, or no such command.
    """
    with EmbeddedPostgres() as server:
        # With the password itself, which a PGPASSWORD of the caller's would beat otherwise.
        migrate(make_conninfo(server.url, password=server.password))
        if not command:
            return _wait(server.url)
        places = conninfo_to_dict(server.url)
        libpq = {variable: str(places[key]) for key, variable in _VARIABLES.items()}
        environment = os.environ | libpq | {"DATABASE_URL": server.url}
        environment.pop("PGPASSWORD", None)
        return _run(command, environment)


def _wait(url: str) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Whoever reads this may end it at once.
        print("a throw-away PostgreSQL runs until ^C; in another terminal:", file=sys.stderr)
        print(f"export DATABASE_URL={shlex.quote(url)}", flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0


def _run(command: list[str], environment: dict[str, str]) -> int:
    try:
        child = subprocess.Popen(command, env=environment)
    except OSError as exc:
        raise PluginStoreError(f"cannot run {command[0]!r}: {exc.strerror}") from exc
    # ^C is for the command, as it would be under a shell; and it must not outlive its database.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    status = child.wait()
    return status if status >= 0 else 128 - status
