"""A Celery worker with a plugin. Each of its processes follows the table.

celery --app celery_service worker --concurrency 2
"""

import os
from contextlib import ExitStack
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from plugin_store import BasePlugin, PluginConfigRepository, PluginManager, PluginMetadata, PluginWatcher

app = Celery("celery_service")
app.config_from_envvar("CELERY_CONFIG_MODULE")
closing = ExitStack()
manager: PluginManager


class Greeter(BasePlugin):
    metadata = PluginMetadata(name="greeter", version="1.0.0", author="you", description="Says hello.")


greeter = Greeter()


@worker_process_init.connect
def start(**_: Any) -> None:
    """Set up a child process. The parent and the clients, which only send tasks, need no database."""
    global manager
    database = os.environ["DATABASE_URL"]
    repository = closing.enter_context(PluginConfigRepository.open(database, max_size=1))
    manager = PluginManager(config_repo=repository)
    manager.register_plugin(greeter)
    manager.initialize_plugin("greeter", {"greeting": "hello"})
    manager.load_persisted_state()
    manager.enable_defaults("greeter")
    closing.enter_context(PluginWatcher(manager, database))


@worker_process_shutdown.connect
def stop(**_: Any) -> None:
    """Stop what start() has started. Celery ends its children without the interpreter's exit functions."""
    closing.close()


@app.task
def greet() -> str | None:
    """Do nothing while the plugin is not enabled. To run later instead, a task calls retry()."""
    if not manager.is_enabled("greeter"):
        return None
    greeting: str = greeter.get_config("greeting")
    return greeting


@app.task
def health() -> dict[str, Any]:
    return {"process": os.getpid(), "enabled": [plugin.metadata.name for plugin in manager.get_enabled_plugins()]}
