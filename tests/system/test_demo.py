"""The demo: its service keeps what the operator decided, and ``plugin-store demo`` notices if it does not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from workers import wait_until

# A shell may have set these. None of them is for the demo.
HOSTILE = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "PGPASSWORD": "x", "PGPORT": "1", "FLASK_APP": "nothing"}
HOSTILE |= {"FLASK_DEBUG": "1", "GUNICORN_CMD_ARGS": "--nonsense", "PYTHONIOENCODING": "utf-8"}

FORGETFUL = """
from plugin_store.demo import create_app as make

def create_app():
    app = make()
    app.extensions["plugin_store"].enable_plugin("analytics")
    return app
"""


@contextmanager
def playing(folder: Path, before: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run ``plugin-store demo`` after the statement ``before``. It must leave no process and no file."""
    program = f"""
import signal, sys
from plugin_store.cli import main
from plugin_store.demo import play
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
{before}
sys.exit(main(["demo"]))
"""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | HOSTILE,
        stdout=pipe,
        stderr=pipe,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        try:
            yield process
            assert wait_until(lambda: not has_members(process.pid), 60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def has_members(group: int) -> bool:
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def assert_no_server_is_left(output: str) -> None:
    directory = re.search(r"\?host=(\S+?)&", output)
    assert directory is not None and not Path(directory[1]).exists()


def test_demo_shows_a_disabled_plugin_stay_disabled(tmp_path: Path) -> None:
    with playing(tmp_path) as process:
        output, errors = process.communicate(timeout=250)
    assert (process.returncode, errors) == (0, "")
    shown = re.findall(r"(?<=\n)(?:200|404)(?=\n)|(?<=\) — )\w+|(?<=analytics )\w+abled(?= \d)", output)
    disabled = [*["disabled"] * 4, "404", "DISABLED"]
    assert shown == ["200", "ENABLED", *disabled, "404", "DISABLED", "ENABLED", *["enabled"] * 4, "200"]
    assert "Every step succeeded." in output
    assert_no_server_is_left(output)


def test_demo_names_the_failed_step(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(FORGETFUL)
    with playing(tmp_path, "play.APP = 'service'") as process:
        output, errors = process.communicate(timeout=250)
    assert process.returncode == 1
    assert errors.startswith("plugin-store demo: the step 'It is disabled.' failed: expected 'analytics (1.0.0) — DIS")
    assert output.endswith("plugins list\nanalytics (1.0.0) — ENABLED\n")
    assert "Listening at: http://127.0.0.1:" in errors
    assert_no_server_is_left(output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with playing(tmp_path) as process:
        assert process.stdout is not None
        output = "".join(iter(process.stdout.readline, "# The plugin answers.\n"))
        process.send_signal(number)
        assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == 130
    assert_no_server_is_left(output)
