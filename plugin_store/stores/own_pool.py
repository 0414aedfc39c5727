"""The connections that a repository opens for itself, anew in a forked child."""

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
            except BaseException:  # the connection's state may be anything
                sessions.close(cursor)
                raise
            sessions.idle.append(cursor)
            if self._closed:
                self.close()
        finally:
            sessions.calls.pop(me, None)
            sessions.wake_next()

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
    """The connections that one process has opened. They wait with a cursor each, as making one takes time.

    ``calls`` holds the calls in their order: the first ``max_size`` may use a connection, the others wait. A signal
    handler may raise at the end of any step. So each step is atomic and there is no lock to leave held. A call waits in
    short pieces, as the step that wakes it may be missing.
    """

    def __init__(self, pid: int, max_size: int) -> None:
        self._pid = pid
        self._max_size = max_size
        self.calls: dict[object, Lock] = {}
        self.idle: list[Cursor] = []

    def wait(self, call: object, timeout: float) -> bool:
        """Wait until the call may use a connection. Return False if that takes too long."""
        end, wake = time.monotonic() + timeout, Lock()
        self.calls[call] = wake
        while call not in list(self.calls)[: self._max_size]:
            left = end - time.monotonic()
            if left <= 0:
                return False
            wake.acquire(timeout=min(left, LOOK_EVERY_SECONDS))
        return True

    def wake_next(self) -> None:
        """Wake the call that may use a connection now, after another has ended."""
        for wake in list(self.calls.values())[self._max_size - 1 : self._max_size]:
            with suppress(RuntimeError):  # it is awake
                wake.release()

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
