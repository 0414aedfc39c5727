"""An outage of 100 seconds. The service's pool backs off for about as long again, so nothing may wait for it."""

import time

import psycopg
from psycopg_pool import ConnectionPool
from recorder import Service
from watching import following, service_on
from workers import OwnServer, wait_until

from plugin_store import PluginConfigRepository

OUTAGE_SECONDS = 100
BACK_SECONDS = 5


def test_change_after_long_outage_arrives_soon(own_server: OwnServer) -> None:
    with ConnectionPool(own_server.url, timeout=0.3) as pool:
        service: Service = service_on(PluginConfigRepository(pool))
        with following(service, own_server.url) as watcher:
            own_server.kill()
            end = time.monotonic() + OUTAGE_SECONDS
            assert wait_until(lambda: not watcher.healthy, OUTAGE_SECONDS)
            time.sleep(max(0.0, end - time.monotonic()))
            own_server.start()
            with psycopg.connect(own_server.url) as connection:
                PluginConfigRepository(connection).save("a", "enabled")
            assert wait_until(lambda: service.enabled == {"a"}, BACK_SECONDS)
            assert wait_until(lambda: watcher.healthy)
