"""One registered plugin. ``switch`` starts and stops it, ``configure`` changes its config."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from plugin_store.errors import InvalidConfigError, PluginStateError
from plugin_store.stores.model import PluginConfig
from plugin_store.stores.validation import checked_config, copy_json, same_json

from .plugin import BasePlugin, PluginStatus
from .secrets import holds_secret, refuse_plain_secrets, resolve, text_of, without_plain_secrets

logger = logging.getLogger(__name__)

Note = Callable[..., None]
Rows = Mapping[str, PluginConfig]

# Looking up an Enum member takes longer than the rest of ``enabled``, so do it once.
RUNNING = PluginStatus.ENABLED


@dataclass(frozen=True)
class Failure:
    """The error of a hook or of a store, and the plugin's row at that time."""

    text: str
    row: PluginConfig | None


class Managed:
    """A registered plugin. Only the manager uses it, and changes it only under its lock.

    ``note(what, name, **data)`` queues an event.
    """

    def __init__(self, plugin: BasePlugin, note: Note) -> None:
        self.plugin = plugin
        self.name = plugin.metadata.name
        self.failure: Failure | None = None
        self._note = note

    @property
    def enabled(self) -> bool:
        """Whether the plugin runs."""
        return self.plugin._status is RUNNING

    @property
    def initialized(self) -> bool:
        """Whether the plugin has been initialized."""
        return self.plugin._initialized

    @property
    def needs(self) -> list[str]:
        """The names of the plugin's dependencies."""
        return self.plugin.metadata.dependencies or []

    @property
    def _config(self) -> dict[str, Any]:
        """The merged config. It shares lists and dicts with the layers."""
        return self.plugin._merged(self.plugin._stored, self.plugin._pending)

    @property
    def pending(self) -> dict[str, Any]:
        """A copy of the pending config."""
        return dict(self.plugin._pending)

    def initialize(self, config: dict[str, Any] | None) -> None:
        """Initialize the plugin. Raises PluginStateError if it stays uninitialized, and what its initialize raises."""
        self.plugin.initialize(config)
        if not self.initialized:
            raise PluginStateError(
                f"plugin {self.name!r}: initialize() does not call super().initialize(): add the call"
            )
        self.failure = None

    def has_stored(self, stored: Mapping[str, Any]) -> bool:
        """Return whether the plugin has this stored config already."""
        return same_json(self.plugin._stored, stored)

    def storable(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of a config. Raises InvalidConfigError if it cannot be stored or holds a plain secret."""
        checked = checked_config(self.name, config)
        refuse_plain_secrets(self.name, checked, self.plugin.metadata.secret_keys)
        return checked

    def checked_pending(self, checked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pending config. If it is not ``checked``, check it. Raises as ``storable`` and ``check`` do."""
        pending = self.pending
        self.storable(pending)
        if not same_json(pending, checked):
            self.plugin.settings = self.check(self.plugin._stored, pending)
        return pending

    def check(self, stored: Mapping[str, Any], pending: Mapping[str, Any]) -> Any:
        """Run validate_config on a config and return the settings.

        Raises UnresolvedReferenceError, or InvalidConfigError if validate_config raises.
        """
        config = self.plugin._merged(stored, pending)
        secret = self._may_show_secret(config)
        usable = {key: resolve(self.name, value, ("config", key)) for key, value in config.items()}
        try:
            return self.plugin.validate_config(usable)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            error = exc
        # Raise outside the except block: inside it, Python chains the original error, and a log would show its secret.
        text = text_of(error, secret=secret).removeprefix("ValueError: ")
        raise InvalidConfigError(f"plugin {self.name!r} refuses this config: {text}") from (None if secret else error)

    def configure(self, stored: dict[str, Any], settings: Any, origin: str) -> BaseException | None:
        """Give the plugin a checked config. Return the error of on_config_changed, or None."""
        plugin, old = self.plugin, self._config
        new = plugin._merged(stored, plugin._pending)
        changed = not same_json(old, new)
        if changed:
            logger.info("plugin %r: config changed (origin %s)", self.name, origin)
            keys = plugin.metadata.secret_keys
            before, after = without_plain_secrets(copy_json(old), keys), without_plain_secrets(copy_json(new), keys)
            self._note("config_changed", self.name, origin=origin, before=before, after=after)

        def apply() -> None:
            plugin._stored, plugin.settings = stored, settings
            if changed and self.enabled:
                plugin.on_config_changed(copy_json(old), copy_json(new))

        # In one step: if a signal handler interrupts it, the next sync repeats it.
        return _error_of(apply)

    def switch(
        self, on: bool, rows: Rows, *, origin: str, commit: Callable[[], None] | None = None
    ) -> BaseException | None:
        """Start or stop the plugin: run the hook, call ``commit``, queue the event. Return the hook's error, or None.

        If on_enable raises, ``commit`` is not called. If ``commit`` raises, the opposite hook undoes the change and
        the error of ``commit`` is raised. A KeyboardInterrupt is raised when the rest is done.
        """
        plugin, before, was_enabled = self.plugin, self.plugin.status, self.enabled
        action, undo = (plugin.enable, plugin.disable) if on else (plugin.disable, plugin.enable)
        error, commit_error, undo_error = _error_of(action), None, None
        if commit is not None and (error is None or not on):
            commit_error = _error_of(commit)
        if commit_error is not None and error is None:
            undo_error = _error_of(undo) if self.enabled != was_enabled else None
            if undo_error is None:
                plugin._status = before
        if self.enabled != was_enabled:
            done = "enabled" if self.enabled else "disabled"
            logger.info("plugin %r: %s (origin %s)", self.name, done, origin)
            self._note(done, self.name, origin=origin, before=before.value, after=plugin.status.value)
        if error is not None:
            self.fail("on_enable" if on else "on_disable", error, rows)
        elif undo_error is not None:
            self.fail("on_disable" if on else "on_enable", undo_error, rows)
        elif plugin.status is not PluginStatus.ERROR:
            self.failure = None
        for raised in (error, undo_error):
            if isinstance(raised, KeyboardInterrupt):
                raise raised
        if commit_error is not None:
            raise commit_error
        return error

    def fail(self, hook: str, error: BaseException, rows: Rows) -> None:
        """Set the status to ERROR and queue plugin.failed. Log a new reason. ``rows`` are the rows as stored."""
        secret = self._may_show_secret(self._config)
        text = f"{hook} raised {text_of(error, secret=secret)}"
        if self.failure is None or self.failure.text != text:
            logger.error("plugin %r failed: %s", self.name, text, exc_info=None if secret else error)
        self.failure = Failure(text, rows.get(self.name))
        self.plugin._status = PluginStatus.ERROR
        self._note("failed", self.name, reason=text)

    def _may_show_secret(self, config: Mapping[str, Any]) -> bool:
        """Return whether an error may show a secret of this config, or one that the plugin has read before."""
        plugin = self.plugin
        plugin._knows_secret = plugin._knows_secret or holds_secret(config, plugin.metadata.secret_keys)
        return plugin._knows_secret


def _error_of(hook: Callable[[], None]) -> BaseException | None:
    try:
        hook()
    except BaseException as exc:
        return exc
    return None
