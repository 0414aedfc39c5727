"""The source's tests of a manager with a store (its phase 3), under the names that it gives them.

The mocks are the source's own, so that its tests pass unchanged.
"""

from unittest.mock import MagicMock

import pytest
from recorder import Recorder, started

from plugin_store import PluginConfig, PluginStatus


@pytest.fixture
def repo() -> MagicMock:
    return MagicMock()


def test_enable_plugin_persists_to_db(repo: MagicMock) -> None:
    started(repo, Recorder("analytics")).enable_plugin("analytics")
    repo.save.assert_called_once_with("analytics", "enabled", {})


def test_disable_plugin_persists_to_db(repo: MagicMock) -> None:
    manager = started(repo, Recorder("analytics"))
    manager.enable_plugin("analytics")
    manager.disable_plugin("analytics")
    repo.save.assert_called_with("analytics", "disabled", {})


def test_load_enabled_plugins_from_db(repo: MagicMock) -> None:
    repo.get_all.return_value = [PluginConfig(plugin_name="analytics", status="enabled", config={})]
    started(repo, plugin := Recorder("analytics")).load_persisted_state()
    assert plugin.status is PluginStatus.ENABLED


def test_load_skips_unknown_plugins(repo: MagicMock) -> None:
    repo.get_all.return_value = [PluginConfig(plugin_name="nonexistent-plugin", status="enabled", config={})]
    manager = started(repo, plugin := Recorder("analytics"))
    manager.load_persisted_state()
    assert (manager.get_all_plugins(), manager.get_enabled_plugins()) == ([plugin], [])


def test_manager_works_without_repo() -> None:
    manager = started(None, plugin := Recorder("analytics"))
    manager.load_persisted_state()
    manager.enable_plugin("analytics")
    assert plugin.status is PluginStatus.ENABLED
    manager.disable_plugin("analytics")
    assert plugin.status is PluginStatus.DISABLED
