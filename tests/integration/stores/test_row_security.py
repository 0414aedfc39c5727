"""Row-level security that applies to the service's role is refused by every statement."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from plugin_store import PluginConfig, PluginConfigRepository, StoreError

CALLS: dict[str, Callable[[PluginConfigRepository], object]] = {
    "get_by_name": lambda repository: repository.get_by_name("a"),
    "get_all": lambda repository: repository.get_all(),
    "get_enabled": lambda repository: repository.get_enabled(),
    "save": lambda repository: repository.save("a", "disabled"),
    "save_config": lambda repository: repository.save_config("a", {}),
    "save_config of a version": lambda repository: repository.save_config(
        "a", {}, expected_updated_at=datetime.now(timezone.utc)
    ),
    "update_config": lambda repository: repository.update_config("a", {"key": 1}),
    "add": lambda repository: repository.add("a", "disabled"),
    "save_many": lambda repository: repository.save_many([PluginConfig("a")]),
    "delete": lambda repository: repository.delete("a"),
}


@pytest.fixture
def role_url(database_url: str, connection: psycopg.Connection[Any]) -> Iterator[str]:
    """The URL for a role that does not own the table."""
    name = f"role_{os.getpid()}"
    connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'".encode())
    connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON plugin_config TO {name}".encode())
    yield make_conninfo(database_url, user=name, password="secret")
    connection.execute(f"DROP OWNED BY {name}".encode())
    connection.execute(f"DROP ROLE {name}".encode())


@pytest.mark.parametrize("policy", ["none", "some rows"])
def test_methods_refuse_row_security(role_url: str, connection: psycopg.Connection[Any], policy: str) -> None:
    connection.execute("INSERT INTO plugin_config (plugin_name, status) VALUES ('a', 'enabled')")
    connection.execute("ALTER TABLE plugin_config ENABLE ROW LEVEL SECURITY")
    if policy == "some rows":
        connection.execute("CREATE POLICY some_rows ON plugin_config USING (plugin_name = 'b')")
    with PluginConfigRepository.open(role_url) as repository:
        for call in CALLS.values():
            with pytest.raises(StoreError, match="row-level security"):
                call(repository)
    rows = connection.execute("SELECT plugin_name, status, config FROM plugin_config").fetchall()
    assert rows == [("a", "enabled", {})]
