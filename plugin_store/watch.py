"""``plugin-store watch``: each change of the table as it happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .connections import connect
from .listen import TableListener
from .postgres import PluginConfigRepository
from .store import PluginConfig
from .validation import same_json

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
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        at = now if after is None or after.updated_at is None else after.updated_at
        was = {"status": before.status, **_flat(before)} if before else {"status": None}
        now_is = {"status": after.status, **_flat(after)} if after else {"status": None}
        for what in [*now_is, *(what for what in was if what not in now_is)]:
            if not same_json(was.get(what), now_is.get(what)) or (what in was) != (what in now_is):
                yield Change(at, name, what, was.get(what), now_is.get(what))


def _flat(row: PluginConfig) -> dict[str, Any]:
    return {f"config.{key}": value for key, value in row.config.items()}


def _rows(conninfo: str) -> dict[str, PluginConfig]:
    with connect(conninfo) as connection:
        return {row.plugin_name: row for row in PluginConfigRepository(connection).get_all()}
