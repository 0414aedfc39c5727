"""A server of its own for each test that stops or kills it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from workers import OwnServer

from plugin_store.cli.migrate import migrate


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """A server that is migrated."""
    with OwnServer() as server:
        migrate(server.url)
        yield server
