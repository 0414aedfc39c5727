"""The store in PostgreSQL. Its statements are the files in ``sql/``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import RowFactory, scalar_row
from psycopg.types.json import Jsonb

from ._files import load_statement
from .conninfo import checked_conninfo
from .errors import ConflictError, SchemaError, StoreError, StoreUnavailableError
from .store import PluginConfig
from .validation import check_name, check_status, checked_changes, checked_config, checked_many

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg_pool import ConnectionPool
    from typing_extensions import LiteralString

Connection = psycopg.Connection[Any]

GET_BY_NAME = load_statement("get_by_name")
GET_ALL = load_statement("get_all")
GET_ENABLED = load_statement("get_enabled")
GET_CONFIG = load_statement("get_config")
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

    Methods raise StoreUnavailableError when the database cannot be reached (or the pool has no free
    connection in its timeout), SchemaError when the table is missing or of another version, StoreError for
    whatever else the database refuses; the driver's error is the cause.
    """

    def __init__(self, pool: ConnectionPool[Any] | Connection) -> None:
        self._connection: Callable[[], AbstractContextManager[Connection]]
        if isinstance(pool, psycopg.Connection):
            connection = pool
            self._connection = lambda: nullcontext(connection)
        else:
            self._connection = partial(_Borrowed, pool)

    @classmethod
    @contextmanager
    def open(
        cls, conninfo: str = "", *, min_size: int = 1, max_size: int = 4, timeout: float = 30.0
    ) -> Iterator[PluginConfigRepository]:
        """Open a pool of its own, and close it at the end of the ``with`` block.

        ``conninfo`` is a libpq connection string or URL; where it says nothing, the PG* variables do.
        The pool keeps ``min_size`` to ``max_size`` connections; a call waits up to ``timeout`` seconds
        for a free one. Raises StoreUnavailableError at once if the database cannot be reached, and
        InvalidDatabaseURLError for a conninfo that cannot be read.
        """
        from psycopg_pool import ConnectionPool

        conninfo = checked_conninfo(conninfo)
        # A pool only logs why it cannot connect, and tries on: so ask once ourselves.
        connect(conninfo).close()
        options = {"autocommit": True, "fallback_application_name": "plugin_store"}
        with ConnectionPool(
            conninfo, kwargs=options, min_size=min_size, max_size=max_size, timeout=timeout, open=True
        ) as pool:
            yield cls(pool)

    def get_by_name(self, plugin_name: str) -> PluginConfig | None:
        """Return the stored plugin, or None."""
        check_name(plugin_name)
        rows = self._fetch(GET_BY_NAME, {"plugin_name": plugin_name})
        return rows[0] if rows else None

    def get_all(self) -> list[PluginConfig]:
        """Return every stored plugin, ordered by name."""
        return self._fetch(GET_ALL)

    def get_enabled(self) -> list[PluginConfig]:
        """Return the stored plugins whose status is enabled, ordered by name."""
        return self._fetch(GET_ENABLED)

    def get_config(self, plugin_name: str) -> dict[str, Any]:
        """Return the plugin's config, ``{}`` for an unknown plugin."""
        check_name(plugin_name)
        configs = self._execute(GET_CONFIG, {"plugin_name": plugin_name}, scalar_row)
        return configs[0] if configs else {}

    def save(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Create or update a plugin; a config of None keeps the stored one."""
        check_name(plugin_name)
        check_status(plugin_name, status)
        stored = None if config is None else Jsonb(checked_config(plugin_name, config))
        return self._fetch(SAVE, {"plugin_name": plugin_name, "status": status, "config": stored})[0]

    def save_config(
        self, plugin_name: str, config: dict[str, Any], *, expected_updated_at: datetime | None = None
    ) -> PluginConfig:
        """Replace the config, leave the status; ConflictError if the row is not as expected."""
        check_name(plugin_name)
        values = {"plugin_name": plugin_name, "config": Jsonb(checked_config(plugin_name, config))}
        if expected_updated_at is None:
            return self._fetch(SAVE_CONFIG, values)[0]
        rows = self._fetch(SAVE_CONFIG_IF_UNCHANGED, values | {"expected_updated_at": expected_updated_at})
        if not rows:
            raise ConflictError.of(plugin_name)
        return rows[0]

    def update_config(self, plugin_name: str, changes: dict[str, Any], *, remove: Iterable[str] = ()) -> PluginConfig:
        """Set and remove top-level keys of the stored config."""
        check_name(plugin_name)
        checked, gone = checked_changes(plugin_name, changes, remove)
        return self._fetch(UPDATE_CONFIG, {"plugin_name": plugin_name, "changes": Jsonb(checked), "remove": gone})[0]

    def add(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Insert a plugin if there is no row of that name; return the row stored either way."""
        check_name(plugin_name)
        check_status(plugin_name, status)
        stored = Jsonb(checked_config(plugin_name, {} if config is None else config))
        return self._fetch(ADD, {"plugin_name": plugin_name, "status": status, "config": stored})[0]

    def save_many(self, configs: Iterable[PluginConfig]) -> None:
        """Create or replace many plugins, all or none."""
        rows = [
            {"plugin_name": plugin_name, "status": status, "config": config}
            for plugin_name, status, config in checked_many(configs)
        ]
        self._execute(SAVE_MANY, {"configs": Jsonb(rows)}, scalar_row)

    def delete(self, plugin_name: str) -> bool:
        """Delete a plugin; return whether there was one."""
        check_name(plugin_name)
        return bool(self._execute(DELETE, {"plugin_name": plugin_name}, scalar_row))

    def _fetch(self, statement: LiteralString, values: dict[str, Any] | None = None) -> list[PluginConfig]:
        return self._execute(statement, values, _plugin_config_row)

    def _execute(
        self, statement: LiteralString, values: dict[str, Any] | None, row_factory: RowFactory[Any]
    ) -> list[Any]:
        with translated_errors(), self._connection() as connection:
            # A plain Cursor, whatever cursors and rows the caller's connections make by default.
            # Prepared from the first: a pool hands out its connections in turn, and the default,
            # to prepare at the sixth use, would plan every statement five times on each of them.
            cursor = psycopg.Cursor(connection, row_factory=row_factory)
            cursor.execute(statement, values, prepare=True)
            return cursor.fetchall() if cursor.description else []


def connect(conninfo: str) -> Connection:
    """Return a new connection in autocommit mode, or raise StoreUnavailableError saying why not."""
    conninfo = checked_conninfo(conninfo)
    with translated_errors():
        try:
            connection: Connection = psycopg.connect(
                conninfo, autocommit=True, fallback_application_name="plugin_store"
            )
        except UnicodeError as exc:  # Python's, for a host's name with a part that is empty or too long
            raise StoreUnavailableError(f"the database's host cannot be looked up: {exc}") from exc
        return connection


def _plugin_config_row(cursor: psycopg.Cursor[Any]) -> Callable[[Any], PluginConfig]:
    """A row factory: columns in the order of PluginConfig's fields."""
    return lambda values: PluginConfig(*values)


class _Borrowed:
    """A context manager that takes a connection from the pool in autocommit mode, and returns it as it was.

    Outside of autocommit mode a statement takes three round trips: BEGIN, itself, COMMIT.
    """

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self._pool = pool
        self._connection: Connection
        self._autocommit: bool

    def __enter__(self) -> Connection:
        self._connection = self._pool.getconn()
        self._autocommit = self._connection.autocommit
        try:
            if self._connection.info.transaction_status is not TransactionStatus.IDLE:
                self._connection.rollback()  # the pool's check has left a transaction open
            if not self._autocommit:
                self._connection.autocommit = True
        except BaseException:
            self._pool.putconn(self._connection)
            raise
        return self._connection

    def __exit__(self, *exc: object) -> None:
        try:
            if not self._autocommit and not self._connection.closed:
                self._connection.autocommit = False
        finally:
            self._pool.putconn(self._connection)


class translated_errors:  # noqa: N801  (used like a function, as contextlib's are)
    """A context manager that raises the driver's errors as ours, chained.

    A class, as it is entered on every call: a generator costs several times as much.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, psycopg.Error):
            raise _translate(exc) from exc


# SQLSTATEs (PostgreSQL manual, appendix A) with which the server ends or refuses a connection.
_UNAVAILABLE = ("08", "57P", "53300", "25P03", "25P04")


def _translate(exc: psycopg.Error) -> StoreError:
    reason = str(exc).strip() or type(exc).__name__
    state = exc.sqlstate
    if state is None and isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError)):
        return StoreUnavailableError(f"the database cannot be reached: {reason}")
    if state is not None and state.startswith(_UNAVAILABLE):
        return StoreUnavailableError(f"the database closed the connection: {reason}")
    if isinstance(exc, psycopg.errors.InsufficientPrivilege):
        return StoreError(f"the database role may not do this: {reason}; see the README on roles and grants")
    if state is not None and state.startswith("42"):
        return SchemaError(
            f"the table plugin_config is missing from the search_path, or out of date: {reason}; run "
            "`plugin-store migrate` or `yoyo apply -d postgresql+psycopg://… package:plugin_store:migrations`"
        )
    return StoreError(f"the database refused: {reason}")
