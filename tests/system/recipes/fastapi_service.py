"""A FastAPI service with a plugin. Each of its processes follows the table.

uvicorn --workers 2 fastapi_service:app
"""

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from plugin_store import BasePlugin, PluginConfigRepository, PluginManager, PluginMetadata, PluginWatcher


class Greeter(BasePlugin):
    """Greets, and counts seconds in a task of the event loop.

    Hooks are plain functions. The watcher calls them in its own thread, where no event loop runs.
    A hook hands asynchronous work to the loop of the service and returns.
    """

    metadata = PluginMetadata(name="greeter", version="1.0.0", author="you", description="Says hello.")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.seconds = 0

    def on_enable(self) -> None:
        self.task: Future[None] = asyncio.run_coroutine_threadsafe(self.count(), self.loop)

    def on_disable(self) -> None:
        self.task.cancel()

    async def count(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.seconds += 1


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Set up each worker process. Nothing here awaits, as the service takes no requests yet."""
    database = os.environ["DATABASE_URL"]
    with PluginConfigRepository.open(database) as repository:
        app.state.greeter = Greeter(asyncio.get_running_loop())
        app.state.manager = manager = PluginManager(config_repo=repository)
        manager.register_plugin(app.state.greeter)
        manager.initialize_plugin("greeter", {"greeting": "hello"})
        manager.load_persisted_state()
        manager.enable_defaults("greeter")
        with PluginWatcher(manager, database) as app.state.watcher:
            yield


def enabled(name: str) -> Any:
    """Return a dependency that answers 404 while the plugin is not enabled. It takes no lock and runs no query."""

    async def guard(request: Request) -> None:
        if not request.app.state.manager.is_enabled(name):
            raise HTTPException(404)

    return Depends(guard)


app = FastAPI(lifespan=lifespan)


@app.get("/hello", dependencies=[enabled("greeter")])
async def hello(request: Request) -> str:
    greeting: str = request.app.state.greeter.get_config("greeting")
    return greeting


@app.post("/plugins/{name}/enable")
async def enable(name: str, request: Request) -> None:
    """Enable a plugin. The thread pool runs the call, as it waits for the database and for hooks."""
    await run_in_threadpool(request.app.state.manager.enable_plugin, name)


@app.get("/healthz")
async def healthz(request: Request) -> dict[str, Any]:
    manager: PluginManager = request.app.state.manager
    names = [plugin.metadata.name for plugin in manager.get_enabled_plugins()]
    return {"process": os.getpid(), "enabled": names, "healthy": request.app.state.watcher.healthy}
