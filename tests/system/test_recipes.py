"""Each recipe runs as its users would run it, and each of its processes follows the table."""

import importlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from recorder import Recorder, started
from services import LIMIT_SECONDS, ask, ask_all, await_all, run, running, sessions
from workers import environment, free_port, wait_until

from plugin_store import InvalidConfigError

RECIPES = Path(__file__).with_name("recipes")
FLASK = "flask_service:serve()"
GUNICORN = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", "127.0.0.1:{port}"]
UVICORN = [sys.executable, "-m", "uvicorn", "--workers", "2", "--port", "{port}"]
UWSGI = [
    *[str(path) for name in ("uwsgi", "pyuwsgi") if (path := Path(sys.executable).with_name(name)).exists()][:1],
    *["--virtualenv", sys.prefix, "--http-socket", "127.0.0.1:{port}"],
    *["--master", "--processes", "2", "--need-app", "--die-on-term"],
]
FORK_HOOKS = "--py-call-uwsgi-fork-hooks"
# A service's command, after the module that it needs. These are the cells of the table in plugin_store/README.md.
SERVICES = {
    "flask-sync": ("gunicorn", [*GUNICORN, FLASK]),
    "flask-sync-preload": ("gunicorn", [*GUNICORN, "--preload", FLASK]),
    "flask-gthread": ("gunicorn", [*GUNICORN, "--threads", "4", FLASK]),
    "flask-gthread-preload": ("gunicorn", [*GUNICORN, "--threads", "4", "--preload", FLASK]),
    "flask-gevent": ("gevent", [*GUNICORN, "--worker-class", "gevent", FLASK]),
    "flask-uwsgi-lazy-apps": ("flask", [*UWSGI, "--enable-threads", "--lazy-apps", "--module", FLASK]),
    "flask-uwsgi-fork-hooks": ("flask", [*UWSGI, "--enable-threads", FORK_HOOKS, "--module", FLASK]),
    "fastapi-uvicorn": ("fastapi", [*UVICORN, "fastapi_service:app"]),
    "django-gthread": ("django", [*GUNICORN, "--threads", "4", "django_site.wsgi"]),
}


def plugin_store(database_url: str, *arguments: str) -> str:
    """Run the command of the operator."""
    return run("plugin_store", *arguments, database_url=database_url)


@contextmanager
def serving(command: list[str], log: Path, database_url: str, folder: Path = RECIPES) -> Iterator[partial[Any]]:
    """Start a service and give a function that asks one of its processes."""
    port = free_port()
    command = [part.format(port=port) for part in command]
    if not Path(command[0]).exists():
        pytest.skip("neither uwsgi nor pyuwsgi is installed")
    with running(command, folder=folder, log=log, database_url=database_url) as process:
        assert wait_until(lambda: ask(port)["status"] or process.poll() is not None, LIMIT_SECONDS)
        assert process.poll() is None, "the service does not start"
        yield partial(ask, port)


@pytest.mark.parametrize("name", SERVICES)
def test_every_process_of_service_follows_table(name: str, tmp_path: Path, database_url: str) -> None:
    module, command = SERVICES[name]
    pytest.importorskip(module)
    with serving(command, tmp_path / "log", database_url) as asked:
        await_all(asked, status=200, enabled=["greeter"])
        assert asked("/hello")["status"] == 200
        plugin_store(database_url, "disable", "greeter")
        await_all(asked, status=200, enabled=[])
        assert asked("/hello")["status"] == 404


def test_fastapi_change_reaches_every_process(tmp_path: Path, database_url: str) -> None:
    pytest.importorskip("fastapi")
    plugin_store(database_url, "disable", "--create", "greeter")
    with serving(SERVICES["fastapi-uvicorn"][1], tmp_path / "log", database_url) as asked:
        await_all(asked, enabled=[])
        assert asked("/plugins/greeter/enable", "POST")["status"] == 200
        await_all(asked, enabled=["greeter"])


def test_healthz_says_why_a_plugin_is_off(tmp_path: Path, database_url: str) -> None:
    with serving(SERVICES["flask-gthread"][1], tmp_path / "log", database_url) as asked:
        await_all(asked, enabled=["greeter"], not_running={})
        plugin_store(database_url, "config", "set", "greeter", "greeting", '{"$env": "NOT_SET"}')
        await_all(asked, status=200, enabled=[])
        [(name, reason)] = asked()["not_running"].items()
    assert name == "greeter" and "NOT_SET" in reason


@pytest.fixture
def flask_service(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the Flask recipe. Its plugin is enabled, and adds the hooks that run to the list ``ran``."""
    plugin_store(database_url, "enable", "--create", "greeter")
    monkeypatch.syspath_prepend(RECIPES)
    monkeypatch.setenv("DATABASE_URL", database_url)
    service = importlib.import_module("flask_service")
    monkeypatch.setattr(service, "ran", [], raising=False)
    for hook in ("on_enable", "on_disable"):
        monkeypatch.setattr(service.Greeter, hook, lambda _, hook=hook: service.ran.append(hook))
    return service


@pytest.mark.parametrize("arguments", [["list"], ["disable", "greeter"]])
def test_flask_command_runs_no_hook(flask_service: Any, arguments: list[str], database_url: str) -> None:
    before = sessions(database_url)
    app = flask_service.create_app()
    assert sessions(database_url) == before
    assert app.test_cli_runner().invoke(args=["plugins", *arguments]).exit_code == 0
    assert flask_service.ran == []
    app.extensions["closing"].close()


def test_flask_app_is_closed_in_one_call(flask_service: Any, database_url: str) -> None:
    before = sessions(database_url)
    app = flask_service.serve()
    assert app.test_client().get("/hello").text == "hello"
    assert sessions(database_url) > before and flask_service.ran == ["on_enable"]
    app.extensions["closing"].close()
    assert wait_until(lambda: sessions(database_url) == before)


def test_forked_uwsgi_says_which_option_to_set(tmp_path: Path, database_url: str) -> None:
    with serving([*UWSGI, "--module", FLASK], log := tmp_path / "log", database_url) as asked:
        await_all(asked, status=503)
        problem = asked()["problem"]
        (master,) = re.findall(r"spawned uWSGI master process \(pid: (\d+)\)", log.read_text())
        # A worker hangs if it is forked while another thread holds the GIL.
        assert sys.platform != "linux" or len(os.listdir(f"/proc/{master}/task")) == 1
    assert FORK_HOOKS.removeprefix("--") in problem and problem in log.read_text()


@pytest.mark.parametrize("options", [[], [FORK_HOOKS], ["--lazy-apps"]], ids=["default", "fork hooks", "lazy apps"])
def test_uwsgi_worker_reads_its_own_rows(options: list[str], tmp_path: Path, database_url: str) -> None:
    command = [*UWSGI, *options, "--module", "rows_app"]
    support = Path(__file__).parents[1] / "support"
    with serving(command, tmp_path / "log", database_url, support) as asked:
        assert all(answer["wrong"] == [] for answers in ask_all(asked).values() for answer in answers)


def test_every_celery_process_follows_table(tmp_path: Path, database_url: str) -> None:
    celery = pytest.importorskip("celery")
    queue = tmp_path / "queue"
    queue.mkdir()
    folders = dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), str(queue))
    settings = {"broker_url": "filesystem://", "result_backend": f"file://{queue}", "broker_transport_options": folders}
    (tmp_path / "settings_of_test.py").write_text("\n".join(f"{key} = {value!r}" for key, value in settings.items()))
    client = celery.Celery("client", config_source=settings)

    def asked() -> dict[str, Any]:
        answer: dict[str, Any] = client.send_task("celery_service.health").get(timeout=LIMIT_SECONDS)
        return answer

    command = [sys.executable, "-m", "celery", "--app", "celery_service", "worker", "--concurrency", "2"]
    path = f"{environment()['PYTHONPATH']}{os.pathsep}{tmp_path}"
    more = {"CELERY_CONFIG_MODULE": "settings_of_test", "PYTHONPATH": path}
    with running(command, folder=RECIPES, log=tmp_path / "log", database_url=database_url, **more):
        await_all(asked, enabled=["greeter"])
        assert client.send_task("celery_service.greet").get(timeout=LIMIT_SECONDS) == "hello"
        plugin_store(database_url, "disable", "greeter")
        await_all(asked, enabled=[])
        assert client.send_task("celery_service.greet").get(timeout=LIMIT_SECONDS) is None


def test_django_migrates_and_tests_beside_us(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("django")
    parameters = conninfo_to_dict(empty_url)
    monkeypatch.setenv("PGPASSWORD", str(parameters.pop("password", "")))
    url = make_conninfo("", **parameters, options="-csearch_path=shop,public")
    django = partial(run, "django", folder=RECIPES, database_url=url)
    settings = ("--settings", "django_site.settings")
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop")
        django("migrate", *settings)
        assert "greeter" in plugin_store(url, "enable", "--create", "greeter")
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'shop'").fetchall()
        assert {("django_site_order",), ("plugin_config",)} <= {*tables}
    assert "Ran 3 tests" in django("test", "django_site", *settings)


def test_alembic_leaves_our_tables_alone(tmp_path: Path, database_url: str) -> None:
    pytest.importorskip("alembic")
    host = shutil.copytree(RECIPES / "alembic_host", tmp_path / "host")
    alembic = partial(run, "alembic", folder=host, database_url=database_url)
    alembic("upgrade", "head")
    assert "No new upgrade operations" in alembic("check")
    env = host / "env.py"
    env.write_text(env.read_text().replace(", include_name=include_name", ""))
    with pytest.raises(AssertionError, match="plugin_config"):
        alembic("check")


@pytest.mark.parametrize(("end", "rows"), [("commit", 1), ("rollback", 0)])
def test_sqlalchemy_session_stores_both_or_none(
    end: str, rows: int, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    session_of = pytest.importorskip("sqlalchemy.orm").Session
    monkeypatch.syspath_prepend(RECIPES / "alembic_host")
    models = importlib.import_module("models")
    engine = sqlalchemy.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:", 1))
    models.Base.metadata.create_all(engine)
    with session_of(engine) as session:
        models.place_last_order(session)
        getattr(session, end)()
    engine.dispose()
    with psycopg.connect(database_url) as connection:
        query = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM plugin_config)"
        assert connection.execute(query).fetchone() == (rows, rows)


def test_yoyo_host_migrates_beside_us(empty_url: str) -> None:
    def yoyo(command: str, *sources: str) -> None:
        database = empty_url.replace("postgresql:", "postgresql+psycopg:", 1)
        options = ("--no-config-file", "--batch", "--database", database)
        run("yoyo", command, *options, *sources, folder=RECIPES, database_url=empty_url)

    def tables() -> set[str]:
        with psycopg.connect(empty_url) as connection:
            rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            return {name for (name,) in rows if "yoyo" not in name}

    yoyo("apply", "yoyo_host", "package:plugin_store:migrations")
    assert tables() == {"orders", "plugin_config"}
    yoyo("rollback", "yoyo_host")
    assert tables() == {"plugin_config"}
    plugin_store(empty_url, "migrate")
    yoyo("apply", "yoyo_host")
    assert tables() == {"orders", "plugin_config"}


@pytest.mark.parametrize(
    ("plugin", "config", "refused"), [("Mail", {"host": "localhost"}, "port"), ("Chat", {"room": "lobby"}, "limit")]
)
def test_settings_have_declared_type(
    plugin: str, config: dict[str, Any], refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pydantic")
    monkeypatch.syspath_prepend(RECIPES)
    made = getattr(importlib.import_module("typed_settings"), plugin)()
    manager = started(None, made, **config)
    manager.enable_plugin(made.metadata.name)
    assert type(made.settings).__name__ == f"{plugin}Settings"
    with pytest.raises(InvalidConfigError):
        manager.update_config(made.metadata.name, {refused: 0})


def test_prometheus_counts_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    prometheus = pytest.importorskip("prometheus_client")
    monkeypatch.syspath_prepend(RECIPES)
    manager = started(None, Recorder("greeter"))
    importlib.import_module("prometheus_counter").count_changes(manager)
    manager.enable_plugin("greeter")
    labels = {"event": "plugin.enabled", "plugin": "greeter"}
    assert prometheus.REGISTRY.get_sample_value("plugin_changes_total", labels) == 1
