"""The demo: its service keeps what the operator decided, and ``plugin-store demo`` notices if it does not."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from workers import wait_until

# A shell may have set these. None of them is for the demo.
HOSTILE = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "PGPASSWORD": "x", "PGPORT": "1", "PGSSLMODE": "require"}
HOSTILE |= {"FLASK_APP": "nothing", "FLASK_DEBUG": "1", "GUNICORN_CMD_ARGS": "--nonsense", "PYTHONIOENCODING": "utf-8"}

# These services misbehave.
FORGETFUL = """
from plugin_store.demo import create_app as make

def create_app():
    app = make()
    app.extensions["plugin_store"].enable_plugin("analytics")
    return app
"""
COPYCAT = """
from plugin_store.demo import create_app as make

def create_app():
    app = make()
    app.before_request(lambda: {"count": 1, "source": "core"})
    return app
"""
DEAF = """
import signal, time
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
time.sleep(600)
"""


@contextmanager
def playing(folder: Path, before: str = "") -> "Iterator[subprocess.Popen[str]]":
    """Run ``plugin-store demo`` in a process group of its own, after the statements ``before``."""
    program = f"""
import signal, sys
from plugin_store.cli import main
from plugin_store.demo import play
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
{before}
sys.exit(main(["demo"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | HOSTILE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if has_members(process.pid):
                os.killpg(process.pid, signal.SIGKILL)


def has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def assert_nothing_is_left(process: "subprocess.Popen[str]", output: str) -> None:
    assert wait_until(lambda: not has_members(process.pid), 60)
    directory = re.search(r"\?host=(\S+?)&", output)
    assert directory is not None and not Path(directory[1]).exists()


def play_with(folder: Path, service: str, before: str = "") -> tuple[int, str, str]:
    """Play with another service. Return exit status, stdout and stderr."""
    (folder / "service.py").write_text(service)
    with playing(folder, f"play.APP = 'service'\n{before}") as process:
        output, errors = process.communicate(timeout=250)
        assert_nothing_is_left(process, output)
    return process.returncode, output, errors


def test_demo_shows_a_disabled_plugin_stay_disabled(tmp_path: Path) -> None:
    with playing(tmp_path) as process:
        output, errors = process.communicate(timeout=250)
        assert_nothing_is_left(process, output)
    assert (process.returncode, errors) == (0, "")
    answers = re.findall(r'\{"count":1,"source":"plugin"\}\n200|\n404\n|\) — \w+|(?<=analytics )\w+abled \d', output)
    statuses = ["200", "ENABLED", *["disabled"] * 4, "404", "DISABLED", "404", "DISABLED"]
    statuses += ["ENABLED", *["enabled"] * 4, "200"]
    assert [re.search(r"200|404|\w+abled|\w+ABLED", answer)[0] for answer in answers] == statuses  # type: ignore[index]
    assert "Every step succeeded." in output


@pytest.mark.parametrize(
    ("service", "step", "expected", "shown"),
    [
        (FORGETFUL, "It is disabled.", "'analytics (1.0.0) — DISABLED'", "plugins list\nanalytics (1.0.0) — ENABLED\n"),
        (COPYCAT, "The plugin answers.", '\'{"count":1,', '"source":"core"}\n200\n'),
        ("raise OSError('no luck')", "Start the service. Its first run enables analytics.", "3 lines", " &\n"),
    ],
    ids=["the plugin comes back", "another answers", "the service does not start"],
)
def test_demo_names_the_failed_step(tmp_path: Path, service: str, step: str, expected: str, shown: str) -> None:
    status, output, errors = play_with(tmp_path, service)
    assert status == 1
    assert errors.startswith(f"plugin-store demo: the step {step!r} failed: expected {expected}")
    assert output.endswith(shown)
    assert ("OSError: no luck" if "luck" in service else "Listening at: http://127.0.0.1:") in errors


def test_demo_kills_a_deaf_service(tmp_path: Path) -> None:
    status, _, errors = play_with(tmp_path, DEAF, "play.WAIT_SECONDS, play.STOP_SECONDS = 10, 0.1")
    assert status == 1
    assert "expected 3 lines with 'Booting worker'" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with playing(tmp_path) as process:
        assert process.stdout is not None and process.stderr is not None
        output = ""
        for line in process.stdout:
            output += line
            if line == "# The plugin answers.\n":
                break
        os.kill(process.pid, number)
        assert process.wait(120) == 130
        assert_nothing_is_left(process, output)
        assert process.stderr.read() == ""


def test_demo_names_the_missing_package(tmp_path: Path) -> None:
    with playing(tmp_path, "sys.modules['gunicorn'] = None") as process:
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (1, "")
    assert errors == "plugin-store: the demo needs gunicorn: install plugin_store with its extra `demo`\n"
