"""The watcher's decisions, and a watcher without a server."""

import json
import logging
import socket
import time
from typing import Any

import pytest
from recorder import raising
from watching import watcher_threads
from workers import wait_until

from plugin_store import PluginManager, PluginWatcher
from plugin_store.watcher import MOST_NAMES, changed_plugins

NO_SERVER = "postgresql://me:secret@127.0.0.1:1/none"


def payload(plugin: Any, schema: str = "public") -> str:
    return json.dumps({"schema": schema, "plugin": plugin})


MANY = [payload(f"plugin {number}") for number in range(MOST_NAMES + 1)]


@pytest.mark.parametrize(
    ("payloads", "names"),
    [
        ([payload("mail"), payload("mail"), "a stranger's"], {"mail"}),
        (MANY[1:], {f"plugin {number}" for number in range(1, MOST_NAMES + 1)}),
        (MANY, None),  # too many to read by name
        ([payload(None), payload("mail")], None),  # TRUNCATE
        ([payload("mail", "other"), payload(None, "other")], set()),
        (["", "x", "1", "[]", "{}", "null", '{"schema": "public"}', "[" * 7999], set()),
        ([payload(name) for name in ("", "x" * 101, "\0", "\ud800", 1, ["mail"], {})], set()),
    ],
)
def test_changed_plugins_are_those_announced_for_schema(payloads: list[str], names: set[str] | None) -> None:
    assert changed_plugins(payloads, "public") == names


@pytest.mark.parametrize("name", ["resync_seconds", "poll_seconds"])
@pytest.mark.parametrize("seconds", [0, float("nan"), 86_401])
def test_watcher_refuses_seconds_out_of_range(name: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0 and at most 86400, not {seconds}"):
        PluginWatcher(PluginManager(), **{name: seconds})


def test_watcher_is_not_healthy_before_start() -> None:
    watcher = PluginWatcher(PluginManager(), NO_SERVER)
    watcher.stop()
    assert not watcher.healthy
    assert watcher.problem == "the watcher is not started"
    assert watcher.last_sync_age is None


def test_stop_waits_a_second_for_connecting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/none?connect_timeout=60"
        with PluginWatcher(PluginManager(), url):
            client, _ = silent.accept()
            began = time.monotonic()
        assert time.monotonic() - began < 5
        client.close()
    assert wait_until(lambda: watcher_threads() == [])


def test_no_logging_filter_ends_the_watcher() -> None:
    logger, broken = logging.getLogger("plugin_store.watcher"), raising(RuntimeError("broken"))
    logger.addFilter(broken)
    try:
        with PluginWatcher(PluginManager(), NO_SERVER) as watcher:
            assert wait_until(lambda: "refused" in (watcher.problem or ""))
            assert not wait_until(lambda: watcher_threads() == [], 0.5)
    finally:
        logger.removeFilter(broken)


def test_watcher_logs_once_that_database_is_away(caplog: pytest.LogCaptureFixture) -> None:
    with PluginWatcher(PluginManager(), NO_SERVER) as watcher:
        assert wait_until(lambda: "refused" in (watcher.problem or ""))
        assert not wait_until(lambda: len(caplog.messages) > 1, 0.5)  # it tries again within this time
        assert not watcher.healthy
    (message,) = caplog.messages
    assert message.startswith("not following plugin_config, trying again: the database cannot be reached")
    assert "secret" not in caplog.text
    assert wait_until(lambda: watcher_threads() == [])
