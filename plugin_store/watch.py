"""``plugin-store watch``: each change of the table as it happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .changes import changes
from .connections import connect
from .listen import TableListener
from .postgres import PluginConfigRepository
from .store import PluginConfig

RESYNC_SECONDS = 30.0
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """What changed of a plugin: ``status`` or ``config.KEY``, from what to what; None is what is not there."""

    at: datetime
    plugin_name: str
    what: str
    before: Any
    after: Any


def watch(conninfo: str, ready: Callable[[], None], show: Callable[[Change], None]) -> None:
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
            for change in differences(known, rows):
                show(change)
        except Exception as exc:  # no reader is left, say: not for the listener to try again
            failures.append(exc)
            listener.stop()
        known = rows

    listener = TableListener(conninfo, changed, resync_seconds=RESYNC_SECONDS, poll_seconds=POLL_SECONDS)
    ready()
    listener.run()
    raise failures[0]  # nothing else stops it


def differences(old: dict[str, PluginConfig], new: dict[str, PluginConfig]) -> Iterator[Change]:
    """Yield what is different, by name; a plugin that is new or gone has a status from, or to, None."""
    now = datetime.now(timezone.utc)
    for change in changes(old, new):
        row = new.get(change.plugin_name)
        at = now if row is None or row.updated_at is None else row.updated_at
        yield Change(at, change.plugin_name, change.what, change.before, change.after)


def _rows(conninfo: str) -> dict[str, PluginConfig]:
    with connect(conninfo, "plugin_store cli") as connection:
        return {row.plugin_name: row for row in PluginConfigRepository(connection).get_all()}
