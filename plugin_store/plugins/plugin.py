"""What a plugin is: metadata, a status, a config in three layers, and hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from plugin_store.errors import InvalidConfigError, PluginStateError
from plugin_store.stores.validation import copy_json

from .events import refuse_async
from .secrets import holds_secret, resolve

if TYPE_CHECKING:
    from flask import Blueprint

HOOKS = ("initialize", "validate_config", "on_enable", "on_disable", "on_config_changed")


class PluginStatus(Enum):
    """A plugin's status in this process."""

    DISCOVERED = "discovered"
    """Created, but not registered with a manager."""
    REGISTERED = "registered"
    """Registered, but not initialized."""
    INITIALIZED = "initialized"
    """Has its defaults and may be enabled."""
    ENABLED = "enabled"
    """Running."""
    DISABLED = "disabled"
    """Not running; may be enabled."""
    ERROR = "error"
    """A hook raised. Not running; may be enabled."""


@dataclass
class PluginMetadata:
    """A plugin's name and description.

    ``dependencies`` lists the plugins that must be enabled first. ``secret_keys`` lists top-level config keys. Under
    these keys, the manager stores only references.
    """

    name: str
    version: str
    author: str
    description: str
    dependencies: list[str] | None = field(default_factory=list)
    secret_keys: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.dependencies, str):
            self.dependencies = [self.dependencies]
        self.dependencies = list(self.dependencies or ())
        self.secret_keys = (self.secret_keys,) if isinstance(self.secret_keys, str) else tuple(self.secret_keys)


class BasePlugin:
    """A plugin. Derive from this class, set ``metadata``, and override the hooks that you need.

    The hooks on_enable, on_disable, on_config_changed and validate_config are plain functions. The manager runs one
    hook at a time, so a hook that hangs blocks the manager. A hook may read the manager but not change it.
    A subclass with an ``__init__`` calls ``super().__init__()``.
    """

    metadata: PluginMetadata
    """Set it in the class body. The name must not change."""

    settings: Any = None
    """The result of validate_config for the current config."""

    _knows_secret = False

    def __init__(self) -> None:
        self._status = PluginStatus.DISCOVERED
        # The layers of the config. The manager replaces the first two dicts and never changes them in place. The third
        # changes by atomic steps, because plugins may call set_config from any thread.
        self._defaults: dict[str, Any] = {}
        self._stored: dict[str, Any] = {}
        self._pending: dict[str, Any] = {}

    @property
    def status(self) -> PluginStatus:
        """The plugin's status in this process."""
        return self._status

    @property
    def _config(self) -> dict[str, Any]:
        """A copy of the merged config, with references unresolved."""
        pending = dict(self._pending)  # first: _keep adds keys to the stored layer before it removes them from this one
        config: dict[str, Any] = copy_json(self._merged(self._stored, pending))
        return config

    def initialize(self, config: dict[str, Any] | None = None) -> None:
        """Set the defaults to ``config``. They are never stored, and stored keys override them.

        Raises PluginStateError while the plugin is enabled, and InvalidConfigError if config is not a dict.
        """
        name = self.metadata.name
        if self._status is PluginStatus.ENABLED:
            raise PluginStateError(f"Cannot initialize plugin {name!r} while it is enabled: disable it first")
        if config is not None and not isinstance(config, dict):
            raise InvalidConfigError(f"plugin {name!r}: config must be a dict, not {type(config).__name__}")
        self._defaults = copy_json(config or {})
        self._status = PluginStatus.INITIALIZED

    def enable(self) -> None:
        """Run on_enable, then set the status to ENABLED. Does nothing if the plugin is enabled.

        If the plugin was never initialized, raises PluginStateError ("Cannot enable …"). If on_enable raises, the
        status becomes ERROR and the caller gets the error.
        """
        if self._status is PluginStatus.ENABLED:
            return
        if not self._initialized:
            raise PluginStateError(
                f"Cannot enable plugin {self.metadata.name!r}: it is {self._status.value}, initialize it first"
            )
        try:
            self.on_enable()
            self._status = PluginStatus.ENABLED
        except BaseException:
            self._status = PluginStatus.ERROR
            raise

    def disable(self) -> None:
        """Set the status to DISABLED, then run on_disable if the plugin was enabled.

        If on_disable raises, the status becomes ERROR and the caller gets the error. If the plugin was never
        initialized, does nothing.
        """
        if not self._initialized:
            return
        was, self._status = self._status, PluginStatus.DISABLED
        try:
            if was is PluginStatus.ENABLED:
                self.on_disable()
        except BaseException:
            self._status = PluginStatus.ERROR
            raise

    def on_enable(self) -> None:
        """Hook: start working. If it raises, the plugin is not enabled."""

    def on_disable(self) -> None:
        """Hook: stop working. If it raises, the plugin is stopped and in ERROR."""

    def on_config_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Hook: apply a changed config while the plugin runs. get_config already returns the new values.

        Both dicts hold references unresolved. If it raises, the plugin is stopped.
        """

    def validate_config(self, config: dict[str, Any]) -> Any:
        """Hook: raise ValueError to refuse a config. The return value becomes ``self.settings``.

        ``config`` is the merged config, with references resolved. The manager calls this before it stores a config
        and before the plugin gets one.
        """

    def get_config(self, key: str, default: Any = None) -> Any:
        """Return a copy of a key's value, with references resolved.

        If a secret cannot be read, raises UnresolvedReferenceError, which names the variable or file.
        """
        for name in ("_pending", "_stored", "_defaults"):
            layer = getattr(self, name)  # late: another thread may have moved the key to it
            value = layer.get(key, layer)
            if value is not layer:
                self._knows_secret = self._knows_secret or holds_secret({key: value}, self.metadata.secret_keys)
                return resolve(self.metadata.name, value, ("config", key))
        return default

    def set_config(self, key: str, value: Any) -> None:
        """Set a key in this process. The next enable_plugin, disable_plugin or update_config stores it."""
        self._pending[key] = copy_json(value)

    def get_blueprint(self) -> Blueprint | None:
        """Return the plugin's Flask blueprint, or None if it has no routes."""
        return None

    def get_url_prefix(self) -> str | None:
        """Return the URL prefix for the blueprint."""
        return None

    @property
    def _initialized(self) -> bool:
        return self._status not in (PluginStatus.DISCOVERED, PluginStatus.REGISTERED)

    def _merged(self, stored: Mapping[str, Any], pending: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._defaults, **stored, **pending}

    def _keep(self, pending: Mapping[str, Any]) -> None:
        """Move pending keys to the stored layer. Keys that set_config changed meanwhile stay pending."""
        self._stored = {**self._stored, **pending}
        for key, value in pending.items():
            if self._pending.get(key) is value:
                newer = self._pending.pop(key, value)
                if newer is not value:  # set_config came in between
                    self._pending.setdefault(key, newer)


def check_plugin(plugin: BasePlugin) -> None:
    """Raise TypeError if the object is not a usable plugin. The message says what to do."""
    kind = type(plugin).__name__
    if not isinstance(plugin, BasePlugin):
        raise TypeError(f"a plugin must be an instance of BasePlugin, not {kind}")
    if "_status" not in vars(plugin):
        raise TypeError(f"{kind}.__init__ does not call super().__init__(): add that call")
    if not isinstance(getattr(plugin, "metadata", None), PluginMetadata):
        raise TypeError(f"{kind} has no metadata: set `metadata = PluginMetadata(…)` in the class body")
    names = [*(plugin.metadata.dependencies or ()), *plugin.metadata.secret_keys]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{kind}.metadata: dependencies and secret_keys must be lists of str, not {names!r}")
    for hook in HOOKS:
        refuse_async(getattr(plugin, hook), f"{kind}.{hook}")
