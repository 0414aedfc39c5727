"""``plugin-store watch``: prints each change of the table as it happens."""

from __future__ import annotations

import json
import signal
from argparse import Namespace
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone

from plugin_store.errors import PluginStoreError
from plugin_store.stores.connections import connect
from plugin_store.stores.model import PluginConfig, PluginConfigStore
from plugin_store.stores.postgres import PluginConfigRepository
from plugin_store.watcher import TableFollower

from .database import APPLICATION_NAME, database
from .output import Answer, local, plain, progress, say, write
from .transfer import PluginChange, changes


def do_watch(args: Namespace) -> Answer:
    """Print each change of the table until a signal arrives or the reader closes the pipe.

    Changes within a tenth of a second may be printed as one. After an outage, the missed changes are printed. Raises
    StoreUnavailableError or SchemaError if the table cannot be read at the start, and SystemExit with 128 + N after
    SIGINT or SIGTERM.
    """
    known: dict[str, PluginConfig] = {}
    ends: list[BaseException] = []

    def end(reason: BaseException) -> None:
        ends.append(reason)
        follower.stop()
        raise reason  # ends a wait. The follower or a __del__ may drop it, so `ends` keeps it

    def changed(store: PluginConfigStore, **_: object) -> None:
        nonlocal known
        rows = _read(store)
        try:
            for change in changes(known, rows):
                write(_line(args, change, rows.get(change.plugin_name)))
        except (BrokenPipeError, PluginStoreError) as exc:
            end(exc)
        known = rows

    follower = TableFollower(database(args), changed, resync_seconds=30.0, poll_seconds=1.0)
    with ExitStack() as handlers:
        for number in (signal.SIGINT, signal.SIGTERM):  # without a handler, process 1 would ignore SIGTERM
            if signal.getsignal(number) is not signal.SIG_IGN:  # as set by a shell for background processes
                old = signal.signal(number, lambda number, _: end(SystemExit(128 + number)))
                handlers.callback(signal.signal, number, old)
        with progress("waiting for the database"), connect(database(args), APPLICATION_NAME) as connection:
            known = _read(PluginConfigRepository(connection))
        say("watching, ^C ends it")
        follower.run()
    raise ends[0]


def _line(args: Namespace, change: PluginChange, row: PluginConfig | None) -> str:
    at = datetime.now(timezone.utc) if row is None or row.updated_at is None else row.updated_at
    shown = change if args.show_values else change.hidden()
    return (json.dumps({"at": at} | asdict(shown), default=plain) if args.json else f"{local(at)} {shown}") + "\n"


def _read(store: PluginConfigStore) -> dict[str, PluginConfig]:
    return {row.plugin_name: row for row in store.get_all()}
