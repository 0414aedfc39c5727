"""The errors of plugin_store. All derive from PluginStoreError.

Errors about a caller's mistake are ValueErrors too. If the database driver raised an error, it is the ``__cause__``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class PluginStoreError(Exception):
    """The base class of all errors."""


class InvalidNameError(PluginStoreError, ValueError):
    """A plugin name is empty, too long, given twice, or has a character that PostgreSQL refuses."""


class InvalidStatusError(PluginStoreError, ValueError):
    """A status is not ``enabled`` or ``disabled``."""


class InvalidConfigError(PluginStoreError, ValueError):
    """A config cannot be stored, has a plain secret, or is refused by its plugin."""


class UnresolvedReferenceError(PluginStoreError):
    """The variable of a reference is not set, or its file cannot be read."""


class InvalidFileError(PluginStoreError, ValueError):
    """A file of plugins is not valid. The message names the line, or the path to the value."""


class PluginNotFoundError(PluginStoreError, ValueError):
    """The plugin is not registered, or has no row."""


class PluginAlreadyRegisteredError(PluginStoreError, ValueError):
    """A plugin of this name is already registered."""


class PluginStateError(PluginStoreError, ValueError):
    """The plugin's status does not allow the call."""


class DependencyError(PluginStoreError, ValueError):
    """A dependency is not enabled, or enabled plugins depend on this one."""


class ConflictError(PluginStoreError, ValueError):
    """The row has changed since the caller read it."""

    @classmethod
    def of(cls, plugin_name: str) -> ConflictError:
        """Return the error for a plugin whose row is not the expected version."""
        return cls(f"plugin {plugin_name!r} changed, or was deleted, since it was read: read it and change it again")


class StoreError(PluginStoreError):
    """The database refused or failed a statement."""


class UnreadableRowsError(StoreError):
    """Rows hold values that Python cannot read.

    ``names`` are the plugins of these rows. ``rows`` are the other rows of the query, as PluginConfigs.
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
    """A database URL cannot be read. The message does not show it, because it may hold a password."""


class EmbeddedPostgresError(PluginStoreError):
    """The throw-away PostgreSQL could not be found or started."""


class InstallationError(PluginStoreError):
    """A part of plugin_store, or an optional package that it needs here, is missing."""
