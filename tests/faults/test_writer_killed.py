"""A process is killed while it writes: the table is as before or as after, and the next process finds its way."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
import victim
from workers import environment, wait_until

KILLS = 50


class Victim:
    """A process that runs victim.py; a context manager that kills it."""

    def __init__(self, url: str) -> None:
        here = Path(victim.__file__)
        path = os.pathsep.join([environment()["PYTHONPATH"], str(here.parents[1])])
        self._process = subprocess.Popen(
            [sys.executable, here, f"{url}&application_name=victim"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(PYTHONPATH=path),
        )

    def tell(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)


@contextmanager
def victims(url: str) -> Iterator[Iterator[Victim]]:
    """Give fresh processes, the next of which is made ready while the last one is used."""
    made = [Victim(url)]

    def fresh() -> Iterator[Victim]:
        while True:
            made.append(Victim(url))
            assert made[-2].answer() == "ready"
            yield made[-2]

    try:
        yield fresh()
    finally:
        for each in made:
            each.kill()


def table(connection: psycopg.Connection[Any]) -> victim.Table:
    """Return what is stored once no session of a victim is left that might still write."""
    sessions = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'victim' AND datname = current_database()"
    assert wait_until(lambda: connection.execute(sessions).fetchall() == [], 30)
    rows = connection.execute("SELECT plugin_name, status, (config ->> 'number')::int FROM plugin_config")
    return {name: (status, number) for name, status, number in rows}


def restored(stored: victim.Table) -> dict[str, str]:
    """Return the state of a process that has restored these rows."""
    state = dict.fromkeys(victim.PLUGINS, "not enabled {}")
    for name, (status, number) in stored.items():
        if name in state:
            state[name] = f"""{status.replace("disabled", "not enabled")} {{"number": {number}}}"""
    return state


def test_a_process_killed_50_times_leaves_the_table_as_before_or_as_after(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    dice = random.Random(5)
    with victims(database_url) as fresh:
        # How long each takes, where nothing disturbs it: when to kill is drawn from somewhat more.
        takes: dict[str, float] = {}
        first = next(fresh)
        first.tell("restore")
        assert first.answer() == [restored({}), {}]
        for number, name in enumerate([*victim.OPERATIONS, *victim.OPERATIONS]):
            began = time.perf_counter()
            first.tell([name, number])
            assert first.answer() == "done"
            takes[name] = time.perf_counter() - began
        first.kill()
        stored = table(connection)
        seen = {"before": 0, "after": 0}
        for number, name in zip(range(100, 100 + KILLS), cycle(victim.OPERATIONS), strict=False):
            process = next(fresh)
            process.tell("restore")
            assert process.answer() == [restored(stored), {}]
            process.tell([name, number])
            time.sleep(dice.uniform(0, 1.2 * takes[name]))
            process.kill()
            before, stored = stored, table(connection)
            after = victim.OPERATIONS[name].makes(before, number)
            assert stored in (before, after), (name, number)
            seen["before" if stored == before else "after"] += 1
            # Both are to be seen, at whatever pace a busy machine goes by now.
            takes[name] *= 1.5 if stored == before else 1 / 1.5
        last = next(fresh)
        last.tell("restore")
        assert last.answer() == [restored(stored), {}]
    assert min(seen.values()) >= KILLS / 10, seen
