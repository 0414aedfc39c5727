"""How long a change takes from its commit to the last worker's hook: PluginWatcher beside a bare LISTEN loop.

    python tests/benchmarks/latency.py [--listeners 8] [--changes 200] [--turns 4]

on the database that DATABASE_URL names, migrated, or else on an embedded one. Each listener is a process of its
own. A worker has a repository, a manager with one plugin, and a PluginWatcher. A bare one LISTENs on a
connection, and reads the row when it is told. The two kinds take turns. The clock starts before the UPDATE is sent
and stops when the last process has the new config, a worker in on_config_changed. The next change comes PAUSE seconds
after all have the last one.

Two more figures: the time with 10,000 rows in the table, as a multiple of that with 100; and the server's CPU time for
a change with 200 watchers, as a multiple of that with 20, with 10,000 rows (Linux, if the server is on this machine).
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from threading import Lock
from typing import Any

import psycopg

from plugin_store import BasePlugin, PluginConfigRepository, PluginManager, PluginMetadata, PluginWatcher, __version__
from plugin_store.cli.migrate import migrate
from plugin_store.sandbox.embedded import EmbeddedPostgres

NAME = "benchmark"
CHANGE = "UPDATE plugin_config SET config = jsonb_build_object('number', %s::int) WHERE plugin_name = %s"
READ = "SELECT plugin_name, status, config FROM plugin_config WHERE plugin_name = %s"
WARM_UP = 5
# Between two changes: a watcher follows the first change at once, then ten changes a second at most.
PAUSE = 0.15
LOCK = Lock()


class Follower(BasePlugin):
    """Says when it has which change."""

    metadata = PluginMetadata(NAME, "1.0.0", "plugin_store", "Says when it has which change.")

    def on_config_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        say(new["number"])


class Counting(Follower):
    """Says when all watchers of this process have a change."""

    def __init__(self, followed: Counter[int], count: int) -> None:
        super().__init__()
        self._followed, self._count = followed, count

    def on_config_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        with LOCK:
            self._followed[new["number"]] += 1
            if self._followed[new["number"]] == self._count:
                say(new["number"])


def say(what: object) -> None:
    """Print it with the time, on the clock that all processes have in common."""
    print(what, time.monotonic(), flush=True)


def watch(url: str) -> None:
    """Be a worker, until stdin ends."""
    with PluginConfigRepository.open(url) as repository:
        manager = PluginManager(config_repo=repository)
        manager.register_plugin(Follower())
        manager.initialize_plugin(NAME)
        manager.load_persisted_state()
        with PluginWatcher(manager, url) as watcher:
            while not watcher.healthy:
                time.sleep(0.01)
            say("ready")
            sys.stdin.read()


def listen(url: str) -> None:
    """Be a bare loop, until terminated: the least that follows a row."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN plugin_config")
        say("ready")
        while True:
            for _ in connection.notifies(stop_after=1):
                pass
            row = connection.execute(READ, [NAME]).fetchone()
            assert row is not None
            say(row[2]["number"])


def measure(kind: str, url: str, listeners: int, numbers: range) -> list[float]:
    """Return the seconds that each change took to reach the last of so many processes of a kind."""
    command = [sys.executable, __file__, f"--be={kind}"]
    env = os.environ | {"DATABASE_URL": url}
    with ExitStack() as stack:
        processes = []
        for _ in range(listeners):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
            stack.enter_context(process)
            stack.callback(process.terminate)
            processes.append(process)
        for process in processes:
            answer(process, "ready")
        taken = []
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        for number in numbers:
            time.sleep(PAUSE)
            began = time.monotonic()
            connection.execute(CHANGE, [number, NAME])
            taken.append(max(answer(process, number) for process in processes) - began)
        return taken[WARM_UP:]


def fill(url: str, rows: int) -> None:
    """Have this many enabled rows of other plugins in the table."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM plugin_config WHERE plugin_name <> %s", [NAME])
        connection.execute(
            """INSERT INTO plugin_config (plugin_name, status)
               SELECT 'other ' || number, 'enabled' FROM generate_series(1, %s) AS number""",
            [rows],
        )
        connection.execute("VACUUM ANALYZE plugin_config")


def crowd(url: str, count: int) -> None:
    """Be this many watchers in one process, until stdin ends. Say which change all of them have."""
    followed: Counter[int] = Counter()
    with ExitStack() as stack:
        watchers = []
        for _ in range(count):
            manager = PluginManager()
            manager.register_plugin(Counting(followed, count))
            manager.initialize_plugin(NAME)
            watchers.append(stack.enter_context(PluginWatcher(manager, url, resync_seconds=3600)))
        while not all(watcher.healthy for watcher in watchers):
            time.sleep(0.1)
        say("ready")
        sys.stdin.read()


def server_cpu(url: str, count: int, numbers: range) -> float:
    """Return the seconds of CPU time that the server's sessions spend on a change with this many watchers."""
    command = [sys.executable, __file__, "--be=crowd", f"--listeners={count}"]
    env = os.environ | {"DATABASE_URL": url}
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        answer(process, "ready")
        pids = [
            pid for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'client%'")
        ]
        files = [Path(f"/proc/{pid}/schedstat") for pid in pids]
        began = 0
        for number in numbers:
            if number == numbers[WARM_UP]:
                began = sum(int(file.read_text().split()[0]) for file in files)
            connection.execute(CHANGE, [number, NAME])
            answer(process, number)
            time.sleep(PAUSE)
        spent = sum(int(file.read_text().split()[0]) for file in files) - began
        process.terminate()
    return spent / 1e9 / len(numbers[WARM_UP:])


def costs(url: str, listeners: int, number: int) -> None:
    """Print what a change costs with more rows, and with more watchers."""
    times = {}
    for rows in (100, 10_000):
        fill(url, rows)
        times[rows] = median(measure("watch", url, listeners, range(number, number + WARM_UP + 30)))
        number += WARM_UP + 30
    print(f"10,000 rows against 100: {times[10_000] / times[100]:.2f} x the time, at most 2")
    with psycopg.connect(url) as connection:
        is_local = Path(f"/proc/{connection.info.backend_pid}/schedstat").exists()
    if is_local:
        cpu = {
            count: server_cpu(url, count, range(number + count, number + count + WARM_UP + 20)) for count in (20, 200)
        }
        print(f"200 watchers against 20: {cpu[200] / cpu[20]:.2f} x the CPU time of the server, at most 10")
    fill(url, 0)


def answer(process: subprocess.Popen[str], what: object) -> float:
    assert process.stdout is not None
    said, _, when = process.stdout.readline().partition(" ")
    assert said == str(what), f"a listener said {said!r} and not {what!r}"
    return float(when)


def compare(url: str, listeners: int, changes: int, turns: int) -> None:
    with PluginConfigRepository.open(url) as repository, psycopg.connect(url) as connection:
        repository.save(NAME, "enabled", {"number": -1})
        server = connection.info.parameter_status("server_version")
    taken: dict[str, list[float]] = {"watch": [], "listen": []}
    each, number = changes // turns + WARM_UP, 0
    for _ in range(turns):
        for kind in taken:
            taken[kind] += measure(kind, url, listeners, range(number, number + each))
            number += each
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    costs(url, listeners, number)
    print(f"{platform.platform()}, {os.cpu_count()} cores, load average {load}")
    print(f"CPython {platform.python_version()}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), ", end="")
    print(f"PostgreSQL {server}, plugin_store {__version__}")
    print(
        f"{changes} changes to {listeners} processes of each kind, in {turns} turns; milliseconds to the last of them"
    )
    marks = {}
    for kind, name in (("watch", "PluginWatcher"), ("listen", "bare LISTEN loop")):
        cuts = quantiles([1000 * seconds for seconds in taken[kind]], n=100)
        marks[kind] = cuts[49], cuts[98]
        print(f"{name:16}  p50 {cuts[49]:6.2f}  p99 {cuts[98]:6.2f}  max {1000 * max(taken[kind]):6.2f}")
    ratios = [ours / bare for ours, bare in zip(marks["watch"], marks["listen"], strict=True)]
    print(f"{'ratio':16}  p50 {ratios[0]:6.2f}  p99 {ratios[1]:6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, default=8)
    parser.add_argument("--changes", type=int, default=200, help="of each kind")
    parser.add_argument("--turns", type=int, default=4, help="of each kind")
    parser.add_argument("--be", choices=["watch", "listen", "crowd"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    url = os.environ.get("DATABASE_URL", "")
    logging.getLogger("plugin_store").setLevel(logging.ERROR)  # the rows of other plugins cause a warning each
    if args.be == "crowd":
        crowd(url, args.listeners)
    elif args.be:
        {"watch": watch, "listen": listen}[args.be](url)
    elif url:
        compare(url, args.listeners, args.changes, args.turns)
    else:
        with EmbeddedPostgres() as server:
            migrate(server.url)
            compare(server.url, args.listeners, args.changes, args.turns)


if __name__ == "__main__":
    main()
