"""The connections that a repository opens for itself, anew in a forked child."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Semaphore

from plugin_store.errors import StoreUnavailableError

from .connections import Cursor, connect, is_live, is_pooled, new_cursor


class OwnPool:
    """Up to ``max_size`` connections of the library's own, opened by the calls that need them.

    A forked child opens connections of its own. What it inherited stays referenced and untouched.
    """

    # At once: a pool hands out connections in turn, and psycopg's rule would plan each statement five times on each.
    prepare: bool | None = True
    retries_reads = True

    def __init__(self, conninfo: str, max_size: int, timeout: float) -> None:
        self._conninfo = conninfo
        self._max_size = max_size
        self._timeout = timeout
        self._closed = False
        self._processes: dict[int, _Sessions] = {}

    def open(self, wait_seconds: float = 0.0) -> None:
        """Add a connection; StoreUnavailableError if that fails for ``wait_seconds``."""
        self._sessions().idle.append(self._open(wait_seconds))

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """Yield a cursor on a live connection; StoreUnavailableError if there is none in time."""
        sessions = self._sessions()
        if not sessions.reserve(self._timeout):
            raise StoreUnavailableError(
                f"no connection became free within {self._timeout:g} s: max_size={self._max_size} are in use"
            )
        try:
            if self._closed:
                raise StoreUnavailableError("the repository is closed")
            cursor = sessions.pop_live() or self._open()
            try:
                yield cursor
            except BaseException:  # the connection's state may be anything
                sessions.close(cursor)
                raise
            sessions.idle.append(cursor)
            if self._closed:
                self.close()
        finally:
            sessions.free.release()

    def close(self) -> None:
        """Close this process's connections. Those in use are closed when their calls end."""
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
    """The connections that one process has opened. They wait with a cursor each, as making one takes time."""

    def __init__(self, pid: int, max_size: int) -> None:
        self._pid = pid
        self._turn = Lock()
        self.free = Semaphore(max_size)
        self.idle: list[Cursor] = []

    def reserve(self, timeout: float) -> bool:
        """Reserve one of max_size connections; return False if none became free in time.

        The call that waits longest holds the turn, so a busy thread cannot overtake it again and again.
        """
        end = time.monotonic() + timeout
        if not self._turn.acquire(timeout=timeout):
            return False
        try:
            return self.free.acquire(timeout=max(0.0, end - time.monotonic()))
        finally:
            self._turn.release()

    def pop_live(self) -> Cursor | None:
        """Take the connection used last, if the server has not ended it, else the next."""
        while True:
            try:
                cursor = self.idle.pop()
            except IndexError:
                return None
            if is_live(cursor.connection):
                return cursor
            self.close(cursor)

    def close(self, cursor: Cursor) -> None:
        """Close a connection, except in a process forked within its call."""
        if self._pid == os.getpid():
            cursor.connection.close()
