"""Opens connections, and uses a pool or connection that the caller gives.

A forked child never uses its parent's connections. Each use compares process ids, so this holds for forks in C too.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo, Format, TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.datetime import TimestamptzBinaryLoader
from psycopg.types.numeric import Int4BinaryLoader, Int8BinaryLoader
from psycopg.types.string import StrDumperUnknown, TextBinaryLoader
from psycopg.types.uuid import UUIDBinaryLoader

from plugin_store.errors import StoreError, StoreUnavailableError

from .conninfo import checked_conninfo
from .driver_errors import translated_errors
from .statements import load_statement
from .time_limit import Connection, LibraryConnection

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

logger = logging.getLogger(__name__)

Cursor = psycopg.Cursor[tuple[Any, ...]]

BACKEND_PID = load_statement("backend_pid")
# In seconds, except tcp_user_timeout: in milliseconds. connect_timeout applies to each host. These timeouts detect a
# dead network within about ten seconds.
TIMEOUTS = {"connect_timeout": "5", "tcp_user_timeout": "6000"}
TIMEOUTS |= {"keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "2"}
LOADERS: dict[str, type[Loader]] = {
    **dict.fromkeys(("varchar", "text", "name", "jsonb"), TextBinaryLoader),
    "uuid": UUIDBinaryLoader,
    "timestamptz": TimestamptzBinaryLoader,
    "int4": Int4BinaryLoader,
    "int8": Int8BinaryLoader,
}


def connect(conninfo: str, application_name: str = "plugin_store", *, wait_seconds: float = 0) -> LibraryConnection:
    """Return a new connection in autocommit mode, with timeouts that detect a dead network.

    ``application_name`` applies if the conninfo has none. If the database cannot be reached, retries for
    ``wait_seconds``, then raises StoreUnavailableError. If the conninfo cannot be read, raises InvalidDatabaseURLError.
    """
    conninfo = with_timeouts(checked_conninfo(conninfo))
    end, delay = time.monotonic() + wait_seconds, 0.0
    while True:
        try:
            return _connect(conninfo, application_name)
        except StoreUnavailableError as exc:
            left = end - time.monotonic()
            if not left > 0:  # also if wait_seconds is NaN
                raise
            if not delay:
                logger.warning("waiting up to %g s for the database: %s", wait_seconds, exc)
        delay = min(2 * delay or 0.05, 1.0)
        time.sleep(min(delay, left))


def with_timeouts(conninfo: str) -> str:
    """Return the conninfo with TIMEOUTS added. The conninfo and libpq's environment override them."""
    environment = {option.keyword.decode() for option in Conninfo.get_defaults() if option.val is not None}
    missing = {keyword: value for keyword, value in TIMEOUTS.items() if keyword not in environment}
    return make_conninfo("", **(missing | conninfo_to_dict(conninfo)))


def _connect(conninfo: str, application_name: str) -> LibraryConnection:
    with translated_errors():
        try:
            return LibraryConnection.connect(
                conninfo, autocommit=True, fallback_application_name=application_name, client_encoding="utf8"
            )
        except UnicodeError as exc:  # Python raises it if a part of the host name is empty or too long
            raise StoreUnavailableError(f"the database's host cannot be looked up: {exc}") from exc


def new_cursor(connection: Connection) -> Cursor:
    """Return a cursor that ignores the connection's row factory, cursor class and adapters.

    Pass parameters as str, and return the types of LOADERS only. Results are binary, in which a config is a version
    byte, then JSON text.
    """
    if connection.info.encoding == "ascii":
        raise StoreError("client_encoding is SQL_ASCII: connect with client_encoding=utf8")
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    cursor.format = Format.BINARY
    cursor.adapters.register_dumper(str, StrDumperUnknown)
    for type_name, loader in LOADERS.items():
        cursor.adapters.register_loader(type_name, loader)
    return cursor


def is_pooled(connection: Connection) -> bool:
    """Return whether the connection goes through a pooler such as PgBouncer.

    A pooler reports an invented process id of the server. In transaction mode, clients share a session, and their
    prepared statements have the same names.
    """
    with translated_errors():
        row = new_cursor(connection).execute(BACKEND_PID, prepare=False).fetchone()
    return row != (connection.info.backend_pid,)


def is_live(connection: Connection) -> bool:
    """Return whether the connection looks open. Detects a close by the server without a round trip."""
    try:
        # The first call may read the server's last message. The second then detects the closed socket.
        connection.pgconn.consume_input()
        connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return True


def refuse_other_process(pid: int, what: str) -> None:
    """Raise StoreUnavailableError unless this process made ``what``."""
    if pid != os.getpid():
        raise StoreUnavailableError(
            f"this process is a fork, and the {what} belongs to its parent: make the {what} and the repository after "
            "the fork, or use PluginConfigRepository.open(), which works in a child"
        )


class GivenConnection:
    """The caller's connection. Statements run in its current transaction."""

    prepare: bool | None = None  # the connection's prepare_threshold decides
    retries_reads = False  # a lost connection has ended the caller's transaction

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pid = os.getpid()
        # Keeping a cursor saves a third of a call. Threads may share a caller's connection, but not a cursor.
        self._kept = new_cursor(connection) if isinstance(connection, LibraryConnection) else None

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """Yield a cursor. Raises StoreUnavailableError in a forked child."""
        refuse_other_process(self._pid, "connection")
        yield self._kept or new_cursor(self._connection)


class GivenPool:
    """The caller's pool. Each call sets a connection to autocommit mode, and restores its mode afterwards.

    Without autocommit, a statement takes three round trips: BEGIN, itself, COMMIT.
    """

    prepare: bool | None = None  # psycopg prepares a statement after five runs on a connection
    retries_reads = True

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self._pool = pool
        self._pid = os.getpid()

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """Yield a cursor on a live connection. Raises StoreUnavailableError after the pool's timeout."""
        refuse_other_process(self._pid, "pool")
        connection = self._get()
        while not is_live(connection):
            self._pool.putconn(connection)  # the pool discards it
            connection = self._get()
        autocommit = connection.autocommit
        try:
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.rollback()  # the pool's check or configure function has left a transaction open
            connection.autocommit = True
            yield new_cursor(connection)
            connection.autocommit = autocommit
        except BaseException as exc:
            refuse_other_process(self._pid, "pool")
            # A signal handler may raise within psycopg, so only psycopg's own errors leave a known state.
            # After FeatureNotSupported, a column changed its type: this connection's prepared statements are invalid.
            known = isinstance(exc, psycopg.Error) and not isinstance(exc, psycopg.errors.FeatureNotSupported)
            if known and connection.info.transaction_status == TransactionStatus.IDLE:
                connection.autocommit = autocommit
            else:
                connection.pgconn.finish()  # the pool replaces it
            raise
        finally:
            self._pool.putconn(connection)

    def _get(self) -> Connection:
        try:
            connection: Connection = self._pool.getconn()
            return connection
        except psycopg.OperationalError as exc:  # the pool is closed, or no connection was free in time
            raise StoreUnavailableError(
                f"the pool gave no connection: {exc}; check that the pool is open and large enough, and that the "
                "database runs"
            ) from exc


class TransactionBlock:
    """A context manager that runs a transaction, or a savepoint if the connection is in a transaction.

    connection.transaction() is a generator. If a forked child closed it, it would use its parent's socket.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transaction = psycopg.Transaction(connection)
        self._pid = os.getpid()

    def __enter__(self) -> None:
        if self._connection.info.pipeline_status:  # psycopg.Transaction may take BEGIN for a savepoint
            raise StoreError("the connection is in pipeline mode: use its transaction(), and the repository inside")
        with translated_errors():
            self._transaction.__enter__()

    def __exit__(self, *exc_info: Any) -> None:
        refuse_other_process(self._pid, "transaction")
        with translated_errors():
            self._transaction.__exit__(*exc_info)
