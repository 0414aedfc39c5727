"""The server goes down while a service runs, and comes back."""

import time
from collections.abc import Callable

import psycopg
import pytest
from psycopg_pool import ConnectionPool
from recorder import events_of
from watching import following, service_on
from workers import OwnServer, wait_until

from plugin_store import PluginConfigRepository, PluginManager, StoreUnavailableError

# All is well again before a resync.
BACK_SECONDS = 25
OUTAGE_SECONDS = 100
CHANGES: list[Callable[[PluginManager], object]] = [
    lambda manager: manager.enable_plugin("b"),
    lambda manager: manager.enable_plugin("a"),
    lambda manager: manager.disable_plugin("a"),
    lambda manager: manager.save_config("a", {"n": 2}),
    lambda manager: manager.update_config("a", {"n": 2}),
    lambda manager: manager.enable_defaults("b"),
    lambda manager: manager.sync(),
]


def succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except StoreUnavailableError:
        return False
    return True


def test_memory_serves_and_changes_are_refused_meanwhile(own_server: OwnServer) -> None:
    with PluginConfigRepository.open(own_server.url, timeout=0.3) as repository:
        service = service_on(repository)
        service.manager.save_config("a", {"n": 1})
        service.manager.enable_plugin("a")
        with following(service, own_server.url):
            state, rows = service.state(), repository.get_all()
            own_server.kill()
            service.calls.clear()
            events = events_of(service.manager)
            for _ in range(2):  # with dead connections, and with none
                for change in CHANGES:
                    with pytest.raises(StoreUnavailableError):
                        change(service.manager)
                    assert service.state() == state
            # disable_plugin stops its plugin first, and starts it again when storing fails.
            assert service.calls == [("a", "on_disable"), ("a", "on_enable")] * 2
            assert events == []
            own_server.start()
            with psycopg.connect(own_server.url, autocommit=True) as connection:
                assert PluginConfigRepository(connection).get_all() == rows
                connection.execute("UPDATE plugin_config SET status = 'disabled'")
            assert wait_until(lambda: service.enabled == set(), BACK_SECONDS)
            assert wait_until(lambda: succeeds(lambda: service.manager.enable_plugin("b")), BACK_SECONDS)


def test_change_after_long_outage_arrives_soon(own_server: OwnServer) -> None:
    with ConnectionPool(own_server.url, timeout=0.3) as pool:  # backs off for about as long as the outage lasts
        service = service_on(PluginConfigRepository(pool))
        with following(service, own_server.url) as watcher:
            own_server.kill()
            time.sleep(OUTAGE_SECONDS)
            assert not watcher.healthy
            own_server.start()
            with psycopg.connect(own_server.url) as connection:
                PluginConfigRepository(connection).save("a", "enabled")
            assert wait_until(lambda: service.enabled == {"a"}, 5)
            assert wait_until(lambda: watcher.healthy)
