"""How fast plugin_store is, beside what its users would use instead.

    python tests/benchmarks [--json FILE] [--svg FILE] [--quick] [SECTION …]

on the database that DATABASE_URL names (migrated; its plugin_config is emptied!), or else on an embedded one. All that
is compared runs within this one run, in turns; what is shown are medians, and medians of the ratios of each turn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from chart import draw
from contestants import CONTESTANTS, Contestant, Row
from measure import Times, in_turns, programs_in_turns, ratio, run
from psycopg import pq
from psycopg.types.json import Jsonb, set_json_loads
from psycopg_pool import ConnectionPool

from plugin_store import (
    BasePlugin,
    InMemoryPluginConfigStore,
    PluginConfigRepository,
    PluginManager,
    PluginMetadata,
    __version__,
)
from plugin_store.cli.migrate import migrate
from plugin_store.sandbox.embedded import EmbeddedPostgres
from plugin_store.stores.statements import folder

CONFIG = {"window_minutes": 30, "endpoint": "https://example.com/collect", "tags": ["a", "b", "c"], "sampling": 0.25}
PROGRAMS = Path(__file__).parent / "programs"

IMPORTS = {
    "bare interpreter": "pass",
    "import plugin_store": "import plugin_store",
    "a PluginManager without a database": "from plugin_store import PluginManager; PluginManager()",
    "psycopg and its pool": "import psycopg, psycopg_pool",
    "PluginManager and PluginConfigRepository": "from plugin_store import PluginConfigRepository, PluginManager",
    "asyncpg": "import asyncpg",
    "SQLAlchemy's ORM with psycopg": "import psycopg, sqlalchemy.orm, sqlalchemy.dialects.postgresql.psycopg",
}


@dataclass(frozen=True)
class Figure:
    """One line of the result."""

    what: str
    who: str
    value: float
    unit: str
    ratio: float | None = None  # to what the section compares with
    cpu_ratio: float | None = None
    goal: str = ""


class Benchmark:
    """A run: where it measures, how long, and what it has found."""

    def __init__(self, url: str, quick: bool) -> None:
        self.url = url
        self.seconds, self.turns = (0.02, 3) if quick else (0.15, 15)
        self.quick = quick
        self.figures: list[Figure] = []
        self.notes: list[str] = []

    def say(self, figure: Figure) -> None:
        self.figures.append(figure)
        shown = f"{figure.what:34} {figure.who:42} {figure.value:10.2f} {figure.unit:7}"
        if figure.ratio is not None:
            shown += f" {figure.ratio:7.2f} x"
        if figure.cpu_ratio is not None:
            shown += f", CPU {figure.cpu_ratio:5.2f} x"
        print(shown + (f"   goal: {figure.goal}" if figure.goal else ""), flush=True)

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(text, flush=True)

    def compared(
        self, what: str, taken: dict[str, Times], to: str, unit: str = "us", goals: dict[str, str] | None = None
    ) -> None:
        scale = {"us": 1e6, "ms": 1e3, "ns": 1e9}[unit]
        for who, times in taken.items():
            self.say(
                Figure(
                    what,
                    who,
                    median(times.wall) * scale,
                    unit,
                    ratio(times.wall, taken[to].wall),
                    ratio(times.cpu, taken[to].cpu),
                    (goals or {}).get(who, ""),
                )
            )

    def fill(self, count: int, config: dict[str, Any] = CONFIG) -> None:
        """Have exactly so many rows, all enabled."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("TRUNCATE plugin_config")
            connection.execute(
                "INSERT INTO plugin_config (plugin_name, status, config) "
                "SELECT 'p' || to_char(i, 'FM000000'), 'enabled', %s FROM generate_series(0, %s) AS i",
                [Jsonb(config), count - 1],
            )
            connection.execute("VACUUM ANALYZE plugin_config")

    @contextmanager
    def all_contestants(self, size: int = 1) -> Iterator[dict[str, Contestant]]:
        with ExitStack() as stack:
            yield {name: stack.enter_context(make(self.url, size)) for name, make in CONTESTANTS.items()}


def imports(bench: Benchmark) -> None:
    """What it costs to import, from the interpreter's start to its end."""
    taken = programs_in_turns({who: ["-c", code] for who, code in IMPORTS.items()}, turns=bench.turns)
    bare = taken["bare interpreter"]
    goals = {"import plugin_store": "bare + 3 ms", "a PluginManager without a database": "bare + 50 ms"}
    for who, seconds in taken.items():
        extra = median(one - other for one, other in zip(seconds, bare, strict=True))
        bench.say(Figure("import: over a bare interpreter", who, extra * 1e3, "ms", goal=goals.get(who, "")))


def cold_start(bench: Benchmark) -> None:
    """Process, connect, restore 100 plugins, end."""
    bench.fill(100)
    programs = {who: [f"{PROGRAMS}/restore_{who}.py"] for who in ("plugin_store", "floor", "obvious", "orm")}
    taken = programs_in_turns(programs, turns=bench.turns)
    for who, seconds in taken.items():
        goal = "1.08 x floor, 0.42 x ORM" if who == "plugin_store" else ""
        bench.say(
            Figure(
                "cold start, 100 plugins", who, median(seconds) * 1e3, "ms", ratio(seconds, taken["floor"]), None, goal
            )
        )


def calls(bench: Benchmark) -> None:
    """Single calls, warm."""
    bench.fill(100)
    numbers = iter(range(10**9))
    with bench.all_contestants() as contestants:
        taken = in_turns(
            {who: lambda one=one: one.get_by_name("p000042") for who, one in contestants.items()},
            seconds=bench.seconds,
            turns=bench.turns,
        )
        bench.compared("get_by_name", taken, "floor", goals={"plugin_store": "1.2 x, CPU 1.35 x"})
        taken = in_turns(
            {
                who: lambda one=one: one.save("p000042", "enabled", CONFIG | {"number": next(numbers)})
                for who, one in contestants.items()
            },
            seconds=bench.seconds,
            turns=bench.turns,
        )
        bench.compared("save", taken, "floor", goals={"plugin_store": "1.2 x, CPU 1.4 x"})


def lists(bench: Benchmark) -> None:
    """Reading all: 100 rows and 10,000."""
    for count in (100, 10_000):
        bench.fill(count)
        with bench.all_contestants() as contestants:
            taken = in_turns(
                {who: one.get_all for who, one in contestants.items()},
                seconds=bench.seconds,
                turns=bench.turns,
            )
        bench.compared(f"get_all of {count:,}", taken, "floor", "ms", goals={"plugin_store": "ahead of the floor"})


def batches(bench: Benchmark) -> None:
    """Storing 10,000 plugins at once, all or none. The ORM and the loop get 1,000, and are scaled."""
    count = 1_000 if bench.quick else 10_000
    numbers = iter(range(10**9))

    def rows(number: int) -> list[Row]:
        changed = next(numbers)
        return [(f"p{i:06}", "enabled", CONFIG | {"number": changed}) for i in range(number)]

    bench.fill(count)
    with bench.all_contestants() as contestants:
        taken = in_turns(
            {who: lambda one=one: one.save_many(rows(count)) for who, one in contestants.items() if who != "orm"},
            seconds=0,
            turns=max(3, bench.turns // 3),
        )
        few = in_turns(
            {"orm": lambda: contestants["orm"].save_many(rows(count // 10))}, seconds=0, turns=max(3, bench.turns // 5)
        )["orm"]
    names = {"obvious": "obvious (executemany)", "floor": "floor (one INSERT … SELECT)"}
    taken = {names.get(who, who): times for who, times in taken.items()}
    goals = {"plugin_store": "1.15 x floor, 30 x less than the ORM"}
    bench.compared(f"save_many of {count:,}", taken, names["floor"], "ms", goals)
    scaled = median(few.wall) * 10
    base = median(taken[names["floor"]].wall)
    bench.say(Figure(f"save_many of {count:,}", "orm (a tenth of it, times 10)", scaled * 1e3, "ms", scaled / base))


def round_trips(bench: Benchmark) -> None:
    """Messages of the server that it is ready again, in a warm call, counted in libpq's trace."""
    bench.fill(1)
    with bench.all_contestants() as contestants:
        for who, one in contestants.items():
            for what, call in {
                "get_by_name": lambda one=one: one.get_by_name("p000000"),
                "save": lambda one=one: one.save("p000000", "enabled", CONFIG),
            }.items():
                for _ in range(10):
                    call()
                with tempfile.TemporaryFile("r+") as trace:
                    pgconn = one.driver().pgconn
                    pgconn.trace(os.dup(trace.fileno()))
                    pgconn.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
                    call()
                    pgconn.untrace()
                    trace.seek(0)
                    count = trace.read().count("\tReadyForQuery")
                goal = "1" if who == "plugin_store" else ""
                bench.say(Figure(f"round trips of {what}", who, count, "", goal=goal))


def threads(bench: Benchmark) -> None:
    """Reads from 8 threads on 8 connections, and how evenly 32 threads share 8."""
    bench.fill(100)
    duration = 0.2 if bench.quick else 1.0

    def counted(calls: list[Callable[[], object]]) -> list[int]:
        counts, barrier, stop = [0] * len(calls), threading.Barrier(len(calls) + 1), threading.Event()

        def work(number: int, call: Callable[[], object]) -> None:
            call()
            barrier.wait()
            while not stop.is_set():
                call()
                counts[number] += 1

        workers = [threading.Thread(target=work, args=item) for item in enumerate(calls)]
        for worker in workers:
            worker.start()
        barrier.wait()
        time.sleep(duration)
        stop.set()
        for worker in workers:
            worker.join()
        return counts

    with ExitStack() as stack:
        held = [stack.enter_context(CONTESTANTS["floor"](bench.url)) for _ in range(8)]
        shared = {
            who: stack.enter_context(CONTESTANTS[who](bench.url, 8))
            for who in ("plugin_store", "obvious", "core", "orm")
        }
        rates: dict[str, list[float]] = {who: [] for who in ("held connections", *shared)}
        shares: dict[str, list[float]] = {who: [] for who in shared}
        for _ in range(max(3, bench.turns // 3)):
            rates["held connections"].append(sum(counted([lambda one=one: one.get_by_name("p000042") for one in held])))
            for who, one in shared.items():
                rates[who].append(sum(counted([lambda one=one: one.get_by_name("p000042")] * 8)))
            for who, one in shared.items():
                counts = counted([lambda one=one: one.get_by_name("p000042")] * 32)
                shares[who].append(min(counts) / max(counts))
    for who, each in rates.items():
        goal = "0.85 x of held connections, 7 x the ORM" if who == "plugin_store" else ""
        rate = median(each) / duration
        bench.say(Figure("8 threads: calls", who, rate, "/s", ratio(each, rates["held connections"]), None, goal))
    for who, each in shares.items():
        goal = "0.8" if who == "plugin_store" else ""
        bench.say(Figure("32 threads on 8: slowest to fastest", who, median(each), "", goal=goal))


class Plugin(BasePlugin):
    """A plugin that does nothing, of any name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._metadata = PluginMetadata(name, "1.0.0", "benchmark", "")

    @property
    def metadata(self) -> PluginMetadata:
        return self._metadata


def manager_of(count: int, store: Any = None) -> PluginManager:
    manager = PluginManager(config_repo=store)
    for number in range(count):
        manager.register_plugin(Plugin(f"p{number:06}"))
        manager.initialize_plugin(f"p{number:06}")
    return manager


def requests(bench: Benchmark) -> None:
    """What a request pays to ask whether a plugin is enabled."""
    store = InMemoryPluginConfigStore()
    manager = manager_of(100, store)
    manager.enable_plugin("p000042")
    plugins = {"p000042": True}

    def loop(ask: Callable[[str], bool]) -> Callable[[], None]:
        def ask_often() -> None:
            for _ in range(10_000):
                ask("p000042")

        return ask_often

    taken = in_turns(
        {"is_enabled": loop(manager.is_enabled), "dict.get": loop(plugins.get)},
        seconds=bench.seconds / 10,
        turns=bench.turns,
    )
    each = {
        who: Times([t / 10_000 for t in times.wall], [t / 10_000 for t in times.cpu]) for who, times in taken.items()
    }
    bench.compared("is this plugin enabled", each, "dict.get", "ns", {"is_enabled": "under 200 ns"})


def memory(bench: Benchmark) -> None:
    """What a process holds with 100 plugins restored, over one with psycopg, a pool, and the rows."""
    bench.fill(100)
    held: dict[str, list[int]] = {"plugin_store": [], "obvious": []}
    for _ in range(max(3, bench.turns // 2)):
        for who, each in held.items():
            each.append(int(run([f"{PROGRAMS}/restore_{who}.py", "memory"])))
    over = median(ours - bare for ours, bare in zip(held["plugin_store"], held["obvious"], strict=True))
    bench.say(Figure("memory, 100 plugins", "plugin_store over psycopg", over / 2**20, "MiB", goal="under 2 MiB"))
    bench.say(Figure("memory, 100 plugins", "psycopg, a pool and the rows", median(held["obvious"]) / 2**20, "MiB"))


def growth(bench: Benchmark) -> None:
    """Restoring 100,000 plugins against 10,000."""
    sizes = (1_000, 10_000) if bench.quick else (10_000, 100_000)
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(3):
        for size in sizes:
            bench.fill(size)
            with CONTESTANTS["plugin_store"](bench.url) as ours:
                store = ours.get_all.__self__  # type: ignore[attr-defined]  # the repository
                manager = manager_of(size, store)
                began = time.perf_counter()
                report = manager.load_persisted_state()
                taken[size].append(time.perf_counter() - began)
                assert len(report.restored) == size
    few, many = sizes
    bench.say(Figure("restore", f"{few:,} plugins", median(taken[few]) * 1e3, "ms"))
    bench.say(
        Figure(
            "restore",
            f"{many:,} plugins",
            median(taken[many]) * 1e3,
            "ms",
            ratio(taken[many], taken[few]),
            None,
            "11 x",
        )
    )


def elsewhere(bench: Benchmark) -> None:
    """Where others win: sqlite, or a file, in one process. They wait for the disk if the server does."""
    bench.fill(100)
    numbers = iter(range(10**9))
    with ExitStack() as stack:
        folder_ = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(CONTESTANTS["plugin_store"](bench.url))
        with psycopg.connect(bench.url) as connection:
            durable = connection.execute("SELECT current_setting('fsync')::bool").fetchone() == (True,)
        lite = sqlite3.connect(folder_ / "plugins.db", isolation_level=None)
        stack.callback(lite.close)
        lite.execute("PRAGMA journal_mode = WAL")
        lite.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        lite.execute("CREATE TABLE plugin_config (plugin_name TEXT PRIMARY KEY, status TEXT, config TEXT)")
        path = folder_ / "plugins.json"

        def write_file() -> None:
            config = CONFIG | {"number": next(numbers)}
            plugins = {f"p{i:06}": {"status": "enabled", "config": config} for i in range(100)}
            beside = path.with_suffix(".new")
            with beside.open("w") as file:
                file.write(json.dumps(plugins))
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            beside.replace(path)

        def write_lite(name: str = "p000042") -> None:
            config = json.dumps(CONFIG | {"number": next(numbers)})
            lite.execute(
                "INSERT INTO plugin_config VALUES (?, 'enabled', ?) "
                "ON CONFLICT (plugin_name) DO UPDATE SET config = excluded.config",
                [name, config],
            )

        def read_lite() -> object:
            name, status, config = lite.execute("SELECT * FROM plugin_config WHERE plugin_name = 'p000042'").fetchone()
            return name, status, json.loads(config)

        for number in range(100):
            write_lite(f"p{number:06}")
        write_file()
        taken = in_turns(
            {
                "plugin_store": lambda: ours.get_by_name("p000042"),
                "sqlite": read_lite,
                "a JSON file of 100 plugins, read whole": lambda: json.loads(path.read_bytes()),
            },
            seconds=bench.seconds,
            turns=bench.turns,
        )
        bench.compared("one process: read a plugin", taken, "plugin_store")
        taken = in_turns(
            {
                "plugin_store": lambda: ours.save("p000042", "enabled", CONFIG | {"number": next(numbers)}),
                "sqlite": write_lite,
                "a JSON file of 100 plugins, written whole": write_file,
            },
            seconds=bench.seconds,
            turns=bench.turns,
        )
        bench.compared("one process: save a plugin", taken, "plugin_store")


def large(bench: Benchmark) -> None:
    """Configs of 10 kB, and a decoder of the user's choice."""
    import orjson

    config = {f"key{i:03}": {"text": "x" * 40, "number": i, "list": [1, 2, 3]} for i in range(100)}
    bench.fill(1, config)
    text = json.dumps(config)
    with ExitStack() as stack:
        ours, bare = (stack.enter_context(CONTESTANTS[who](bench.url)) for who in ("plugin_store", "floor"))
        calls: dict[str, Callable[[], object]] = {
            "floor": lambda: bare.get_by_name("p000000"),
            "plugin_store": lambda: ours.get_by_name("p000000"),
            "json.loads alone": lambda: json.loads(text),
        }

        # For each connection: to set it globally at each turn would cost more than it saves.
        pool = stack.enter_context(
            ConnectionPool(
                bench.url, configure=lambda connection: set_json_loads(orjson.loads, connection), min_size=1, open=True
            )
        )
        faster = PluginConfigRepository(pool)
        calls["plugin_store, set_json_loads(orjson.loads)"] = lambda: faster.get_by_name("p000000")
        taken = in_turns(calls, seconds=bench.seconds, turns=bench.turns)
    bench.compared(f"get_by_name of {len(text) // 1000} kB", taken, "floor")


def server(bench: Benchmark) -> None:
    """The server's own limit: pgbench, running our very statement files, beside the same calls from here."""
    pgbench = shutil.which("pgbench")
    if pgbench is None:
        bench.note("pgbench is not on the PATH: the server's own limit is not measured")
        return
    bench.fill(100)
    values = {"plugin_name": "p000042", "status": "enabled", "config": json.dumps(CONFIG)}
    defines = [f"--define={name}={value}" for name, value in values.items()]
    with CONTESTANTS["plugin_store"](bench.url) as ours, tempfile.TemporaryDirectory() as scripts:
        calls: dict[str, Callable[[], object]] = {
            "get_by_name": lambda: ours.get_by_name("p000042"),
            "get_all": ours.get_all,
            "save": lambda: ours.save("p000042", "enabled", CONFIG),
        }
        for what, call in calls.items():
            statement = (Path(folder("sql")) / f"{what}.sql").read_text()
            script = Path(scripts) / f"{what}.sql"
            script.write_text(re.sub(r"%\((\w+)\)s", r":\1", statement).rstrip() + ";\n")
            command = [pgbench, "--no-vacuum", "--protocol=prepared", f"--time={1 if bench.quick else 3}"]
            done = subprocess.run(
                [*command, *defines, f"--file={script}", bench.url],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            found = re.search(r"latency average = ([\d.]+) ms", done.stdout)
            assert found is not None, done.stdout
            limit = float(found[1])
            taken = in_turns({what: call}, seconds=bench.seconds, turns=bench.turns)[what]
            bench.say(Figure(f"{what}, one client", "pgbench", limit * 1e3, "us", 1.0))
            bench.say(
                Figure(
                    f"{what}, one client",
                    "plugin_store",
                    median(taken.wall) * 1e6,
                    "us",
                    median(taken.wall) * 1e3 / limit,
                )
            )


def plans(bench: Benchmark) -> None:
    """EXPLAIN of each read at 100,000 rows."""
    count = 1_000 if bench.quick else 100_000
    bench.fill(count)
    with psycopg.connect(bench.url, autocommit=True) as connection:
        for what in ("get_by_name", "get_all", "get_enabled"):
            statement = (Path(folder("sql")) / f"{what}.sql").read_text()
            explain = f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) {statement}"
            lines = connection.execute(explain.encode(), {"plugin_name": "p000042"}).fetchall()
            bench.note(f"{what} at {count:,} rows:\n" + "\n".join(f"    {line}" for (line,) in lines))


SECTIONS = {
    section.__name__: section
    for section in (
        imports,
        cold_start,
        calls,
        lists,
        batches,
        round_trips,
        threads,
        requests,
        memory,
        growth,
        elsewhere,
        large,
        server,
        plans,
    )
}


def about(url: str) -> str:
    """Return the machine and the versions."""
    with psycopg.connect(url) as connection:
        postgres = connection.info.parameter_status("server_version")
    load = os.getloadavg()[0]
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("psycopg", "psycopg_pool", "SQLAlchemy", "asyncpg", "orjson")
    )
    return (
        f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f}\n"
        f"CPython {platform.python_version()}, PostgreSQL {postgres}, plugin_store {__version__}, "
        f"{versions} (libpq: {pq.__impl__})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="small and rough, to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--svg", type=Path, help="also draw them into this file")
    args = parser.parse_args()
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    with ExitStack() as stack:
        url = os.environ.get("DATABASE_URL")
        if not url:
            url = stack.enter_context(EmbeddedPostgres()).url
            migrate(url)
            os.environ["DATABASE_URL"] = url  # for the programs
        bench = Benchmark(url, args.quick)
        print(machine := about(url), flush=True)
        for name in args.sections or SECTIONS:
            print(f"\n# {SECTIONS[name].__doc__}", flush=True)
            SECTIONS[name](bench)
    if args.json:
        result = {"machine": machine, "figures": [asdict(figure) for figure in bench.figures], "notes": bench.notes}
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    if args.svg:
        args.svg.write_text(draw(bench.figures, machine))


if __name__ == "__main__":
    main()
