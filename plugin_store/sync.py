"""Keeping a process's plugins in step with the table while it runs."""

from __future__ import annotations

import atexit
import time
from threading import Lock, Thread, current_thread
from types import TracebackType
from typing import TYPE_CHECKING

from ._fork import renew_after_fork
from .listen import TableListener
from .stores.conninfo import checked_conninfo

if TYPE_CHECKING:
    from typing_extensions import Self

    from .plugins.manager import PluginManager

DAY_SECONDS = 86_400


class PluginWatcher:
    """Runs ``manager.sync()`` whenever the table changes, from a thread of its own.

    ``conninfo`` is a libpq connection string or URL of the database that the manager's store is in: the watcher
    keeps one connection of its own to LISTEN on. It syncs when it starts, on every change that is committed,
    after every reconnection, and every ``resync_seconds`` whatever happens. Where LISTEN cannot work, behind a
    connection pooler or on a read-only replica, it syncs every ``poll_seconds`` instead, and says so once in the log.

    An exception in a hook or listener does not end it, nor does a database that is away: it tries again, after
    0.05 seconds at first and 5 at most. A child process that is forked while it runs has it running too, on a thread
    and a connection of its own.
    """

    def __init__(
        self,
        manager: PluginManager,
        conninfo: str = "",
        *,
        resync_seconds: float = 30.0,
        poll_seconds: float = 1.0,
    ) -> None:
        """Raises InvalidDatabaseURLError for a conninfo that cannot be read; connects only when started.

        ValueError for a number of seconds that is not above 0 and at most 86,400, a day.
        """
        for name, seconds in (("resync_seconds", resync_seconds), ("poll_seconds", poll_seconds)):
            if not 0 < seconds <= DAY_SECONDS:
                raise ValueError(f"{name} must be above 0 and at most {DAY_SECONDS}, not {seconds}")
        self._manager = manager
        self._conninfo = checked_conninfo(conninfo)
        self._resync_seconds = resync_seconds
        self._poll_seconds = min(poll_seconds, resync_seconds)
        self._lock = Lock()
        self._listener: TableListener | None = None
        self._thread: Thread | None = None
        self._last_sync: float | None = None
        renew_after_fork(self, starts_thread=True)

    def start(self) -> None:
        """Start the thread, and return at once; do nothing if it runs."""
        with self._lock:
            if self._thread is None:
                self._listener = TableListener(
                    self._conninfo,
                    self._sync,
                    resync_seconds=self._resync_seconds,
                    poll_seconds=self._poll_seconds,
                )
                # At exit it is told, so that it does not complain of a pool that is closed then, but not waited for.
                atexit.register(self._listener.stop)
                self._thread = Thread(target=self._listener.run, name="plugin-watcher", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and return when a sync under way has ended; do nothing if it does not run.

        May be called from any thread, from a hook or listener too: then the thread ends after the sync. One that is
        waiting for a server which does not answer is not waited for, and ends when the attempt does.
        """
        with self._lock:
            listener, thread = self._listener, self._thread
            self._listener = self._thread = None
        if listener is not None and thread is not None:
            atexit.unregister(listener.stop)
            listener.stop()
            if thread is not current_thread():
                thread.join(10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def last_sync_age(self) -> float | None:
        """Seconds since the last sync that succeeded, or None before the first."""
        last = self._last_sync
        return None if last is None else time.monotonic() - last

    @property
    def healthy(self) -> bool:
        """Whether it runs and the last sync is no older than two of the intervals in which there must be one."""
        age = self.last_sync_age
        return self._thread is not None and age is not None and age < 2 * self._resync_seconds

    def _sync(self) -> None:
        try:
            self._manager.sync()
        except Exception:
            raise
        except BaseException as exc:  # a SystemExit, or asyncio's CancelledError, would end the thread
            raise RuntimeError(f"a hook or listener raised {type(exc).__name__}") from exc
        self._last_sync = time.monotonic()

    def _after_fork(self) -> None:
        listener = self._listener
        self._lock = Lock()
        self._listener = self._thread = None
        if listener is not None:
            atexit.unregister(listener.stop)  # which would wake up the parent's
            self.start()
