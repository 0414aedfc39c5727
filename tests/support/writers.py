"""Threads that save, and remember what may be stored."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from workers import wait_until

from plugin_store import PluginConfigRepository, PluginStoreError


class Writers:
    """Threads that save numbers, each in its own row; a context manager.

    A row may hold the last number whose save returned, or a number whose save has raised since. Each thread checks
    this after each save that raises, and at the end.
    """

    def __init__(self, repository: PluginConfigRepository, count: int) -> None:
        self._repository = repository
        self._stopping = Event()
        self._threads = ThreadPoolExecutor(count)
        self.saved = [0] * count
        self.refused = [0] * count

    def go_on(self, times: int = 10) -> None:
        """Return when each thread has saved this many times more."""
        before = list(self.saved)

        def went_on() -> bool:
            assert not any(thread.done() for thread in self._running), "a thread failed"
            return all(now >= then + times for now, then in zip(self.saved, before, strict=True))

        assert wait_until(went_on, 30), (before, self.saved)

    def __enter__(self) -> "Writers":
        self._running = [self._threads.submit(self._write, writer) for writer in range(len(self.saved))]
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with self._threads:
            for thread in self._running:
                thread.result(60)

    def _write(self, writer: int) -> None:
        name, number, possible = f"writer {writer}", 0, {0}
        while not self._stopping.is_set():
            number += 1
            try:
                self._repository.save(name, "enabled", {"number": number})
            except PluginStoreError:
                self.refused[writer] += 1
                possible = {self._read(name, possible | {number})}
            else:
                self.saved[writer] += 1
                possible = {number}
        self._read(name, possible)

    def _read(self, name: str, possible: set[int]) -> int:
        """Return the number in the row, as soon as it can be read."""
        end = time.monotonic() + 30
        while True:
            try:
                row = self._repository.get_by_name(name)
                break
            except PluginStoreError:
                if time.monotonic() > end:
                    raise
        number: int = 0 if row is None else row.config["number"]
        assert number in possible, f"{row} should hold one of {possible}"
        return number
