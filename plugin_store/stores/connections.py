"""Connecting, and the connections that a caller gives: a pool or one. None is used in a forked child.

Each use compares the process id with the one that made the sockets. So it holds too where C code forks.
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
from psycopg.pq import Conninfo, TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.datetime import TimestamptzBinaryLoader
from psycopg.types.numeric import Int8BinaryLoader
from psycopg.types.string import StrDumperUnknown, TextBinaryLoader
from psycopg.types.uuid import UUIDBinaryLoader

from plugin_store.errors import StoreError, StoreUnavailableError

from .conninfo import checked_conninfo
from .driver_errors import translated_errors
from .statements import load_statement
from .time_limit import Connection, LibraryConnection, limited_call

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

logger = logging.getLogger(__name__)

Cursor = psycopg.Cursor[tuple[Any, ...]]

BACKEND_PID = load_statement("backend_pid")
# Seconds; tcp_user_timeout has milliseconds. connect_timeout is for each host. They are used where the conninfo and
# libpq's environment say nothing. A dead network then shows within about ten seconds.
TIMEOUTS = {"connect_timeout": "5", "tcp_user_timeout": "6000"}
TIMEOUTS |= {"keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "2"}
LOADERS: dict[str, type[Loader]] = {
    "varchar": TextBinaryLoader,
    "jsonb": TextBinaryLoader,
    "uuid": UUIDBinaryLoader,
    "timestamptz": TimestamptzBinaryLoader,
    "int8": Int8BinaryLoader,
}


def connect(conninfo: str, application_name: str = "plugin_store", *, wait_seconds: float = 0) -> LibraryConnection:
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
    environment = {option.keyword.decode() for option in Conninfo.get_defaults() if option.val is not None}
    missing = {keyword: value for keyword, value in TIMEOUTS.items() if keyword not in environment}
    return make_conninfo("", **(missing | conninfo_to_dict(conninfo)))


def _connect(conninfo: str, application_name: str) -> LibraryConnection:
    with translated_errors():
        try:
            return LibraryConnection.connect(
                conninfo, autocommit=True, fallback_application_name=application_name, client_encoding="utf8"
            )
        except UnicodeError as exc:  # Python's, for a host's name with a part that is empty or too long
            raise StoreUnavailableError(f"the database's host cannot be looked up: {exc}") from exc


def new_cursor(connection: Connection) -> Cursor:
    """Return a cursor that is the same whatever the connection's row factory, cursor class and adapters.

    It takes str parameters. In binary results it gives a config as text, after one byte.
    """
    if connection.info.encoding == "ascii":
        raise StoreError("client_encoding is SQL_ASCII: connect with client_encoding=utf8")
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    cursor.adapters.register_dumper(str, StrDumperUnknown)
    for type_name, loader in LOADERS.items():
        cursor.adapters.register_loader(type_name, loader)
    return cursor


def is_pooled(connection: Connection) -> bool:
    """Return whether a connection pooler such as PgBouncer is between here and the server.

    A pooler makes up the process id that it gives as the server's. In transaction mode, two of its clients prepare
    statements of the same name on one session.
    """
    with translated_errors(), limited_call(connection):
        row = psycopg.Cursor(connection, row_factory=tuple_row).execute(BACKEND_PID, prepare=False).fetchone()
    return row != (connection.info.backend_pid,)


def is_live(connection: Connection) -> bool:
    """Return whether the server has not ended the connection, as far as this side knows. Costs no round trip."""
    try:
        # The first reads the server's last message, if there is one. The second sees that it has hung up.
        connection.pgconn.consume_input()
        connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return True


def refuse_other_process(pid: int, what: str) -> None:
    """Raise StoreUnavailableError unless this is the process that made ``what``."""
    if pid != os.getpid():
        raise StoreUnavailableError(
            f"the {what} belongs to the process that this one was forked from: make the {what} and the repository "
            "after the fork, or use PluginConfigRepository.open(), which connects anew"
        )


class GivenConnection:
    """The one connection that the caller gave, in whatever transaction it is."""

    prepare: bool | None = None  # the connection's prepare_threshold decides
    retries_reads = False  # what is lost with the connection is the caller's transaction

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pid = os.getpid()
        # Threads may share a caller's connection, so only the library's own keeps a cursor: it saves a third of a call.
        self._kept = new_cursor(connection) if isinstance(connection, LibraryConnection) else None

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """Yield a cursor; StoreUnavailableError in a forked child."""
        refuse_other_process(self._pid, "connection")
        yield self._kept or new_cursor(self._connection)


class GivenPool:
    """The caller's pool. A call takes a connection in autocommit mode and returns it as it was.

    Outside autocommit mode a statement takes three round trips: BEGIN, itself, COMMIT.
    """

    prepare: bool | None = None  # psycopg prepares what a connection has run five times
    retries_reads = True

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self._pool = pool
        self._pid = os.getpid()

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """Yield a cursor on a live connection; StoreUnavailableError if there is none in the pool's timeout."""
        refuse_other_process(self._pid, "pool")
        connection = self._get()
        while not is_live(connection):
            self._pool.putconn(connection)  # which discards it
            connection = self._get()
        autocommit = connection.autocommit
        try:
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.rollback()  # the pool's check or configure function has left a transaction open
            connection.autocommit = True
            yield new_cursor(connection)
        except psycopg.errors.FeatureNotSupported:
            # A column changed its type, so this connection's prepared statements are invalid.
            connection.pgconn.finish()
            raise
        finally:
            if connection.info.transaction_status == TransactionStatus.IDLE:
                connection.autocommit = autocommit
            self._pool.putconn(connection)

    def _get(self) -> Connection:
        try:
            connection: Connection = self._pool.getconn()
            return connection
        except psycopg.OperationalError as exc:  # of the pool: it is closed, or none was free in time
            raise StoreUnavailableError(
                f"the pool gives no connection: {exc}; its max_size connections are in use, or the database is away"
            ) from exc


class Block:
    """One transaction on a connection, as a context manager; on a given connection maybe a savepoint.

    Not connection.transaction(): that is a generator, which a forked child would end on its parent's socket.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transaction = psycopg.Transaction(connection)
        self._pid = os.getpid()

    def __enter__(self) -> None:
        with translated_errors(), limited_call(self._connection):
            self._transaction.__enter__()

    def __exit__(self, *exc_info: Any) -> None:
        refuse_other_process(self._pid, "transaction")
        with translated_errors(), limited_call(self._connection):
            self._transaction.__exit__(*exc_info)
