"""The store in PostgreSQL. Its statements are the files in ``sql/``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import psycopg
from psycopg.types.json import Jsonb

from plugin_store.errors import ConflictError, StoreError

from .connections import GivenConnection, PooledConnections, connect, connections_after
from .conninfo import checked_conninfo
from .cursors import UNREADABLE, Connection, Cursor, refuse_rows
from .driver_errors import connection_lost, translated_errors
from .model import PluginConfig
from .statements import load_statement
from .validation import check_name, check_status, checked_changes, checked_config, checked_many

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg_pool import ConnectionPool
    from typing_extensions import LiteralString

Result = TypeVar("Result")
Take = Callable[[], AbstractContextManager[Cursor]]

# How long a pool may take to take up a connection that is made already.
HANDING_OVER_SECONDS = 30.0

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


class PluginConfigRepository:
    """A PluginConfigStore in the table ``plugin_config``: see PluginConfigStore for the methods.

    ``PluginConfigRepository(pool)`` takes an open psycopg_pool.ConnectionPool, which it neither opens
    nor closes, and may be shared between threads. Each method is one statement, one transaction
    and, once a connection has prepared the statement, one round trip; whether the pool's
    connections are in autocommit mode does not matter.

    ``PluginConfigRepository(connection)`` works inside the caller's transaction, which the caller
    commits or rolls back.

    Behind a connection pooler nothing is prepared, and a call is one round trip all the same.

    Methods raise StoreUnavailableError when the database cannot be reached (or the pool has no free
    connection in its timeout), SchemaError when the table is missing or of another version, StoreError for
    whatever else the database refuses; the driver's error is the cause. StoreError too for a row made by hand that
    holds what Python cannot read, naming its plugin: a write that leaves that value in the row is made all the same.
    """

    def __init__(self, pool: ConnectionPool[Any] | Connection) -> None:
        self._connections: GivenConnection | PooledConnections
        if isinstance(pool, psycopg.Connection):
            self._connections = GivenConnection(pool)
        elif hasattr(pool, "getconn"):  # to ask for its class would import psycopg_pool
            self._connections = PooledConnections(pool)
        else:
            raise TypeError(
                "PluginConfigRepository takes a psycopg_pool.ConnectionPool or a psycopg.Connection, not "
                f"{type(pool).__name__}; PluginConfigRepository.open() takes a conninfo"
            )

    @classmethod
    @contextmanager
    def open(
        cls,
        conninfo: str = "",
        *,
        min_size: int = 1,
        max_size: int = 4,
        timeout: float = 30.0,
        wait_seconds: float = 0.0,
    ) -> Iterator[PluginConfigRepository]:
        """Open a pool of its own, and close it at the end of the ``with`` block.

        ``conninfo`` is a libpq connection string or URL; where it says nothing, the PG* variables do.
        The pool keeps ``min_size`` to ``max_size`` connections; a call waits up to ``timeout`` seconds
        for a free one. Raises StoreUnavailableError if the database cannot be reached, at once or after trying again
        for ``wait_seconds``, and InvalidDatabaseURLError for a conninfo that cannot be read.
        """
        from psycopg_pool import ConnectionPool

        first: list[Connection] = []
        pool = ConnectionPool(
            checked_conninfo(conninfo),
            connection_class=connections_after(first),
            kwargs={"autocommit": True, "fallback_application_name": "plugin_store", "client_encoding": "utf8"},
            min_size=min_size,
            max_size=max_size,
            timeout=timeout,
            open=False,
        )
        # A pool only logs why it cannot connect, and tries on. So we do it here, and leave the connection to the pool.
        first.append(connect(conninfo, wait_seconds=wait_seconds))
        repository = cls(pool)
        connections = cast(PooledConnections, repository._connections)
        connections.close_at_exit()
        try:
            pool.open()
            # The pool takes it in a thread of its own, however short a time a call is to wait. From here on a forked
            # child finds none to take.
            with translated_errors():
                pool.putconn(pool.getconn(timeout=HANDING_OVER_SECONDS))
            yield repository
        finally:
            connections.close()

    def get_by_name(self, plugin_name: str) -> PluginConfig | None:
        """Return the stored plugin, or None."""
        check_name(plugin_name)
        row = self._read(self._row, GET_BY_NAME, {"plugin_name": plugin_name})
        return None if row is None else PluginConfig(*row)

    def get_all(self) -> list[PluginConfig]:
        """Return every stored plugin, ordered by name."""
        return self._read(self._all, GET_ALL)

    def get_enabled(self) -> list[PluginConfig]:
        """Return the stored plugins whose status is enabled, ordered by name."""
        return self._read(self._all, GET_ENABLED)

    def save(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Create a plugin or set its status; merge the config's keys over the stored ones."""
        check_name(plugin_name)
        check_status(plugin_name, status)
        stored = Jsonb(checked_config(plugin_name, {} if config is None else config))
        return self._store(SAVE, {"plugin_name": plugin_name, "status": status, "config": stored})

    def save_config(
        self, plugin_name: str, config: dict[str, Any], *, expected_updated_at: datetime | None = None
    ) -> PluginConfig:
        """Replace the config, leave the status; ConflictError if the row is not as expected."""
        check_name(plugin_name)
        values = {"plugin_name": plugin_name, "config": Jsonb(checked_config(plugin_name, config))}
        if expected_updated_at is None:
            return self._store(SAVE_CONFIG, values)
        row = self._write(self._row, SAVE_CONFIG_IF_UNCHANGED, values | {"expected_updated_at": expected_updated_at})
        if row is None:
            raise ConflictError.of(plugin_name)
        return PluginConfig(*row)

    def update_config(self, plugin_name: str, changes: dict[str, Any], *, remove: Iterable[str] = ()) -> PluginConfig:
        """Set and remove top-level keys of the stored config."""
        check_name(plugin_name)
        checked, gone = checked_changes(plugin_name, changes, remove)
        return self._store(UPDATE_CONFIG, {"plugin_name": plugin_name, "changes": Jsonb(checked), "remove": gone})

    def add(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Insert a plugin if there is no row of that name; return the row stored either way."""
        check_name(plugin_name)
        check_status(plugin_name, status)
        stored = Jsonb(checked_config(plugin_name, {} if config is None else config))
        return self._store(ADD, {"plugin_name": plugin_name, "status": status, "config": stored})

    def save_many(self, configs: Iterable[PluginConfig]) -> None:
        """Create or replace many plugins, all or none."""
        rows = [
            {"plugin_name": plugin_name, "status": status, "config": config}
            for plugin_name, status, config in checked_many(configs)
        ]
        self._write(self._do, SAVE_MANY, {"configs": Jsonb(rows)})

    def delete(self, plugin_name: str) -> bool:
        """Delete a plugin; return whether there was one."""
        check_name(plugin_name)
        return self._write(self._row, DELETE, {"plugin_name": plugin_name}) is not None

    def _read(self, run: Callable[..., Result], *args: Any) -> Result:
        """Run what may be repeated: once more on another connection, if the first was lost."""
        with translated_errors():
            try:
                return run(self._connections.take, *args)
            except psycopg.OperationalError as exc:
                if not (connection_lost(exc) and self._connections.replace_lost()):
                    raise
            return run(self._connections.take, *args)

    def _write(self, run: Callable[..., Result], *args: Any) -> Result:
        """Run what may not be repeated."""
        with translated_errors():
            return run(self._connections.take_live, *args)

    def _store(self, statement: LiteralString, values: dict[str, Any]) -> PluginConfig:
        row = self._write(self._row, statement, values)
        if row is None:
            raise StoreError(
                f"plugin {values['plugin_name']!r} was not stored: a trigger or rule on plugin_config dropped the row"
            )
        return PluginConfig(*row)

    def _row(self, take: Take, statement: LiteralString, values: dict[str, Any]) -> tuple[Any, ...] | None:
        with take() as cursor:
            try:
                return cursor.execute(statement, values, prepare=self._connections.prepare).fetchone()
            except UNREADABLE as exc:
                refuse_rows(exc, cursor, values["plugin_name"])
                raise

    def _all(self, take: Take, statement: LiteralString) -> list[PluginConfig]:
        with take() as cursor:
            try:
                rows = cursor.execute(statement, prepare=self._connections.prepare).fetchall()
            except UNREADABLE as exc:
                refuse_rows(exc, cursor)
                raise
        return [PluginConfig(*row) for row in rows]

    def _do(self, take: Take, statement: LiteralString, values: dict[str, Any]) -> None:
        with take() as cursor:
            cursor.execute(statement, values, prepare=self._connections.prepare)
