"""A process is killed while it writes: the table has each change as a whole or not at all.

Run as a program with the URL of a database and a number, this file makes changes without end, from this number on. It
prints the number of each change before it makes the change.
"""

import random
import sys
import time
from itertools import count

import psycopg
from databases import Connection
from programs import started
from recorder import Service
from watching import sessions
from workers import wait_until

from plugin_store import PluginConfig, PluginConfigRepository, import_plugins

KILLS = 30
NAMES = [f"plugin {number}" for number in range(300)]
Table = dict[str, tuple[str, int]]


def change(service: Service, repository: PluginConfigRepository, number: int) -> None:
    """Enable a plugin, save many rows, disable the plugin, or import and prune rows."""
    if number % 4 in (0, 2):
        service["switched"].set_config("number", number)
        switch = service.manager.enable_plugin if number % 4 == 0 else service.manager.disable_plugin
        switch("switched")
        return
    rows = [PluginConfig(name, status, {"number": n}) for name, (status, n) in after({}, number).items()]
    if number % 4 == 1:
        repository.save_many(rows)
    else:
        with psycopg.connect(sys.argv[1], autocommit=True) as connection:
            import_plugins(connection, rows, prune=True)


def after(before: Table, number: int) -> Table:
    """Return the rows after this change."""
    match number % 4:
        case 0:
            return before | {"switched": ("enabled", number)}
        case 1:
            return before | dict.fromkeys(NAMES, ("disabled", number))
        case 2:
            return before | {"switched": ("disabled", number)}
    imported = [*NAMES[::2], *(f"{number} {n}" for n in range(100))]
    return {"switched": ("enabled", number)} | dict.fromkeys(imported, ("disabled", number))


def kill_a_writer(url: str, first: int, seconds: float) -> int:
    """Kill a process this long after it has begun. Return the number of its last change."""
    with started(sys.executable, __file__, f"{url}&application_name=writer", str(first)) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(seconds)
        process.kill()
        return int([*lines, *process.stdout.readlines()][-1])


def test_killed_process_leaves_whole_changes(database_url: str, connection: Connection) -> None:
    query = "SELECT plugin_name, status, (config ->> 'number')::int FROM plugin_config"
    dice, first, stored, outcomes = random.Random(5), 0, Table(), set()
    for _ in range(KILLS):
        last = kill_a_writer(database_url, first, dice.uniform(0, 0.1))
        assert wait_until(lambda: sessions(connection, "writer") == [], 30)
        for number in range(first, last):
            stored = after(stored, number)
        possible = {"undone": stored, "done": after(stored, last)}
        stored = {name: (status, number) for name, status, number in connection.execute(query)}
        assert stored in possible.values(), last
        outcomes |= {outcome for outcome, rows in possible.items() if rows == stored}
        first = last + 1
        # The next process restores.
        service = Service(PluginConfigRepository(connection), {"switched": ()})
        enabled = {name for name, (status, _) in stored.items() if status == "enabled"} & {"switched"}
        assert (service.enabled, service.manager.last_report.failed) == (enabled, {})
    assert outcomes == {"undone", "done"}


def main(url: str, first: int) -> None:
    with PluginConfigRepository.open(url) as repository:
        service = Service(repository, {"switched": ()})
        for number in count(first):
            print(number, flush=True)
            change(service, repository, number)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
