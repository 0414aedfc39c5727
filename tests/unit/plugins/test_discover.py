"""Plugins that are entry points of installed distributions."""

import logging
from pathlib import Path
from typing import Any

import pytest
from recorder import events_of, stored

from plugin_store import PluginManager

PLUGINS = """
from asyncio import CancelledError

from plugin_store import BasePlugin, PluginMetadata


class Good(BasePlugin):
    def __init__(self, name="good"):
        super().__init__()
        self.metadata = PluginMetadata(name, "1.0.0", "Ada", "found")


class Another(Good):
    pass


class Raising(Good):
    def initialize(self, config=None):
        raise RuntimeError("no initialize")


class Secret(Good):
    def initialize(self, config=None):
        super().initialize({"key": {"$env": "FOUND_KEY"}})
        raise RuntimeError(self.get_config("key"))


class Cancelled(Good):
    def initialize(self, config=None):
        raise CancelledError


class Forgetful(Good):
    def __init__(self):
        pass


def made():
    return Good("made")


def nameless():
    return Good("")


instance = made()
"""
ENTRY_POINTS = """
[plugin_store.plugins]
again = found_plugins:Another
good = found_plugins:Good
made = found_plugins:made
broken = found_plugins:nothing
cancelled = found_plugins:Cancelled
exits = found_exit:x
forgetful = found_plugins:Forgetful
function = os:getcwd
init = found_plugins:Raising
instance = found_plugins:instance
missing = not_there:x
nameless = found_plugins:nameless
secret = found_plugins:Secret

[other]
good = found_plugins:Good
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginManager:
    """A manager beside a distribution as pip leaves it."""
    (tmp_path / "found_plugins.py").write_text(PLUGINS)
    (tmp_path / "found_exit.py").write_text("raise SystemExit(3)")
    folder = tmp_path / "found-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: found\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FOUND_KEY", "walnut")
    return PluginManager(config_repo=stored(made="enabled"))


def test_discover_registers_plugins_and_skips_others(manager: PluginManager, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    events = events_of(manager)
    report = manager.discover()
    assert report.registered == [plugin.metadata.name for plugin in manager.get_all_plugins()] == ["good", "made"]
    assert events == [(event, name) for name in ("good", "made") for event in ("registered", "initialized")]
    reasons = {
        "broken = found_plugins:nothing": "AttributeError: module 'found_plugins' has no attribute 'nothing'",
        "cancelled = found_plugins:Cancelled": "CancelledError",
        "exits = found_exit:x": "SystemExit: 3",
        "forgetful = found_plugins:Forgetful": "TypeError: Forgetful.__init__ does not call super().__init__()",
        "function = os:getcwd": "TypeError: <built-in function getcwd> is not a BasePlugin class, or a callable that",
        "good = found_plugins:Good": "PluginAlreadyRegisteredError: Plugin 'good' already registered",
        "init = found_plugins:Raising": "RuntimeError: no initialize",
        "instance = found_plugins:instance": "TypeError: ",
        "missing = not_there:x": "ModuleNotFoundError: No module named 'not_there'",
        "nameless = found_plugins:nameless": "InvalidNameError: a plugin name must not be empty",
        "secret = found_plugins:Secret": "RuntimeError (its text is hidden",
    }
    assert sorted(report.skipped) == sorted(reasons)
    for entry, reason in reasons.items():
        assert reason in report.skipped[entry]
        assert f"entry point {entry!r} of 'plugin_store.plugins' is skipped" in caplog.text
    assert "walnut" not in caplog.text
    assert manager.load_persisted_state().restored == ["made"]


@pytest.mark.parametrize(("group", "found"), [("other", ["good"]), ("none", [])])
def test_discover_takes_group_of_host(manager: PluginManager, group: str, found: list[Any]) -> None:
    report = manager.discover(group)
    assert (report.registered, report.skipped) == (found, {})
