"""64 threads that save at once, through a pool of few connections."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import psycopg
import pytest

from plugin_store import PluginConfig, PluginConfigRepository

THREADS = 64
SAVES = 500


@pytest.mark.parametrize("plugins", [1, 500])
def test_of_64_threads_that_save_500_times_the_last_wins(
    database_url: str, connection: psycopg.Connection[Any], plugins: int
) -> None:
    together = Barrier(THREADS)

    def work(thread: int) -> list[PluginConfig]:
        order = [f"plugin {number % plugins:03}" for number in range(SAVES)]
        random.Random(thread).shuffle(order)
        together.wait(60)
        return [
            repository.save(name, ["enabled", "disabled"][number % 2], {"thread": thread, "number": number})
            for number, name in enumerate(order)
        ]

    with PluginConfigRepository.open(database_url, max_size=8) as repository, ThreadPoolExecutor(THREADS) as threads:
        acknowledged = list(threads.map(work, range(THREADS)))  # raises what a save raised
        stored = {row.plugin_name: row for row in repository.get_all()}

    # Each save was a version of its own, and those of a thread follow each other.
    versions: dict[str, dict[Any, PluginConfig]] = {}
    for rows in acknowledged:
        for row in rows:
            assert versions.setdefault(row.plugin_name, {}).setdefault(row.updated_at, row) is row
        assert [row.config["number"] for row in rows] == list(range(SAVES))
        for name in {row.plugin_name for row in rows} if plugins == 1 else set():
            moments = [row.updated_at for row in rows if row.plugin_name == name]
            assert moments == sorted(moments)
    # What is stored is the last of these, by the clock of the row: all of it.
    assert len(stored) == plugins
    assert stored == {name: rows[max(rows)] for name, rows in versions.items()}
    # And so one of those after which its thread saved that plugin no more.
    for name, row in stored.items():
        last = [saved for saved in acknowledged[row.config["thread"]] if saved.plugin_name == name][-1]
        assert last == row
    assert sum(map(len, versions.values())) == THREADS * SAVES
    (deadlocks,) = connection.execute(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone() or (None,)
    assert deadlocks == 0
