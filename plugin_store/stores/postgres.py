"""The store in PostgreSQL. Its statements are the files in ``sql/``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import finalize

import psycopg

from plugin_store.errors import ConflictError, StoreError, UnreadableRowsError

from .connections import GivenConnection, GivenPool, TransactionBlock, new_cursor
from .conninfo import checked_conninfo
from .driver_errors import connection_lost, translated_errors
from .model import PluginConfig
from .own_pool import OwnPool
from .statements import load_statement
from .time_limit import Connection
from .validation import check_name, checked_changes, checked_config, checked_many, checked_row

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg_pool import ConnectionPool
    from typing_extensions import LiteralString, Self

    Row = tuple[Any, ...]

GET_BY_NAME = load_statement("get_by_name")
GET_ALL = load_statement("get_all")
GET_ENABLED = load_statement("get_enabled")
SAVE = load_statement("save")
SAVE_CONFIG = load_statement("save_config")
SAVE_CONFIG_IF_UNCHANGED = load_statement("save_config_if_unchanged")
UPDATE_CONFIG = load_statement("update_config")
ADD = load_statement("add")
SAVE_MANY = load_statement("save_many")
DELETE = load_statement("delete")

_decode = json.JSONDecoder().raw_decode


class PluginConfigRepository:
    """A PluginConfigStore in the table ``plugin_config``: see PluginConfigStore for the methods.

    ``PluginConfigRepository(pool)`` uses an open psycopg_pool.ConnectionPool and leaves it open.
    Each method is one statement in its own transaction. Threads may share the repository.

    ``PluginConfigRepository(connection)`` works inside the caller's transaction, which the caller commits.

    In a forked child process, only a repository from ``open()`` works.

    Methods raise StoreUnavailableError if there is no connection, SchemaError if the table is missing or out of date,
    and StoreError for other errors of the database. The driver's error is the ``__cause__``.
    """

    def __init__(self, pool: ConnectionPool[Any] | Connection) -> None:
        self._connections: OwnPool | GivenPool | GivenConnection
        if isinstance(pool, psycopg.Connection):
            self._connections = GivenConnection(pool)
            return
        from psycopg_pool import ConnectionPool

        if not isinstance(pool, ConnectionPool):
            raise TypeError(
                "PluginConfigRepository takes a psycopg_pool.ConnectionPool or a psycopg.Connection, not "
                f"{type(pool).__name__}; PluginConfigRepository.open() takes a conninfo"
            )
        self._connections = GivenPool(pool)

    @classmethod
    def open(
        cls,
        conninfo: str = "",
        *,
        min_size: int = 1,
        max_size: int = 4,
        timeout: float = 30.0,
        wait_seconds: float = 0.0,
    ) -> Self:
        """Return a repository with its own connections. Use it in a ``with`` block, or call ``close()``.

        ``conninfo`` is a libpq connection string or URL. The PG* variables supply missing settings. ``min_size``
        connections are opened now, and up to ``max_size`` on demand. A call waits ``timeout`` seconds for a free
        connection. If the server does not answer, a call ends after about 30 seconds. A forked child opens its own.

        If the database cannot be reached, retries for ``wait_seconds``, then raises StoreUnavailableError.
        If the conninfo cannot be read, raises InvalidDatabaseURLError.
        """
        if not 0 <= min_size <= max_size or max_size < 1:
            raise ValueError(f"min_size must be 0 to max_size, and max_size 1 or more, not {min_size} and {max_size}")
        repository = cls.__new__(cls)
        repository._connections = connections = OwnPool(checked_conninfo(conninfo), max_size, timeout)
        finalize(repository, connections.close)
        for _ in range(min_size):
            connections.open(wait_seconds)
        return repository

    def close(self) -> None:
        """Close the connections that ``open()`` made. A given pool or connection stays open."""
        if isinstance(self._connections, OwnPool):
            self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[PluginConfigRepository]:
        """Yield a repository inside one transaction, which stores all of the block's changes or none.

        If a given connection is already in a transaction, the block is a savepoint. Raises StoreError in pipeline mode.
        """
        with self._connections.cursor() as cursor, TransactionBlock(cursor.connection):
            yield PluginConfigRepository(cursor.connection)

    def get_by_name(self, plugin_name: str) -> PluginConfig | None:
        """Return the stored plugin, or None."""
        check_name(plugin_name)
        return next(iter(_plugins(self._read(GET_BY_NAME, {"plugin_name": plugin_name}))), None)

    def get_all(self) -> list[PluginConfig]:
        """Return every stored plugin, ordered by name."""
        return _plugins(self._read(GET_ALL, bulk=True))

    def get_enabled(self) -> list[PluginConfig]:
        """Return the stored plugins whose status is enabled, ordered by name."""
        return _plugins(self._read(GET_ENABLED, bulk=True))

    def save(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Create a plugin or set its status. Merge ``config`` over its stored config."""
        checked = checked_row(plugin_name, status, {} if config is None else config)
        return self._store(SAVE, plugin_name, {"status": status, "config": json.dumps(checked)})

    def save_config(
        self, plugin_name: str, config: dict[str, Any], *, expected_updated_at: datetime | None = None
    ) -> PluginConfig:
        """Replace the config, keep the status. Raises ConflictError if the row is not the expected version."""
        check_name(plugin_name)
        values = {"config": json.dumps(checked_config(plugin_name, config))}
        if expected_updated_at is None:
            return self._store(SAVE_CONFIG, plugin_name, values)
        values |= {"plugin_name": plugin_name, "expected_updated_at": expected_updated_at.isoformat()}
        rows = self._write(SAVE_CONFIG_IF_UNCHANGED, values)
        if not rows:
            raise ConflictError.of(plugin_name)
        return _plugins(rows)[0]

    def update_config(self, plugin_name: str, changes: dict[str, Any], *, remove: Iterable[str] = ()) -> PluginConfig:
        """Set and remove top-level keys of the stored config."""
        check_name(plugin_name)
        checked, gone = checked_changes(plugin_name, changes, remove)
        return self._store(UPDATE_CONFIG, plugin_name, {"changes": json.dumps(checked), "remove": json.dumps(gone)})

    def add(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Insert a plugin unless it has a row. Return its row."""
        checked = checked_row(plugin_name, status, {} if config is None else config)
        return self._store(ADD, plugin_name, {"status": status, "config": json.dumps(checked)})

    def save_many(self, configs: Iterable[PluginConfig]) -> None:
        """Create or replace many plugins, all or none."""
        rows = [
            {"plugin_name": plugin_name, "status": status, "config": config}
            for plugin_name, status, config in checked_many(configs)
        ]
        ((written,),) = self._write(SAVE_MANY, {"configs": json.dumps(rows)}, bulk=True)
        if written != len(rows):
            raise StoreError(
                f"a trigger or rule on plugin_config dropped {len(rows) - written} rows; the other rows are stored"
            )

    def delete(self, plugin_name: str) -> bool:
        """Delete a plugin's row. Return whether the row existed."""
        check_name(plugin_name)
        return bool(self._write(DELETE, {"plugin_name": plugin_name}))

    def _store(self, statement: LiteralString, plugin_name: str, values: dict[str, str]) -> PluginConfig:
        rows = self._write(statement, {"plugin_name": plugin_name, **values})
        if not rows:
            raise StoreError(
                f"plugin {plugin_name!r} was not stored: a trigger or rule on plugin_config dropped the row"
            )
        return _plugins(rows)[0]

    def _read(self, statement: LiteralString, values: dict[str, str] | None = None, *, bulk: bool = False) -> list[Row]:
        """Run a statement. If the connection was lost, run it once more on another connection."""
        with translated_errors():
            try:
                return self._run(statement, values, bulk)
            except psycopg.OperationalError as exc:
                if not (connection_lost(exc) and self._connections.retries_reads):
                    raise
            return self._run(statement, values, bulk)

    def _write(self, statement: LiteralString, values: dict[str, str], *, bulk: bool = False) -> list[Row]:
        """Run a statement once. If the connection was lost, the server may have committed it."""
        with translated_errors():
            return self._run(statement, values, bulk)

    def _run(self, statement: LiteralString, values: dict[str, str] | None, bulk: bool) -> list[Row]:
        """Run a statement and return its rows. With ``bulk``, use a new cursor, because a kept one holds all rows."""
        connections = self._connections
        try:
            with connections.cursor() as cursor:
                used = new_cursor(cursor.connection) if bulk else cursor
                return used.execute(statement, values, prepare=connections.prepare).fetchall()
        except UnicodeEncodeError as exc:
            raise StoreError(f"client_encoding has no {exc.object!r}: connect with client_encoding=utf8") from exc


def _plugins(rows: list[Row]) -> list[PluginConfig]:
    """Return the rows as PluginConfigs. Raises UnreadableRowsError if Python cannot read a config."""
    readable, unreadable = [], {}
    for name, status, config, *others in rows:
        try:
            # In binary, jsonb is a version byte, then text. ``**`` raises TypeError if the text is not an object.
            readable.append(PluginConfig(name, status, {**_decode(config, 1)[0]}, *others))
        except (TypeError, ValueError, RecursionError) as exc:
            unreadable[name] = exc
    if unreadable:
        names, reason = ", ".join(map(repr, unreadable)), next(iter(unreadable.values()))
        raise UnreadableRowsError(
            f"the row of plugin {names} cannot be read: {reason}; delete it with `plugin-store delete NAME`, or "
            "correct it in psql",
            list(unreadable),
            readable,
        ) from reason
    return readable
