"""``plugin-store watch``: each change of the table as it happens."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from types import FrameType

from plugin_store.listen import TableListener
from plugin_store.stores.connections import connect
from plugin_store.stores.model import PluginConfig
from plugin_store.stores.postgres import PluginConfigRepository

from .changes import PluginChange, changes

RESYNC_SECONDS = 30.0
POLL_SECONDS = 1.0


def watch(conninfo: str, ready: Callable[[], None], show: Callable[[datetime, PluginChange], None]) -> None:
    """Call ``ready``, then ``show`` with each change of the table from then on, until ^C or what ``show`` raises.

    Changes that follow each other within some milliseconds may be seen as one. While the database is
    away this waits for it; what changed meanwhile is shown then. Raises StoreUnavailableError or SchemaError if
    it cannot be read at the start.
    """
    known = _rows(conninfo)
    failures: list[Exception] = []

    def changed() -> None:
        nonlocal known
        rows = _rows(conninfo)
        try:
            for at, change in differences(known, rows):
                show(at, change)
        except Exception as exc:  # no reader is left, say: not for the listener to try again
            failures.append(exc)
            listener.stop()
        known = rows

    listener = TableListener(conninfo, changed, resync_seconds=RESYNC_SECONDS, poll_seconds=POLL_SECONDS)
    with _interrupts(listener):
        ready()
        listener.run()
    raise failures[0] if failures else KeyboardInterrupt  # nothing else stops it


@contextmanager
def _interrupts(listener: TableListener) -> Iterator[None]:
    """Have ^C stop the listener too: Python drops a KeyboardInterrupt that falls into the deletion of an object."""

    def stop(number: int, frame: FrameType | None) -> None:
        listener.stop()
        signal.default_int_handler(number, frame)

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where it is ignored
    if ours:
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def differences(old: dict[str, PluginConfig], new: dict[str, PluginConfig]) -> Iterator[tuple[datetime, PluginChange]]:
    """Yield what is different, by name, and since when: of what is gone, now."""
    now = datetime.now(timezone.utc)
    for change in changes(old, new):
        row = new.get(change.plugin_name)
        at = now if row is None or row.updated_at is None else row.updated_at
        yield at, change


def _rows(conninfo: str) -> dict[str, PluginConfig]:
    with connect(conninfo, "plugin_store cli") as connection:
        return {row.plugin_name: row for row in PluginConfigRepository(connection).get_all()}
