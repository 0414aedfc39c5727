"""A WSGI app on a repository that its process made or inherited: a request reads rows and says what came back wrong."""

import json
import os
from collections.abc import Callable
from random import choices
from typing import Any

from plugin_store import PluginConfig, PluginConfigRepository

NAMES = [f"plugin {number}" for number in range(50)]
repository = PluginConfigRepository.open(os.environ["DATABASE_URL"], min_size=1, max_size=1)
repository.save_many(PluginConfig(name, "disabled", {"name": name}) for name in NAMES)


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    start_response("200 OK", [])
    asked = choices(NAMES, k=40)
    rows = [repository.get_by_name(name) for name in asked]
    wrong = [name for name, row in zip(asked, rows, strict=True) if row is None or row.config != {"name": name}]
    return [json.dumps({"process": os.getpid(), "wrong": wrong}).encode()]
