"""PluginConfig, the stored state of a plugin, and PluginConfigStore, the interface of stores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

ENABLED = "enabled"
DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """A stored plugin: one row of the table ``plugin_config``.

    Stores return these. Changing the dict in one does not change the store. ``id`` and the timestamps are None until
    a store sets them. Timestamps have a time zone. Each change of the row increases ``updated_at``, so it is the row's
    version.
    """

    # In the order of the columns in sql/*.sql: a row becomes a PluginConfig by position.
    plugin_name: str
    status: str = DISABLED
    config: dict[str, Any] = field(default_factory=dict)
    id: UUID | None = None
    enabled_at: datetime | None = None
    disabled_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class PluginConfigStore(Protocol):
    """The interface of a store.

    Every method is atomic. Before a method writes, it checks names, statuses and configs. InvalidNameError,
    InvalidStatusError and InvalidConfigError name the plugin. A config is read back equal. If the store fails, it
    raises StoreError. ``plugin_store.testing`` has the suite that each store must pass.
    """

    def get_by_name(self, plugin_name: str) -> PluginConfig | None:
        """Return the stored plugin, or None if it has no row."""
        ...

    def get_all(self) -> list[PluginConfig]:
        """Return every stored plugin, ordered by name (by code point, as Python sorts)."""
        ...

    def get_enabled(self) -> list[PluginConfig]:
        """Return the stored plugins whose status is enabled, ordered by name."""
        ...

    def save(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Create a plugin or set its status. Merge ``config`` over its stored config. Return the row."""
        ...

    def save_config(
        self, plugin_name: str, config: dict[str, Any], *, expected_updated_at: datetime | None = None
    ) -> PluginConfig:
        """Replace the config, keep the status, return the row. A new row is disabled.

        If ``expected_updated_at`` is given and the row has another ``updated_at`` or is gone, raises ConflictError
        and writes nothing.
        """
        ...

    def update_config(self, plugin_name: str, changes: dict[str, Any], *, remove: Iterable[str] = ()) -> PluginConfig:
        """Set the top-level keys of ``changes``, remove the keys of ``remove``, return the row.

        Other keys stay, even if another process changes them at the same time. Missing keys of ``remove`` are ignored.
        A key in both is refused. A new row is disabled.
        """
        ...

    def add(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Insert a plugin unless it has a row. Return its row."""
        ...

    def save_many(self, configs: Iterable[PluginConfig]) -> None:
        """Create or replace the status and config of many plugins, all or none.

        A duplicate name raises InvalidNameError. Ids and timestamps are ignored.
        """
        ...

    def delete(self, plugin_name: str) -> bool:
        """Delete a plugin's row. Return whether the row existed."""
        ...
