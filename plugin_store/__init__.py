"""plugin_store keeps the state of a service's plugins in one PostgreSQL table.

``import plugin_store`` loads this file only. Each public name is loaded when it is first used.
PluginConfigRepository, PluginWatcher and the functions for files of plugins load the database driver.
"""

__version__ = "0.2.0"

# Importing typing would take longer than this file. Type checkers know this name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cli.transfer import *
    from .errors import *
    from .plugins.events import *
    from .plugins.manager import *
    from .plugins.plugin import *
    from .stores.memory import *
    from .stores.model import *
    from .stores.postgres import *
    from .watcher import *

_PUBLIC = {
    "cli.transfer": "diff_plugins dump_plugins import_plugins load_plugins",
    "errors": "ConflictError DependencyError InvalidConfigError InvalidNameError PluginNotFoundError PluginStateError "
    "PluginStoreError SchemaError StoreError StoreUnavailableError",
    "plugins.events": "Event EventDispatcher",
    "plugins.manager": "PluginManager",
    "plugins.plugin": "BasePlugin PluginMetadata PluginStatus",
    "stores.memory": "InMemoryPluginConfigStore",
    "stores.model": "PluginConfig PluginConfigStore",
    "stores.postgres": "PluginConfigRepository",
    "watcher": "PluginWatcher",
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names.split()}
__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
