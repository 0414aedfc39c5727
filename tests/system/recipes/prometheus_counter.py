"""Counts the changes of plugins for Prometheus."""

from prometheus_client import Counter

from plugin_store import PluginManager

CHANGES = Counter("plugin_changes", "Changes of plugins in this process.", ["event", "plugin"])


def count_changes(manager: PluginManager) -> None:
    for name in ("plugin.enabled", "plugin.disabled", "plugin.config_changed", "plugin.failed"):
        manager.event_dispatcher.add_listener(name, lambda e: CHANGES.labels(e.name, e.data["plugin_name"]).inc())
