"""What a plugin is: metadata, a status, a config in three layers, and hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from plugin_store.errors import InvalidConfigError, PluginStateError
from plugin_store.stores.validation import copy_json

from .events import refuse_async
from .secrets import resolve

if TYPE_CHECKING:
    from flask import Blueprint

HOOKS = ("initialize", "validate_config", "on_enable", "on_disable", "on_config_changed")


class PluginStatus(Enum):
    """Where a plugin in memory is in its life cycle."""

    DISCOVERED = "discovered"
    """Made, but not yet registered with a manager."""
    REGISTERED = "registered"
    """Known to a manager, but not yet initialized."""
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
    """What identifies and describes a plugin.

    ``dependencies`` are the names of the plugins that must be enabled before it. ``secret_keys`` are top-level keys
    of its config under which the manager stores references only.
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
    """A plugin: derive from this class, set ``metadata``, and override the hooks that you need.

    The hooks are on_enable, on_disable, on_config_changed and validate_config: plain functions. The manager calls one
    hook at a time, and a hook that hangs holds up the manager. A hook may read the manager but not change it.
    A subclass with an ``__init__`` calls ``super().__init__()``.
    """

    metadata: PluginMetadata
    """Set it in the class body. The name must not change."""

    settings: Any = None
    """What validate_config returned for the config that the plugin has."""

    def __init__(self) -> None:
        self._status = PluginStatus.DISCOVERED
        # The layers of the config. The first two dicts are replaced, never changed in place. Keys of the third are
        # set and removed by atomic steps, as plugins call set_config from threads of their own.
        self._defaults: dict[str, Any] = {}
        self._stored: dict[str, Any] = {}
        self._pending: dict[str, Any] = {}

    @property
    def status(self) -> PluginStatus:
        """The plugin's status in this process."""
        return self._status

    @property
    def _config(self) -> dict[str, Any]:
        """A copy of the merged config, with references as they are."""
        config: dict[str, Any] = copy_json(self._merged(self._stored, self._pending))
        return config

    def initialize(self, config: dict[str, Any] | None = None) -> None:
        """Take ``config`` as the defaults. They are never stored, and stored keys go over them.

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
        """Run on_enable, then be ENABLED. An enabled plugin stays as it is.

        Raises PluginStateError ("Cannot enable …") if the plugin was never initialized, and what on_enable raises;
        then the status is ERROR.
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
        """Be DISABLED, then run on_disable if the plugin was enabled.

        Raises what on_disable raises; then the status is ERROR. A plugin that was never initialized keeps its status.
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
        """Start working: a hook. If it raises, the plugin is not enabled."""

    def on_disable(self) -> None:
        """Stop working: a hook. If it raises, the plugin is disabled nevertheless."""

    def on_config_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Use a changed config while enabled: a hook, called when get_config already gives the new values.

        Both dicts hold references as they are stored. If it raises, the plugin is stopped.
        """

    def validate_config(self, config: dict[str, Any]) -> Any:
        """Raise ValueError to refuse a config: a hook. What it returns becomes ``self.settings``.

        ``config`` is merged, with references replaced by their secrets. The manager calls this before it stores a
        config and before the plugin gets one.
        """

    def get_config(self, key: str, default: Any = None) -> Any:
        """Return a copy of the value of a key, with references replaced by their secrets.

        Raises UnresolvedReferenceError, naming the variable or file, if a secret cannot be read now.
        """
        for layer in (self._pending, self._stored, self._defaults):
            value = layer.get(key, layer)
            if value is not layer:
                return resolve(self.metadata.name, value, ("config", key))
        return default

    def set_config(self, key: str, value: Any) -> None:
        """Set a key in this process. The manager stores it when it next enables, disables or configures the plugin."""
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
        """Move pending keys to the stored layer, except keys that set_config has set again since."""
        self._stored = {**self._stored, **pending}
        for key, value in pending.items():
            newer = self._pending.pop(key, value)
            if newer is not value:
                self._pending.setdefault(key, newer)


def check_plugin(plugin: BasePlugin) -> None:
    """Raise TypeError, saying what to do, for an object that a manager cannot take through its life cycle."""
    kind = type(plugin).__name__
    if not isinstance(plugin, BasePlugin):
        raise TypeError(f"a plugin must be an instance of BasePlugin, not {kind}")
    if "_status" not in vars(plugin):
        raise TypeError(f"{kind}.__init__ does not call super().__init__(): add that call")
    if not isinstance(getattr(plugin, "metadata", None), PluginMetadata):
        raise TypeError(f"{kind} has no metadata: set `metadata = PluginMetadata(…)` in the class body")
    for hook in HOOKS:
        refuse_async(getattr(plugin, hook), f"{kind}.{hook}")
