"""A time limit for each call on a connection that the library opens.

A stopped backend or a silent proxy still acknowledges packets, so TCP timeouts do not end the wait.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from threading import Thread
from typing import Any

import psycopg

from plugin_store.errors import StoreUnavailableError

Connection = psycopg.Connection[Any]

CALL_SECONDS = 20.0  # then the server is asked to cancel the statement
CANCEL_SECONDS = 5.0  # then the socket is shut down
LOOK_EVERY_SECONDS = 5.0


class LibraryConnection(psycopg.Connection[Any]):
    """A connection that the library opened. Its calls have a time limit."""

    def __del__(self, *_: object) -> None:
        """Do nothing. psycopg would warn about each inherited connection in a forked child."""


class limited_call:  # noqa: N801  (used like a function, as contextlib's are)
    """A context manager that ends a call on a LibraryConnection after about 30 seconds.

    If the statement waits for a lock, it raises QueryCanceled. If the server does not answer, the block raises
    StoreUnavailableError. Both close the connection. Blocks may be nested.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._watchdog = watchdog() if isinstance(connection, LibraryConnection) else None

    def __enter__(self) -> None:
        if self._watchdog:
            self._watchdog.calls[self] = time.monotonic()

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if self._watchdog is None or self._watchdog.calls.pop(self, None) is not None:
            return
        self._watchdog.late.pop(self, None)
        self.connection.pgconn.finish()  # the cancel request may still be on its way
        if isinstance(exc, psycopg.OperationalError) and exc.sqlstate is None:
            seconds = CALL_SECONDS + CANCEL_SECONDS
            raise StoreUnavailableError(f"the database did not answer within {seconds:g} seconds") from exc


def shut_down(connection: Connection) -> None:
    """Shut down the socket, from any thread. A call that waits on the connection raises OperationalError."""
    with suppress(OSError, psycopg.Error):
        number = connection.fileno()
        with socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM) as copy:
            # If the connection was closed meanwhile, the number may belong to another file.
            if connection.fileno() == number:
                copy.shutdown(socket.SHUT_RDWR)


class _Watchdog:
    """The thread of this process that ends late calls. Dict operations are atomic, so a call takes no lock."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.calls: dict[limited_call, float] = {}  # when each began
        self.late: dict[limited_call, float] = {}  # when each was cancelled
        Thread(target=self._run, name="plugin_store time limit", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_SECONDS)
            now = time.monotonic()
            for call, began in self.calls.copy().items():
                if now - began >= CALL_SECONDS:
                    self._cancel(call, now)
            for call, cancelled in self.late.copy().items():
                if now - cancelled >= CANCEL_SECONDS:
                    shut_down(call.connection)

    def _cancel(self, call: limited_call, now: float) -> None:
        self.late[call] = now
        if self.calls.pop(call, None) is None:  # it has just ended
            self.late.pop(call, None)
            return
        # In its own thread: before libpq 17, a cancel request may block forever.
        with suppress(RuntimeError):  # no thread starts while the interpreter exits
            Thread(target=_send_cancel, args=[call.connection], name="plugin_store cancel", daemon=True).start()


def _send_cancel(connection: Connection) -> None:
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=CANCEL_SECONDS)


_current: _Watchdog | None = None
_home = os.getpid()  # the process in which threads may be started


def watchdog() -> _Watchdog | None:
    """Return this process's watchdog, or None if C code forked the process.

    Where Python's fork hooks did not run, the interpreter's lock may wait for threads of the parent. Starting a thread
    then hangs some children, so these have the timeouts of TCP only.
    """
    global _current
    if os.getpid() != _home:
        return None
    if _current is None or _current.pid != _home:
        _current = _Watchdog()
    return _current


def _set_home() -> None:
    global _home
    _home = os.getpid()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_set_home)
