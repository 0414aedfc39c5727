"""The differences between two states of the table, by plugin and key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from plugin_store.stores.model import PluginConfig
from plugin_store.stores.validation import same_json

from .output import hidden, printable


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


def changes(old: Mapping[str, PluginConfig], new: Mapping[str, PluginConfig]) -> Iterator[PluginChange]:
    """Yield the changes, ordered by name. A new or deleted plugin gives one for its status and one for each key."""
    for name in sorted(old.keys() | new.keys()):
        was, now = _flat(old.get(name)), _flat(new.get(name))
        for what in dict.fromkeys([*now, *was]):
            sign = "+" if what not in was else "-" if what not in now else "~"
            if sign != "~" or not same_json(was[what], now[what]):
                yield PluginChange(sign, name, what, was.get(what), now.get(what))


def _flat(row: PluginConfig | None) -> dict[str, Any]:
    if row is None:
        return {}
    return {"status": row.status} | {f"config.{key}": value for key, value in row.config.items()}
