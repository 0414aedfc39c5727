"""Processes for the tests: workers that follow a table, a PostgreSQL that can be killed, and a PgBouncer."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from recorder import Service

import plugin_store
from plugin_store import PluginConfigRepository, PluginStoreError, PluginWatcher
from plugin_store.sandbox.embedded import EmbeddedPostgres

# Four plugins by themselves, and a tree of dependencies.
PLUGINS: dict[str, tuple[str, ...]] = {
    "a": (), "b": (), "c": (), "d": (),
    "root": (), "left": ("root",), "right": ("root",), "leaf": ("left", "right"),
}  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that imports the plugin_store of this one, and what the tests share."""
    folders = [Path(plugin_store.__file__).parents[1], Path(__file__).parent]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))} | more


def wait_until(condition: Callable[[], object], seconds: float = 20) -> bool:
    """Return whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return bool(condition())
        time.sleep(0.01)
    return True


def fresh_state(url: str) -> dict[str, str]:
    """Return what a process that starts now would restore."""
    with PluginConfigRepository.open(url) as repository:
        return Service(repository, PLUGINS).state()


# -- workers --------------------------------------------------------------------------------------


class Crew:
    """Worker processes that follow a database; a context manager."""

    def __init__(self, url: str, count: int) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(["workers"])
        pipes = [context.Pipe() for _ in range(count)]
        self._lines = [ours for ours, _ in pipes]
        self._processes = [context.Process(target=be_worker, args=[url, theirs]) for _, theirs in pipes]
        for process, (_, theirs) in zip(self._processes, pipes, strict=True):
            process.start()
            theirs.close()
        assert [line.recv() for line in self._lines] == ["ready"] * count

    def ask(self, *question: Any) -> list[Any]:
        """Return the answer of each worker."""
        return self._ask(self._lines, question)

    def ask_last(self, *question: Any) -> Any:
        return self._ask(self._lines[-1:], question)[0]

    def agrees(self, state: dict[str, str]) -> bool:
        return all(theirs == state for theirs in self.ask("state"))

    def _ask(self, lines: list[Any], question: tuple[Any, ...]) -> list[Any]:
        for line in lines:
            line.send(question)
        assert all(line.poll(60) for line in lines), "no answer"
        return [line.recv() for line in lines]

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines:
            line.close()
        for process in self._processes:
            process.join(20)
            process.kill()
        assert not any(process.exitcode for process in self._processes), self._processes


class Worker:
    """One process of a Crew. The crew asks for its methods by name."""

    def __init__(self, repository: PluginConfigRepository) -> None:
        self.service = Service(repository, PLUGINS)
        self.manager = self.service.manager
        self.state = self.service.state

    def change(self, number: int) -> bool:
        """Make one change of a fixed sequence through the manager; return whether it was allowed and possible."""
        name = list(PLUGINS)[number % len(PLUGINS)]
        try:
            if number % 3 == 0:
                self.manager.save_config(name, {"number": number})
            elif name in self.service.enabled:
                self.manager.disable_plugin(name)
            else:
                self.manager.enable_plugin(name)
        except PluginStoreError:
            return False
        return True

    def toggle(self, name: str, seconds: float) -> int:
        """Enable and disable a plugin as fast as can be; return how often."""
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            self.manager.enable_plugin(name)
            self.manager.disable_plugin(name)
            count += 1
        return count


def be_worker(url: str, line: Connection) -> None:
    with PluginConfigRepository.open(url, timeout=1) as repository:
        worker = Worker(repository)
        with PluginWatcher(worker.manager, url), suppress(EOFError):
            line.send("ready")
            while True:
                name, *arguments = line.recv()
                line.send(getattr(worker, name)(*arguments))


# -- servers --------------------------------------------------------------------------------------


class OwnServer:
    """A PostgreSQL on a port of the loopback; a context manager. It keeps its data over stop(), kill() and start().

    It acknowledges a commit when the commit is in its log, as a server for production does.
    """

    def __init__(self) -> None:
        self._embedded = EmbeddedPostgres().start()  # makes the files, and removes them
        self.directory, self._data = self._embedded.directory, self._embedded.directory / "data"
        assert self._run("pg_ctl", "stop", "-D", self._data, "-m", "fast").wait(30) == 0, self.log()
        self._port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{self._embedded.password}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Return when it takes connections again."""
        self._process = self._serve(self._data, self._port)

    def stop(self) -> None:
        """Stop it, fast: sessions are ended, what is committed is kept."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)

    def kill(self) -> None:
        """Kill all of its processes, as a power cut does (Linux)."""
        self._process.send_signal(signal.SIGSTOP)  # so that it starts no process meanwhile
        pid = self._process.pid
        pids = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for each in (pid, *pids):
            os.kill(each, signal.SIGKILL)
        self._process.wait(30)
        assert wait_until(lambda: not any(map(is_running, pids)), 30)

    @contextmanager
    def standby(self) -> Iterator[str]:
        """Give the URL of a read-only replica."""
        data, port = self.directory / "standby", free_port()
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        assert self._run("pg_basebackup", "-D", data, "-d", self.url, *options).wait(60) == 0, self.log()
        process = self._serve(data, port)
        try:
            yield self.url.replace(f":{self._port}/", f":{port}/")
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(30)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def __enter__(self) -> "OwnServer":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._embedded.stop()

    def _serve(self, data: Path, port: int) -> subprocess.Popen[bytes]:
        options = [f"--port={port}", "--listen_addresses=127.0.0.1", "--synchronous_commit=on"]
        process = self._run("postgres", "-D", data, *options)

        def is_ready() -> bool:
            # A killed server has left such a file too.
            words = (data / "postmaster.pid").read_text().split() if (data / "postmaster.pid").exists() else []
            return words[:1] + words[-1:] == [str(process.pid), "ready"]

        assert wait_until(is_ready, 30), self.log()
        return process

    def _run(self, program: str, *arguments: object) -> subprocess.Popen[bytes]:
        command: list[Any] = [self._embedded.programs / program, *arguments]
        with open(self.directory / "log", "ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory, **as_nobody())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def pgbouncer(database_url: str, place: Path, **settings: object) -> Iterator[str]:
    """Give the URL of the database through a PgBouncer, in transaction mode; skips the test where there is none."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        import pytest  # the workers do without

        pytest.skip("no pgbouncer on this machine (Debian's package has the same name)")
    port = free_port()
    target = {key: value for key, value in conninfo_to_dict(database_url).items() if key != "sslmode"}
    lines = {"auth_type": "any", "pool_mode": "transaction", "unix_socket_dir": "", "pidfile": ""} | settings
    lines |= {"listen_addr": "127.0.0.1", "listen_port": port, "logfile": place / "log"}
    pooled = "pooled = " + " ".join(f"{key}={value}" for key, value in target.items())
    text = ["[databases]", pooled, "[pgbouncer]", *(f"{key} = {value}" for key, value in lines.items()), ""]
    (place / "ini").write_text("\n".join(text))
    (place / "log").touch()
    for path in (place / "ini", place / "log"):
        path.chmod(0o666)
    for folder in (place, *place.parents):
        if os.geteuid() == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o001)  # for nobody
    process = subprocess.Popen([program, "-q", str(place / "ini")], **as_nobody())
    url = f"postgresql://{target['user']}@127.0.0.1:{port}/pooled"
    try:
        assert wait_until(lambda: can_connect(url)), (place / "log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(10)


def can_connect(url: str) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(url).close()
        return True
    return False


def as_nobody() -> dict[str, Any]:
    """What Popen needs to run a server as root, which PostgreSQL and PgBouncer refuse to be."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [nobody.pw_gid]}


def free_port() -> int:
    """Return a port of the loopback that is free, for this moment at least."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
