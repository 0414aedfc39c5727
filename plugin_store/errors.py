"""Every error that plugin_store raises on purpose. All derive from PluginStoreError.

Those that tell a caller of a mistake of its own are ValueErrors too. An error that comes
from the database driver carries the driver's error as its ``__cause__``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class PluginStoreError(Exception):
    """The root: catch this one to catch them all."""


class InvalidNameError(PluginStoreError, ValueError):
    """A plugin name that is empty, too long, or not text that PostgreSQL can hold."""


class InvalidStatusError(PluginStoreError, ValueError):
    """A status that is neither ``enabled`` nor ``disabled``."""


class InvalidConfigError(PluginStoreError, ValueError):
    """A config that is not an object, or holds what JSON in PostgreSQL cannot."""


class UnresolvedReferenceError(PluginStoreError):
    """A reference in a config stands for nothing here: its variable is not set, or its file cannot be read."""


class InvalidFileError(PluginStoreError, ValueError):
    """A file of plugins that breaks a rule; the message names the line, or the path to the value."""


class PluginNotFoundError(PluginStoreError, ValueError):
    """No plugin of that name is registered, or has a row."""


class PluginAlreadyRegisteredError(PluginStoreError, ValueError):
    """A second plugin of one name."""


class PluginStateError(PluginStoreError, ValueError):
    """The plugin's status does not allow what was asked of it."""


class DependencyError(PluginStoreError, ValueError):
    """A dependency is not enabled, or enabled plugins depend on this one."""


class ConflictError(PluginStoreError, ValueError):
    """The row is no longer the version that the caller had read."""

    @classmethod
    def of(cls, plugin_name: str) -> ConflictError:
        """Return the error of a store whose row of this plugin is not the expected version."""
        return cls(f"plugin {plugin_name!r} changed, or was deleted, since it was read: read it and change it again")


class StoreError(PluginStoreError):
    """The database refused or failed a statement; ``__cause__`` is the driver's error."""


class UnreadableRowsError(StoreError):
    """Rows that someone wrote by hand hold values that Python cannot read.

    ``names`` are the plugins of these rows. ``rows`` are the other rows that were asked for, as PluginConfigs.
    """

    def __init__(self, message: str, names: list[str], rows: list[Any]) -> None:
        super().__init__(message)
        self.names = names
        self.rows = rows


class StoreUnavailableError(StoreError):
    """The database cannot be reached, or gave no connection in time."""


class SchemaError(StoreError):
    """The table is missing or out of date; the message says how to migrate."""


class MigrationError(PluginStoreError):
    """The migrations could not be applied; the message says what to do."""


class InvalidDatabaseURLError(PluginStoreError, ValueError):
    """A database URL that cannot be read; it is not repeated, as it may hold a password."""


class EmbeddedPostgresError(PluginStoreError):
    """The throw-away PostgreSQL could not be found or started."""


class InstallationError(PluginStoreError):
    """A part of plugin_store, or an optional package that it needs here, is missing."""
