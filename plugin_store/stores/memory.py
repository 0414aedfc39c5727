"""A store in memory: for tests, and for services without a database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from threading import Lock
from typing import Any
from uuid import uuid4

from plugin_store.errors import ConflictError

from .model import DISABLED, ENABLED, PluginConfig
from .per_process import PerProcess
from .validation import check_name, checked_changes, checked_config, checked_many, checked_row, copy_json, same_json


class InMemoryPluginConfigStore:
    """A PluginConfigStore for one process, with the rules of the table. See PluginConfigStore for the methods.

    Threads may share it. It copies each config that it takes or returns.
    """

    def __init__(self) -> None:
        self._locks = PerProcess(Lock)  # a thread that a fork did not copy may hold the parent's lock
        self._rows: dict[str, PluginConfig] = {}

    def get_by_name(self, plugin_name: str) -> PluginConfig | None:
        """Return the stored plugin, or None."""
        check_name(plugin_name)
        with self._locks.get():
            row = self._rows.get(plugin_name)
        return None if row is None else _copy(row)

    def get_all(self) -> list[PluginConfig]:
        """Return every stored plugin, ordered by name."""
        with self._locks.get():
            rows = sorted(self._rows.items())
        return [_copy(row) for _, row in rows]

    def get_enabled(self) -> list[PluginConfig]:
        """Return the stored plugins whose status is enabled, ordered by name."""
        return [row for row in self.get_all() if row.status == ENABLED]

    def save(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Create a plugin or set its status. Merge ``config`` over its stored config."""
        checked = checked_row(plugin_name, status, {} if config is None else config)
        with self._locks.get():
            row = self._rows.get(plugin_name)
            return self._put(plugin_name, status, checked if row is None else row.config | checked)

    def save_config(
        self, plugin_name: str, config: dict[str, Any], *, expected_updated_at: datetime | None = None
    ) -> PluginConfig:
        """Replace the config, keep the status. Raises ConflictError if the row is not the expected version."""
        check_name(plugin_name)
        checked = checked_config(plugin_name, config)
        with self._locks.get():
            if expected_updated_at is not None:
                row = self._rows.get(plugin_name)
                if row is None or row.updated_at != expected_updated_at:
                    raise ConflictError.of(plugin_name)
            return self._put(plugin_name, None, checked)

    def update_config(self, plugin_name: str, changes: dict[str, Any], *, remove: Iterable[str] = ()) -> PluginConfig:
        """Set and remove top-level keys of the stored config."""
        check_name(plugin_name)
        checked, gone = checked_changes(plugin_name, changes, remove)
        with self._locks.get():
            row = self._rows.get(plugin_name)
            stored = {} if row is None else row.config
            kept = {key: value for key, value in stored.items() if key not in gone}
            return self._put(plugin_name, None, kept | checked)

    def add(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Insert a plugin unless it has a row. Return its row."""
        checked = checked_row(plugin_name, status, {} if config is None else config)
        with self._locks.get():
            row = self._rows.get(plugin_name)
            return self._put(plugin_name, status, checked) if row is None else _copy(row)

    def save_many(self, configs: Iterable[PluginConfig]) -> None:
        """Create or replace many plugins, all or none."""
        checked = list(checked_many(configs))
        with self._locks.get():
            for plugin_name, status, config in checked:
                self._put(plugin_name, status, config)

    def delete(self, plugin_name: str) -> bool:
        """Delete a plugin's row. Return whether the row existed."""
        check_name(plugin_name)
        with self._locks.get():
            return self._rows.pop(plugin_name, None) is not None

    def _put(self, plugin_name: str, status: str | None, config: dict[str, Any]) -> PluginConfig:
        """Write a row and stamp it as the table's trigger does. None keeps the status. The caller holds the lock."""
        now = datetime.now(timezone.utc)
        old = self._rows.get(plugin_name)
        if old is None:
            new = PluginConfig(plugin_name, status or DISABLED, config, id=uuid4(), created_at=now, updated_at=now)
            status_changed = True
        else:
            assert old.updated_at is not None  # this method has stamped every row
            now = max(now, old.updated_at + timedelta(microseconds=1))
            new = replace(old, status=status or old.status, config=config)
            status_changed = new.status != old.status
            if status_changed or not same_json(new.config, old.config):
                new = replace(new, updated_at=now)
        if status_changed and new.status == ENABLED:
            new = replace(new, enabled_at=now)
        elif status_changed:
            new = replace(new, disabled_at=now)
        self._rows[plugin_name] = new
        return _copy(new)


def _copy(row: PluginConfig) -> PluginConfig:
    return replace(row, config=copy_json(row.config))
