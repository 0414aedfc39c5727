"""The source's tests of the repository (its phase 2), under the names that it gives them."""

from recorder import rows

from plugin_store import PluginConfigRepository


def test_get_by_name_returns_config(repository: PluginConfigRepository) -> None:
    saved = repository.save("analytics", "enabled", {"key": "val"})
    assert saved.plugin_name == "analytics"
    assert repository.get_by_name("analytics") == saved


def test_get_by_name_returns_none_for_missing(repository: PluginConfigRepository) -> None:
    assert repository.get_by_name("nonexistent") is None


def test_get_all_returns_all_configs(repository: PluginConfigRepository) -> None:
    repository.save("reports", "disabled")
    repository.save("analytics", "enabled")
    assert [config.plugin_name for config in repository.get_all()] == ["analytics", "reports"]


def test_get_enabled_returns_only_enabled(repository: PluginConfigRepository) -> None:
    repository.save("reports", "disabled")
    repository.save("analytics", "enabled")
    assert [config.plugin_name for config in repository.get_enabled()] == ["analytics"]


def test_save_creates_new_config(repository: PluginConfigRepository) -> None:
    repository.save("analytics", "enabled", {"key": "val"})
    assert rows(repository) == {"analytics": ("enabled", {"key": "val"})}


def test_save_updates_existing_config(repository: PluginConfigRepository) -> None:
    repository.save("analytics", "disabled", {})
    repository.save("analytics", "enabled", {"updated": True})
    assert rows(repository) == {"analytics": ("enabled", {"updated": True})}


def test_save_enabled_sets_enabled_at(repository: PluginConfigRepository) -> None:
    assert repository.save("analytics", "enabled", {}).enabled_at is not None


def test_save_disabled_sets_disabled_at(repository: PluginConfigRepository) -> None:
    assert repository.save("analytics", "disabled", {}).disabled_at is not None


def test_delete_removes_config(repository: PluginConfigRepository) -> None:
    repository.save("analytics", "enabled", {})
    assert repository.delete("analytics") is True
    assert repository.get_by_name("analytics") is None
    assert rows(repository) == {}
