"""Restore 100 plugins by plugin_store. With an argument, print the bytes that the process then holds."""

import os
import sys

from plugin_store import BasePlugin, PluginConfigRepository, PluginManager, PluginMetadata


def plugin(name: str) -> BasePlugin:
    class Plugin(BasePlugin):
        metadata = PluginMetadata(name, "1.0.0", "benchmark", "")

    return Plugin()


with PluginConfigRepository.open(os.environ["DATABASE_URL"]) as repository:
    manager = PluginManager(config_repo=repository)
    for number in range(100):
        manager.register_plugin(plugin(f"p{number:06}"))
        manager.initialize_plugin(f"p{number:06}")
    assert len(manager.load_persisted_state().restored) == 100
    if len(sys.argv) > 1:
        from resident import resident

        print(resident())
