"""A call of each method of a repository."""

from collections.abc import Callable
from datetime import datetime

from plugin_store import PluginConfig, PluginConfigRepository

METHODS: dict[str, Callable[[PluginConfigRepository, datetime], object]] = {
    "get_by_name": lambda store, _: store.get_by_name("analytics"),
    "get_all": lambda store, _: store.get_all(),
    "get_enabled": lambda store, _: store.get_enabled(),
    "save": lambda store, _: store.save("analytics", "enabled", {"a": 1}),
    "save without config": lambda store, _: store.save("analytics", "enabled"),
    "save_config": lambda store, _: store.save_config("analytics", {"a": 1}),
    "save_config expecting": lambda store, version: store.save_config("analytics", {}, expected_updated_at=version),
    "update_config": lambda store, _: store.update_config("analytics", {"a": 1}, remove=["b"]),
    "add": lambda store, _: store.add("analytics", "enabled", {"a": 1}),
    "save_many": lambda store, _: store.save_many([PluginConfig("analytics", "enabled", {"a": 1})]),
    "delete": lambda store, _: store.delete("another"),
}
