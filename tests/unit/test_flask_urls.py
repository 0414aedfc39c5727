"""The URLs of a disabled plugin answer as unknown URLs of the same app do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, g, redirect, request, session
from flask.views import MethodView
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.test import TestResponse

from plugin_store import BasePlugin, InMemoryPluginConfigStore, PluginManager, PluginMetadata, PluginStoreError
from plugin_store.flask import init_app

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "DELETE")


class Plugin(BasePlugin):
    """A plugin that brings the blueprint that it is given, or raises the error that it is given."""

    def __init__(self, name: str, blueprint: Blueprint | Exception | None, prefix: str | None = None) -> None:
        super().__init__()
        self._metadata = PluginMetadata(name, "1.0.0", "tests", "for tests")
        self._blueprint = blueprint
        self._prefix = prefix

    @property
    def metadata(self) -> PluginMetadata:
        return self._metadata

    def get_blueprint(self) -> Blueprint | None:
        if isinstance(self._blueprint, Exception):
            raise self._blueprint
        return self._blueprint

    def get_url_prefix(self) -> str | None:
        return self._prefix


def manager_of(*plugins: BasePlugin) -> PluginManager:
    manager = PluginManager(config_repo=InMemoryPluginConfigStore())
    for plugin in plugins:
        manager.register_plugin(plugin)
        manager.initialize_plugin(plugin.metadata.name)
    return manager


def blueprint_of(name: str = "mail", *, log: list[str] | None = None) -> Blueprint:
    """Return a blueprint with routes of many kinds. It notes in ``log`` whatever of it runs."""
    noted = [] if log is None else log
    blueprint = Blueprint(name, name, static_folder=str(Path(__file__).parent), static_url_path="/files")

    def view(**values: Any) -> str:
        noted.append("view")
        return str(request.endpoint)

    class Methods(MethodView):
        def get(self) -> str:
            return view()

        def delete(self) -> str:
            return view()

    async def later() -> str:
        return view()

    child = Blueprint("child", name)
    child.add_url_rule("/view", view_func=view)
    blueprint.register_blueprint(child, url_prefix="/child")
    for path, endpoint in {
        "/view": "view",
        "/folder/": "folder",
        "/naïve/": "naive",
        "/item/<int:number>": "item",
    }.items():
        blueprint.add_url_rule(path, endpoint, view)
    blueprint.add_url_rule("/page/", "page", view, defaults={"number": 1})
    blueprint.add_url_rule("/page/<int:number>", "page", view)
    blueprint.add_url_rule("/post", "post", view, methods=["POST"])
    blueprint.add_url_rule("/methods", view_func=Methods.as_view("methods"))
    blueprint.add_url_rule("/later", view_func=later)

    def note(hook: str, result: Any = None) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            noted.append(hook)
            return given[0] if hook == "after_request" else result

        return run

    blueprint.url_value_preprocessor(note("url_value_preprocessor"))
    blueprint.before_request(note("before_request"))
    blueprint.after_request(note("after_request"))
    blueprint.teardown_request(note("teardown_request"))
    for error in (NotFound, HTTPException, Exception):
        blueprint.register_error_handler(error, note("errorhandler", "the blueprint's error page"))
    return blueprint


# The paths below a blueprint's prefix, each with a method that it answers when the plugin is enabled.
PATHS = {
    "/view": ("GET", 200),
    "/child/view": ("GET", 200),
    "/folder/": ("GET", 200),
    "/folder": ("GET", 308),
    "//view": ("GET", 308),
    "/item/7": ("GET", 200),
    "/page/": ("GET", 200),
    "/page/1": ("GET", 308),
    "/na%C3%AFve": ("GET", 308),
    "/post": ("POST", 200),
    "/methods": ("DELETE", 200),
    "/later": ("GET", 200),
    "/files/test_flask_urls.py": ("GET", 200),
}


# -- shapes of apps ---------------------------------------------------------------------------------

Shape = Callable[[], Flask]


def plain() -> Flask:
    return Flask("service")


def login_sets_a_user() -> Flask:
    app = Flask("service")

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

    return app


def login_refuses() -> Flask:
    app = Flask("service")
    app.before_request(lambda: redirect("/login"))
    return app


def login_that_lets_some_endpoints_pass() -> Flask:
    app = Flask("service")

    @app.before_request
    def login() -> tuple[str, int] | None:
        return None if request.blueprint == "mail" else ("log in first", 401)

    return app


def login_of_the_session() -> Flask:
    app = Flask("service")
    app.secret_key = "for tests"

    @app.before_request
    def count() -> None:
        session["visits"] = session.get("visits", 0) + 1

    @app.after_request
    def show(response: Response) -> Response:
        response.headers["X-Visits"] = str(session["visits"])
        return response

    return app


def handler_of_all_http_errors() -> Flask:
    app = Flask("service")

    @app.errorhandler(HTTPException)
    def as_json(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"error": error.name, "blueprint": request.blueprint, "endpoint": request.endpoint}, error.code or 500

    return app


def handler_of_all_errors() -> Flask:
    app = Flask("service")
    app.register_error_handler(Exception, lambda error: (f"{type(error).__name__}: {error}", 418))
    return app


def handler_that_raises() -> Flask:
    app = Flask("service")

    @app.errorhandler(404)
    def not_found(error: Exception) -> str:
        raise RuntimeError("no template for 404")

    app.register_error_handler(500, lambda error: (repr(error.original_exception), 500))
    return app


def url_value_preprocessor() -> Flask:
    app = Flask("service")

    @app.url_value_preprocessor
    def pull_language(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.pulled = f"{endpoint} {values}"

    @app.after_request
    def show(response: Response) -> Response:
        response.headers["X-Pulled"] = g.pulled
        return response

    return app


def url_defaults() -> Flask:
    app = login_sets_a_user()
    app.url_defaults(lambda endpoint, values: values.setdefault("language", "en"))
    return app


def async_hooks() -> Flask:
    app = Flask("service")

    @app.before_request
    async def login() -> None:
        g.user = "ann"

    @app.errorhandler(404)
    async def not_found(error: Exception) -> tuple[str, int]:
        return f"no such page, {g.user}", 404

    return app


def hook_that_answers_404() -> Flask:
    app = Flask("service")

    @app.before_request
    def maintenance() -> tuple[str, int]:
        return "closed", 503

    return app


def teardown_that_reads_g() -> Flask:
    app = login_sets_a_user()
    app.teardown_request(lambda error: g.pop("user"))
    return app


def own_methods_on_other_paths() -> Flask:
    app = Flask("service")
    app.add_url_rule("/own", "mail", lambda: "own", methods=["POST"])
    return app


def subclass_with_a_dispatcher() -> Flask:
    class Service(Flask):
        def dispatch_request(self) -> Any:
            return [super().dispatch_request(), request.endpoint]

    return Service("service")


def below_a_root() -> Flask:
    app = login_sets_a_user()
    app.config["APPLICATION_ROOT"] = "/root"
    return app


def debugged() -> Flask:
    app = login_sets_a_user()
    app.debug = True
    return app


SHAPES: list[Shape] = [
    plain,
    login_sets_a_user,
    login_refuses,
    login_that_lets_some_endpoints_pass,
    login_of_the_session,
    handler_of_all_http_errors,
    handler_of_all_errors,
    handler_that_raises,
    url_value_preprocessor,
    url_defaults,
    async_hooks,
    hook_that_answers_404,
    teardown_that_reads_g,
    own_methods_on_other_paths,
    subclass_with_a_dispatcher,
    below_a_root,
    debugged,
]


def seen(response: TestResponse) -> tuple[int, str, list[tuple[str, str]]]:
    """Return what a client sees of a response."""
    headers = [header for header in response.headers if header[0] != "Set-Cookie"]
    cookies = [cookie.partition("=")[0] for cookie in response.headers.getlist("Set-Cookie")]
    return response.status_code, response.text, [*headers, *(("Set-Cookie", cookie) for cookie in cookies)]


def check_disabled_against_unknown(app: Flask, path: str, method: str) -> None:
    log: list[str] = []
    init_app(app, manager_of(Plugin("mail", blueprint_of(log=log), "/mail")))
    disabled, unknown = (app.test_client().open(url, method=method) for url in (f"/mail{path}", "/mail/unknown"))
    assert seen(disabled) == seen(unknown)
    assert log == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PATHS)
def test_disabled_url_answers_as_an_unknown_one(path: str, method: str) -> None:
    check_disabled_against_unknown(login_sets_a_user(), path, method)


@pytest.mark.parametrize(("path", "method"), [("/view", "GET"), ("/view", "POST"), ("/folder", "GET")])
@pytest.mark.parametrize("shape", SHAPES)
def test_disabled_url_is_unknown_in_each_app(shape: Shape, path: str, method: str) -> None:
    check_disabled_against_unknown(shape(), path, method)


@pytest.mark.parametrize("shape", SHAPES)
def test_hooks_registered_after_init_app_run(shape: Shape) -> None:
    app = shape()
    init_app(app, manager_of(Plugin("mail", blueprint_of(), "/mail")))
    ran: list[tuple[str | None, str | None]] = []
    app.before_request(lambda: ran.append((request.endpoint, request.blueprint)))
    app.teardown_request(lambda error: ran.append((request.endpoint, request.blueprint)))
    client = app.test_client()
    client.get("/unknown")
    unknown = ran.copy()
    ran.clear()
    client.get("/mail/view")
    assert ran == unknown != []


@pytest.mark.parametrize(("path", "method", "status"), [(path, *answer) for path, answer in PATHS.items()])
def test_url_follows_its_plugin_without_a_restart(path: str, method: str, status: int) -> None:
    manager = manager_of(Plugin("mail", blueprint_of(), "/mail"))
    app = Flask("service")
    init_app(app, manager)

    def status_now() -> int:
        with app.test_client().open(f"/mail{path}", method=method) as response:
            return response.status_code

    before = status_now()
    manager.enable_plugin("mail")
    enabled = status_now()
    manager.disable_plugin("mail")
    assert (before, enabled, status_now()) == (404, status, 404)


def test_enabled_blueprint_runs_its_own_hooks() -> None:
    log: list[str] = []
    manager = manager_of(Plugin("mail", blueprint_of(log=log)))
    manager.enable_plugin("mail")
    app = Flask("service")
    init_app(app, manager)
    assert app.test_client().get("/view").text == "mail.view"
    assert log == ["url_value_preprocessor", "before_request", "view", "after_request", "teardown_request"]


def test_wrong_method_of_an_enabled_plugin_is_refused() -> None:
    manager = manager_of(Plugin("mail", blueprint_of()))
    manager.enable_plugin("mail")
    app = Flask("service")
    init_app(app, manager)
    response = app.test_client().post("/view")
    assert (response.status_code, set(response.allow)) == (405, {"GET", "HEAD", "OPTIONS"})


def test_url_is_hidden_while_its_plugin_is_in_error() -> None:
    class Broken(Plugin):
        def on_disable(self) -> None:
            raise OSError("the socket is in use")

    manager = manager_of(Broken("mail", blueprint_of()))
    manager.enable_plugin("mail")
    app = Flask("service")
    init_app(app, manager)
    with pytest.raises(OSError, match="in use"):
        manager.disable_plugin("mail")
    assert app.test_client().get("/view").status_code == 404


# To a catch-all route, a second slash is a part of the path, whether the plugin is enabled or not.
@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith("//")])
def test_catch_all_route_does_not_take_over(path: str) -> None:
    app = Flask("service")
    app.add_url_rule("/<path:rest>", "page", lambda rest: f"page {rest}")
    init_app(app, manager_of(Plugin("mail", blueprint_of(), "/mail")))
    client = app.test_client()
    assert client.open(f"/mail{path}", method=PATHS[path][0]).status_code == 404
    assert client.get("/mail/unknown").text == "page mail/unknown"


def test_catch_all_of_a_plugin_hides_no_own_route() -> None:
    blueprint = Blueprint("pages", "pages")
    blueprint.add_url_rule("/<path:rest>", "page", lambda rest: f"page {rest}")
    manager = manager_of(Plugin("pages", blueprint))
    app = Flask("service")
    app.add_url_rule("/own", "own", lambda: "own", methods=["POST"])
    app.add_url_rule("/folder/", "folder", lambda: "folder")
    init_app(app, manager)
    client = app.test_client()

    def answers() -> list[int]:
        return [client.get("/folder").status_code, client.post("/own").status_code, client.get("/any").status_code]

    assert answers() == [308, 200, 404]
    refused = client.delete("/own")
    assert (refused.status_code, set(refused.allow)) == (405, {"POST", "OPTIONS"})
    manager.enable_plugin("pages")
    assert answers() == [308, 200, 200]


def test_own_routes_on_a_plugins_path_stay() -> None:
    app = Flask("service")
    app.add_url_rule("/mail/view", "own", lambda: "own", methods=["POST"])
    app.add_url_rule("/old", "old", redirect_to="/elsewhere")
    app.add_url_rule("/away", "away", redirect_to="https://example.com/away")
    app.add_url_rule("/same", "same", redirect_to="https://example.com/same")
    init_app(app, manager_of(Plugin("mail", blueprint_of(), "/mail")))
    client = app.test_client()
    assert client.post("/mail/view").text == "own"
    assert client.get("/mail/view").status_code == 404
    assert set(client.options("/mail/view").allow) == {"POST", "OPTIONS"}
    assert set(client.put("/mail/view").allow) == {"POST", "OPTIONS"}
    assert [client.get(path).location for path in ("/old", "/away", "/same")] == [
        "http://localhost/elsewhere",
        "https://example.com/away",
        "https://example.com/same",
    ]


def test_own_endpoint_named_as_the_blueprint_stays() -> None:
    app = Flask("service")
    app.add_url_rule("/letters", "mail", lambda: "own")
    init_app(app, manager_of(Plugin("mail", blueprint_of(), "/mail")))
    assert app.test_client().get("/letters").text == "own"


def test_plugins_hide_their_urls_independently() -> None:
    manager = manager_of(Plugin("mail", blueprint_of(), "/mail"), Plugin("chat", blueprint_of("chat"), "/chat"))
    manager.enable_plugin("chat")
    app = Flask("service")
    init_app(app, manager)
    client = app.test_client()
    assert [client.get(path).status_code for path in ("/mail/view", "/chat/view")] == [404, 200]


def test_blueprint_is_hidden_per_app() -> None:
    blueprint = blueprint_of()
    managers = [manager_of(Plugin("mail", blueprint)) for _ in range(2)]
    apps = [Flask("service") for _ in managers]
    for app, manager in zip(apps, managers, strict=True):
        init_app(app, manager)
    managers[1].enable_plugin("mail")
    assert [app.test_client().get("/view").status_code for app in apps] == [404, 200]


def test_blueprint_may_have_another_name_than_its_plugin() -> None:
    manager = manager_of(Plugin("sales-figures", blueprint_of("reports")))
    app = Flask("service")
    init_app(app, manager)
    assert app.test_client().get("/view").status_code == 404
    manager.enable_plugin("sales-figures")
    assert app.test_client().get("/view").text == "reports.view"


@pytest.mark.parametrize("path", ["/view", "/folder", "/child/view"])
def test_url_on_a_subdomain_is_hidden(path: str) -> None:
    blueprint = blueprint_of()
    blueprint.subdomain = "mail"
    manager = manager_of(Plugin("mail", blueprint))
    app = Flask("service", subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.test"
    init_app(app, manager)
    client = app.test_client()
    url = f"http://mail.example.test{path}"
    assert client.get(url).status_code == 404
    manager.enable_plugin("mail")
    assert client.get(url).status_code in (200, 308)
    assert client.get(f"http://example.test{path}").status_code == 404


def test_url_on_a_host_is_hidden() -> None:
    blueprint = Blueprint("mail", "mail")
    blueprint.add_url_rule("/folder/", "folder", lambda: "mail", host="mail.test")
    manager = manager_of(Plugin("mail", blueprint))
    app = Flask("service", host_matching=True, static_host="www.test")
    app.add_url_rule("/folder/", "folder", lambda: "own", host="www.test")
    init_app(app, manager)
    client = app.test_client()
    urls = [f"http://{host}/folder{end}" for host in ("mail.test", "www.test") for end in ("", "/")]
    assert [client.get(url).status_code for url in urls] == [404, 404, 308, 200]
    manager.enable_plugin("mail")
    assert [client.get(url).status_code for url in urls] == [308, 200, 308, 200]


@pytest.mark.parametrize("path", ["/folder", "/folder/", "/view"])
def test_url_below_a_mount_point_is_hidden(path: str) -> None:
    manager = manager_of(Plugin("mail", blueprint_of(), "/mail"))
    app = Flask("service")
    init_app(app, manager)
    client = app.test_client()
    environ = {"SCRIPT_NAME": "/mounted", "PATH_INFO": f"/mail{path}"}
    assert client.get("/", environ_overrides=environ).status_code == 404
    manager.enable_plugin("mail")
    assert client.get("/", environ_overrides=environ).status_code in (200, 308)


def test_url_for_a_disabled_plugin_builds_its_url() -> None:
    app = Flask("service")
    init_app(app, manager_of(Plugin("mail", blueprint_of(), "/mail")))
    with app.test_request_context("/"):
        assert app.url_for("mail.item", number=7) == "/mail/item/7"


def test_app_wide_hooks_of_a_disabled_blueprint_run() -> None:
    ran: list[str] = []
    blueprint = blueprint_of()
    blueprint.before_app_request(lambda: ran.append("before"))
    blueprint.app_errorhandler(404)(lambda error: ("found by mail", 404))
    app = Flask("service")
    init_app(app, manager_of(Plugin("mail", blueprint)))
    assert (app.test_client().get("/view").text, ran) == ("found by mail", ["before"])


def test_request_does_not_wait_for_another_plugin() -> None:
    class Slow(Plugin):
        def on_enable(self) -> None:
            reached.set()
            assert go_on.wait(30)

    reached, go_on = threading.Event(), threading.Event()
    manager = manager_of(Plugin("mail", blueprint_of()), Slow("slow", None))
    manager.enable_plugin("mail")
    app = Flask("service")
    init_app(app, manager)
    answers: list[int] = []
    change = threading.Thread(target=manager.enable_plugin, args=("slow",))
    asking = threading.Thread(target=lambda: answers.append(app.test_client().get("/view").status_code))
    change.start()
    assert reached.wait(30)
    asking.start()
    asking.join(10)
    meanwhile = list(answers)
    go_on.set()
    change.join()
    asking.join()
    assert meanwhile == [200] and manager.is_enabled("slow")


# -- blueprints that cannot be registered -----------------------------------------------------------


def test_collision_names_the_second_plugin() -> None:
    manager = manager_of(Plugin("sales", blueprint_of("reports"), "/a"), Plugin("stock", blueprint_of("reports"), "/b"))
    manager.enable_plugin("sales")
    manager.enable_plugin("stock")
    with pytest.raises(PluginStoreError, match=r"^plugin 'stock': .*'reports'"):
        init_app(Flask("service"), manager)


@pytest.mark.parametrize("enabled", ["sales", "own"])
def test_collision_of_a_disabled_plugin_hides_no_other(enabled: str, caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("service")
    if enabled == "own":
        app.register_blueprint(blueprint_of("reports"), url_prefix="/a")
    manager = manager_of(Plugin("sales", blueprint_of("reports"), "/a"), Plugin("stock", blueprint_of("reports"), "/b"))
    if enabled == "sales":
        manager.enable_plugin("sales")
    init_app(app, manager)
    assert app.test_client().get("/a/view").text == "reports.view"
    assert "plugin 'stock'" in caplog.text


def test_blueprint_of_two_plugins_follows_the_first() -> None:
    blueprint = blueprint_of()
    manager = manager_of(Plugin("mail", blueprint), Plugin("post", blueprint))
    manager.enable_plugin("mail")
    app = Flask("service")
    init_app(app, manager)
    assert app.test_client().get("/view").text == "mail.view"


def test_blueprint_that_fails_halfway_is_hidden() -> None:
    blueprint = Blueprint("mail", "mail")
    blueprint.add_url_rule("/view", "view", lambda: "view")
    blueprint.add_url_rule("/other", "view", lambda: "other")  # Flask refuses a second function for an endpoint
    app = Flask("service")
    init_app(app, manager_of(Plugin("mail", blueprint)))
    assert app.test_client().get("/view").status_code == 404


def test_failing_blueprint_names_its_plugin() -> None:
    manager = manager_of(Plugin("mail", ImportError("no module named 'forms'")))
    manager.enable_plugin("mail")
    with pytest.raises(PluginStoreError, match=r"^plugin 'mail': .*'forms'") as caught:
        init_app(Flask("service"), manager)
    assert isinstance(caught.value.__cause__, ImportError)


def test_failing_blueprint_of_a_disabled_plugin_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    manager = manager_of(Plugin("mail", ImportError("no module named 'forms'")), Plugin("chat", blueprint_of("chat")))
    manager.enable_plugin("chat")
    app = Flask("service")
    init_app(app, manager)
    assert app.test_client().get("/view").text == "chat.view"
    assert [(record.levelno, "'mail'" in record.getMessage()) for record in caplog.records] == [(logging.ERROR, True)]
