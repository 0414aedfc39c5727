"""A limit for each call on a connection that the library opens.

A stopped backend and a silent proxy acknowledge packets, so no timeout of TCP ends a wait for their answer.
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

# After this time the server is asked to cancel the statement.
CALL_SECONDS = 20.0
# After this time more, the socket is shut down.
CANCEL_SECONDS = 5.0
LOOK_EVERY_SECONDS = 5.0


class limited_call:  # noqa: N801  (used like a function, as contextlib's are)
    """A context manager that ends the calls of its block when they take too long, about 30 seconds.

    A statement that waits for a lock ends with QueryCanceled. If the server does not answer at all, the block ends
    with StoreUnavailableError. The connection is closed after either.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._watchdog = watchdog()

    def __enter__(self) -> None:
        self._watchdog.calls[self._connection] = time.monotonic()

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        self._watchdog.end_call(self._connection, exc)


def shut_down(connection: Connection) -> None:
    """End whatever waits on this connection, from any thread: it raises OperationalError there."""
    with suppress(OSError, psycopg.Error):
        number = connection.fileno()
        with socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM) as copy:
            # If the connection was closed meanwhile, the number may belong to another file.
            if connection.fileno() == number:
                copy.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """The thread of this process that ends calls which take too long.

    ``calls`` maps connections to the time at which their call began. The dict's operations are atomic, so a call
    takes no lock.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.calls: dict[Connection, float] = {}
        self._late: dict[Connection, float] = {}
        Thread(target=self._run, name="plugin_store time limit", daemon=True).start()

    def end_call(self, connection: Connection, exc: BaseException | None) -> None:
        """Forget the call. If it was late, close the connection, for a cancel request may still be on its way."""
        if self.calls.pop(connection, None) is not None:
            return
        self._late.pop(connection, None)
        connection.pgconn.finish()
        if isinstance(exc, psycopg.OperationalError) and exc.sqlstate is None:
            seconds = CALL_SECONDS + CANCEL_SECONDS
            raise StoreUnavailableError(f"the database did not answer within {seconds:g} seconds") from exc

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_SECONDS)
            now = time.monotonic()
            for connection, began in self.calls.copy().items():
                if now - began >= CALL_SECONDS:
                    self._cancel(connection, began, now)
            for connection, late_since in self._late.copy().items():
                if now - late_since >= CANCEL_SECONDS:
                    shut_down(connection)

    def _cancel(self, connection: Connection, began: float, now: float) -> None:
        self._late[connection] = now
        if self.calls.pop(connection, None) != began:  # it has ended
            self._late.pop(connection, None)
            return
        # In its own thread: before libpq 17 a cancel request may wait for ever.
        with suppress(RuntimeError):  # no thread starts while the interpreter exits
            Thread(target=_send_cancel, args=[connection], name="plugin_store cancel", daemon=True).start()


def _send_cancel(connection: Connection) -> None:
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=CANCEL_SECONDS)


_watchdog: Watchdog | None = None


def watchdog() -> Watchdog:
    """Return this process's watchdog, a new one in a forked child."""
    global _watchdog
    if _watchdog is None or _watchdog.pid != os.getpid():
        _watchdog = Watchdog()
    return _watchdog
