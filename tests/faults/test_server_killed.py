"""The server is killed, or its machine fails and another takes over: what was acknowledged is there."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from recorder import Service
from watching import following, service_on
from workers import OwnServer, wait_until
from writers import Writers

from plugin_store import PluginConfigRepository

KILLS = 10
WRITERS = 8


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
