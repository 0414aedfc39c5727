"""Connections and cursors for a repository, and the driver's errors as ours."""

from __future__ import annotations

import atexit
import json
import logging
import time
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import RowFactory, tuple_row
from psycopg.types.json import JsonbLoader

from ._files import load_statement
from ._fork import renew_after_fork
from .conninfo import checked_conninfo
from .errors import SchemaError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.abc import AdaptContext, Buffer
    from psycopg_pool import ConnectionPool

Connection = psycopg.Connection[Any]
Row = TypeVar("Row")

logger = logging.getLogger(__name__)

BACKEND_PID = load_statement("backend_pid")
JSONB_OID = psycopg.adapters.types["jsonb"].oid


def connect(conninfo: str, wait_seconds: float = 0) -> Connection:
    """Return a new connection in autocommit mode, or raise StoreUnavailableError saying why not.

    Before that it tries again for up to ``wait_seconds``, and logs once that it does. An attempt under way is not cut
    short: how long one takes is libpq's ``connect_timeout``.
    """
    conninfo = checked_conninfo(conninfo)
    end, delay = time.monotonic() + wait_seconds, 0.05
    while True:
        try:
            return _connect(conninfo)
        except StoreUnavailableError as exc:
            left = end - time.monotonic()
            if not left > 0:  # also if it is not a number
                raise
            if delay == 0.05:
                logger.warning("waiting up to %g s for the database: %s", wait_seconds, exc)
        time.sleep(min(delay, left))
        delay = min(2 * delay, 1.0)


def _connect(conninfo: str) -> Connection:
    with translated_errors():
        try:
            connection: Connection = psycopg.connect(
                conninfo, autocommit=True, fallback_application_name="plugin_store"
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


def new_cursor(connection: Connection, row_factory: RowFactory[Row]) -> psycopg.Cursor[Row]:
    """Return a plain cursor, whatever cursors and rows the caller's connections make by default."""
    cursor = psycopg.Cursor(connection, row_factory=row_factory)
    # Unless the service has a loader of its own for this connection (set_json_loads).
    if connection.adapters.get_loader(JSONB_OID, Format.TEXT) is JsonbLoader:
        cursor.adapters.register_loader(JSONB_OID, _ConfigLoader)
    return cursor


class _ConfigLoader(JsonbLoader):
    """psycopg's loader, for a connection whose client_encoding is not UTF-8 too, and faster by a third of a row's cost.

    json.loads, which psycopg's calls by default, takes all bytes for UTF-8, and looks for blanks around the text,
    which the server does not send. A function that the service has set with psycopg's set_json_loads is called as ever.
    """

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        assert self.connection is not None  # the loader is registered on cursors alone
        self._encoding = self.connection.info.encoding

    def load(self, data: Buffer) -> Any:
        text = str(data, self._encoding)
        return _decode(text)[0] if self.loads is json.loads else self.loads(text)


_decode = json.JSONDecoder().raw_decode


class GivenConnection:
    """The one connection that a caller gave, in whatever transaction it is."""

    prepare: bool | None = None  # as its prepare_threshold says, which is the caller's to set

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inherited = False
        renew_after_fork(self)

    def take(self) -> AbstractContextManager[Connection]:
        """Return it for a ``with`` block; StoreUnavailableError in a forked child."""
        if self._inherited:  # pragma: no cover  (a forked child that os._exit ends is not measured)
            raise StoreUnavailableError("the connection belongs to the process that this one was forked from")
        return nullcontext(self._connection)

    take_live = take  # there is no other

    def cursor(self, connection: Connection) -> psycopg.Cursor[Any]:
        """Return a new one: the caller may use the connection in several threads."""
        return new_cursor(connection, tuple_row)

    def replace_lost(self) -> bool:
        """Return False: what was lost with it is the caller's transaction."""
        return False

    def _after_fork(self) -> None:  # pragma: no cover  (the same)
        self._inherited = True


class PooledConnections:
    """Connections from a pool. In a forked child, from a new one like it: the parent's sockets are not ours to use."""

    # At once: a pool hands out its connections in turn, and the default, to prepare at the sixth use, would plan each
    # statement five times on every connection.
    prepare: bool | None = True

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self._pool: ConnectionPool[Any] | None = pool
        self._cursors: dict[Connection, psycopg.Cursor[Any]] = {}
        # What belongs to parent processes, kept so that no destructor ends a parent's sessions from here.
        self._inherited: list[tuple[ConnectionPool[Any], object]] = []
        self._lock = Lock()
        renew_after_fork(self)

    def take(self) -> AbstractContextManager[Connection]:
        """Return one, in autocommit mode, for a ``with`` block; StoreUnavailableError if the pool gives none."""
        return _Borrowed(self._pool or self._renewed(), self.cursor)

    def take_live(self) -> AbstractContextManager[Connection]:
        """The same, for a write: one that the server has ended while it was idle is replaced."""
        return _Borrowed(self._pool or self._renewed(), self.cursor, live=True)

    def replace_lost(self) -> bool:
        """Return True, having replaced the pool's connections that are as dead as the one that raised."""
        (self._pool or self._renewed()).check()
        return True

    def cursor(self, connection: Connection) -> psycopg.Cursor[Any]:
        """Return the one that is kept for a connection taken here: to make one costs a third of a short call."""
        cursor = self._cursors.get(connection)
        if cursor is None:
            for known in list(self._cursors):
                if known.closed:  # the pool has replaced it
                    self._cursors.pop(known, None)
            if connection.prepare_threshold is not None and _is_pooled(connection):
                connection.prepare_threshold = None
            cursor = self._cursors[connection] = new_cursor(connection, tuple_row)
        return cursor

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


def _is_pooled(connection: Connection) -> bool:
    """Return whether there is a connection pooler before the server, such as PgBouncer.

    It makes up the process id that it gives as the server's. One that pools transactions runs what two of its clients
    prepare on the same session, and psycopg names both alike: one client's read would run another's DELETE.
    """
    row = new_cursor(connection, tuple_row).execute(BACKEND_PID, prepare=False).fetchone()
    return row != (connection.info.backend_pid,)


class _Borrowed:
    """A context manager that takes a connection from the pool in autocommit mode, and returns it as it was.

    Outside of autocommit mode a statement takes three round trips: BEGIN, itself, COMMIT.
    """

    def __init__(self, pool: ConnectionPool[Any], meet: Callable[[Connection], object], *, live: bool = False) -> None:
        self._pool = pool
        self._meet = meet
        self._live = live
        self._connection: Connection
        self._autocommit: bool

    def __enter__(self) -> Connection:
        try:
            return self._take()
        except psycopg.OperationalError:
            # The server has ended it, most often. Nothing has been asked of it yet, so a write may go to another.
            self._pool.check()
            return self._take()

    def _take(self) -> Connection:
        try:
            self._connection = self._pool.getconn()
        except psycopg.OperationalError as exc:
            raise _no_connection(self._pool, exc) from exc
        self._autocommit = self._connection.autocommit
        try:
            if self._live:
                # The first reads the server's last words, if there are any, and the second sees that it has hung up.
                self._connection.pgconn.consume_input()
                self._connection.pgconn.consume_input()
            if self._connection.pgconn.transaction_status != TransactionStatus.IDLE:
                self._connection.rollback()  # the pool's check has left a transaction open
            if not self._autocommit:
                self._connection.autocommit = True
            self._meet(self._connection)
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


def _no_connection(pool: ConnectionPool[Any], exc: psycopg.OperationalError) -> StoreUnavailableError:
    from psycopg_pool import PoolTimeout

    if not isinstance(exc, PoolTimeout):
        return StoreUnavailableError(f"the pool gives no connection: {exc}")
    size = "1 connection is" if pool.max_size == 1 else f"{pool.max_size} connections are"
    return StoreUnavailableError(
        f"the pool has no free connection: {exc}; either its {size} in use (its max_size), or the database is away"
    )


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
    if isinstance(exc, (psycopg.errors.DuplicatePreparedStatement, psycopg.errors.InvalidSqlStatementName)):
        return StoreError(
            f"the connection does not keep what is prepared on it: {reason}; if there is a connection pooler before "
            "the server, have psycopg prepare nothing: ConnectionPool(…, kwargs={'prepare_threshold': None})"
        )
    if isinstance(exc, psycopg.errors.InsufficientPrivilege):
        return StoreError(f"the database role may not do this: {reason}; see the README on roles and grants")
    if state is not None and state.startswith("42"):
        return SchemaError(
            f"the table plugin_config is missing from the search_path, or out of date: {reason}; run "
            "`plugin-store migrate` or `yoyo apply -d postgresql+psycopg://… package:plugin_store:migrations`"
        )
    return StoreError(f"the database refused: {reason}")
