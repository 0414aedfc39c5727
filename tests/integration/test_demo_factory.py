"""The demo's factory: what it opens can be closed in one call."""

from typing import Any

import psycopg
import pytest
from recorder import until

from plugin_store import SchemaError
from plugin_store.demo.service import close, create_app


def sessions(connection: psycopg.Connection[Any]) -> int:
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return len(connection.execute(query).fetchall())


def test_closed_app_leaves_no_session(
    database_url: str, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    for _ in range(3):
        app = create_app()
        assert app.test_client().get("/api/v1/plugins/analytics/active-sessions").status_code == 200
        assert sessions(connection) > 0
        close(app)
    until(lambda: sessions(connection) == 0)
    connection.execute("DROP TABLE plugin_config")
    with pytest.raises(SchemaError):
        create_app()
    until(lambda: sessions(connection) == 0)
