"""What a plugin is: metadata, a status, a config, and hooks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from .errors import InvalidConfigError, PluginStateError
from .references import has_reference, resolve
from .stores.validation import copy_json

if TYPE_CHECKING:
    from flask import Blueprint


class PluginStatus(Enum):
    """Where a plugin in memory is in its life cycle."""

    DISCOVERED = "discovered"
    """Made, but not yet registered with a manager."""
    REGISTERED = "registered"
    """Known to a manager, but not yet initialized."""
    INITIALIZED = "initialized"
    """Given its config; may be enabled."""
    ENABLED = "enabled"
    """Running."""
    DISABLED = "disabled"
    """Switched off; may be enabled."""
    ERROR = "error"
    """A hook raised; not running, may be enabled."""


@dataclass
class PluginMetadata:
    """Who a plugin is. ``dependencies`` are the names of the plugins that must be enabled before it.

    ``secret_keys`` are top-level keys of its config under which a manager stores references only.
    """

    name: str
    version: str
    author: str
    description: str
    dependencies: list[str] | None = field(default_factory=list)
    secret_keys: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.dependencies is None:
            self.dependencies = []
        if isinstance(self.dependencies, str):
            self.dependencies = [self.dependencies]
        if isinstance(self.secret_keys, str):
            self.secret_keys = (self.secret_keys,)


class BasePlugin(ABC):
    """Derive from this, set ``metadata``, and override the hooks that are needed.

    The hooks are on_enable, on_disable, on_config_changed and validate_config. A manager calls them one at
    a time, so a hook that hangs holds up its manager. A subclass with an ``__init__`` calls this class's.
    """

    def __init__(self) -> None:
        self._status = PluginStatus.DISCOVERED
        self._config: dict[str, Any] = {}

    @property
    @abstractmethod
    def metadata(self) -> PluginMetadata:
        """The plugin's metadata: a property or a plain class attribute. The name must not change."""

    @property
    def status(self) -> PluginStatus:
        """The plugin's status in this process."""
        return self._status

    def initialize(self, config: dict[str, Any] | None = None) -> None:
        """Take ``config`` as the code's defaults, over which a stored config is laid key by key.

        Raises PluginStateError while it is enabled, and InvalidConfigError for what is no dict.
        """
        if self._status is PluginStatus.ENABLED:
            raise PluginStateError(
                f"Cannot initialize plugin {self.metadata.name!r} while it is enabled: disable it first"
            )
        if config is not None and not isinstance(config, dict):
            given = type(config).__name__
            raise InvalidConfigError(f"plugin {self.metadata.name!r}: config must be a dict, not {given}")
        self._config = copy_json(config or {})
        self._status = PluginStatus.INITIALIZED

    def enable(self) -> None:
        """Run on_enable and be ENABLED; an enabled plugin stays as it is.

        Raises PluginStateError ("Cannot enable …") if it was never initialized, and what on_enable raises,
        which leaves ERROR.
        """
        if self._status is PluginStatus.ENABLED:
            return
        if self._status in (PluginStatus.DISCOVERED, PluginStatus.REGISTERED):
            raise PluginStateError(
                f"Cannot enable plugin {self.metadata.name!r}: it is {self._status.value}, initialize it first"
            )
        self._run(self.on_enable, PluginStatus.ENABLED)

    def disable(self) -> None:
        """Run on_disable and be DISABLED; a plugin that is not enabled runs no hook.

        Raises what on_disable raises, which leaves ERROR. One that was never initialized keeps its status.
        """
        if self._status is PluginStatus.ENABLED:
            self._run(self.on_disable, PluginStatus.DISABLED)
        elif self._status not in (PluginStatus.DISCOVERED, PluginStatus.REGISTERED):
            self._status = PluginStatus.DISABLED

    def on_enable(self) -> None:
        """Start working: a hook. What it raises keeps the plugin from being enabled."""

    def on_disable(self) -> None:
        """Stop working: a hook. The plugin is disabled even if it raises."""

    def on_config_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Take up a changed config while enabled: a hook, called after get_config gives the new values.

        Called when the stored config changed, here through the manager or in another process. Both have references
        as they are.
        """

    def validate_config(self, config: dict[str, Any]) -> None:
        """Raise ValueError, saying what is wrong, for a config that the plugin cannot work with: a hook.

        Called with the defaults and what references stand for, before the manager stores a config, and before it
        enables the plugin or gives it a config that is new in the store.
        """

    def get_config(self, key: str, default: Any = None) -> Any:
        """Return the value of a key of the plugin's config, with what references in it stand for at this moment.

        Raises UnresolvedReferenceError, naming variable or file, if that has gone since the plugin was enabled.
        """
        value = self._config.get(key, default)
        return resolve(self.metadata.name, value, ("config", key)) if has_reference(value) else value

    def set_config(self, key: str, value: Any) -> None:
        """Set a key in memory; it is stored when the manager next enables or disables the plugin."""
        config = None
        while config is not self._config:  # a manager may put another in its place meanwhile
            config = self._config
            config[key] = value

    def get_blueprint(self) -> Blueprint | None:
        """Return the plugin's Flask blueprint, or None if it has no routes."""
        return None

    def get_url_prefix(self) -> str | None:
        """Return the URL prefix for the blueprint."""
        return None

    def _run(self, hook: Any, then: PluginStatus) -> None:
        """Run a hook; only its end gives the status, so that no half-done work passes for done."""
        try:
            hook()
        except BaseException:
            self._status = PluginStatus.ERROR
            raise
        self._status = then
