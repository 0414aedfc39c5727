"""A Flask service with a plugin. Each of its processes follows the table.

gunicorn --workers 2 --threads 4 "flask_service:serve()"
"""

import os
from contextlib import ExitStack
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
    """Return the app. The commands of flask call this, so it opens no session and enables no plugin."""
    app = Flask(__name__)
    app.extensions["closing"] = closing = ExitStack()
    repository = PluginConfigRepository.open(os.environ["DATABASE_URL"], min_size=0)
    manager = PluginManager(config_repo=closing.enter_context(repository))
    manager.register_plugin(Greeter())
    manager.initialize_plugin("greeter", {"greeting": "hello"})
    init_app(app, manager)
    return app


def serve() -> Flask:
    """Return the app for a server. The interpreter's exit closes the repository and stops the watcher."""
    app = create_app()
    manager: PluginManager = app.extensions["plugin_store"]
    manager.load_persisted_state()
    manager.enable_defaults("greeter")
    watcher = app.extensions["closing"].enter_context(PluginWatcher(manager, os.environ["DATABASE_URL"]))

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
