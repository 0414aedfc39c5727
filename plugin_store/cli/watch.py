"""``plugin-store watch``: prints each change of the table as it happens."""

from __future__ import annotations

import json
import signal
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from types import FrameType

from plugin_store.stores.connections import connect
from plugin_store.stores.model import PluginConfig, PluginConfigStore
from plugin_store.stores.postgres import PluginConfigRepository
from plugin_store.watcher import TableFollower

from .database import APPLICATION_NAME, database
from .output import Answer, local, plain, progress, say
from .transfer import PluginChange, changes

RESYNC_SECONDS = 30.0
POLL_SECONDS = 1.0


def watch(args: Namespace) -> Answer:
    """Print each change of the table until a signal arrives or the reader closes the pipe.

    Changes within some milliseconds may be printed as one. After an outage, the missed changes are printed. Raises
    StoreUnavailableError or SchemaError if the table cannot be read at the start.
    """
    conninfo = database(args)
    known: dict[str, PluginConfig] = {}
    failures: list[Exception] = []

    def changed(store: PluginConfigStore, **_: object) -> None:
        nonlocal known
        rows = _read(store)
        try:
            for change in changes(known, rows):
                print(_line(args, change, rows.get(change.plugin_name)), flush=True)
        except OSError as exc:  # the reader closed the pipe
            failures.append(exc)
            follower.stop()
        known = rows

    running: list[TableFollower] = []
    with _ended_by_signals(running):
        with progress("waiting for the database"), connect(conninfo, APPLICATION_NAME) as connection:
            known = _read(PluginConfigRepository(connection))
        follower = TableFollower(conninfo, changed, RESYNC_SECONDS, POLL_SECONDS)
        running.append(follower)
        say("watching, ^C ends it")
        follower.run()
    raise failures[0]


@contextmanager
def _ended_by_signals(running: list[TableFollower]) -> Iterator[None]:
    """Exit with status 128 + N on SIGINT and SIGTERM. Without a handler, process 1 would ignore SIGTERM."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for follower in running:  # Python drops an exception that is raised while an object is deleted
            follower.stop()
        raise SystemExit(128 + number)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:  # a shell sets this for background processes
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            raise SystemExit(128 + received[0])


def _line(args: Namespace, change: PluginChange, row: PluginConfig | None) -> str:
    at = datetime.now(timezone.utc) if row is None or row.updated_at is None else row.updated_at
    shown = change if args.show_values else change.hidden()
    return json.dumps({"at": at} | asdict(shown), default=plain) if args.json else f"{local(at)} {shown}"


def _read(store: PluginConfigStore) -> dict[str, PluginConfig]:
    return {row.plugin_name: row for row in store.get_all()}
