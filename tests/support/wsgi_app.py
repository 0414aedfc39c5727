"""A service for gunicorn: it switches plugins and lists them, and says which of its processes did."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from psycopg_pool import ConnectionPool
from recorder import Service

from plugin_store import PluginConfigRepository, PluginWatcher

# For as long as the process lives: as a service at module level would, it never closes these.
stack = ExitStack()


def create_app(pool: str) -> Callable[..., Iterable[bytes]]:
    """Make the service on a pool of its "own", or on one that the repository is to "open"."""
    url = os.environ["DATABASE_URL"]
    if pool == "own":
        own = ConnectionPool(url, min_size=1, max_size=4, open=True)
        atexit.register(own.close)
        repository = PluginConfigRepository(own)
    else:
        repository = stack.enter_context(PluginConfigRepository.open(url))
    service = Service(repository, {"analytics": (), "report": ("analytics",)})
    PluginWatcher(service.manager, url).start()

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
