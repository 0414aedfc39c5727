"""The server is killed, or its machine fails and another takes over: what was acknowledged is there."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from recorder import Service
from watching import following, service_on
from workers import OwnServer, wait_until

from plugin_store import PluginConfigRepository, PluginStoreError

KILLS = 10
WRITERS = 8


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


@contextmanager
def in_use(url: str) -> Iterator[tuple[Writers, Service, PluginConfigRepository]]:
    """Give threads that write all the time, and a service that follows."""
    with PluginConfigRepository.open(url, max_size=WRITERS + 1, timeout=2) as repository:
        service = service_on(repository)
        with following(service, url), Writers(repository, WRITERS) as writers:
            yield writers, service, repository


def all_go_on(writers: Writers, service: Service, repository: PluginConfigRepository, number: int) -> None:
    """Return when the threads have written more, and the service has followed a change before a resync."""
    writers.go_on()
    repository.save("a", "enabled", {"number": number})
    assert wait_until(lambda: service["a"].get_config("number") == number, 25)


def test_acknowledged_saves_survive_killed_server(own_server: OwnServer) -> None:
    with in_use(own_server.url) as all_users:
        for number in range(KILLS):
            all_go_on(*all_users, number)
            own_server.kill()
            own_server.start()
        all_go_on(*all_users, KILLS)
        assert sum(all_users[0].refused) > 0


def test_acknowledged_saves_survive_failover(own_server: OwnServer) -> None:
    with own_server.standby() as standby, psycopg.connect(own_server.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication"
        assert wait_until(lambda: connection.execute(state).fetchall() == [("sync",)])
        ports = ",".join(str(conninfo_to_dict(url)["port"]) for url in (own_server.url, standby))
        host = "127.0.0.1,127.0.0.1"
        both = make_conninfo(own_server.url, host=host, port=ports, target_session_attrs="read-write")
        with in_use(both) as all_users:
            all_go_on(*all_users, 0)
            own_server.kill()
            assert wait_until(lambda: sum(all_users[0].refused) > 0)
            with psycopg.connect(standby, autocommit=True) as promoting:
                promoting.execute("SELECT pg_promote()")
            all_go_on(*all_users, 1)
