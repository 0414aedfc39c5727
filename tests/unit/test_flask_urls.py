"""The URLs of a disabled plugin answer as unknown URLs of the same app do."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, g, request
from flask.testing import FlaskClient
from recorder import Recorder, started
from werkzeug.exceptions import HTTPException, NotFound

from plugin_store import PluginManager, PluginStoreError
from plugin_store.flask import init_app


class Plugin(Recorder):
    """A plugin that brings the blueprint that it is given, or raises the error that it is given."""

    def __init__(self, name: str, blueprint: Blueprint | BaseException, prefix: str | None = None) -> None:
        super().__init__(name)
        self.blueprint, self.prefix = blueprint, prefix

    def get_blueprint(self) -> Blueprint:
        if isinstance(self.blueprint, BaseException):
            raise self.blueprint
        return self.blueprint

    def get_url_prefix(self) -> str | None:
        return self.prefix


def blueprint_of(name: str = "mail", noted: list[str] | None = None) -> Blueprint:
    """Return a blueprint with routes of many kinds. Each of its functions that runs adds its kind to ``noted``."""
    noted = [] if noted is None else noted
    blueprint = Blueprint(name, name, static_folder=str(Path(__file__).parent), static_url_path="/files")

    def view(**values: Any) -> str:
        noted.append("view")
        return str(request.endpoint)

    async def later() -> str:
        return view()

    child = Blueprint("child", name)
    child.add_url_rule("/view", view_func=view)
    blueprint.register_blueprint(child, url_prefix="/child")
    for path in ("/view", "/folder/", "/naïve/", "/item/<int:number>"):
        blueprint.add_url_rule(path, path.split("/")[1], view)
    blueprint.add_url_rule("/page/", "page", view, defaults={"number": 1})
    blueprint.add_url_rule("/page/<int:number>", "page", view)
    blueprint.add_url_rule("/post", "post", view, methods=["POST", "DELETE"])
    blueprint.add_url_rule("/later", view_func=later)

    def note(hook: str, result: Any = None) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            noted.append(hook)
            return given[0] if hook == "after_request" else result

        return run

    for hook in ("url_value_preprocessor", "before_request", "after_request", "teardown_request"):
        getattr(blueprint, hook)(note(hook))
    for error in (NotFound, HTTPException, Exception):
        blueprint.register_error_handler(error, note("errorhandler", "the blueprint's error page"))
    return blueprint


# The paths below a blueprint's prefix, each with a method that it answers when the plugin is enabled.
PATHS = {
    "/view": ("GET", 200),
    "/child/view": ("GET", 200),
    "/folder": ("GET", 308),
    "//view": ("GET", 308),
    "/item/7": ("GET", 200),
    "/page/": ("GET", 200),
    "/page/1": ("GET", 308),
    "/na%C3%AFve": ("GET", 308),
    "/post": ("POST", 200),
    "/later": ("GET", 200),
    "/files/test_flask_urls.py": ("GET", 200),
}


def client_of(manager: PluginManager, app: Flask | None = None) -> FlaskClient:
    """Return a client of the app, or of an app without routes, with the plugins of the manager."""
    app = Flask("service") if app is None else app
    init_app(app, manager)
    return app.test_client()


def disabled_mail() -> PluginManager:
    """Return a manager with the plugin ``mail``, whose URLs begin with /mail."""
    return started(None, Plugin("mail", blueprint_of(), "/mail"))


def enabled(*plugins: Plugin) -> PluginManager:
    manager = started(None, *plugins)
    manager.enable_defaults(*(plugin.metadata.name for plugin in plugins))
    return manager


# -- shapes of apps ---------------------------------------------------------------------------------


def hooks_that_need_each_other(app: Flask) -> None:
    app.debug = True
    app.config["APPLICATION_ROOT"] = "/root"
    app.url_defaults(lambda endpoint, values: values.setdefault("language", "en"))

    @app.before_request
    def login() -> None:
        g.user = "ann"

    @app.after_request
    def name_user(response: Response) -> Response:
        response.headers["X-User"] = g.user
        return response

    @app.errorhandler(404)
    def not_found(error: Exception) -> tuple[str, int]:
        return f"no such page, {g.user}", 404

    app.teardown_request(lambda error: g.pop("user"))


def hook_that_answers(app: Flask) -> None:
    app.before_request(lambda: None if request.blueprint == "mail" else ("log in first", 401))


def hook_that_sees_the_match(app: Flask) -> None:
    @app.url_value_preprocessor
    def pull(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.pulled = f"{endpoint} {values}"

    @app.errorhandler(HTTPException)
    def as_json(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"error": error.name, "pulled": g.pulled, "blueprint": request.blueprint}, error.code or 500


def handler_of_all_errors(app: Flask) -> None:
    app.register_error_handler(Exception, lambda error: (f"{type(error).__name__}: {error}", 418))


def own_endpoint_named_as_the_blueprint(app: Flask) -> None:
    app.add_url_rule("/own", "mail", lambda: "own", methods=["POST"])


SHAPES = [
    hooks_that_need_each_other,
    hook_that_answers,
    hook_that_sees_the_match,
    handler_of_all_errors,
    own_endpoint_named_as_the_blueprint,
]


class Service(Flask):
    """An app that dispatches in its own way."""

    def dispatch_request(self) -> Any:
        return [super().dispatch_request(), request.endpoint]


def check_disabled_against_unknown(app: Flask, path: str, method: str, after: Callable[[Flask], None] = bool) -> None:
    """Ask the app, to which ``after`` adds its hooks after init_app."""
    log: list[str] = []
    client = client_of(started(None, Plugin("mail", blueprint_of(noted=log), "/mail")), app)
    after(app)
    answers = [client.open(url, method=method) for url in (f"/mail{path}", "/mail/unknown")]
    disabled, unknown = ((answer.status_code, answer.text, [*answer.headers]) for answer in answers)
    assert disabled == unknown
    assert log == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
@pytest.mark.parametrize("path", PATHS)
def test_disabled_url_answers_as_unknown_one(path: str, method: str) -> None:
    check_disabled_against_unknown(Flask("service"), path, method)


@pytest.mark.parametrize(("path", "method"), [("/view", "GET"), ("/view", "POST"), ("/folder", "GET")])
@pytest.mark.parametrize("shape", SHAPES)
def test_disabled_url_is_unknown_in_each_app(shape: Callable[[Flask], None], path: str, method: str) -> None:
    shape(app := Service("service"))
    check_disabled_against_unknown(app, path, method)
    check_disabled_against_unknown(Service("service"), path, method, after=shape)


@pytest.mark.parametrize(("path", "method", "status"), [(path, *answer) for path, answer in PATHS.items()])
def test_url_follows_its_plugin_without_restart(path: str, method: str, status: int) -> None:
    client = client_of(manager := disabled_mail())

    def status_now() -> int:
        with client.open(f"/mail{path}", method=method) as response:
            return response.status_code

    before = status_now()
    manager.enable_plugin("mail")
    running = status_now()
    manager.disable_plugin("mail")
    assert (before, running, status_now()) == (404, status, 404)


def test_enabled_blueprint_answers_as_in_flask() -> None:
    log: list[str] = []
    client = client_of(enabled(Plugin("mail", blueprint_of(noted=log))))
    assert client.get("/view").text == "mail.view"
    assert log == ["url_value_preprocessor", "before_request", "view", "after_request", "teardown_request"]
    response = client.post("/view")
    assert (response.status_code, set(response.allow)) == (405, {"GET", "HEAD", "OPTIONS"})


# To a catch-all route, a second slash is a part of the path, whether the plugin is enabled or not.
@pytest.mark.parametrize("path", [path for path in PATHS if path != "//view"])
def test_catch_all_route_does_not_take_over(path: str) -> None:
    app = Flask("service")
    app.add_url_rule("/<path:rest>", "page", lambda rest: f"page {rest}")
    client = client_of(disabled_mail(), app)
    assert client.open(f"/mail{path}", method=PATHS[path][0]).status_code == 404
    assert client.get("/mail/unknown").text == "page mail/unknown"


def test_catch_all_of_plugin_hides_no_own_route() -> None:
    blueprint = Blueprint("pages", "pages")
    blueprint.add_url_rule("/<path:rest>", "page", lambda rest: f"page {rest}")
    app = Flask("service")
    app.add_url_rule("/own", "own", lambda: "own", methods=["POST"])
    app.add_url_rule("/folder/", "folder", lambda: "folder")
    client = client_of(manager := started(None, Plugin("pages", blueprint)), app)
    assert [client.get(path).status_code for path in ("/folder", "/any")] == [308, 404]
    refused = client.delete("/own")
    assert (refused.status_code, set(refused.allow)) == (405, {"POST", "OPTIONS"})
    manager.enable_plugin("pages")
    assert [client.get(path).status_code for path in ("/folder", "/any")] == [308, 200]


def test_own_routes_on_path_of_plugin_stay() -> None:
    app = Flask("service")
    app.add_url_rule("/mail/view", "mail", lambda: "own", methods=["POST"])
    app.add_url_rule("/old", "old", redirect_to="/elsewhere")
    app.add_url_rule("/away", "away", redirect_to="https://example.com/away")
    client = client_of(disabled_mail(), app)
    assert client.post("/mail/view").text == "own"
    assert client.get("/mail/view").status_code == 404
    assert set(client.options("/mail/view").allow) == set(client.put("/mail/view").allow) == {"POST", "OPTIONS"}
    locations = [client.get(path).location for path in ("/old", "/away")]
    assert locations == ["http://localhost/elsewhere", "https://example.com/away"]


def test_plugins_hide_their_urls_independently() -> None:
    reports, chat = Plugin("sales-figures", blueprint_of("reports"), "/a"), Plugin("chat", blueprint_of("chat"), "/b")
    client = client_of(manager := started(None, reports, chat))
    for name, statuses in (("chat", [404, 200]), ("sales-figures", [200, 200])):
        manager.enable_plugin(name)
        assert [client.get(path).status_code for path in ("/a/view", "/b/view")] == statuses


def test_shared_blueprint_is_hidden_per_app() -> None:
    blueprint = blueprint_of()
    running = client_of(enabled(Plugin("mail", blueprint)))
    stopped = client_of(started(None, Plugin("mail", blueprint)))
    assert [client.get("/view").status_code for client in (running, stopped)] == [200, 404]


def test_url_below_mount_point_is_hidden() -> None:
    client = client_of(manager := disabled_mail())

    def statuses() -> list[int]:
        environs = [{"SCRIPT_NAME": "/mounted", "PATH_INFO": f"/mail/folder{end}"} for end in ("", "/")]
        return [client.get("/", environ_overrides=environ).status_code for environ in environs]

    assert statuses() == [404, 404]
    manager.enable_plugin("mail")
    assert statuses() == [308, 200]
    manager.disable_plugin("mail")
    with client.application.test_request_context("/"):
        assert client.application.url_for("mail.item", number=7) == "/mail/item/7"


def test_url_on_host_of_plugin_is_hidden() -> None:
    blueprint = Blueprint("mail", "mail")
    for path in ("/view", "/folder/"):
        blueprint.add_url_rule(path, path.strip("/"), lambda: "mail", host="mail.example")
    app = Flask("service", host_matching=True, static_host="static.example")
    client = client_of(manager := started(None, Plugin("mail", blueprint)), app)

    def statuses() -> list[int]:
        paths = ("/view", "/folder", "/folder/")
        return [client.get(path, base_url="http://mail.example").status_code for path in paths]

    assert statuses() == [404, 404, 404]
    manager.enable_plugin("mail")
    assert statuses() == [200, 308, 200]


# -- blueprints that cannot be registered -----------------------------------------------------------


def half() -> Blueprint:
    blueprint = Blueprint("half", "half")
    blueprint.add_url_rule("/half", "view", lambda: "view")
    blueprint.add_url_rule("/other", "view", lambda: "other")  # Flask refuses a second function for an endpoint
    return blueprint


BROKEN: dict[str, Callable[[], Blueprint | BaseException]] = {
    "'mail'": blueprint_of,  # another plugin's blueprint has this name
    "'forms'": lambda: ImportError("no module named 'forms'"),
    "SystemExit": SystemExit,
    "endpoint function: half.view": half,
}
each_broken = pytest.mark.parametrize("problem", BROKEN)


@each_broken
def test_unusable_blueprint_names_its_plugin(problem: str) -> None:
    manager = enabled(Plugin("mail", blueprint_of(), "/mail"), Plugin("stock", BROKEN[problem]()))
    with pytest.raises(PluginStoreError, match=rf"^plugin 'stock': .*{problem}") as caught:
        client_of(manager)
    assert caught.value.__cause__ is not None


@each_broken
def test_unusable_blueprint_of_disabled_plugin_is_logged(problem: str, caplog: pytest.LogCaptureFixture) -> None:
    manager = started(None, Plugin("mail", blueprint_of(), "/mail"), Plugin("stock", BROKEN[problem]()))
    manager.enable_plugin("mail")
    client = client_of(manager)
    assert [client.get(path).status_code for path in ("/mail/view", "/half")] == [200, 404]
    assert [(record.levelno, "'stock'" in record.getMessage()) for record in caplog.records] == [(logging.ERROR, True)]


def test_enabled_plugin_keeps_name_of_its_blueprint(caplog: pytest.LogCaptureFixture) -> None:
    sales, stock = (Plugin(name, blueprint_of("reports"), f"/{name}") for name in ("sales", "stock"))
    manager = started(None, sales, stock)
    manager.enable_plugin("stock")
    client = client_of(manager)
    assert [client.get(f"/{name}/view").status_code for name in ("sales", "stock")] == [404, 200]
    assert ["'sales'" in record.getMessage() for record in caplog.records] == [True]


def test_interrupt_ends_init_app() -> None:
    with pytest.raises(KeyboardInterrupt):
        client_of(started(None, Plugin("mail", KeyboardInterrupt())))


def test_blueprint_of_app_is_not_hidden() -> None:
    app = Flask("service")
    app.register_blueprint(blueprint_of(), url_prefix="/own")
    assert client_of(disabled_mail(), app).get("/own/view").text == "mail.view"
