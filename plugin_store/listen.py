"""Knowing when the table may have changed: LISTEN where it works, else looking again and again."""

from __future__ import annotations

import logging
import random
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .errors import StoreError
from .stores.connections import BACKEND_PID, connect
from .stores.conninfo import checked_conninfo
from .stores.driver_errors import translated_errors
from .stores.statements import load_statement
from .stores.time_limit import Connection

logger = logging.getLogger(__name__)

LISTEN = load_statement("listen")
ANNOUNCES = load_statement("announces")

FIRST_DELAY = 0.05
LONGEST_DELAY = 5.0
# Where the conninfo says nothing: libpq would wait for minutes for a server that does not answer, and for hours
# on a connection that something in between has forgotten.
PATIENCE = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


class TableListener:
    """Calls ``on_change()`` when the table may have changed, from the thread that is in ``run``.

    Also after each (re)connection, when what was announced meanwhile is lost, and every ``resync_seconds``
    whatever happens, connected or not. Where LISTEN does not work, behind a pooler or on a replica, it calls every
    ``poll_seconds``. An ``on_change`` that raises is called again after a delay, like a connection that fails.
    """

    def __init__(
        self, conninfo: str, on_change: Callable[[], None], *, resync_seconds: float, poll_seconds: float
    ) -> None:
        given = conninfo_to_dict(checked_conninfo(conninfo))
        self._conninfo = make_conninfo("", **(PATIENCE | given))
        self._on_change = on_change
        self._resync_seconds = resync_seconds
        self._poll_seconds = poll_seconds
        self._failures = 0
        self._polling = False
        self._due = time.monotonic() + resync_seconds
        self._stopped = False
        self.connecting = False
        # What stop() writes to: whatever waits wakes up for it.
        self._wake, self._waker = socket.socketpair()

    def stop(self) -> None:
        """Make ``run`` return soon, from any thread or signal handler; it may be called more than once."""
        self._stopped = True
        with suppress(OSError):  # it has returned
            self._waker.send(b"x")

    def run(self) -> None:
        """Work until ``stop``; raises nothing."""
        try:
            while not self._stopped:
                try:
                    self._listen_or_poll()
                except Exception as exc:
                    self._failed(exc)
        finally:
            self._wake.close()
            self._waker.close()

    def _failed(self, exc: Exception) -> None:
        # One line when the trouble starts. Whoever listens sees the end of it.
        if not self._failures and not self._stopped:
            logger.warning("no news of plugin_config, trying again: %s", exc, exc_info=not isinstance(exc, StoreError))
        # Jitter, so that many processes do not fall upon a server that has just come back.
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2**self._failures) * random.uniform(0.5, 1)
        self._failures = min(self._failures + 1, 10)
        self._pause(delay)

    def _listen_or_poll(self) -> None:
        try:
            connection = self._connect()
        except Exception:
            # It may be this connection alone that fails, and not those of on_change.
            if time.monotonic() >= self._due and not self._stopped:
                self._call()
            raise
        with connection:
            if self._listens(connection):
                self._polling = False
                with selectors.DefaultSelector() as selector:
                    selector.register(self._wake, selectors.EVENT_READ)
                    selector.register(connection.fileno(), selectors.EVENT_READ)
                    while not self._stopped:
                        self._changed()
                        self._wait(connection, selector)
                return
        # Back to LISTEN now and then: a replica may have become the primary.
        end = time.monotonic() + self._resync_seconds
        while not self._stopped and time.monotonic() < end:
            self._changed()
            self._pause(self._poll_seconds)

    def _connect(self) -> Connection:
        self.connecting = True
        try:
            return connect(self._conninfo, "plugin_store watcher")
        finally:
            self.connecting = False

    def _listens(self, connection: Connection) -> bool:
        """Start to listen; return whether it works, and say once if it does not."""
        with translated_errors():
            try:
                connection.execute(LISTEN)
                row = connection.execute(BACKEND_PID).fetchone()
            except psycopg.errors.ReadOnlySqlTransaction:
                why = "the server is a read-only replica"
            else:
                # A pooler makes up the process id that it gives as the server's. Behind one that pools
                # transactions LISTEN succeeds, and nothing ever arrives.
                if row != (connection.info.backend_pid,):
                    why = "there is a connection pooler before the server"
                elif connection.execute(ANNOUNCES).fetchone() == (True,):
                    return True
                else:
                    why = (
                        "the table does not announce its changes: run `plugin-store migrate`, which makes the "
                        "triggers, or ALTER TABLE plugin_config ENABLE TRIGGER USER if they are disabled"
                    )
        if not self._polling:
            logger.warning("polling plugin_config every %s s: %s", self._poll_seconds, why)
        self._polling = True
        return False

    def _changed(self) -> None:
        self._call()
        self._failures = 0

    def _call(self) -> None:
        self._due = time.monotonic() + self._resync_seconds
        self._on_change()

    def _pause(self, seconds: float) -> None:
        """Return after this time, or at ``stop``."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            selector.select(seconds)

    def _wait(self, connection: Connection, selector: selectors.BaseSelector) -> None:
        """Return when there is news on the connection, at ``stop``, or when on_change is due anyway."""
        ready = selector.select(max(0.0, self._due - time.monotonic()))
        with translated_errors():
            news = list(connection.notifies(timeout=0))  # a burst is one change
            if ready and not news and not self._stopped:
                # The server's last words, most often. Look whether it is still there before on_change
                # does, whose connections may wait for a server much longer than this one.
                connection.execute(BACKEND_PID)
