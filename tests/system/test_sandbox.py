"""``plugin-store sandbox``: a command with a database of its own."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from workers import wait_until

SANDBOX = [sys.executable, "-m", "plugin_store", "sandbox"]
PIPE = subprocess.PIPE


def start(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*SANDBOX, *command],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )


def first_line(box: "subprocess.Popen[str]") -> str:
    assert box.stdout is not None
    return box.stdout.readline()


def printed_url(box: "subprocess.Popen[str]") -> str:
    export, variable = shlex.split(first_line(box))
    assert export == "export"
    return variable.removeprefix("DATABASE_URL=")


def directory(url: str) -> Path:
    return Path(str(conninfo_to_dict(url)["host"]))


def test_command_finds_a_migrated_database() -> None:
    program = (
        "import os, psycopg; url = os.environ['DATABASE_URL']; print(url)\n"
        "for conninfo in (url, ''):\n"
        "    with psycopg.connect(conninfo) as connection:\n"
        "        assert connection.execute('SELECT count(*) FROM plugin_config').fetchone() == (0,)\n"
        "raise SystemExit(7)"
    )
    env = os.environ | {"PGPASSWORD": "of another server", "PGHOST": "nowhere.invalid"}
    command = [*SANDBOX, "--", sys.executable, "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert (done.stderr, done.returncode) == ("", 7)
    assert not directory(done.stdout.strip()).exists()


def test_missing_command_is_an_error() -> None:
    done = subprocess.run([*SANDBOX, "--", "no-such-command"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    # Which error it is depends on whether all folders of the PATH may be read.
    assert done.stderr.startswith("plugin-store: cannot run 'no-such-command': ")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_url_is_printed_without_a_command(how: signal.Signals) -> None:
    box = start()
    url = printed_url(box)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM plugin_config").fetchone() == (0,)
    box.send_signal(how)
    _, errors = box.communicate(timeout=120)
    assert box.returncode == 0 and "Traceback" not in errors
    assert not directory(url).exists()


def test_command_handles_an_interrupt_itself() -> None:
    program = (
        "import os, psycopg, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "print('ready', flush=True)\n"
        "signal.sigwait([signal.SIGINT])\n"
        "psycopg.connect(os.environ['DATABASE_URL']).close()\n"
        "print('still there', flush=True)"
    )
    box = start("--", sys.executable, "-c", program)
    assert first_line(box) == "ready\n"
    os.killpg(box.pid, signal.SIGINT)
    output, errors = box.communicate(timeout=120)
    assert (output, errors, box.returncode) == ("still there\n", "", 0)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_ended_sandbox_leaves_no_server(how: signal.Signals) -> None:
    with start("--", "sh", "-c", "echo $PGHOST; exec cat") as box:  # which ends with its input, at the latest
        folder = Path(first_line(box).strip())
        assert folder.exists()
        box.send_signal(how)
        assert box.wait(120) == (143 if how == signal.SIGTERM else -9)  # a shell's status for SIGTERM
        assert wait_until(lambda: not folder.exists(), 60)
