"""A Flask service with a plugin. Each of its processes follows the table.

gunicorn --workers 2 --threads 4 "flask_service:create_app()"
"""

import os
from typing import Any

from flask import Blueprint, Flask

from plugin_store import BasePlugin, PluginConfigRepository, PluginManager, PluginMetadata, PluginWatcher
from plugin_store.flask import init_app


class Greeter(BasePlugin):
    metadata = PluginMetadata(name="greeter", version="1.0.0", author="you", description="Says hello.")

    def get_blueprint(self) -> Blueprint:
        blueprint = Blueprint("greeter", __name__)
        blueprint.get("/hello")(lambda: self.get_config("greeting"))
        return blueprint


def create_app() -> Flask:
    """Return the app. The interpreter closes the repository and stops the watcher when it exits."""
    database = os.environ["DATABASE_URL"]
    manager = PluginManager(config_repo=PluginConfigRepository.open(database))
    manager.register_plugin(Greeter())
    manager.initialize_plugin("greeter", {"greeting": "hello"})
    manager.load_persisted_state()
    manager.enable_defaults("greeter")
    watcher = PluginWatcher(manager, database)
    watcher.start()

    app = Flask(__name__)
    init_app(app, manager)

    @app.get("/healthz")
    def healthz() -> tuple[dict[str, Any], int]:
        """Answer 503 if this process does not follow the table, and say why a plugin does not run."""
        report = manager.last_report
        body = {
            "process": os.getpid(),
            "problem": watcher.problem,
            "last_sync_age": watcher.last_sync_age,
            "enabled": [plugin.metadata.name for plugin in manager.get_enabled_plugins()],
            "not_running": {**report.skipped, **report.failed},
        }
        return body, 200 if watcher.healthy else 503

    return app
