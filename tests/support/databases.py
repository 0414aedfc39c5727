"""Databases for the tests, on the server that the tests share."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from servers import Server

from plugin_store.cli.migrate import migrate

Connection = psycopg.Connection[Any]
FINGERPRINT = Path(__file__).with_name("fingerprint.sql").read_text(encoding="utf-8")
END_OTHER_SESSIONS = """
    SELECT pg_terminate_backend(pid, 10000)
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
# Python does not read so many digits.
UNREADABLE_ROW = """
    ALTER TABLE plugin_config DROP CONSTRAINT IF EXISTS plugin_config_config_readable;
    INSERT INTO plugin_config (plugin_name, status, config)
    VALUES ('odd', 'enabled', jsonb_build_object('n', repeat('9', 5000)::numeric))
    ON CONFLICT (plugin_name) DO UPDATE SET config = excluded.config
"""


class Databases:
    """Makes databases and drops them; a context manager.

    Making and dropping one takes 90 ms of CPU time. So a test gets the last database again, unless its test
    changed more than the rows of plugin_config.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._admin = psycopg.connect(server.url(server.maintenance_dbname), autocommit=True)
        self._template = self._create("template0")
        migrate(server.url(self._template))
        with self._connect(self._template) as connection:
            self._untouched = fingerprint(connection)
        self._free: list[str] = []

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """Give the URL of a database whose plugin_config is empty."""
        name = self._free.pop() if self._free else self._create(self._template)
        yield self._server.url(name)
        if self._clean(name):
            self._free.append(name)
        else:
            self._drop(name)

    @contextmanager
    def empty(self) -> Iterator[str]:
        """Give the URL of a database in which nothing has been migrated."""
        name = self._create("template0")
        yield self._server.url(name)
        self._drop(name)

    def __enter__(self) -> "Databases":
        return self

    def __exit__(self, *_: object) -> None:
        with self._admin:
            for name in [*self._free, self._template]:
                self._drop(name)

    def _connect(self, name: str) -> Connection:
        return psycopg.connect(self._server.url(name), autocommit=True)

    def _clean(self, name: str) -> bool:
        """Delete the rows of plugin_config; return False if the database differs from a new one in more."""
        try:
            with self._connect(name) as connection:
                connection.execute(END_OTHER_SESSIONS)
                if fingerprint(connection) != self._untouched:
                    return False
                connection.execute("DELETE FROM plugin_config")
                return True
        except psycopg.Error:
            return False

    def _create(self, template: str) -> str:
        name = f"test_{secrets.token_hex(8)}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._admin.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def _drop(self, name: str) -> None:
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def fingerprint(connection: Connection) -> object:
    """Return a value that changes with every table, function, grant, setting and migration of the database."""
    return connection.execute(FINGERPRINT).fetchone()
