"""Connections and cursors for a repository, and the driver's errors as ours."""

from __future__ import annotations

import atexit
import json
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.json import JsonbLoader

from ._fork import renew_after_fork
from .conninfo import checked_conninfo
from .errors import SchemaError, StoreError, StoreUnavailableError
from .validation import MAX_DEPTH

if TYPE_CHECKING:
    from psycopg.abc import AdaptContext, Buffer
    from psycopg_pool import ConnectionPool

Connection = psycopg.Connection[Any]
Cursor = psycopg.Cursor[tuple[Any, ...]]

MOST_ROWS_KEPT = 100
JSONB_OID = psycopg.adapters.types["jsonb"].oid


def connect(conninfo: str, application_name: str = "plugin_store") -> Connection:
    """Return a new connection in autocommit mode, or raise StoreUnavailableError saying why not.

    ``application_name`` is for the database's logs, if the conninfo gives no other.
    """
    conninfo = checked_conninfo(conninfo)
    with translated_errors():
        try:
            connection: Connection = psycopg.connect(
                conninfo, autocommit=True, fallback_application_name=application_name
            )
        except UnicodeError as exc:  # Python's, for a host's name with a part that is empty or too long
            raise StoreUnavailableError(f"the database's host cannot be looked up: {exc}") from exc
        return connection


def connections_after(first: list[Connection]) -> type[Connection]:
    """Return a class for a pool's connections that takes those in the list, before it makes new ones."""

    class PoolConnection(psycopg.Connection[Any]):
        @classmethod
        def connect(cls, conninfo: str = "", **kwargs: Any) -> Connection:  # type: ignore[override]  # all that there is
            try:
                return first.pop()
            except IndexError:
                return super().connect(conninfo, **kwargs)

    return PoolConnection


def _cursor(connection: Connection) -> Cursor:
    """Return a plain cursor, whatever cursors and rows the caller's connections make by default."""
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    # Unless the service has a loader of its own for this connection (set_json_loads).
    if connection.adapters.get_loader(JSONB_OID, Format.TEXT) is JsonbLoader:
        cursor.adapters.register_loader(JSONB_OID, _ConfigLoader)
    return cursor


class _ConfigLoader(JsonbLoader):
    """psycopg's loader, for a connection whose client_encoding is not UTF-8 too, and faster by a third of a row's cost.

    json.loads, which psycopg's calls by default, takes all bytes for UTF-8, and looks for blanks around the text,
    which the server does not send. A function that the service has set with psycopg's set_json_loads is called as ever.
    What is nested deeper than may be stored is refused: code that walks it would run out of stack in Python.
    """

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        assert self.connection is not None  # the loader is registered on cursors alone
        self._encoding = self.connection.info.encoding

    def load(self, data: Buffer) -> Any:
        text = str(data, self._encoding)
        value = _decode(text)[0] if self.loads is json.loads else self.loads(text)
        # Each level takes a bracket and its end: most configs are too short to be too deep.
        if len(text) > 2 * MAX_DEPTH and text.count("{") + text.count("[") > MAX_DEPTH and _too_deep(value):
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        return value


_decode = json.JSONDecoder().raw_decode


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        items = (item for node in level for item in (node.values() if isinstance(node, dict) else node))
        level = [item for item in items if isinstance(item, (dict, list))]
    return bool(level)


# What is raised of a value that PostgreSQL can hold and Python cannot.
UNREADABLE = (ValueError, RecursionError, psycopg.DataError)


def about_rows(exc: Exception, cursor: psycopg.Cursor[Any], plugin_name: str | None = None) -> StoreError | None:
    """Return what to raise instead, naming the plugins whose rows cannot be read; None if it is not for that.

    ``plugin_name`` is for rows that do not begin with it.
    """
    if isinstance(exc, UnicodeEncodeError):
        return StoreError(f"client_encoding has no {exc.object!r}: connect with client_encoding=utf8")
    result = cursor.pgresult
    if result is None or (isinstance(exc, psycopg.Error) and exc.sqlstate is not None):  # there are no rows
        return None
    unreadable: dict[str, Exception] = {}
    for number in range(result.ntuples):
        cursor.scroll(number, "absolute")
        try:
            cursor.fetchone()
        except UNREADABLE as of_this:
            name = result.get_value(number, 0) or b""
            unreadable[plugin_name or name.decode(cursor.connection.info.encoding, "replace")] = of_this
    if not unreadable:
        return None
    names, reason = ", ".join(map(repr, unreadable)), next(iter(unreadable.values()))
    return StoreError(
        f"the row of plugin {names} holds what cannot be read here: {type(reason).__name__}: {reason}; correct or "
        "delete it in psql"
    )


class GivenConnection:
    """The one connection that a caller gave, in whatever transaction it is."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inherited = False
        renew_after_fork(self)

    def take(self) -> AbstractContextManager[Cursor]:
        """Return a new cursor on it for a ``with`` block; StoreUnavailableError in a forked child."""
        if self._inherited:  # pragma: no cover  (a forked child that os._exit ends is not measured)
            raise StoreUnavailableError("the connection belongs to the process that this one was forked from")
        return nullcontext(_cursor(self._connection))

    def replace_lost(self, exc: psycopg.Error) -> bool:
        """Return False: what was lost with it is the caller's transaction."""
        return False

    def _after_fork(self) -> None:  # pragma: no cover  (the same)
        self._inherited = True


class PooledConnections:
    """Connections from a pool. In a forked child, from a new one like it: the parent's sockets are not ours to use."""

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self._pool: ConnectionPool[Any] | None = pool
        self._cursors: dict[Connection, Cursor] = {}
        # What belongs to parent processes, kept so that no destructor ends a parent's sessions from here.
        self._inherited: list[tuple[ConnectionPool[Any], object]] = []
        self._lock = Lock()
        renew_after_fork(self)

    def take(self) -> AbstractContextManager[Cursor]:
        """Return a cursor on one, in autocommit mode, for a ``with`` block."""
        return _Borrowed(self._pool or self._renewed(), self._cursors)

    def replace_lost(self, exc: psycopg.Error) -> bool:
        """Replace the pool's connections that are as dead as the one that raised; return False if it was the pool."""
        from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

        if self._pool is None or isinstance(exc, (PoolClosed, PoolTimeout, TooManyRequests)):
            return False
        self._pool.check()
        return True

    def close(self) -> None:
        """Close the pool of this process; not one inherited by fork(), which would end the parent's sessions."""
        atexit.unregister(self.close)
        if self._pool is not None:
            self._pool.close()

    def close_at_exit(self) -> None:
        """Close the pool when the interpreter exits, at the latest.

        From CPython 3.13 on, it waits 5 seconds for each thread of a pool that is open then (psycopg issue 954).
        """
        atexit.unregister(self.close)  # that of the parent process
        atexit.register(self.close)

    def _renewed(self) -> ConnectionPool[Any]:
        with self._lock:
            if self._pool is None:
                old = self._inherited[-1][0]
                self._pool = type(old)(
                    old.conninfo,
                    kwargs=old.kwargs,
                    connection_class=old.connection_class,
                    configure=old._configure,
                    check=old._check,
                    reset=old._reset,
                    min_size=old.min_size,
                    max_size=old.max_size,
                    timeout=old.timeout,
                    max_waiting=old.max_waiting,
                    max_lifetime=old.max_lifetime,
                    max_idle=old.max_idle,
                    reconnect_timeout=old.reconnect_timeout,
                    reconnect_failed=old._reconnect_failed,
                    num_workers=old.num_workers,
                    open=True,
                )
            return self._pool

    def _after_fork(self) -> None:
        self._lock = Lock()
        if self._pool is None or self._pool.closed:  # one that its owner has yet to open has nothing of the parent's
            return
        # Its destructor and close() would wait for the parent's threads, which are not here, and for their locks.
        self._pool._closed = True
        self._inherited.append((self._pool, self._cursors))
        self._pool, self._cursors = None, {}
        self.close_at_exit()  # the one that is to come, for no one else can


class _Borrowed:
    """A context manager that takes a connection from the pool in autocommit mode, and returns it as it was.

    Outside of autocommit mode a statement takes three round trips: BEGIN, itself, COMMIT. For each connection a
    cursor is kept, as to make one costs a third of a short call.
    """

    def __init__(self, pool: ConnectionPool[Any], cursors: dict[Connection, Cursor]) -> None:
        self._pool = pool
        self._cursors = cursors
        self._connection: Connection
        self._cursor: Cursor
        self._autocommit: bool

    def __enter__(self) -> Cursor:
        self._connection = connection = self._pool.getconn()
        self._autocommit = connection.autocommit
        try:
            if connection.pgconn.transaction_status != TransactionStatus.IDLE:
                connection.rollback()  # the pool's check has left a transaction open
            if not self._autocommit:
                connection.autocommit = True
            self._cursor = self._cursors.get(connection) or self._new_cursor()
            return self._cursor
        except BaseException:
            self._pool.putconn(connection)
            raise

    def __exit__(self, *exc: object) -> None:
        try:
            # It holds its last result, and what was sent: not if that is large.
            if self._cursor.rowcount > MOST_ROWS_KEPT:
                self._cursors.pop(self._connection, None)
            if not self._autocommit and not self._connection.closed:
                self._connection.autocommit = False
        finally:
            self._pool.putconn(self._connection)

    def _new_cursor(self) -> Cursor:
        for known in list(self._cursors):
            if known.closed:  # the pool has replaced it
                self._cursors.pop(known, None)
        cursor = self._cursors[self._connection] = _cursor(self._connection)
        return cursor


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


def connection_lost(exc: psycopg.Error) -> bool:
    """Return whether the error is one of reaching the server, not of what it was asked to do."""
    if exc.sqlstate is None:
        return isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError))
    return exc.sqlstate.startswith(_UNAVAILABLE)


def _translate(exc: psycopg.Error) -> StoreError:
    reason = str(exc).strip() or type(exc).__name__
    state = exc.sqlstate
    if connection_lost(exc):
        happened = "cannot be reached" if exc.sqlstate is None else "closed the connection"
        return StoreUnavailableError(f"the database {happened}: {reason}")
    if isinstance(exc, psycopg.errors.InsufficientPrivilege):
        return StoreError(
            f"the database role may not do this: {reason}; to read it needs SELECT on all columns of plugin_config, to "
            "write INSERT, UPDATE and DELETE too: see sql/recipes/grants.sql, and the README on roles and grants"
        )
    if isinstance(exc, psycopg.errors.NotNullViolation):  # ours are all given, or have a default
        return SchemaError(f"the table plugin_config is newer than this plugin_store: {reason}; update plugin_store")
    if state is not None and state.startswith("42"):
        return SchemaError(
            "the table plugin_config is missing from the search_path (or the role may not use its schema), or out of "
            f"date: {reason}; run `plugin-store migrate` or "
            "`yoyo apply -d postgresql+psycopg://… package:plugin_store:migrations`"
        )
    return StoreError(f"the database refused: {reason}")
