"""The pool of a repository that opens its own connections."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock

from plugin_store.errors import StoreUnavailableError

from .connections import Cursor, connect, is_live, is_pooled, new_cursor

LOOK_EVERY_SECONDS = 0.1


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
        self._processes: dict[int, _Sessions] = {}

    def open(self, wait_seconds: float = 0.0) -> None:
        """Open a connection. Retries for ``wait_seconds``, then raises StoreUnavailableError."""
        self._sessions().idle.append(self._open(wait_seconds))

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """Yield a cursor on a live connection. Raises StoreUnavailableError after ``timeout`` seconds."""
        sessions, me = self._sessions(), object()
        try:
            if not sessions.wait(me, self._timeout):
                raise StoreUnavailableError(
                    f"no connection became free within {self._timeout:g} s: max_size={self._max_size} are in use"
                )
            if self._closed:
                raise StoreUnavailableError("the repository is closed")
            cursor = sessions.pop_live() or self._open()
            try:
                yield cursor
            except BaseException:  # the connection's state is unknown
                sessions.close(cursor)
                raise
            sessions.idle.append(cursor)
            if self._closed:
                self.close()
        finally:
            sessions.calls.pop(me, None)
            sessions.wake_next()

    def close(self) -> None:
        """Close this process's connections. If a call uses one, it is closed when the call ends."""
        self._closed = True
        sessions = self._sessions()
        while cursor := sessions.pop_live():
            sessions.close(cursor)

    def _sessions(self) -> _Sessions:
        pid = os.getpid()
        return self._processes.get(pid) or self._processes.setdefault(pid, _Sessions(pid, self._max_size))

    def _open(self, wait_seconds: float = 0.0) -> Cursor:
        connection = connect(self._conninfo, wait_seconds=wait_seconds)
        if is_pooled(connection):
            connection.prepare_threshold = None
        return new_cursor(connection)


class _Sessions:
    """The connections of one process. Each idle connection keeps a cursor, because making one is slow.

    ``calls`` is a queue: the first ``max_size`` calls may use a connection, the others wait. A signal handler may raise
    after any step. So each step is atomic, and there is no lock to leave held. A waiting call polls, because its
    wake-up may be lost.
    """

    def __init__(self, pid: int, max_size: int) -> None:
        self._pid = pid
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
            wake.acquire(timeout=min(left, LOOK_EVERY_SECONDS))
        return True

    def wake_next(self) -> None:
        """After a call has ended, wake the next call of the queue."""
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
