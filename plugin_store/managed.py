"""One plugin as a manager sees it: its config against the stored one, and its announcements."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import InvalidConfigError, PluginStateError, PluginStoreError
from .events import Event, EventDispatcher
from .plugin import BasePlugin, PluginStatus
from .references import ENV, FILE, is_plain, resolve, shows
from .stores.validation import checked_config, copy_json, same_json

if TYPE_CHECKING:
    from datetime import datetime

    from .stores.model import PluginConfig

logger = logging.getLogger(__name__)

# The origin of a change, which its event tells: asked of this manager, or found in the store.
LOCAL = "local"
STORED = "stored"


class ManagedPlugin:
    """A registered plugin, and what its manager must remember of it. Not thread-safe: the manager locks."""

    def __init__(self, plugin: BasePlugin, dispatcher: EventDispatcher) -> None:
        self.plugin = plugin
        self.name = plugin.metadata.name
        self._dispatcher = dispatcher
        self._changing = False
        # The hook that is running, and since when (time.monotonic): for those who wait for it.
        self.running: tuple[str, float] | None = None
        # Of the row at which a hook last raised: its version, and what to report until it changes.
        self.failed_at: datetime | None = None
        self.failure: str | None = None
        # Why the plugin was last not enabled, so that it is logged once and not at every sync.
        self.skipped_for: str | None = None
        # The config that check() last let pass, and the last row with such a one: its version spares a comparison.
        self._accepted: dict[str, Any] | None = None
        self._accepted_at: datetime | None = None
        self.take_defaults()

    @property
    def enabled(self) -> bool:
        """Whether the plugin is enabled in this process."""
        return self.plugin.status is PluginStatus.ENABLED

    @property
    def initialized(self) -> bool:
        """Whether the plugin has been initialized, whatever came after."""
        return self.plugin.status not in (PluginStatus.DISCOVERED, PluginStatus.REGISTERED)

    @property
    def needs(self) -> list[str]:
        """The names of the plugins that it depends on."""
        return self.plugin.metadata.dependencies or []

    def announce(self, what: str, **data: Any) -> None:
        """Dispatch ``plugin.WHAT`` with the plugin's name and ``data``."""
        event = Event(f"plugin.{what}", {"plugin_name": self.name, **data})
        self.call(f"a listener of {event.name}", self._dispatcher.dispatch, event)

    def call(self, hook: str, function: Callable[..., object], *arguments: Any) -> None:
        """Call the function, with ``running`` telling that it runs as this hook; within it another may."""
        outer, self.running = self.running, (hook, time.monotonic())
        try:
            function(*arguments)
        finally:
            self.running = outer

    def enable(self) -> None:
        """Enable the plugin, which runs its hook."""
        self.call("on_enable", self.plugin.enable)

    def disable(self) -> None:
        """Disable the plugin, which runs its hook."""
        self.call("on_disable", self.plugin.disable)

    def announce_status(self, what: str, before: PluginStatus, origin: str) -> None:
        """Dispatch ``plugin.WHAT`` with the plugin's status before and now."""
        self.announce(what, origin=origin, before=before.value, after=self.plugin.status.value)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Refuse a change of status from within one: a hook that enables or disables its own plugin."""
        if self._changing:
            raise PluginStateError(f"plugin {self.name!r} is being changed: its own hooks cannot change its status")
        self._changing = True
        try:
            yield
        finally:
            self._changing = False

    @property
    def in_change(self) -> bool:
        """Whether the plugin's status is being changed, so that one of its hooks may be running."""
        return self._changing

    def abandon_change(self) -> None:
        """Forget a change that is being made in another process, of which this one is a fork."""
        self._changing = False
        self.running = None

    def take_defaults(self) -> None:
        """Take the plugin's config as the defaults of its code, with nothing read from a store yet."""
        self.defaults: dict[str, Any] = copy_json(self.plugin._config)
        self._last_read: dict[str, Any] = copy_json(self.defaults)

    def config_to_store(self) -> dict[str, Any] | None:
        """Return the plugin's config, or None if it is what was last read from the store."""
        return None if same_json(self.plugin._config, self._last_read) else copy_json(self.plugin._config)

    def config_is_stored(self, config: dict[str, Any] | None = None) -> None:
        """Take note that the store has this config, or else the one that the plugin has."""
        self._last_read = copy_json(self.plugin._config if config is None else config)

    def storable(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of a config; InvalidConfigError for what cannot, or must not, be stored of this plugin."""
        checked = checked_config(self.name, config)
        for key in self.plugin.metadata.secret_keys:
            if is_plain(checked.get(key)):
                raise InvalidConfigError(
                    f"plugin {self.name!r}: config.{key} is secret, so its value is not to be stored: put it into an "
                    f'environment variable or a file, and store {{"{ENV}": "NAME"}} or {{"{FILE}": "PATH"}}'
                )
        return checked

    def check(self, config: dict[str, Any]) -> None:
        """Raise unless the plugin can work with a config, which has the defaults already.

        UnresolvedReferenceError for its references, InvalidConfigError for what validate_config refuses. A message that
        would tell what a reference stands for is not repeated.
        """
        secrets: list[str] = []
        usable = resolve(self.name, config, ("config",), secrets)
        error: BaseException | None = None
        try:
            self.call("validate_config", self.plugin.validate_config, usable)
        except (Exception, SystemExit) as exc:  # as argparse refuses
            error = exc
        # Not while it is handled: whoever logs the new error would find it there.
        if error is None:
            self._accepted = copy_json(config)
        elif shows(error, secrets):
            raise InvalidConfigError(
                f"plugin {self.name!r} refuses this config: validate_config raised {type(error).__name__}, whose "
                "message is not repeated, as it shows a secret"
            )
        elif isinstance(error, ValueError):
            raise InvalidConfigError(f"plugin {self.name!r} refuses this config: {error}") from error
        elif isinstance(error, SystemExit):
            raise InvalidConfigError(
                f"plugin {self.name!r} refuses this config: validate_config raised SystemExit: {error}"
            ) from error
        else:
            raise error

    def reason_to_refuse(self, row: PluginConfig) -> str | None:
        """Return why the plugin cannot be enabled with the config of a row; None if it can, or runs with it already."""
        if self.enabled and self._accepted_at is not None and self._accepted_at == row.updated_at:
            return None
        config = self.defaults | row.config
        if not (self.enabled and same_json(config, self._accepted)):
            try:
                self.check(config)
            except PluginStoreError as exc:
                return str(exc)
            except Exception as exc:
                return f"validate_config raised {type(exc).__name__}: {exc}"
        self._accepted_at = row.updated_at
        return None

    def apply_config(self, stored: dict[str, Any], origin: str) -> Exception | None:
        """Lay a stored config over the defaults; keep what the plugin changed itself since the last time.

        Announces a change, to a running plugin first. What its on_config_changed raises is logged and
        returned (an interrupt raised), and leaves the plugin in ERROR.
        """
        read = self.defaults | stored
        if same_json(read, self._last_read):
            return None
        replaced, new = self.plugin._config, copy_json(read)
        old = dict(replaced)  # at one moment: another thread may be in set_config
        for key in self._last_read.keys() | old.keys():
            if key not in old:
                new.pop(key, None)
            elif key not in self._last_read or not same_json(old[key], self._last_read[key]):
                new[key] = old[key]
        self._last_read = read
        if same_json(new, old):
            return None
        self.plugin._config = new
        for key, value in dict(replaced).items():  # what set_config has put there since
            if key not in old or old[key] is not value:
                new[key] = value
        error: BaseException | None = None
        if self.enabled:
            try:
                self.call("on_config_changed", self.plugin.on_config_changed, copy_json(old), copy_json(new))
            except BaseException as exc:
                logger.exception("plugin %r: on_config_changed raised", self.name)
                self.plugin._status = PluginStatus.ERROR
                error = exc
        self.announce("config_changed", origin=origin, before=self._shown(old), after=self._shown(new))
        if error is not None:
            self.announce_status("disabled", PluginStatus.ENABLED, origin)
            if not isinstance(error, Exception):
                raise error
        return error

    def _shown(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of a config for an event, without the secrets that are there in plain."""
        keys = self.plugin.metadata.secret_keys
        return {key: "***" if key in keys and is_plain(value) else value for key, value in copy_json(config).items()}

    def undo(self, back: Callable[[], None], status: PluginStatus) -> None:
        """Take back a change that could not be stored: run ``back``, and be in ``status`` again."""
        try:
            back()
        except BaseException as exc:
            logger.exception("plugin %r: undoing what could not be stored failed", self.name)
            if status is PluginStatus.ENABLED:
                self.announce_status("disabled", status, LOCAL)
            if not isinstance(exc, Exception):  # an interrupt
                raise
        else:
            self.plugin._status = status
