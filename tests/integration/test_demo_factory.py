"""The demo's factory: what it opens can be closed in one call."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from plugin_store import SchemaError
from plugin_store.demo.service import close, create_app


def sessions(connection: psycopg.Connection[Any]) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    ((count,),) = connection.execute(query).fetchall()
    return int(count)


def settles_at(count: int, connection: psycopg.Connection[Any]) -> bool:
    """Return whether the number of sessions falls to this: the server ends a session after its client."""
    deadline = time.monotonic() + 20
    while sessions(connection) > count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_fifty_apps_leave_no_session(
    database_url: str, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    before = sessions(connection)
    for _ in range(50):
        app = create_app()
        assert app.test_client().get("/api/v1/plugins/analytics/active-sessions").status_code == 200
        close(app)
    assert settles_at(before, connection)


def test_failed_factory_leaves_no_session(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_url)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        before = sessions(connection)
        with pytest.raises(SchemaError):
            create_app()
        assert settles_at(before, connection)
