"""A service for gunicorn: it switches plugins and lists them, and says which of its processes did."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from recorder import Service

from plugin_store import PluginConfigRepository, PluginWatcher


def create_app() -> Callable[..., Iterable[bytes]]:
    """Make the service on a repository with a pool of its own."""
    repository = PluginConfigRepository.open(os.environ["DATABASE_URL"])
    service = Service(repository, {"analytics": (), "report": ("analytics",)})
    PluginWatcher(service.manager, os.environ["DATABASE_URL"]).start()

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Answer to GET /, and to POST /enable/NAME and /disable/NAME; one with X-Pid is for that process alone."""
        if environ.get("HTTP_X_PID", str(os.getpid())) != str(os.getpid()):
            status = "421 Misdirected Request"
        else:
            status = "200 OK"
            what, _, name = environ["PATH_INFO"].strip("/").partition("/")
            if what:
                getattr(service.manager, f"{what}_plugin")(name)
        body = json.dumps({"pid": os.getpid(), "parent": os.getppid(), "enabled": sorted(service.enabled)})
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body.encode()]

    return app
