"""The demo's plugin counts sessions, and refuses a window that is not a time."""

import pytest
from flask import Flask
from recorder import started

from plugin_store import InvalidConfigError
from plugin_store.demo.service import AnalyticsPlugin
from plugin_store.flask import init_app


def test_sessions_are_addresses_seen_while_enabled() -> None:
    manager = started(None, AnalyticsPlugin(), window_minutes=5)
    manager.enable_plugin("analytics")
    init_app(app := Flask(__name__), manager)

    def count(address: str) -> object:
        path = "/api/v1/plugins/analytics/active-sessions"
        answer = app.test_client().get(path, environ_overrides={"REMOTE_ADDR": address})
        return answer.json["count"] if answer.json else answer.status_code

    assert [count(address) for address in ("10.0.0.1", "10.0.0.2", "10.0.0.1")] == [1, 2, 2]
    manager.disable_plugin("analytics")
    assert count("10.0.0.1") == 404
    manager.enable_plugin("analytics")
    assert count("10.0.0.3") == 1


@pytest.mark.parametrize("minutes", [0, True, "5", None])
def test_window_must_be_positive_number(minutes: object) -> None:
    manager = started(None, AnalyticsPlugin(), window_minutes=5)
    with pytest.raises(InvalidConfigError, match="window_minutes must be a number above 0"):
        manager.save_config("analytics", {"window_minutes": minutes})
