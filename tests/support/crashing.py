"""A PostgreSQL that can be killed, and writers that remember what they were told is stored."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

from workers import OwnServer, wait_until

from plugin_store import PluginConfig, PluginConfigRepository, PluginStoreError


class CrashingServer(OwnServer):
    """An OwnServer that writes to disk before it says so, as one does that is not a throw-away."""

    def __init__(self) -> None:
        super().__init__()
        self.stop()
        self._command += ["--fsync=on", "--synchronous_commit=on", "--full_page_writes=on"]
        self.start()

    def is_up(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End all of its processes by SIGKILL: the power cord."""
        self._process.send_signal(signal.SIGSTOP)  # lest it makes new ones meanwhile
        pids = children(self._process.pid)
        self._process.kill()
        for pid in pids:
            with suppress(ProcessLookupError):  # it has noticed, and ended by itself
                os.kill(pid, signal.SIGKILL)
        self._process.wait(30)
        assert wait_until(lambda: not any(map(is_running, pids)), 30)

    def start(self) -> None:
        """Return when it has recovered and takes connections again."""
        self._process = self._run(self._command)
        # What one that was killed has left says "ready" too.
        told = self.directory / "data" / "postmaster.pid"

        def ready() -> bool:
            lines = told.read_text().splitlines() if told.exists() else []
            return lines[:1] == [str(self._process.pid)] and lines[7:8] == ["ready   "]

        assert wait_until(ready, 30), self.log()


def children(pid: int) -> list[int]:
    """Return the processes that a process has made and that are there still."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        if parent == pid:
            found.append(int(status.parent.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Writers:
    """Threads that save numbers, each in a row of its own, on one repository; a context manager.

    A row may hold the last number whose save returned, or one whose save raised after that, and nothing
    else. Each looks whenever a save has raised, as soon as it can read again, and at the end.
    """

    def __init__(self, repository: PluginConfigRepository, count: int) -> None:
        self._repository = repository
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[number]) for number in range(count)]
        self.saved = [0] * count
        self.refused = [0] * count
        self.wrong: list[str] = []

    def go_on(self, times: int = 10, seconds: float = 30) -> None:
        """Return when each has saved so many times more."""
        before = list(self.saved)
        went_on = wait_until(
            lambda: self.wrong or all(now >= then + times for now, then in zip(self.saved, before, strict=True)),
            seconds,
        )
        assert self.wrong == [], self.wrong
        assert went_on, (before, self.saved)

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)
        assert self.wrong == [], self.wrong

    def _run(self, writer: int) -> None:
        try:
            self._write(f"writer {writer}", writer)
        except BaseException as exc:  # of ours there should be none here
            self.wrong.append(f"writer {writer}: {exc!r}")

    def _write(self, name: str, writer: int) -> None:
        number, may_be = 0, {0}
        while not self._stopping.is_set():
            number += 1
            try:
                row = self._repository.save(name, status_of(number), {"number": number})
            except PluginStoreError:
                self.refused[writer] += 1
                may_be = self._checked(self._read_again(name), may_be | {number})
            else:
                may_be = self._checked(row, {number})
                self.saved[writer] += 1
        self._checked(self._read_again(name), may_be)

    def _read_again(self, name: str) -> PluginConfig | None:
        """Return the row, once it can be read."""
        end = time.monotonic() + 30
        while True:
            try:
                return self._repository.get_by_name(name)
            except PluginStoreError:
                if time.monotonic() > end:
                    raise

    def _checked(self, row: PluginConfig | None, may_be: set[int]) -> set[int]:
        number = 0 if row is None else row.config["number"]
        if number not in may_be or (row is not None and row.status != status_of(number)):
            self.wrong.append(f"{row} is stored, and should have one of {may_be}")
        return {number}


def status_of(number: int) -> str:
    return "enabled" if number % 2 else "disabled"
