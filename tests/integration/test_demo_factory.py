"""The demo's factory: what it opens can be closed in one call."""

import pytest
from databases import Connection
from services import sessions
from workers import wait_until

from plugin_store import SchemaError
from plugin_store.demo.service import close, create_app


def test_closed_app_leaves_no_session(
    database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    before = sessions(database_url)
    for _ in range(3):
        app = create_app()
        assert app.test_client().get("/api/v1/plugins/analytics/active-sessions").status_code == 200
        assert sessions(database_url) > before
        close(app)
    assert wait_until(lambda: sessions(database_url) == before)
    connection.execute("DROP TABLE plugin_config")
    with pytest.raises(SchemaError):
        create_app()
    assert wait_until(lambda: sessions(database_url) == before)
