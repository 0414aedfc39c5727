"""The demo's service: an example of how to embed plugin_store.

It needs DATABASE_URL (or libpq's PG* variables) and a migrated database. Each of its processes follows the table.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import ExitStack
from datetime import datetime, timezone
from threading import Lock
from time import monotonic
from typing import Any

from flask import Blueprint, Flask, request

from plugin_store import (
    BasePlugin,
    Event,
    PluginConfigRepository,
    PluginManager,
    PluginMetadata,
    PluginWatcher,
)
from plugin_store.flask import init_app


class AnalyticsPlugin(BasePlugin):
    """Counts the addresses from which this process was asked in the last minutes."""

    metadata = PluginMetadata("analytics", "1.0.0", "plugin_store", "counts active sessions")

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()
        self._last_seen: dict[str | None, float] = {}

    def validate_config(self, config: dict[str, Any]) -> None:
        minutes = config["window_minutes"]
        if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or minutes <= 0:
            raise ValueError(f"window_minutes must be a number above 0, not {minutes!r}")

    def on_disable(self) -> None:
        with self._lock:
            self._last_seen.clear()

    def active_sessions(self) -> dict[str, Any]:
        """Return the number of addresses, this request's included."""
        now = monotonic()
        since = now - 60 * self.get_config("window_minutes")
        with self._lock:
            self._last_seen[request.remote_addr] = now
            self._last_seen = {address: seen for address, seen in self._last_seen.items() if seen >= since}
            return {"count": len(self._last_seen), "source": "plugin"}

    def get_blueprint(self) -> Blueprint:
        blueprint = Blueprint("analytics", __name__)
        blueprint.get("/active-sessions")(self.active_sessions)
        return blueprint

    def get_url_prefix(self) -> str:
        return "/api/v1/plugins/analytics"


def create_app() -> Flask:
    """Return a new app with its plugins in the state of the table. StoreError if the table cannot be read."""
    database = os.environ.get("DATABASE_URL", "")
    with ExitStack() as opened:  # an error closes what is open
        repository = opened.enter_context(PluginConfigRepository.open(database))
        manager = PluginManager(config_repo=repository)
        manager.register_plugin(AnalyticsPlugin())
        manager.initialize_plugin("analytics", {"window_minutes": 5})
        manager.load_persisted_state()
        manager.enable_defaults("analytics")  # on the first run only: after that there is a row

        def log(event: Event) -> None:
            name = event.data["plugin_name"]
            row = repository.get_by_name(name)
            if event.data["origin"] == "stored" and row is not None and row.updated_at is not None:
                late = (datetime.now(timezone.utc) - row.updated_at).total_seconds() * 1000
                news = f"{name} {event.name.removeprefix('plugin.')} {late:.1f} ms after the change"
                # Not print(), which writes the line and its end separately: another process may write in between.
                sys.stderr.write(f"process {os.getpid()}: {news}\n")

        for name in ("plugin.enabled", "plugin.disabled", "plugin.config_changed"):
            manager.event_dispatcher.add_listener(name, log)
        opened.enter_context(PluginWatcher(manager, database))

        app = Flask(__name__)
        init_app(app, manager)
        app.extensions["demo"] = closing = opened.pop_all()
    atexit.register(closing.close)
    closing.callback(atexit.unregister, closing.close)
    return app


def close(app: Flask) -> None:
    """Close what create_app opened for the app. The interpreter's exit closes it too."""
    app.extensions["demo"].close()
