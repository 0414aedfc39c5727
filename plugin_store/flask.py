"""plugin_store in a Flask app: ``init_app`` hides the URLs of disabled plugins, and adds ``flask plugins``.

The commands change rows, and run no hook but validate_config. The services follow the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import click
from flask import Flask, Request, current_app
from flask.cli import AppGroup
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import MapAdapter, RequestRedirect

from . import errors
from .cli import verbs
from .cli.output import as_json, open_streams, printable, progress, write
from .cli.usage import marked, typed
from .plugins.manager import PluginManager
from .stores.conninfo import masked
from .stores.model import DISABLED, ENABLED, PluginConfigStore

# -- the URLs ---------------------------------------------------------------------------------


def init_app(app: Flask, manager: PluginManager) -> None:
    """Register the blueprints of the manager's plugins, and ``flask plugins``, with the app.

    Call it once, when all plugins are registered. While a plugin is disabled, its URLs answer as unknown URLs do.
    The blueprints of disabled plugins are registered too, because Flask accepts none after the first request.

    Raises PluginStoreError if the blueprint of an enabled plugin cannot be registered, whatever the plugin raises.
    If the plugin is disabled, the app's log has the error. Only KeyboardInterrupt is passed on.
    """
    app.extensions["plugin_store"] = manager
    app.cli.add_command(plugins)
    owners: dict[Any, str] = {}  # blueprints, and the names of their plugins
    # Enabled plugins first: of two blueprints with one name, Flask refuses the second.
    for plugin in sorted(manager.get_all_plugins(), key=lambda plugin: not manager.is_enabled(plugin.metadata.name)):
        name = plugin.metadata.name
        try:
            if (blueprint := plugin.get_blueprint()) is not None:
                owners.setdefault(blueprint, name)  # first, so that a half-registered blueprint is hidden too
                app.register_blueprint(blueprint, url_prefix=plugin.get_url_prefix())
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            if manager.is_enabled(name):
                raise errors.PluginStoreError(f"plugin {name!r}: its blueprint cannot be registered: {exc!r}") from exc
            app.logger.exception("plugin %r: its blueprint cannot be registered", name)

    def is_hidden(endpoint: str) -> bool:
        # The first part of "outer.inner.view" names the outermost blueprint. The app's own endpoints have one part.
        owner = owners.get(app.blueprints.get(endpoint.rpartition(".")[0].partition(".")[0]))
        return owner is not None and not manager.is_enabled(owner)

    create = app.create_url_adapter

    def create_url_adapter(request: Request | None) -> MapAdapter | None:
        return (adapter := create(request)) and _VisibleRoutes(adapter, is_hidden)

    app.create_url_adapter = create_url_adapter  # type: ignore[method-assign]


class _VisibleRoutes(MapAdapter):
    """Matches requests to the app's routes, except to hidden routes.

    Flask matches a request before it runs anything of the app. So a request for a hidden route has no endpoint and
    no blueprint, like a request for an unknown URL.
    """

    def __init__(self, adapter: MapAdapter, is_hidden: Callable[[str], bool]) -> None:
        vars(self).update(vars(adapter))  # Werkzeug has no way to copy an adapter
        self._is_hidden = is_hidden

    def match(self, path_info: str | None = None, method: str | None = None, *args: Any, **options: Any) -> Any:
        """Match as MapAdapter does, and raise NotFound for a hidden route, and for a redirect to one."""
        try:
            found: Any = super().match(path_info, method, *args, **options)
        except MethodNotAllowed as exc:
            visible = [other for other in exc.valid_methods or () if self.test(path_info, other)]
            raise MethodNotAllowed(visible) if visible else NotFound from None
        except RequestRedirect as exc:  # usually to the same path with a slash at the end
            path = unquote(urlsplit(exc.new_url).path).removeprefix(self.script_name)
            raise NotFound if self._hides(path, method) else exc from None
        # The first item is the endpoint, or with return_rule the Rule.
        if self._is_hidden(getattr(found[0], "endpoint", found[0])):
            raise NotFound
        return found

    def _hides(self, path: str, method: str | None) -> bool:
        with suppress(HTTPException):
            return self._is_hidden(super().match(path, method)[0])
        return False


# -- the commands -----------------------------------------------------------------------------

NAME, KEY, VALUE = (click.Argument([name], type=typed) for name in ("name", "key", "value"))
NAMES = click.Argument(["names"], nargs=-1, required=True, metavar="NAME...", type=typed)


class _Plugins(AppGroup):
    """Shows the errors of plugin_store in one line, including those that arise while Flask loads the app."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, marked(args))

    def invoke(self, ctx: click.Context) -> Any:
        open_streams()
        try:
            with suppress(BrokenPipeError):
                return super().invoke(ctx)
        except click.UsageError as exc:
            if "extra argument" not in exc.message:
                raise
            # click would show the argument, which may be a secret.
            raise click.UsageError("too many arguments: quote what has blanks", exc.ctx) from None
        except errors.PluginStoreError as exc:
            raise click.ClickException(printable(masked(str(exc)))) from exc


@click.group(cls=_Plugins)
def plugins() -> None:
    """List, switch and configure the app's plugins in the table. The services follow it."""


@plugins.command("list")
def list_() -> None:
    """List the registered plugins, with the status in the table or else in this process."""
    with _opened() as (manager, store):
        rows, problems = verbs.read_all(store)
    stored = {row.plugin_name: row.status for row in rows}
    for plugin in manager.get_all_plugins():
        _show(plugin, stored.get(plugin.metadata.name, plugin.status.value))
    for problem in problems:
        raise errors.StoreError(problem)


def _add_switch(verb: str, status: str) -> None:
    @plugins.command(verb, params=[NAMES], help=f"{verb.capitalize()} plugins: all of them or none.")
    def switch(names: tuple[str, ...]) -> None:
        with _opened(*names) as (manager, store):
            after = {row.plugin_name: row.status for row in verbs.read_all(store)[0]} | dict.fromkeys(names, status)
            for plugin in manager.get_all_plugins():
                name = plugin.metadata.name
                for need in plugin.metadata.dependencies or []:
                    if after.get(name) == ENABLED and after.get(need) != ENABLED and {name, need} & {*names}:
                        raise errors.DependencyError(
                            f"plugin {name!r} depends on {need!r}, which would not be enabled: name both"
                        )
                if status == ENABLED and name in names:
                    _check(manager, store, name, {})
            verbs.set_status(store, names, status, create=True)
        for name in dict.fromkeys(names):
            _show(manager.get_plugin(name), status)


_add_switch("enable", ENABLED)
_add_switch("disable", DISABLED)


@plugins.group()
def config() -> None:
    """Read and write a plugin's stored config."""


@config.command(params=[NAME])
def get(name: str) -> None:
    """Print a plugin's stored config as JSON, without the code's defaults."""
    with _opened(name) as (_, store):
        config = verbs.existing(store, name).config
    write(as_json(config))


@config.command("set", params=[NAME, KEY, VALUE])
def set_(name: str, key: str, value: str) -> None:
    """Set a key of a plugin's stored config to VALUE: JSON, else text; - is standard input."""
    parsed = verbs.parse_value(verbs.given_text(value))
    with _opened(name) as (manager, store):
        _check(manager, store, name, {key: parsed})
        notes = verbs.set_key(store, name, key, parsed, create=True)
    write("".join(f"{printable(line)}\n" for line in (f"{name}: set {key}", *notes)))


@contextmanager
def _opened(*names: str) -> Iterator[tuple[PluginManager, PluginConfigStore]]:
    """Yield the app's manager and its store. If the store has transactions, the block is one.

    Raises PluginNotFoundError if a name is not registered.
    """
    manager = current_app.extensions.get("plugin_store") or getattr(current_app, "plugin_manager", None)
    if manager is None:
        raise errors.PluginStoreError("the app has no plugin manager: call plugin_store.flask.init_app(app, manager)")
    known = [plugin.metadata.name for plugin in manager.get_all_plugins()]
    for name in names:
        if name not in known:
            raise errors.PluginNotFoundError(f"`flask plugins list` shows no plugin {name!r}{verbs.hint(name, known)}")
    begin = getattr(manager.store, "transaction", lambda: nullcontext(manager.store))
    with progress("waiting for the database, or for a lock in it"), begin() as store:
        yield manager, store


def _check(manager: PluginManager, store: PluginConfigStore, name: str, changes: dict[str, Any]) -> None:
    """Let the plugin check its config. A secret that this shell lacks is not an error, because services may have it."""
    with suppress(errors.UnresolvedReferenceError):
        manager.check_config(name, {**getattr(store.get_by_name(name), "config", {}), **changes})


def _show(plugin: Any, status: str) -> None:
    write(f"{plugin.metadata.name} ({plugin.metadata.version}) — {status.upper()}\n")
