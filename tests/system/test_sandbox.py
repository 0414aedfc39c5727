"""``plugin-store sandbox``: a command with a database of its own."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from programs import completed, started
from psycopg.conninfo import conninfo_to_dict
from workers import wait_until

SANDBOX = [sys.executable, "-m", "plugin_store", "sandbox"]
COUNT = "SELECT count(*) FROM plugin_config"


@contextmanager
def running(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Give the sandbox and its first line."""
    with started(*SANDBOX, *command) as box:
        assert box.stdout is not None
        yield box, box.stdout.readline().strip()


def test_command_finds_a_migrated_database() -> None:
    program = (
        "import os, psycopg; print(os.environ['PGHOST'])\n"
        "for conninfo in (os.environ['DATABASE_URL'], ''):\n"
        "    with psycopg.connect(conninfo) as connection:\n"
        f"        assert connection.execute('{COUNT}').fetchone() == (0,)\n"
        "raise SystemExit(7)"
    )
    other = {"PGPASSWORD": "of another server", "PGHOST": "nowhere.invalid"}
    done = completed(*SANDBOX, "--", sys.executable, "-c", program, **other)
    assert (done.stderr, done.returncode) == ("", 7)
    assert not Path(done.stdout.strip()).exists()


def test_missing_command_is_an_error() -> None:
    done = completed(*SANDBOX, "--", "no-such-command")
    assert done.returncode == 1
    # Which error it is depends on whether all folders of the PATH may be read.
    assert done.stderr.startswith("plugin-store: cannot run 'no-such-command': ")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_url_is_printed_without_a_command(how: signal.Signals) -> None:
    with running() as (box, line):
        url = shlex.split(line.removeprefix("export DATABASE_URL="))[0]
        with psycopg.connect(url) as connection:
            assert connection.execute(COUNT.encode()).fetchone() == (0,)
        box.send_signal(how)
        _, errors = box.communicate(timeout=120)
    assert box.returncode == 0 and "Traceback" not in errors
    assert not Path(str(conninfo_to_dict(url)["host"])).exists()


def test_command_handles_an_interrupt_itself() -> None:
    program = (
        "import os, psycopg, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "print('ready', flush=True)\n"
        "signal.sigwait([signal.SIGINT])\n"
        "psycopg.connect(os.environ['DATABASE_URL']).close()\n"
        "print('still there', flush=True)"
    )
    with running("--", sys.executable, "-c", program) as (box, _):
        os.killpg(box.pid, signal.SIGINT)
        assert box.communicate(timeout=120) == ("still there\n", "")
    assert box.returncode == 0


def test_terminated_sandbox_leaves_no_server() -> None:
    with running("--", "sh", "-c", "echo $PGHOST; exec cat") as (box, line):  # which ends with its input, at the latest
        assert Path(line).exists()
        box.terminate()
        assert box.wait(120) == 143  # a shell's status for SIGTERM
    assert wait_until(lambda: not Path(line).exists(), 60)
