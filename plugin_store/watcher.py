"""Keeps a process's plugins in step with the table while it runs."""

from __future__ import annotations

import atexit
import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from threading import Thread, get_ident

from psycopg import Error

from .errors import PluginStoreError
from .plugins.manager import PluginManager
from .stores.connections import BACKEND_PID, connect
from .stores.conninfo import checked_conninfo, masked
from .stores.postgres import PluginConfigRepository
from .stores.schema import inspect_schema
from .stores.statements import load_statement
from .stores.time_limit import Connection, limited_call, shut_down
from .stores.validation import check_name

logger = logging.getLogger(__name__)

LISTEN = load_statement("listen")

# Seconds between two syncs: at most ten a second.
REST_SECONDS = 0.1
# Seconds between two attempts to connect.
RETRY_SECONDS = 2.5
# How long stop() waits for a hook, or for an attempt to connect.
STOP_SECONDS = 10.0
DAY_SECONDS = 86_400
# If more plugins than these have changed, reading all rows costs less.
MOST_NAMES = 20

FORKED_IN_C = "C code forked this process: call start() here, or under uWSGI set lazy-apps or py-call-uwsgi-fork-hooks"


def changed_plugins(payloads: Iterable[str], schema: str | None) -> set[str] | None:
    """Return the plugins that these announcements name, or None for all plugins.

    Announcements of another schema's table name no plugin, and neither does what strangers send.
    """
    names: set[str] = set()
    for payload in payloads:
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            announced = json.loads(payload)
            if announced["schema"] == schema:
                if announced["plugin"] is None:  # the table was truncated
                    return None
                check_name(announced["plugin"])
                names.add(announced["plugin"])
    return names if len(names) <= MOST_NAMES else None


class TableFollower(Thread):
    """Calls ``on_change(store=…, names=…, retry_failed=…)`` when the table may have changed, from ``run``.

    ``store`` reads on the follower's own connection. ``names`` are the plugins whose rows have changed, None for all.
    The follower calls for all plugins after each connect and every ``resync_seconds``, then with ``retry_failed``. If
    LISTEN brings nothing, it calls every ``poll_seconds``. If a call raises, it connects anew after a delay.
    """

    def __init__(
        self, conninfo: str, on_change: Callable[..., object], *, resync_seconds: float, poll_seconds: float
    ) -> None:
        super().__init__(name="plugin-watcher", daemon=True)
        self.stopped = False
        self.last_call: float | None = None  # when the last call succeeded, by time.monotonic()
        self.problems: list[str] = []  # since then
        self._conninfo, self._on_change = conninfo, on_change
        self._resync_seconds, self._poll_seconds = resync_seconds, poll_seconds
        self._deaf: str | None = None  # why LISTEN brings nothing
        self._connection: Connection | None = None
        self._wake: SimpleQueue[None] = SimpleQueue()  # takes no lock that a signal handler could find taken

    def stop(self) -> None:
        """Make ``run`` return soon, from any thread or signal handler."""
        self.stopped = True
        self._wake.put(None)
        if self._connection is not None:
            shut_down(self._connection)

    def run(self) -> None:
        """Follow the table until ``stop``. Nothing that is raised ends it."""
        while not self.stopped:
            try:
                with closing(connect(self._conninfo, "plugin_store watcher")) as self._connection:
                    self._follow(self._connection)
            except BaseException as exc:
                if not self.stopped:
                    delay = random.uniform(1, RETRY_SECONDS) if self.problems else 0.05
                    self._log_problem(exc)
                    self._pause(delay)

    def _follow(self, connection: Connection) -> None:
        store, retry_failed = PluginConfigRepository(connection), False
        while not self.stopped:
            resync_at = time.monotonic() + self._resync_seconds
            schema, deaf = self._listen(connection)
            self._call(store, None, retry_failed)
            if deaf and deaf != self._deaf:
                logger.warning("polling plugin_config every %g s: %s", self._poll_seconds, deaf)
            self._deaf, retry_failed, rests = deaf, True, True
            while not self.stopped and (left := resync_at - time.monotonic()) > 0:
                names = None
                if deaf:
                    self._pause(min(self._poll_seconds, left))
                else:
                    timeout, stop_after = (REST_SECONDS, None) if rests else (left, 1)
                    heard = [each.payload for each in connection.notifies(timeout=timeout, stop_after=stop_after)]
                    names = changed_plugins(heard, schema)
                if rests := names != set():
                    self._call(store, names)

    def _listen(self, connection: Connection) -> tuple[str | None, str | None]:
        """Start to listen. Return the table's schema, and the reason if nothing will be heard."""
        with limited_call(connection):
            state = inspect_schema(connection)
            deaf = "; ".join(state.problems()) if state.damaged else None
            if connection.execute(BACKEND_PID).fetchone() != (connection.info.backend_pid,):
                connection.prepare_threshold = None  # the next client of the pooler would run what we prepare
                deaf = "there is a connection pooler before the server"
            try:
                connection.execute(LISTEN)
            except Error as exc:  # of a connection that is lost too: then the next call raises
                deaf = f"the server refuses LISTEN: {exc.diag.message_primary}"
        return state.schema, deaf

    def _call(self, store: PluginConfigRepository, names: set[str] | None, retry_failed: bool = False) -> None:
        self._on_change(store=store, names=names, retry_failed=retry_failed)
        if self.problems:
            logger.info("following plugin_config again")
        self.last_call, self.problems = time.monotonic(), []

    def _log_problem(self, exc: BaseException) -> None:
        problem = masked(str(exc)) or type(exc).__name__
        if problem not in self.problems:
            self.problems.append(problem)
            unexpected = not isinstance(exc, (PluginStoreError, Error))
            logger.warning("not following plugin_config, trying again: %s", problem, exc_info=unexpected)

    def _pause(self, seconds: float) -> None:
        with suppress(Empty):
            self._wake.get(timeout=seconds)


class PluginWatcher:
    """Runs ``manager.sync()`` whenever the table changes, in a thread of its own.

    ``conninfo`` is a libpq connection string or URL of the database that the manager's store is in. The watcher
    listens and reads on one connection of its own. It syncs when it starts, on every change that is committed, after
    every reconnection, and every ``resync_seconds``. If LISTEN brings nothing, as behind a connection pooler, on a
    replica or without the table's triggers, it says so once in the log and syncs every ``poll_seconds``.

    Exceptions of hooks and listeners do not end it. While the database is away, it waits. Its methods may be called
    anywhere, in signal handlers and hooks too. After a fork by Python it runs in the child too.
    """

    def __init__(
        self, manager: PluginManager, conninfo: str = "", *, resync_seconds: float = 30.0, poll_seconds: float = 1.0
    ) -> None:
        """Connect only when started. Raises InvalidDatabaseURLError for a conninfo that cannot be read.

        ValueError: a number of seconds is not above 0 and at most a day.
        """
        self._seconds = {"resync_seconds": resync_seconds, "poll_seconds": poll_seconds}
        for name, seconds in self._seconds.items():
            if not 0 < seconds <= DAY_SECONDS:
                raise ValueError(f"{name} must be above 0 and at most {DAY_SECONDS}, not {seconds}")
        self._manager, self._conninfo = manager, checked_conninfo(conninfo)
        self._logged_in = 0  # the process that has logged FORKED_IN_C

    def start(self) -> None:
        """Start the thread, and return at once. If it runs, do nothing."""
        follower = TableFollower(self._conninfo, self._manager.sync, **self._seconds)
        if _running.setdefault((self, os.getpid()), follower) is follower:
            atexit.register(self.stop)
            follower.start()

    def stop(self) -> None:
        """Stop the thread and return when it has ended, after about 10 seconds at most.

        In a hook or listener that the thread runs, return at once: then the thread ends after the sync.
        """
        follower = _running.pop((self, os.getpid()), None)
        if follower is not None:
            atexit.unregister(self.stop)
            follower.stop()
            if follower.is_alive() and follower.ident != get_ident():
                follower.join(STOP_SECONDS)

    def __enter__(self) -> PluginWatcher:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def last_sync_age(self) -> float | None:
        """Seconds since the last sync that succeeded. None before the first, and while the watcher does not run."""
        follower = _running.get((self, os.getpid()))
        return None if follower is None or follower.last_call is None else time.monotonic() - follower.last_call

    @property
    def healthy(self) -> bool:
        """Whether the watcher runs and its last sync is not older than two intervals of ``resync_seconds``."""
        return self.problem is None

    @property
    def problem(self) -> str | None:
        """Why the watcher is not healthy, or None."""
        follower, age = _running.get((self, os.getpid())), self.last_sync_age
        if follower is not None:
            if age is not None and age < 2 * self._seconds["resync_seconds"]:
                return None
            return follower.problems[-1] if follower.problems else "no sync has ended in time: a hook may hang"
        if not any(watcher is self for watcher, _ in list(_running)):
            return "the watcher is not started"
        if self._logged_in != os.getpid():
            self._logged_in = os.getpid()
            logger.error(FORKED_IN_C)
        return FORKED_IN_C


# Watchers run in the process of this id. The dict's methods are atomic, and no signal handler finds a lock taken.
_running: dict[tuple[PluginWatcher, int], TableFollower] = {}


def _start_in_child() -> None:
    watchers = [watcher for watcher, _ in _running]
    _running.clear()
    for watcher in watchers:
        watcher.start()


if hasattr(os, "register_at_fork"):  # pragma: no branch  (Windows has no fork)
    os.register_at_fork(after_in_child=_start_in_child)
