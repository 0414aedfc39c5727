"""A call of each method of a repository."""

from collections.abc import Callable
from datetime import datetime

from plugin_store import PluginConfig, PluginConfigRepository

METHODS: dict[str, Callable[[PluginConfigRepository, datetime], object]] = {
    "get_by_name": lambda repository, _: repository.get_by_name("analytics"),
    "get_all": lambda repository, _: repository.get_all(),
    "get_enabled": lambda repository, _: repository.get_enabled(),
    "save": lambda repository, _: repository.save("analytics", "enabled", {"a": 1}),
    "save without config": lambda repository, _: repository.save("analytics", "enabled"),
    "save_config": lambda repository, _: repository.save_config("analytics", {"a": 1}),
    "save_config expecting": lambda repository, version: repository.save_config(
        "analytics", {"a": 1}, expected_updated_at=version
    ),
    "update_config": lambda repository, _: repository.update_config("analytics", {"a": 1}, remove=["b"]),
    "add": lambda repository, _: repository.add("analytics", "enabled", {"a": 1}),
    "save_many": lambda repository, _: repository.save_many([PluginConfig("analytics", "enabled", {"a": 1})]),
    "delete": lambda repository, _: repository.delete("another"),
}
