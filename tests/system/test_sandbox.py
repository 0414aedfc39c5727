"""``plugin-store sandbox``: a command with a database of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

SANDBOX = [sys.executable, "-m", "plugin_store", "sandbox"]


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*SANDBOX, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + 20
    while folder.exists():
        assert time.monotonic() < deadline, f"{folder} is still there"
        time.sleep(0.05)


def test_a_command_finds_a_migrated_database_and_gives_the_status() -> None:
    program = (
        "import os, psycopg; url = os.environ['DATABASE_URL']; print(url)\n"
        "for conninfo in (url, ''):\n"
        "    with psycopg.connect(conninfo) as connection:\n"
        "        assert connection.execute('SELECT count(*) FROM plugin_config').fetchone() == (0,)\n"
        "raise SystemExit(7)"
    )
    env = os.environ | {"PGPASSWORD": "of another server", "PGHOST": "nowhere.invalid"}
    command = [*SANDBOX, "--", sys.executable, "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.returncode == 7
    assert not Path(str(conninfo_to_dict(done.stdout.strip())["host"])).exists()


def test_a_command_killed_by_a_signal_gives_a_shells_status() -> None:
    done = subprocess.run([*SANDBOX, "sh", "-c", "kill -9 $$"], timeout=60)
    assert done.returncode == 128 + 9


def test_a_command_that_does_not_exist_is_an_error() -> None:
    done = subprocess.run([*SANDBOX, "--", "no-such-command"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "plugin-store: cannot run 'no-such-command': No such file or directory\n"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_without_a_command_it_prints_the_url_and_waits(how: signal.Signals) -> None:
    box = start()
    assert box.stdout is not None
    export, url = shlex.split(box.stdout.readline())[:2]
    assert export == "export"
    url = url.removeprefix("DATABASE_URL=")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM plugin_config").fetchone() == (0,)
    folder = Path(str(conninfo_to_dict(url)["host"]))
    assert "password" not in conninfo_to_dict(url)
    box.send_signal(how)
    _, errors = box.communicate(timeout=30)
    assert box.returncode == 0
    assert "Traceback" not in errors
    assert not folder.exists()


def test_the_command_gets_the_interrupt_and_the_database_outlives_it() -> None:
    # The command notes the ^C, uses its database, and ends by itself.
    program = (
        "import os, psycopg, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "print('ready', flush=True)\n"
        "signal.sigwait([signal.SIGINT])\n"
        "print('interrupted', flush=True)\n"
        "psycopg.connect(os.environ['DATABASE_URL']).close()\n"
        "print('still there', flush=True)"
    )
    box = subprocess.Popen(
        [*SANDBOX, "--", sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert box.stdout is not None
    assert box.stdout.readline() == "ready\n"
    os.killpg(box.pid, signal.SIGINT)
    output, errors = box.communicate(timeout=30)
    assert (output, errors, box.returncode) == ("interrupted\nstill there\n", "", 0)


def test_a_terminated_sandbox_terminates_its_command() -> None:
    box = start("--", sys.executable, "-c", "import os, time; print(os.environ['PGHOST'], flush=True); time.sleep(60)")
    assert box.stdout is not None
    folder = Path(box.stdout.readline().strip())
    assert folder.exists()
    box.terminate()
    _, errors = box.communicate(timeout=30)
    assert (errors, box.returncode) == ("", 128 + signal.SIGTERM)
    assert not folder.exists()


def test_a_killed_sandbox_leaves_no_server() -> None:
    box = start()
    assert box.stdout is not None
    url = shlex.split(box.stdout.readline())[1].removeprefix("DATABASE_URL=")
    box.kill()
    box.communicate(timeout=30)
    wait_until_gone(Path(str(conninfo_to_dict(url)["host"])))
