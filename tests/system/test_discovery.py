"""Plugins found as entry points of installed distributions, each in a process that has them on its path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GOOD = """
from plugin_store import BasePlugin, PluginMetadata


class Good(BasePlugin):
    name = "good"

    @property
    def metadata(self):
        return PluginMetadata(self.name, "1.0.0", "Ada", "found")


class Nameless(Good):
    name = ""


class Raising(Good):
    def __init__(self):
        raise RuntimeError("no constructor")


class Uninitializable(Good):
    name = "uninitializable"

    def initialize(self, config=None):
        raise RuntimeError("no initialize")


def made():
    plugin = Good()
    plugin.name = "made"
    return plugin


class Another(Good):
    pass


instance = made()
"""

PROGRAM = """
import json, logging, sys
from plugin_store import InMemoryPluginConfigStore, PluginManager

logging.basicConfig(stream=sys.stderr, level=logging.INFO)
store = InMemoryPluginConfigStore()
store.save("made", "enabled", {"n": 1})
manager, events = PluginManager(config_repo=store), []
for what in ("registered", "initialized", "enabled"):
    note = lambda event: events.append([event.name, event.data["plugin_name"]])
    manager.event_dispatcher.add_listener(f"plugin.{what}", note)
assert "importlib.metadata" not in sys.modules
report = manager.discover(*sys.argv[1:])
restored = manager.load_persisted_state().restored
plugins = [plugin.metadata.name for plugin in manager.get_all_plugins()]
print(json.dumps([report.registered, report.skipped, plugins, events, restored]))
"""

ENTRY_POINTS = {
    "one": "good = found:Good\nagain = found:Another\nmade = found:made\nbroken = found:nothing\nmissing = not_there:x",
    "two": "exits = exits:x\nnameless = found:Nameless\nraising = found:Raising\ninit = found:Uninitializable\n"
    "instance = found:instance\nfunction = os:getcwd",
}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with distributions as pip leaves them."""
    (tmp_path / "found.py").write_text(GOOD)
    (tmp_path / "exits.py").write_text("raise SystemExit(3)")
    for name, lines in ENTRY_POINTS.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[plugin_store.plugins]\n{lines}\n\n[other]\ngood = found:Good\n")
    return tmp_path


def discover(packages: Path, *group: str) -> tuple[list[Any], str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(packages), str(Path(__file__).parents[2])])}
    command = [sys.executable, "-c", PROGRAM, *group]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_those_that_are_sound_are_registered_and_initialized_and_the_others_skipped(packages: Path) -> None:
    (registered, skipped, plugins, events, restored), log = discover(packages)
    assert registered == plugins == ["good", "made"]
    assert events == [
        *([f"plugin.{what}", "good"] for what in ("registered", "initialized")),
        *([f"plugin.{what}", "made"] for what in ("registered", "initialized", "enabled")),
    ]
    assert restored == ["made"]
    reasons = {
        "broken = found:nothing": "AttributeError: module 'found' has no attribute 'nothing'",
        "exits = exits:x": "SystemExit: 3",
        "function = os:getcwd": "TypeError: <built-in function getcwd> is not a BasePlugin class, or a callable that",
        "init = found:Uninitializable": "RuntimeError: no initialize",
        "instance = found:instance": "TypeError: ",
        "missing = not_there:x": "ModuleNotFoundError: No module named 'not_there'",
        "nameless = found:Nameless": "InvalidNameError: a plugin name must not be empty",
        "raising = found:Raising": "RuntimeError: no constructor",
        "good = found:Good": "PluginAlreadyRegisteredError: Plugin 'good' already registered",
    }
    assert sorted(skipped) == sorted(reasons)
    for entry, reason in reasons.items():
        assert skipped[entry].startswith(reason)
        assert f"entry point {entry!r} of 'plugin_store.plugins' is skipped" in log


def test_a_group_of_the_hosts_own(packages: Path) -> None:
    (registered, skipped, *_), _ = discover(packages, "other")
    assert registered == ["good"] and len(skipped) == 1
    assert discover(packages, "none")[0][:2] == [[], {}]
