"""Tests of the site. `python -m django test` makes the test database, plugin_config included, and drops it."""

from django.db import connection
from django.test import TestCase

from plugin_store import PluginConfigRepository

from . import plugins


class GreeterTest(TestCase):
    def setUp(self) -> None:
        plugins.manager.enable_plugin("greeter")

    def test_hello_answers_404_when_disabled(self) -> None:
        assert self.client.get("/hello").content == b"hello"
        plugins.manager.disable_plugin("greeter")
        assert self.client.get("/hello").status_code == 404

    def test_close_for_today_disables_greeter(self) -> None:
        self.client.post("/close-for-today")
        [row] = PluginConfigRepository(connection.connection).get_all()
        assert (row.status, row.config) == ("disabled", {"greeting": "closed"})

    def test_rows_of_other_tests_are_rolled_back(self) -> None:
        assert PluginConfigRepository(connection.connection).get_all() == []
