"""``plugin-store demo`` shows that its service keeps what the operator decided, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from programs import started
from workers import wait_until

# A shell may have set these. None of them is for the demo.
HOSTILE = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "PGPASSWORD": "x", "PGPORT": "1", "FLASK_APP": "nothing"}
HOSTILE |= {"FLASK_DEBUG": "1", "GUNICORN_CMD_ARGS": "--nonsense", "PYTHONIOENCODING": "utf-8"}


@contextmanager
def playing() -> Iterator[subprocess.Popen[str]]:
    """Run the demo. It must leave no process."""
    with started(sys.executable, "-m", "plugin_store", "demo", **HOSTILE) as process:
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


def server_is_left(output: str) -> bool:
    return Path(re.findall(r"\?host=(\S+?)&", output)[0]).exists()


def test_demo_shows_a_disabled_plugin_stay_disabled() -> None:
    with playing() as process:
        output, errors = process.communicate(timeout=250)
    assert (process.returncode, errors) == (0, "")
    # `flask plugins enable` may live long enough to follow its own change, before or after it prints the status.
    output = re.sub(r"(plugins enable analytics\n)(?:process .*\n)?(.*\n)(?:process .*\n)?", r"\1\2", output)
    shown = re.findall(r"(?<=\n)(?:200|404)(?=\n)|(?<=\) — )\w+|(?<=analytics )\w+abled(?= \d)", output)
    disabled = [*["disabled"] * 4, "404", "DISABLED"]
    assert shown == ["200", "ENABLED", *disabled, "404", "DISABLED", "ENABLED", *["enabled"] * 4, "200"]
    assert "Every step succeeded." in output
    assert not server_is_left(output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_nothing(number: signal.Signals) -> None:
    with playing() as process:
        assert process.stdout is not None
        output = "".join(iter(process.stdout.readline, "# The plugin answers.\n"))
        process.send_signal(number)
        assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == 130
    assert not server_is_left(output)
