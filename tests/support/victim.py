"""A service that restores when it is told to, and then does what it is told, which is meant to be its end.

Run as a program with the URL of the database. It answers each line of its input with one of its output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from recorder import Service

from plugin_store import PluginConfig, PluginConfigRepository, import_plugins

Table = dict[str, tuple[str, int]]

PLUGINS: dict[str, tuple[str, ...]] = {"switched": (), "other": ()}
MANY = [f"many {number}" for number in range(300)]


@dataclass(frozen=True)
class Operation:
    """Something that a service does with a number, and what it makes of the rows."""

    do: Callable[[Service, PluginConfigRepository, int], object]
    makes: Callable[[Table, int], Table]


def enable(service: Service, _: PluginConfigRepository, number: int) -> None:
    service["switched"].set_config("number", number)
    service.manager.enable_plugin("switched")


def disable(service: Service, _: PluginConfigRepository, number: int) -> None:
    service["switched"].set_config("number", number)
    service.manager.disable_plugin("switched")


def save_many(_: Service, repository: PluginConfigRepository, number: int) -> None:
    repository.save_many(PluginConfig(name, *row) for name, row in many(number).items())


def many(number: int) -> dict[str, tuple[str, dict[str, int]]]:
    status = "enabled" if number % 2 else "disabled"
    return {name: (status, {"number": number}) for name in MANY}


def import_pruned(_: Service, __: PluginConfigRepository, number: int) -> None:
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        plugins = [PluginConfig(name, status, {"number": n}) for name, (status, n) in imported(number).items()]
        import_plugins(connection, plugins, prune=True)


def imported(number: int) -> Table:
    """Some of what others save, and some of its own, which the next import prunes."""
    names = ["switched", *MANY[::2], *(f"imported {number} {index}" for index in range(100))]
    return dict.fromkeys(names, ("enabled", number))


OPERATIONS = {
    "enable": Operation(enable, lambda before, number: before | {"switched": ("enabled", number)}),
    "disable": Operation(disable, lambda before, number: before | {"switched": ("disabled", number)}),
    "save_many": Operation(
        save_many,
        lambda before, number: (
            before | {name: (status, config["number"]) for name, (status, config) in many(number).items()}
        ),
    ),
    "import": Operation(import_pruned, lambda _, number: imported(number)),
}


def main(url: str) -> None:
    say("ready")
    sys.stdin.readline()
    with PluginConfigRepository.open(url) as repository:
        service = Service(repository, PLUGINS)
        say([service.state(), service.report.failed])
        for line in sys.stdin:
            name, number = json.loads(line)
            OPERATIONS[name].do(service, repository, number)
            say("done")


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
