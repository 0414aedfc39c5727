"""Plugins in a JSON file: write it, read it, compare it with a table, import it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from psycopg.pq import TransactionStatus

from plugin_store.errors import InvalidFileError, StoreError
from plugin_store.stores.connections import new_cursor
from plugin_store.stores.driver_errors import translated_errors
from plugin_store.stores.model import PluginConfig
from plugin_store.stores.postgres import PluginConfigRepository
from plugin_store.stores.statements import load_statement
from plugin_store.stores.time_limit import Connection
from plugin_store.stores.validation import checked_many, same_json

from .output import hidden, printable
from .verbs import unique_keys

ISOLATION = load_statement("isolation")
LOCK_TABLE = load_statement("lock_table")

FORMAT = 1
Check = Callable[[str, dict[str, Any]], object]


@dataclass(frozen=True, slots=True)
class PluginChange:
    """One difference: the ``status`` of a plugin or a ``config.KEY``, before and after.

    ``sign`` is "+" for added, "~" for changed and "-" for removed. A missing value is None. ``str()`` gives one line
    that is safe at a terminal.
    """

    sign: str
    plugin_name: str
    what: str
    before: Any
    after: Any

    def hidden(self) -> PluginChange:
        """Return the change without the values of the config."""
        if self.what == "status":
            return self
        return replace(self, before=hidden(self.before), after=hidden(self.after))

    def __str__(self) -> str:
        values = {"+": [self.after], "~": [self.before, self.after], "-": [self.before]}[self.sign]
        shown = " -> ".join(json.dumps(value, ensure_ascii=False) for value in values)
        return printable(f"{self.sign} {self.plugin_name}: {self.what} {shown}")


def dump_plugins(rows: Iterable[PluginConfig]) -> str:
    """Return the text of a file with name, status and config of these plugins.

    The file is JSON, ordered by name and key, without ids and timestamps. Equal rows give equal texts.
    """
    plugins = {row.plugin_name: {"status": row.status, "config": row.config} for row in rows}
    text = json.dumps({"format": FORMAT, "plugins": plugins}, indent=2, sort_keys=True, ensure_ascii=False)
    return printable(text, keep="\n") + "\n"  # for terminals and reviewers


def load_plugins(text: str | bytes) -> list[PluginConfig]:
    """Return the plugins in the text of a file, by name, all of them checked.

    Raises InvalidFileError for text that is not JSON, for unknown, missing or repeated keys, and for values that a
    store refuses. The message names the place.
    """
    try:
        data = json.loads(text, object_pairs_hook=unique_keys)  # UTF-16 is JSON too
        _expect(data, "a file of plugins", "format", "plugins")
        if not same_json(data["format"], FORMAT):
            raise ValueError(f"its format is {data['format']!r}, and this plugin_store reads {FORMAT} only: upgrade it")
        _expect(data["plugins"], "plugins")
        for name, plugin in data["plugins"].items():
            _expect(plugin, f"plugin {name!r}", "status", "config")
        rows = [PluginConfig(name, **plugin) for name, plugin in sorted(data["plugins"].items())]
        return [PluginConfig(*row) for row in checked_many(rows)]
    except (ValueError, RecursionError) as exc:  # our errors about names, statuses and configs are ValueErrors
        raise InvalidFileError(f"this is not a file of plugins: {exc}") from None


def changes(old: Mapping[str, PluginConfig], new: Mapping[str, PluginConfig]) -> Iterator[PluginChange]:
    """Yield the changes, ordered by name. A new or deleted plugin gives one for its status and one for each key."""
    for name in sorted(old.keys() | new.keys()):
        was, now = _flat(old.get(name)), _flat(new.get(name))
        for what in dict.fromkeys([*now, *was]):
            sign = "+" if what not in was else "-" if what not in now else "~"
            if sign != "~" or not same_json(was[what], now[what]):
                yield PluginChange(sign, name, what, was.get(what), now.get(what))


def diff_plugins(
    rows: Iterable[PluginConfig], plugins: Iterable[PluginConfig], *, partial: bool = False
) -> list[PluginChange]:
    """Return the changes that turn these rows into these plugins, ordered by name.

    ``partial`` ignores rows that are not among the plugins.
    """
    old = {row.plugin_name: row for row in rows}
    new = {plugin.plugin_name: plugin for plugin in plugins}
    return list(changes(old, old | new if partial else new))


def import_plugins(
    connection: Connection, plugins: Iterable[PluginConfig], *, prune: bool = False, check: Check | None = None
) -> list[PluginChange]:
    """Make the table's rows these plugins, in one transaction, and return what changed.

    Other rows stay, unless ``prune`` deletes them. Equal rows are not written. Other writers wait until the import
    ends. ``check(name, config)`` may raise to refuse a config, as ``manager.check_config`` does. Any error leaves the
    table unchanged.

    ``connection`` is a psycopg.Connection. If it is in a transaction, the import joins it. StoreError if that
    transaction is not in READ COMMITTED.
    """
    wanted = [PluginConfig(*row) for row in checked_many(plugins)]
    if check is not None:
        for plugin in wanted:
            check(plugin.plugin_name, plugin.config)
    repository = PluginConfigRepository(connection)
    in_transaction = connection.info.transaction_status != TransactionStatus.IDLE
    with translated_errors(), connection.transaction():
        cursor = new_cursor(connection)
        if in_transaction and cursor.execute(ISOLATION).fetchone() != ("read committed",):
            raise StoreError("the transaction may see the table as it was when it began: import in READ COMMITTED")
        cursor.execute(LOCK_TABLE)
        made = diff_plugins(repository.get_all(), wanted, partial=not prune)
        changed = {change.plugin_name for change in made}
        repository.save_many(plugin for plugin in wanted if plugin.plugin_name in changed)
        for name in sorted(changed - {plugin.plugin_name for plugin in wanted}):
            repository.delete(name)
    return made


def _flat(row: PluginConfig | None) -> dict[str, Any]:
    if row is None:
        return {}
    return {"status": row.status} | {f"config.{key}": value for key, value in row.config.items()}


def _expect(value: Any, what: str, *keys: str) -> None:
    """Raise ValueError unless the value is an object with exactly these keys. Without keys, any will do."""
    if not isinstance(value, dict) or (keys and value.keys() != set(keys)):
        exactly = f" with the keys {' and '.join(keys)}, and no others" if keys else ""
        raise ValueError(f"{what} must be an object{exactly}")
