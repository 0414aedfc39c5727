"""The source's tests of a manager with a store (its phase 3), under the names that it gives them.

The mocks are the source's own: whoever has its tests must find that they pass.
"""

from unittest.mock import MagicMock

from recorder import Recorder

from plugin_store import PluginConfig, PluginManager, PluginStatus


def started(repo: MagicMock | None) -> tuple[PluginManager, Recorder]:
    manager, plugin = PluginManager(config_repo=repo), Recorder("analytics")
    manager.register_plugin(plugin)
    manager.initialize_plugin("analytics")
    return manager, plugin


def test_enable_plugin_persists_to_db() -> None:
    repo = MagicMock()
    manager, _ = started(repo)
    manager.enable_plugin("analytics")
    repo.save.assert_called_once_with("analytics", "enabled", {})


def test_disable_plugin_persists_to_db() -> None:
    repo = MagicMock()
    manager, _ = started(repo)
    manager.enable_plugin("analytics")
    manager.disable_plugin("analytics")
    repo.save.assert_called_with("analytics", "disabled", {})


def test_load_enabled_plugins_from_db() -> None:
    repo = MagicMock()
    repo.get_all.return_value = [PluginConfig(plugin_name="analytics", status="enabled", config={})]
    manager, plugin = started(repo)
    manager.load_persisted_state()
    assert plugin.status is PluginStatus.ENABLED


def test_load_skips_unknown_plugins() -> None:
    repo = MagicMock()
    repo.get_all.return_value = [PluginConfig(plugin_name="nonexistent-plugin", status="enabled", config={})]
    manager, plugin = started(repo)
    manager.load_persisted_state()
    assert manager.get_all_plugins() == [plugin]
    assert manager.get_enabled_plugins() == []


def test_manager_works_without_repo() -> None:
    manager, plugin = started(None)
    manager.load_persisted_state()
    manager.enable_plugin("analytics")
    assert plugin.status is PluginStatus.ENABLED
    manager.disable_plugin("analytics")
    assert plugin.status is PluginStatus.DISABLED
