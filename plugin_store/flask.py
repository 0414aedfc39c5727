"""plugin_store in a Flask app: ``flask plugins …``, and routes that are there only while their plugin is enabled.

``init_app(app, manager)`` gives an app both. The commands change what the manager's store holds; a service that
runs meanwhile learns of it as its own manager does.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from typing import IO, TYPE_CHECKING, Any

import click
from flask import Blueprint, Flask, abort, current_app, request
from flask.cli import AppGroup
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from .cli.output import near, value_of
from .errors import InvalidConfigError, PluginNotFoundError, PluginStoreError
from .stores.conninfo import masked

if TYPE_CHECKING:
    from flask.blueprints import BlueprintSetupState

    from .plugins.manager import PluginManager
    from .plugins.plugin import BasePlugin

logger = logging.getLogger(__name__)


# -- the app ----------------------------------------------------------------------------------


def init_app(app: Flask, manager: PluginManager) -> None:
    """Give the app the manager, for ``flask plugins``, and register the guarded blueprints of its plugins.

    Call it when all plugins are registered, before the first request: Flask takes no blueprints after that. So
    those of plugins that are disabled now are registered too, and guarded.
    """
    app.extensions["plugin_store"] = manager
    for plugin in manager.get_all_plugins():
        blueprint = plugin.get_blueprint()
        if blueprint is not None:
            app.register_blueprint(guard(blueprint, manager, plugin.metadata.name), url_prefix=plugin.get_url_prefix())


def guard(blueprint: Blueprint, manager: PluginManager, name: str) -> Blueprint:
    """Return a copy of the blueprint, to register in its place, whose routes answer 404 while the plugin is off.

    Each request asks ``manager.is_enabled(name)``: no lock and no query. While the plugin is not enabled the answer
    is the app's own 404, as for a URL that no one knows: also for routes of nested blueprints, for a method that
    the route does not have and for a missing trailing slash. Nothing that the blueprint registers for its own
    requests runs then; what it registers for those of the whole app (``before_app_request`` and the like) does.
    """

    def watch(state: BlueprintSetupState) -> None:
        prefix = f"{state.name_prefix}.{state.name}.".lstrip(".")

        def hide(endpoint: str | None, values: dict[str, Any] | None) -> None:
            if not manager.is_enabled(name):
                met = {endpoint} if endpoint is not None else _nearly_met()
                if met and all(endpoint.startswith(prefix) for endpoint in met):
                    request.url_rule = request.view_args = None  # else the blueprint's error handlers would run
                    abort(404)

        state.app.url_value_preprocessor(hide)

    # A copy: a blueprint that is a module's global is registered again with each app that a factory makes, and
    # must not keep the managers of the earlier ones.
    guarded = copy(blueprint)
    guarded.deferred_functions = [*blueprint.deferred_functions, watch]
    return guarded


def _nearly_met() -> set[str]:
    """Return the endpoints that the request would meet with a method that they have, or with a slash at the end.

    Flask has answered such a request, with 405 or a redirect, before it knows of any blueprint.
    """
    error = request.routing_exception
    asked: list[tuple[str, str]] = []
    if isinstance(error, MethodNotAllowed):
        asked = [(request.path, method) for method in error.valid_methods or ()]
    elif isinstance(error, RequestRedirect):
        asked = [(f"{request.path}/", request.method)]
    met = set()
    for path, method in asked:
        adapter = current_app.create_url_adapter(request)
        assert adapter is not None
        with suppress(HTTPException):  # a redirect of another kind
            met.add(adapter.match(path, method)[0])
    return met


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
