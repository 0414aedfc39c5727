"""Connections for a repository: one that the caller gave, or those of a pool."""

from __future__ import annotations

import atexit
import logging
import time
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from plugin_store._fork import renew_after_fork
from plugin_store.errors import StoreUnavailableError

from .conninfo import checked_conninfo
from .cursors import Connection, Cursor, new_cursor
from .driver_errors import translated_errors
from .statements import load_statement

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

logger = logging.getLogger(__name__)

BACKEND_PID = load_statement("backend_pid")
MOST_ROWS_KEPT = 100


# Used where the conninfo and libpq's environment say nothing. A dead network then shows within about ten seconds.
TIMEOUTS = {
    "connect_timeout": "5",  # seconds, for each host
    "tcp_user_timeout": "6000",  # milliseconds
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "2",
}


def connect(conninfo: str, application_name: str = "plugin_store", *, wait_seconds: float = 0) -> Connection:
    """Return a new connection in autocommit mode, with timeouts that show a dead network within about ten seconds.

    ``wait_seconds`` is how long to retry. ``application_name`` is used if the conninfo gives no other.
    StoreUnavailableError says why there is no connection. InvalidDatabaseURLError: the conninfo cannot be read.
    """
    conninfo = with_timeouts(checked_conninfo(conninfo))
    end, delay = time.monotonic() + wait_seconds, 0.05
    while True:
        try:
            return _connect(conninfo, application_name)
        except StoreUnavailableError as exc:
            left = end - time.monotonic()
            if not left > 0:  # also if it is not a number
                raise
            if delay == 0.05:
                logger.warning("waiting up to %g s for the database: %s", wait_seconds, exc)
        time.sleep(min(delay, left))
        delay = min(2 * delay, 1.0)


def with_timeouts(conninfo: str) -> str:
    """Return the conninfo with TIMEOUTS for what neither it nor libpq's environment sets."""
    environment = {option.keyword.decode(): option.val for option in psycopg.pq.Conninfo.get_defaults()}
    missing = {keyword: value for keyword, value in TIMEOUTS.items() if environment.get(keyword) is None}
    return make_conninfo("", **(missing | conninfo_to_dict(conninfo)))


def _connect(conninfo: str, application_name: str) -> Connection:
    with translated_errors():
        try:
            connection: Connection = psycopg.connect(
                conninfo, autocommit=True, fallback_application_name=application_name, client_encoding="utf8"
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


class GivenConnection:
    """The one connection that a caller gave, in whatever transaction it is."""

    prepare: bool | None = None  # as its prepare_threshold says, which is the caller's to set

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inherited = False
        renew_after_fork(self)

    def take(self) -> AbstractContextManager[Cursor]:
        """Return a new cursor on it for a ``with`` block; StoreUnavailableError in a forked child."""
        if self._inherited:  # pragma: no cover  (a forked child that os._exit ends is not measured)
            raise StoreUnavailableError("the connection belongs to the process that this one was forked from")
        return nullcontext(new_cursor(self._connection))

    take_live = take  # there is no other

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
        self._cursors: dict[Connection, Cursor] = {}
        # What belongs to parent processes, kept so that no destructor ends a parent's sessions from here.
        self._inherited: list[tuple[ConnectionPool[Any], object]] = []
        self._lock = Lock()
        renew_after_fork(self)

    def take(self) -> AbstractContextManager[Cursor]:
        """Return a cursor on one, in autocommit mode, for a ``with`` block; StoreUnavailableError if there is none."""
        return _Borrowed(self._pool or self._renewed(), self._cursors)

    def take_live(self) -> AbstractContextManager[Cursor]:
        """The same, for a write, which cannot be repeated: a connection that the server has ended is replaced."""
        return _Borrowed(self._pool or self._renewed(), self._cursors, live=True)

    def replace_lost(self) -> bool:
        """Return True, having replaced the pool's connections that are as dead as the one that raised."""
        (self._pool or self._renewed()).check()
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
                self._pool = _like(old)
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


def _like(old: ConnectionPool[Any]) -> ConnectionPool[Any]:
    """Return a new pool with the settings of one that belongs to another process."""
    try:
        return type(old)(
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
    except TypeError as exc:  # a class of the caller's, with an __init__ of its own
        raise StoreUnavailableError(
            f"the pool belongs to the process that this one was forked from, and no other like it can be made: {exc}; "
            "make the pool, and the repository, after fork()"
        ) from exc


class _Borrowed:
    """A context manager that takes a connection from the pool in autocommit mode, and returns it as it was.

    Outside of autocommit mode a statement takes three round trips: BEGIN, itself, COMMIT. For each connection a
    cursor is kept, as to make one costs a third of a short call.
    """

    def __init__(self, pool: ConnectionPool[Any], cursors: dict[Connection, Cursor], *, live: bool = False) -> None:
        self._pool = pool
        self._cursors = cursors
        self._live = live
        self._connection: Connection
        self._cursor: Cursor
        self._autocommit: bool

    def __enter__(self) -> Cursor:
        try:
            return self._take()
        except psycopg.OperationalError:
            # The server has ended it, most often. Nothing has been asked of it yet, so a write may go to another.
            self._pool.check()
            return self._take()

    def _take(self) -> Cursor:
        try:
            self._connection = connection = self._pool.getconn()
        except psycopg.OperationalError as exc:
            raise _no_connection(self._pool, exc) from exc
        self._autocommit = connection.autocommit
        try:
            if self._live:
                # The first reads the server's last words, if there are any, and the second sees that it has hung up.
                connection.pgconn.consume_input()
                connection.pgconn.consume_input()
            if connection.pgconn.transaction_status != TransactionStatus.IDLE:
                connection.rollback()  # the pool's check has left a transaction open
            if not self._autocommit:
                connection.autocommit = True
            self._cursor = self._cursors.get(connection) or self._new_cursor()
            return self._cursor
        except BaseException:
            self._give_back()
            raise

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, psycopg.errors.FeatureNotSupported):
            self._connection.close()  # what is prepared on it fits the table no more, since a column's type was changed
        # It holds its last result, and what was sent: not if that is large.
        if self._cursor.rowcount > MOST_ROWS_KEPT:
            self._cursors.pop(self._connection, None)
        self._give_back()

    def _give_back(self) -> None:
        try:
            if not self._autocommit and self._connection.pgconn.transaction_status == TransactionStatus.IDLE:
                self._connection.autocommit = False
        finally:
            self._pool.putconn(self._connection)

    def _new_cursor(self) -> Cursor:
        for known in list(self._cursors):
            if known.closed:  # the pool has replaced it
                self._cursors.pop(known, None)
        cursor = new_cursor(self._connection)
        if self._connection.prepare_threshold is not None and _is_pooled(cursor):
            self._connection.prepare_threshold = None
        self._cursors[self._connection] = cursor
        return cursor


def _is_pooled(cursor: Cursor) -> bool:
    """Return whether there is a connection pooler before the server, such as PgBouncer.

    It makes up the process id that it gives as the server's. One that pools transactions runs what two of its clients
    prepare on the same session, and psycopg names both alike: one client's read would run another's DELETE.
    """
    return cursor.execute(BACKEND_PID, prepare=False).fetchone() != (cursor.connection.info.backend_pid,)


def _no_connection(pool: ConnectionPool[Any], exc: psycopg.OperationalError) -> StoreUnavailableError:
    from psycopg_pool import PoolTimeout

    if not isinstance(exc, PoolTimeout):
        return StoreUnavailableError(f"the pool gives no connection: {exc}")
    size = "1 connection is" if pool.max_size == 1 else f"{pool.max_size} connections are"
    return StoreUnavailableError(
        f"the pool has no free connection: {exc}; either its {size} in use (its max_size), or the database is away"
    )
