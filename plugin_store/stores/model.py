"""What is stored of a plugin, and what a manager needs of a store."""

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

    Stores return these; changing one (or the dict in it) changes nothing that is stored.
    ``id`` and the timestamps are None until a store has set them; timestamps are aware.
    ``updated_at`` grows with each change of the row, so it serves as its version.
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
    """What a PluginManager needs of a store, and what its users may rely on.

    Every method is atomic. Names, statuses and configs are checked before anything is
    written: InvalidNameError, InvalidStatusError and InvalidConfigError say which plugin and
    which key. What was stored comes back equal. A store that cannot do its work raises a
    StoreError. ``plugin_store.testing`` has the suite that each store must pass.
    """

    def get_by_name(self, plugin_name: str) -> PluginConfig | None:
        """Return the stored plugin, or None if there is none of that name."""
        ...

    def get_all(self) -> list[PluginConfig]:
        """Return every stored plugin, ordered by name (by code point, as Python sorts)."""
        ...

    def get_enabled(self) -> list[PluginConfig]:
        """Return the stored plugins whose status is enabled, ordered by name."""
        ...

    def save(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Create a plugin or set its status, merge the keys of ``config`` over its stored config, return the row."""
        ...

    def save_config(
        self, plugin_name: str, config: dict[str, Any], *, expected_updated_at: datetime | None = None
    ) -> PluginConfig:
        """Replace the config, leave the status (a new row is disabled), return the result.

        With ``expected_updated_at``, the ``updated_at`` of the PluginConfig that the new config was
        made from, nothing is written unless the row is still that version: ConflictError, also
        when the row is gone.
        """
        ...

    def update_config(self, plugin_name: str, changes: dict[str, Any], *, remove: Iterable[str] = ()) -> PluginConfig:
        """Set the top-level keys of ``changes``, take out those in ``remove``, return the result.

        Other keys stay as they are, whoever writes them meanwhile. Keys to remove that are not
        there are ignored; a key in both is refused. A new row is disabled.
        """
        ...

    def add(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        """Insert a plugin if there is no row of that name; return the row stored either way."""
        ...

    def save_many(self, configs: Iterable[PluginConfig]) -> None:
        """Create or replace name, status and config of many plugins: all, or none on an error.

        A name given twice is refused with InvalidNameError. Ids and timestamps are ignored.
        """
        ...

    def delete(self, plugin_name: str) -> bool:
        """Delete a plugin's row; return whether there was one."""
        ...
