"""Finds the database of a command, and opens one transaction in it."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from plugin_store.errors import PluginStoreError
from plugin_store.stores.connections import connect
from plugin_store.stores.driver_errors import translated_errors
from plugin_store.stores.postgres import PluginConfigRepository
from plugin_store.stores.statements import load_statement

from .output import progress

APPLICATION_NAME = "plugin_store cli"
LIMIT_WAITING = load_statement("limit_waiting")
LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")


def database(args: Namespace) -> str:
    """Return the conninfo of the database; PluginStoreError if none is named."""
    given: str = (args.database or os.environ.get("DATABASE_URL", "")).strip()
    if given or any(os.environ.get(name) for name in LIBPQ_VARIABLES):
        return given
    raise PluginStoreError("no database is named: set DATABASE_URL or libpq's variables, or use `plugin-store sandbox`")


@contextmanager
def transaction(args: Namespace, doing: str = "waiting for the database, or for a lock in it") -> Iterator[Any]:
    """Yield a connection in one transaction, so that a command changes all or nothing. Lock waits are limited."""
    with progress(doing), connect(database(args), APPLICATION_NAME) as connection:
        connection.prepare_threshold = None  # a pooler shares its server sessions, so statements must not be prepared
        connection.isolation_level = (
            psycopg.IsolationLevel.READ_COMMITTED
        )  # at a stricter level, concurrent writes would fail
        with translated_errors(), connection.transaction():
            connection.execute(LIMIT_WAITING)
            yield connection


@contextmanager
def stored(args: Namespace) -> Iterator[PluginConfigRepository]:
    """Yield a repository in one transaction."""
    with transaction(args) as connection:
        yield PluginConfigRepository(connection)
