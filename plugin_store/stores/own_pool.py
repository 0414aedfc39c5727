"""The pool of a repository that opens its own connections."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock

from plugin_store.errors import StoreUnavailableError

from .connections import Cursor, connect, is_live, is_pooled, new_cursor
from .per_process import PerProcess

POLL_SECONDS = 0.1


class OwnPool:
    """A pool of up to ``max_size`` connections, opened on demand.

    A forked child opens its own. It keeps the inherited ones referenced, and never uses or closes them.
    """

    # Prepare at the first run. By default, psycopg would plan each statement five times on each connection.
    prepare: bool | None = True
    retries_reads = True

    def __init__(self, conninfo: str, max_size: int, timeout: float) -> None:
        self._conninfo = conninfo
        self._max_size = max_size
        self._timeout = timeout
        self._closed = False
        self._connections = PerProcess(lambda: _Connections(max_size))

    def open(self, wait_seconds: float = 0.0) -> None:
        """Open a connection. Retries for ``wait_seconds``, then raises StoreUnavailableError."""
        self._connections.get().idle.append(self._open(wait_seconds))

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """Yield a cursor on a live connection. Raises StoreUnavailableError after ``timeout`` seconds."""
        connections, me = self._connections.get(), object()
        try:
            if not connections.wait(me, self._timeout):
                raise StoreUnavailableError(
                    f"no connection became free within {self._timeout:g} s: all max_size={self._max_size} are in use; "
                    "raise max_size, or shorten the transactions"
                )
            if self._closed:
                raise StoreUnavailableError("the repository is closed")
            cursor = connections.pop_live() or self._open()
            try:
                yield cursor
            except BaseException:  # the connection's state is unknown
                connections.close(cursor)
                raise
            connections.idle.append(cursor)
            if self._closed:
                self.close()
        finally:
            connections.calls.pop(me, None)
            connections.wake_next()

    def close(self) -> None:
        """Close this process's connections. If a call uses one, it is closed when the call ends."""
        self._closed = True
        connections = self._connections.get()
        while cursor := connections.pop_live():
            connections.close(cursor)

    def _open(self, wait_seconds: float = 0.0) -> Cursor:
        connection = connect(self._conninfo, wait_seconds=wait_seconds)
        if is_pooled(connection):
            connection.prepare_threshold = None
        return new_cursor(connection)


class _Connections:
    """The connections of one process. Each idle connection keeps a cursor, because making one is slow.

    ``calls`` is a queue: the first ``max_size`` calls may use a connection, the others wait. A signal handler may raise
    after any step. So each step is atomic, and there is no lock to leave held. A waiting call polls, because its
    wake-up may be lost.
    """

    def __init__(self, max_size: int) -> None:
        self._pid = os.getpid()
        self._max_size = max_size
        self.calls: dict[object, Lock] = {}
        self.idle: list[Cursor] = []

    def wait(self, call: object, timeout: float) -> bool:
        """Wait until the call may use a connection. Return False after ``timeout`` seconds."""
        end, wake = time.monotonic() + timeout, Lock()
        self.calls[call] = wake
        while call not in list(self.calls)[: self._max_size]:
            left = end - time.monotonic()
            if left <= 0:
                return False
            wake.acquire(timeout=min(left, POLL_SECONDS))  # returns at once the first time
        return True

    def wake_next(self) -> None:
        """Wake the call that has just become one of the first ``max_size``."""
        for wake in list(self.calls.values())[self._max_size - 1 : self._max_size]:
            with suppress(RuntimeError):  # it is awake already
                wake.release()

    def pop_live(self) -> Cursor | None:
        """Take the live connection that was used last. Close the dead ones on the way."""
        while True:
            try:
                cursor = self.idle.pop()
            except IndexError:
                return None
            if is_live(cursor.connection):
                return cursor
            self.close(cursor)

    def close(self, cursor: Cursor) -> None:
        """Close a connection. A process that was forked during the call leaves it open."""
        if self._pid == os.getpid():
            cursor.connection.close()
