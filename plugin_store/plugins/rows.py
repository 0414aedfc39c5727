"""The rows that this process has read or written last."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING

from plugin_store.stores.model import ENABLED

from .plan import NOT_HERE

if TYPE_CHECKING:
    from plugin_store.stores.model import PluginConfig, PluginConfigStore

logger = logging.getLogger(__name__)


class KnownRows:
    """The rows as they were last read or written, by plugin name.

    ``unregistered`` maps each enabled row without a plugin in ``plugins`` to the reason to skip it. ``put`` keeps it up
    to date, so the cost of a change does not grow with the table.
    """

    def __init__(self, plugins: Container[str]) -> None:
        self.by_name: dict[str, PluginConfig] = {}
        self.unregistered: dict[str, str] = {}
        self._plugins = plugins
        self._logged: set[str] = set()

    def read(self, store: PluginConfigStore, names: Iterable[str] | None = None) -> None:
        """Read the rows of these names. If names is None or no row is known yet, read all rows."""
        if names is None or not self.by_name:
            # Replace the dict in one step: if a signal handler raised, half of the rows would stop plugins.
            self.by_name = {row.plugin_name: row for row in store.get_all()}
            self.unregistered = {}
            rows: Mapping[str, PluginConfig | None] = self.by_name
        else:
            rows = {name: store.get_by_name(name) for name in names}
        for name, row in rows.items():
            self.put(name, row)

    def put(self, name: str, row: PluginConfig | None) -> None:
        """Record a row. None records that the row is gone."""
        if row is None:
            self.by_name.pop(name, None)
        else:
            self.by_name[name] = row
        if row is None or row.status != ENABLED or name in self._plugins:
            self.unregistered.pop(name, None)
        else:
            self.unregistered[name] = NOT_HERE
            if name not in self._logged:
                self._logged.add(name)
                logger.warning("plugin %r is not enabled: %s", name, NOT_HERE)
