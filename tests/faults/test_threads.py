"""64 threads that save at once, through a pool of few connections."""

import random
from typing import Any

import pytest
from databases import Connection

from plugin_store import PluginConfig, PluginConfigRepository
from plugin_store.testing.concurrency import at_once

THREADS = 64
SAVES = 100


@pytest.mark.parametrize("plugins", [1, SAVES])
def test_last_of_many_concurrent_saves_wins(database_url: str, connection: Connection, plugins: int) -> None:
    def work(thread: int) -> list[PluginConfig]:
        order = [f"plugin {number % plugins:03}" for number in range(SAVES)]
        random.Random(thread).shuffle(order)
        return [
            repository.save(name, "enabled", {"thread": thread, "number": number}) for number, name in enumerate(order)
        ]

    with PluginConfigRepository.open(database_url, max_size=8) as repository:
        acknowledged = at_once(THREADS, work, seconds=120)  # raises what a save raised
        stored = {row.plugin_name: row for row in repository.get_all()}
    versions: dict[str, dict[Any, PluginConfig]] = {}
    for rows in acknowledged:
        for row in rows:
            versions.setdefault(row.plugin_name, {})[row.updated_at] = row
        if plugins == 1:
            assert rows == sorted(rows, key=lambda row: str(row.updated_at))
    assert sum(map(len, versions.values())) == THREADS * SAVES  # each save made a version
    assert len(stored) == plugins
    assert stored == {name: rows[max(rows)] for name, rows in versions.items()}
    deadlocks = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert deadlocks.fetchone() == (0,)
