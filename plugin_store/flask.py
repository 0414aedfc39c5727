"""plugin_store in a Flask app: ``flask plugins …``, and routes that are there only while their plugin is enabled.

``init_app(app, manager)`` gives an app both. The commands change what the manager's store holds; a service that
runs meanwhile learns of it as its own manager does.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click
from flask import Flask, Request, current_app
from flask.cli import AppGroup
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import MapAdapter, RequestRedirect, Rule

from .cli.output import near, value_of
from .errors import InvalidConfigError, PluginNotFoundError, PluginStoreError
from .stores.conninfo import masked

if TYPE_CHECKING:
    from .plugins.manager import PluginManager
    from .plugins.plugin import BasePlugin

logger = logging.getLogger(__name__)


# -- the app ----------------------------------------------------------------------------------


def init_app(app: Flask, manager: PluginManager) -> None:
    """Register the blueprints of the manager's plugins, and ``flask plugins``, with the app.

    Call it once, when all plugins are registered. While a plugin is disabled, its URLs answer as unknown URLs do.
    The app registers the blueprints of disabled plugins too, because Flask accepts none after the first request.

    Raises PluginStoreError if the blueprint of an enabled plugin cannot be registered. If the plugin is disabled,
    the error goes to the log.
    """
    app.extensions["plugin_store"] = manager
    app.cli.add_command(plugins)
    owners: dict[str, str] = {}  # the names of blueprints, and of their plugins
    for plugin in manager.get_all_plugins():
        name = plugin.metadata.name
        try:
            _register_blueprint(app, plugin, owners)
        except Exception as exc:
            message = f"plugin {name!r}: its blueprint cannot be registered: {exc}"
            if manager.is_enabled(name):
                raise PluginStoreError(message) from exc
            logger.exception(message)

    def is_hidden(endpoint: str) -> bool:
        blueprint, dot, _ = endpoint.partition(".")  # an endpoint without a dot is the app's own
        return bool(dot) and blueprint in owners and not manager.is_enabled(owners[blueprint])

    create = app.create_url_adapter

    def create_url_adapter(request: Request | None) -> MapAdapter | None:
        adapter = create(request)
        return None if adapter is None else _VisibleRoutes(adapter, is_hidden)

    app.create_url_adapter = create_url_adapter  # type: ignore[method-assign]


def _register_blueprint(app: Flask, plugin: BasePlugin, owners: dict[str, str]) -> None:
    blueprint = plugin.get_blueprint()
    if blueprint is None:
        return
    if blueprint.name in app.blueprints:
        raise ValueError(f"the app has a blueprint {blueprint.name!r} already")
    owners[blueprint.name] = plugin.metadata.name
    app.register_blueprint(blueprint, url_prefix=plugin.get_url_prefix())


class _VisibleRoutes(MapAdapter):
    """Matches requests to the app's routes, except to hidden ones.

    Flask matches a request before it runs anything of the app. So a request for a hidden route has no endpoint and
    no blueprint, as a request for an unknown URL.
    """

    def __init__(self, adapter: MapAdapter, is_hidden: Callable[[str], bool]) -> None:
        super().__init__(
            adapter.map,
            adapter.server_name,
            adapter.script_name,
            adapter.subdomain,
            adapter.url_scheme,
            adapter.path_info,
            adapter.default_method,
            adapter.query_args,
        )
        self._is_hidden = is_hidden

    def match(  # type: ignore[override]
        self,
        path_info: str | None = None,
        method: str | None = None,
        return_rule: bool = False,
        query_args: Mapping[str, Any] | str | None = None,
        websocket: bool | None = None,
    ) -> tuple[str | Rule, Mapping[str, Any]]:
        """Return the route and its values. If the route is hidden, raise NotFound."""
        try:
            rule, values = super().match(path_info, method, True, query_args, websocket)
        except MethodNotAllowed as exc:
            visible = [other for other in exc.valid_methods or () if not self._hides(path_info, other)]
            raise MethodNotAllowed(visible) if visible else NotFound from None
        except RequestRedirect:
            if self._hides(path_info, method):
                raise NotFound from None
            raise
        if self._is_hidden(rule.endpoint):
            raise NotFound
        return rule if return_rule else rule.endpoint, values

    def _hides(self, path: str | None, method: str | None) -> bool:
        for _ in range(3):  # one redirect can mend the slashes, the next one can leave out a default
            try:
                rule, _ = super().match(path, method, return_rule=True)
            except RequestRedirect as exc:
                path = unquote(urlsplit(exc.new_url).path).removeprefix(self.script_name)
            except HTTPException:
                return False
            else:
                return self._is_hidden(rule.endpoint)
        return False


# -- the commands -----------------------------------------------------------------------------


class _FailureError(click.ClickException):
    """Shown as one line on stderr; the exit status is 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {masked(self.message)}", file=file, err=True)


class _Plugins(AppGroup):
    """A group that reports our errors, those of an app factory too, in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # not every terminal has a dash
        try:
            return super().invoke(ctx)
        except PluginStoreError as exc:
            raise _FailureError(str(exc)) from exc


@click.group(cls=_Plugins)
def plugins() -> None:
    """Look at, switch and configure the app's plugins."""


@plugins.command("list")
def list_() -> None:
    """List all registered plugins with their status."""
    every = _manager().get_all_plugins()
    for plugin in every:
        click.echo(_line(plugin))
    if not every:
        click.echo("no plugin is registered", err=True)


@plugins.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def enable(names: tuple[str, ...]) -> None:
    """Enable plugins, in the order given: dependencies first."""
    manager = _manager()
    _switch(manager, names, manager.enable_plugin, "is not enabled: its on_enable")


@plugins.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def disable(names: tuple[str, ...]) -> None:
    """Disable plugins, in the order given: dependents first."""
    manager = _manager()
    _switch(manager, names, manager.disable_plugin, "is stored as disabled, but its on_disable")


@plugins.group()
def config() -> None:
    """Read and write a plugin's config."""


@config.command()
@click.argument("name")
@click.argument("key", required=False)
def get(name: str, key: str | None) -> None:
    """Print a plugin's config, the code's defaults included, or one value of it."""
    plugin = _registered(_manager(), [name])[0]
    value = plugin._config if key is None else plugin._config[_known(plugin, key)]
    if isinstance(value, str):
        click.echo(value)
    else:
        _print_json(value)


# Else click takes a negative number for an option.
@config.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("key")
@click.argument("value")
def set_(name: str, key: str, value: str) -> None:
    """Set one key of a plugin's config: VALUE is JSON if it reads as JSON, else text."""
    manager = _manager()
    plugin = _registered(manager, [name])[0]
    _update_config(manager, plugin, {key: value_of(value)})


@config.command()
@click.argument("name")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def unset(name: str, keys: tuple[str, ...]) -> None:
    """Take keys out of a plugin's stored config, so that the code's defaults hold."""
    manager = _manager()
    plugin = _registered(manager, [name])[0]
    _update_config(manager, plugin, {}, remove=[_known(plugin, key) for key in keys])


def _manager() -> PluginManager:
    manager: PluginManager | None = current_app.extensions.get("plugin_store")
    if manager is None:
        manager = getattr(current_app, "plugin_manager", None)
    if manager is None:
        raise _FailureError(
            f"the app {current_app.name!r} has no plugin manager: call plugin_store.flask.init_app(app, manager) where "
            "the app is made, or set app.plugin_manager"
        )
    return manager


def _registered(manager: PluginManager, names: Iterable[str]) -> list[BasePlugin]:
    """Return the plugins of these names, each once, or raise PluginNotFoundError listing what may have been meant."""
    known = {plugin.metadata.name: plugin for plugin in manager.get_all_plugins()}
    wanted = list(dict.fromkeys(names))
    if missing := [name for name in wanted if name not in known]:
        raise PluginNotFoundError(
            "; ".join(f"no plugin {name!r} is registered{near(name, known)}" for name in missing)
            + "; `flask plugins list` lists those that are"
        )
    return [known[name] for name in wanted]


def _switch(manager: PluginManager, names: Iterable[str], change: Callable[[str], None], failure: str) -> None:
    for plugin in _registered(manager, names):
        with _reporting(plugin, failure):
            change(plugin.metadata.name)
        click.echo(_line(plugin))


def _update_config(
    manager: PluginManager, plugin: BasePlugin, changes: dict[str, Any], remove: Iterable[str] = ()
) -> None:
    with _reporting(plugin, "has its new config stored, but its on_config_changed"):
        manager.update_config(plugin.metadata.name, changes, remove=remove)
    _print_json(plugin._config)


@contextmanager
def _reporting(plugin: BasePlugin, failure: str) -> Iterator[None]:
    """Report what a hook of the plugin raises: the line is for the operator, the traceback for its author."""
    try:
        yield
    except PluginStoreError:
        raise
    except Exception as exc:
        name = plugin.metadata.name
        logger.exception("plugin %r: a hook raised", name)
        raise _FailureError(f"plugin {name!r} {failure} raised {type(exc).__name__}: {exc}") from exc


def _known(plugin: BasePlugin, key: str) -> str:
    config = plugin._config
    if key not in config:
        raise InvalidConfigError(f"plugin {plugin.metadata.name!r}: no key {key!r} in its config{near(key, config)}")
    return key


def _line(plugin: BasePlugin) -> str:
    return f"{plugin.metadata.name} ({plugin.metadata.version}) — {plugin.status.name}"


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=str))
