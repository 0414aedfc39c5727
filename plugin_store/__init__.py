"""plugin_store keeps the state of a service's plugins in one PostgreSQL table.

``import plugin_store`` loads nothing but this file: each public name is loaded when it is first
asked for, and the database driver with PluginConfigRepository.
"""

__version__ = "0.1.0"

# Not typing's, which alone would cost more than all else here. Type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cli.changes import PluginChange
    from .cli.transfer import diff_plugins, dump_plugins, import_plugins, load_plugins
    from .errors import (
        ConflictError,
        DependencyError,
        EmbeddedPostgresError,
        InstallationError,
        InvalidConfigError,
        InvalidDatabaseURLError,
        InvalidFileError,
        InvalidNameError,
        InvalidStatusError,
        MigrationError,
        PluginAlreadyRegisteredError,
        PluginNotFoundError,
        PluginStateError,
        PluginStoreError,
        SchemaError,
        StoreError,
        StoreUnavailableError,
        UnresolvedReferenceError,
    )
    from .plugins.apply import SyncReport
    from .plugins.entry_points import DiscoveryReport
    from .plugins.events import Event, EventDispatcher, EventPriority
    from .plugins.manager import PluginManager
    from .plugins.plugin import BasePlugin, PluginMetadata, PluginStatus
    from .stores.memory import InMemoryPluginConfigStore
    from .stores.model import PluginConfig, PluginConfigStore
    from .stores.postgres import PluginConfigRepository
    from .watcher import PluginWatcher

__all__ = [
    "BasePlugin",
    "ConflictError",
    "DependencyError",
    "DiscoveryReport",
    "EmbeddedPostgresError",
    "Event",
    "EventDispatcher",
    "EventPriority",
    "InMemoryPluginConfigStore",
    "InstallationError",
    "InvalidConfigError",
    "InvalidDatabaseURLError",
    "InvalidFileError",
    "InvalidNameError",
    "InvalidStatusError",
    "MigrationError",
    "PluginAlreadyRegisteredError",
    "PluginChange",
    "PluginConfig",
    "PluginConfigRepository",
    "PluginConfigStore",
    "PluginManager",
    "PluginMetadata",
    "PluginNotFoundError",
    "PluginStateError",
    "PluginStatus",
    "PluginStoreError",
    "PluginWatcher",
    "SchemaError",
    "StoreError",
    "StoreUnavailableError",
    "SyncReport",
    "UnresolvedReferenceError",
    "diff_plugins",
    "dump_plugins",
    "import_plugins",
    "load_plugins",
]

# Where each public name is; the errors, all of which are in .errors, are not listed again.
_MODULES = {
    "BasePlugin": "plugins.plugin",
    "DiscoveryReport": "plugins.entry_points",
    "Event": "plugins.events",
    "EventDispatcher": "plugins.events",
    "EventPriority": "plugins.events",
    "InMemoryPluginConfigStore": "stores.memory",
    "PluginChange": "cli.changes",
    "PluginConfig": "stores.model",
    "PluginConfigRepository": "stores.postgres",
    "PluginConfigStore": "stores.model",
    "PluginManager": "plugins.manager",
    "PluginMetadata": "plugins.plugin",
    "PluginStatus": "plugins.plugin",
    "PluginWatcher": "watcher",
    "diff_plugins": "cli.transfer",
    "dump_plugins": "cli.transfer",
    "import_plugins": "cli.transfer",
    "load_plugins": "cli.transfer",
    "SyncReport": "plugins.apply",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_MODULES.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
