"""Services that a watcher keeps in step, and their sessions."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from databases import Connection
from recorder import Service
from workers import PLUGINS, wait_until

from plugin_store import PluginConfigStore, PluginManager, PluginWatcher
from plugin_store.plugins.apply import SyncReport

SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"


class WatchedManager(PluginManager):
    """Records the options of each sync in ``syncs``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.syncs: list[dict[str, Any]] = []

    def sync(self, **options: Any) -> SyncReport:
        self.syncs.append(options)
        return super().sync(**options)


def service_on(store: PluginConfigStore, plugins: dict[str, tuple[str, ...]] = PLUGINS) -> Service:
    service = Service(store, plugins, WatchedManager)
    syncs(service).clear()
    return service


def syncs(service: Service) -> list[dict[str, Any]]:
    assert isinstance(service.manager, WatchedManager)
    return service.manager.syncs


@contextmanager
def following(service: Service, url: str, **seconds: float) -> Iterator[PluginWatcher]:
    """Run a watcher, from after its first sync."""
    with PluginWatcher(service.manager, url, **seconds) as watcher:
        assert wait_until(lambda: watcher.healthy), watcher.problem
        yield watcher


def sessions(connection: Connection, application_name: str = "plugin_store watcher") -> list[int]:
    """Return the server's process ids of the watchers of this database, or of another application."""
    return [pid for (pid,) in connection.execute(SESSIONS, [application_name])]


def end_sessions(connection: Connection, application_name: str = "plugin_store watcher") -> None:
    for pid in sessions(connection, application_name):
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


def watcher_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "plugin-watcher"]
