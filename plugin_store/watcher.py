"""Syncs the plugins of a running process when the table changes."""

from __future__ import annotations

import atexit
import json
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from threading import Thread, get_ident

from psycopg import Error

from .errors import PluginStoreError, StoreUnavailableError
from .plugins.manager import PluginManager
from .stores.connections import connect, is_pooled
from .stores.conninfo import checked_conninfo, masked
from .stores.postgres import PluginConfigRepository
from .stores.schema import inspect_schema
from .stores.statements import load_statement
from .stores.time_limit import LibraryConnection
from .stores.validation import check_name

logger = logging.getLogger(__name__)

LISTEN = load_statement("listen")
REST_SECONDS = 0.1  # between two syncs: at most ten a second
MOST_NAMES = 20  # if more plugins have changed, reading all rows costs less

FORKED_IN_C = "C code forked this process: call start() here, or under uWSGI set lazy-apps or py-call-uwsgi-fork-hooks"


def changed_plugins(payloads: Iterable[str], schema: str | None) -> set[str] | None:
    """Return the names of the plugins that changed, or None for all plugins.

    Ignores payloads about another schema's table, and payloads that it cannot read.
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
    """Calls ``sync(store=…, names=…, retry_failed=…)`` when the table may have changed, in the thread of ``run``.

    ``store`` reads on the follower's own connection. ``names`` are the plugins whose rows have changed. None means all.
    The follower syncs all plugins after each connect, and with ``retry_failed`` every ``resync_seconds``. If LISTEN
    does not work, it polls every ``poll_seconds``. If a sync raises, it reconnects after a delay.
    """

    def __init__(self, conninfo: str, sync: Callable[..., object], resync_seconds: float, poll_seconds: float) -> None:
        super().__init__(name="plugin-watcher", daemon=True)
        self.stopped = False
        self.last_sync: float | None = None  # when the last sync succeeded, by time.monotonic()
        self.problems: list[str] = []  # since the last successful sync
        self._conninfo, self._sync = conninfo, sync
        self._resync_seconds, self._poll_seconds = resync_seconds, poll_seconds
        self._found = self._told = ""  # what is wrong with the table, or with listening
        self._lost = False  # whether LISTEN ended the last connection
        self.connection: LibraryConnection | None = None
        self._wake: SimpleQueue[None] = SimpleQueue()  # reentrant, so a signal handler may use it

    def stop(self) -> None:
        """Make ``run`` return soon, from any thread or signal handler."""
        self.stopped = True
        self._wake.put(None)
        if self.connection is not None:
            self.connection.abandoned = True

    def run(self) -> None:
        """Follow the table until ``stop``. No exception ends it."""
        while not self.stopped:
            try:
                with closing(connect(self._conninfo, "plugin_store watcher")) as self.connection:
                    self._follow(self.connection)
            except BaseException as exc:
                if self.stopped:
                    return
                delay, problem = random.uniform(1, 2.5) if self.problems else 0.05, type(exc).__name__
                with suppress(BaseException):  # the error's __str__ may raise
                    problem = masked(str(exc)) or problem
                if problem not in self.problems:
                    self.problems.append(problem)
                    unexpected = not isinstance(exc, (PluginStoreError, Error))
                    with suppress(BaseException):  # a logging filter may raise
                        logger.warning("not following plugin_config, trying again: %s", problem, exc_info=unexpected)
                with suppress(Empty):
                    self._wake.get(timeout=delay)

    def _follow(self, connection: LibraryConnection) -> None:
        """Sync when the connection is new, after notifications, and when a resync is due."""
        store, resync_at, schema, synced = PluginConfigRepository(connection), 0.0, None, False
        while not self.stopped:
            names, retry_failed, left = None, False, resync_at - time.monotonic()
            if left <= 0:
                retry_failed, resync_at = resync_at > 0, time.monotonic() + self._resync_seconds
                schema = self._listen(connection)
                if connection.closed:
                    return
            elif schema is None:
                list(connection.notifies(timeout=min(self._poll_seconds, left)))
            else:
                # Right after a sync, collect what arrives while it rests. Else wait for the first announcement.
                heard = connection.notifies(timeout=REST_SECONDS if synced else left, stop_after=None if synced else 1)
                names = changed_plugins([notify.payload for notify in heard], schema)
            if synced := names is None or bool(names):
                self._sync(store=store, names=names, retry_failed=retry_failed)
                if self._found and self._found != self._told:
                    polling = f"polling plugin_config every {self._poll_seconds:g} s"
                    what = polling if schema is None else "plugin_config is not in order"
                    logger.warning("%s: %s", what, self._found)
                self._told = self._found
                if self.problems:
                    logger.info("following plugin_config again")
                self.last_sync, self.problems = time.monotonic(), []

    def _listen(self, connection: LibraryConnection) -> str | None:
        """Listen, and return the table's schema, or None to poll. If LISTEN ends the connection, the next one polls."""
        state = inspect_schema(connection)
        found, schema = "; ".join(state.problems()), None if state.damaged else state.schema
        if is_pooled(connection):
            connection.prepare_threshold = None  # the pooler's next client could run our prepared statement
            found, schema = "a connection pooler is in front of the server", None
        elif self._lost:  # this connection polls until the next resync
            found, schema, self._lost = self._found, None, False
        else:
            try:
                connection.execute(LISTEN)
            except (Error, StoreUnavailableError) as exc:
                reason, self._lost = str(exc).partition("\n")[0], connection.closed
                found, schema = f"the server refuses LISTEN: {reason}", None
        self._found = found
        return schema


class PluginWatcher:
    """Runs ``manager.sync()`` whenever the table changes, in a thread of its own.

    ``conninfo`` is a libpq connection string or URL of the store's database. The watcher listens and reads on one
    connection of its own. It syncs when it starts, on every change that is committed, after every reconnection, and
    every ``resync_seconds``. If LISTEN does not work, as behind a connection pooler, on a replica or on a damaged
    table, the watcher logs this once and syncs every ``poll_seconds``.

    Exceptions of hooks and listeners do not end it. While the database is away, it retries. Signal handlers and hooks
    may call its methods. After a fork by Python, it runs in the child too.
    """

    def __init__(
        self, manager: PluginManager, conninfo: str = "", *, resync_seconds: float = 30.0, poll_seconds: float = 1.0
    ) -> None:
        """Check the arguments. Raises InvalidDatabaseURLError, or ValueError for seconds outside 0 to 86,400."""
        for name, seconds in (("resync_seconds", resync_seconds), ("poll_seconds", poll_seconds)):
            if not 0 < seconds <= 86_400:
                raise ValueError(f"{name} must be above 0 and at most 86400, not {seconds}")
        self._manager, self._conninfo = manager, checked_conninfo(conninfo)
        self._resync_seconds, self._poll_seconds = resync_seconds, poll_seconds
        self._not_running = "the watcher is not started"

    def start(self) -> None:
        """Start the thread, unless it runs or this is a uWSGI master that forks in C. Return at once."""
        follower = TableFollower(self._conninfo, self._manager.sync, self._resync_seconds, self._poll_seconds)
        if _running.setdefault((self, os.getpid()), follower) is follower:
            try:
                atexit.register(self.stop)
                if not _forks_in_c():
                    follower.start()
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop the thread, and wait up to about 10 seconds for its end, or 1 second while it connects.

        If the thread itself calls this in a hook or listener, returns at once. Then the thread ends after the sync.
        """
        key = (self, os.getpid())
        follower = _running.get(key)
        if follower is not None:
            follower.stop()
            # A signal handler may raise, or start again, at the end of any call. These two lines call nothing.
            if key in _running and _running[key] is follower:
                del _running[key]
            atexit.unregister(self.stop)
            connected = follower.connection is not None and not follower.connection.closed
            if follower.is_alive() and follower.ident != get_ident():
                follower.join(10 if connected else 1)  # a thread that only connects changes nothing

    def __enter__(self) -> PluginWatcher:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def last_sync_age(self) -> float | None:
        """Seconds since the last sync that succeeded. None before the first, and while the watcher does not run."""
        follower = _running.get((self, os.getpid()))
        return None if follower is None or follower.last_sync is None else time.monotonic() - follower.last_sync

    @property
    def healthy(self) -> bool:
        """Whether the watcher runs, sees the table, and has synced within two intervals of ``resync_seconds``."""
        return self.problem is None

    @property
    def problem(self) -> str | None:
        """Why the watcher is not healthy, or None. Logs once if C code forked this process."""
        follower, age = _running.get((self, os.getpid())), self.last_sync_age
        if follower is None:
            if self._not_running != FORKED_IN_C and any(watcher is self for watcher, _ in list(_running)):
                self._not_running = FORKED_IN_C
                logger.error(FORKED_IN_C)
            return self._not_running
        if not follower.problems and age is not None and age < 2 * self._resync_seconds:
            return None
        return (follower.problems or ["no sync has succeeded in time"])[-1]


# The followers, by watcher and process id. The dict's methods are atomic, so a signal handler may use it.
_running: dict[tuple[PluginWatcher, int], TableFollower] = {}


def _forks_in_c() -> bool:
    """Return whether a uWSGI master will fork this process in C. If a thread holds the GIL then, the worker hangs."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.masterpid() == os.getpid() and "py-call-uwsgi-fork-hooks" not in uwsgi.opt


def _start_in_child() -> None:
    watchers = [watcher for watcher, _ in _running]
    _running.clear()
    for watcher in watchers:
        watcher.start()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_start_in_child)
