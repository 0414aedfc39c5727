"""The server is down when a service starts, or goes down later, and comes back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from crashing import CrashingServer
from recorder import Service
from workers import PLUGINS, wait_until

from plugin_store import PluginConfigRepository, PluginManager, PluginWatcher, StoreUnavailableError
from plugin_store.cli.migrate import migrate

# In which all is well again, before a resync: a pool tries after pauses that grow to as long as the server was away.
BACK = 25
CHANGES: dict[str, Callable[[PluginManager], object]] = {
    "enable": lambda manager: manager.enable_plugin("b"),
    "enable again": lambda manager: manager.enable_plugin("a"),
    "disable": lambda manager: manager.disable_plugin("a"),
    "save_config": lambda manager: manager.save_config("a", {"n": 2}),
    "update_config": lambda manager: manager.update_config("a", {"n": 2}),
    "enable_defaults": lambda manager: manager.enable_defaults("b"),
    "sync": lambda manager: manager.sync(),
}


@pytest.fixture(scope="module")
def running() -> Iterator[CrashingServer]:
    with CrashingServer() as running:
        migrate(running.url)
        yield running


@pytest.fixture
def away(running: CrashingServer) -> Iterator[CrashingServer]:
    """A server that is down at first, and empty."""
    with psycopg.connect(running.url, autocommit=True) as connection:
        connection.execute("DELETE FROM plugin_config")
    running.stop()
    try:
        yield running
    finally:
        if not running.is_up():
            running.start()


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("plugin_store")]


def test_a_service_does_not_start_without_and_says_why(away: CrashingServer) -> None:
    refused = pytest.raises(StoreUnavailableError, match=r"the database cannot be reached: (.|\n)*refused")
    with refused, PluginConfigRepository.open(away.url):
        pytest.fail("there is no server")
    with refused:
        migrate(away.url)


def test_a_service_may_wait_for_it_and_says_so_once(away: CrashingServer, caplog: pytest.LogCaptureFixture) -> None:
    def start() -> dict[str, str]:
        with PluginConfigRepository.open(away.url, wait_seconds=30) as repository:
            repository.save("a", "enabled")
            return Service(repository, PLUGINS).state()

    with ThreadPoolExecutor(2) as executor:
        starting = [executor.submit(migrate, away.url, wait_seconds=30), executor.submit(start)]
        assert wait_until(lambda: len(ours(caplog)) == 2)
        assert not any(each.done() for each in starting)
        away.start()
        assert starting[0].result(timeout=30) == []
        assert starting[1].result(timeout=30)["a"] == "enabled {}"
    assert all(message.startswith("waiting up to 30 s for the database: ") for message in ours(caplog))
    assert len(ours(caplog)) == 2


def test_memory_keeps_serving_changes_are_refused_whole_and_all_is_well_when_it_is_back(
    away: CrashingServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "plugin_store.watcher")
    away.start()
    with PluginConfigRepository.open(away.url, timeout=0.3) as repository:
        service = Service(repository, PLUGINS)
        service.manager.save_config("a", {"n": 1})
        service.manager.enable_plugin("a")
        with PluginWatcher(service.manager, away.url):
            state, rows = service.state(), repository.get_all()
            away.kill()
            service.forget()
            for _ in range(2):  # with dead connections, and with none
                for change in CHANGES.values():
                    with pytest.raises(StoreUnavailableError):
                        change(service.manager)
                    assert service.manager.is_enabled("a") and not service.manager.is_enabled("b")
                    assert service["a"].get_config("n") == 1
                    assert service.state() == state
            # disable_plugin stops its plugin first, and starts it again when storing fails.
            assert service.calls == [("a", "on_disable"), ("a", "on_enable")] * 2
            assert service.events == []
            away.start()
            with psycopg.connect(away.url, autocommit=True) as connection:
                assert PluginConfigRepository(connection).get_all() == rows
                connection.execute("UPDATE plugin_config SET status = 'disabled'")
            assert wait_until(lambda: not service.manager.is_enabled("a"), BACK)
            assert wait_until(lambda: can(lambda: service.manager.enable_plugin("b")), BACK)
    levels = [record.levelno for record in caplog.records if record.name == "plugin_store.watcher"]
    assert set(levels[:-1]) == {logging.WARNING} and levels[-1] == logging.INFO


@pytest.mark.parametrize(
    ("change", "hook", "undoing"), [("enable", "on_enable", "on_disable"), ("disable", "on_disable", "on_enable")]
)
def test_a_change_that_the_server_dies_in_is_undone(away: CrashingServer, change: str, hook: str, undoing: str) -> None:
    away.start()
    with PluginConfigRepository.open(away.url, timeout=0.3) as repository:
        service = Service(repository, PLUGINS)
        if change == "disable":
            service.manager.enable_plugin("a")
        state, rows = service.state(), repository.get_all()
        service.forget()
        service["a"].then[hook] = away.kill
        with pytest.raises(StoreUnavailableError):
            getattr(service.manager, f"{change}_plugin")("a")
        assert service.calls == [("a", hook), ("a", undoing)]
        assert (service.state(), service.events) == (state, [])
        away.start()
        with PluginConfigRepository.open(away.url) as another:
            assert another.get_all() == rows
        service["a"].then.clear()
        assert wait_until(lambda: can(lambda: getattr(service.manager, f"{change}_plugin")("a")), BACK)
        assert service.manager.is_enabled("a") is (change == "enable")


def can(do: Callable[[], object]) -> bool:
    try:
        do()
    except StoreUnavailableError:
        return False
    return True
