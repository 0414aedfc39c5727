"""The server is killed, or its machine fails and another takes over: what was acknowledged is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from crashing import CrashingServer, Writers
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from recorder import Service
from workers import PLUGINS, wait_until

from plugin_store import PluginConfigRepository, PluginWatcher
from plugin_store.cli.migrate import migrate

KILLS = 20
WRITERS = 8


@pytest.fixture
def crashing() -> Iterator[CrashingServer]:
    with CrashingServer() as server:
        migrate(server.url)
        yield server


@contextmanager
def following(url: str) -> Iterator[Service]:
    """Give a service that is kept in step by a watcher."""
    with PluginConfigRepository.open(url, timeout=2) as repository:
        service = Service(repository, PLUGINS)
        with PluginWatcher(service.manager, url):
            yield service


def follows(service: Service, repository: PluginConfigRepository, number: int) -> bool:
    """Change something, and return whether the service learns of it before a resync tells it."""
    repository.save("a", "enabled", {"number": number})
    return wait_until(lambda: service["a"].get_config("number") == number, 25)


def test_a_server_killed_20_times_under_8_writers_loses_nothing_that_was_acknowledged(crashing: CrashingServer) -> None:
    with (
        following(crashing.url) as service,
        PluginConfigRepository.open(crashing.url, min_size=WRITERS, max_size=WRITERS, timeout=2) as repository,
        Writers(repository, WRITERS) as writers,
    ):
        for number in range(KILLS):
            writers.go_on()  # so the pool has recovered
            assert follows(service, repository, number)  # so has the watcher
            crashing.kill()
            crashing.start()
        writers.go_on()
        assert follows(service, repository, KILLS)
    assert sum(writers.refused) > 0


def test_no_acknowledged_save_is_lost_when_a_synchronous_standby_takes_over(crashing: CrashingServer) -> None:
    with crashing.standby() as standby, psycopg.connect(crashing.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
        assert wait_until(
            lambda: connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall() == [("sync",)]
        )
        both = both_of(crashing.url, standby)
        with (
            following(both) as service,
            PluginConfigRepository.open(both, min_size=WRITERS, max_size=WRITERS, timeout=2) as repository,
            Writers(repository, WRITERS) as writers,
        ):
            writers.go_on(50)
            crashing.kill()
            assert wait_until(lambda: sum(writers.refused) > 0)
            with psycopg.connect(standby, autocommit=True) as promoting:
                promoting.execute("SELECT pg_promote()")
            writers.go_on(50)
            assert follows(service, repository, 1)


def both_of(primary: str, standby: str) -> str:
    """Return a conninfo that leads to whichever of the two takes writes."""
    ports = ",".join(str(conninfo_to_dict(url)["port"]) for url in (primary, standby))
    return make_conninfo(primary, host="127.0.0.1,127.0.0.1", port=ports, target_session_attrs="read-write")
