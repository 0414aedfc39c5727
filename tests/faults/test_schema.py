"""A table that is missing, older or newer than the code, or in another schema: it works, or says what to run."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest
from methods import METHODS
from psycopg.conninfo import make_conninfo
from recorder import Service
from workers import wait_until

from plugin_store import PluginConfigRepository, PluginManager, PluginWatcher, SchemaError
from plugin_store.cli.migrate import migrate

PLUGINS: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",)}
COLUMNS = ["id", "plugin_name", "status", "config", "enabled_at", "disabled_at", "created_at", "updated_at"]
RUN = "run `plugin-store migrate` or `yoyo apply -d postgresql"


def what_raises(repository: PluginConfigRepository) -> dict[str, str]:
    """Call each method, and return what those said that raised a SchemaError; none may raise anything else."""
    said = {}
    version = datetime(2026, 1, 1, tzinfo=timezone.utc)
    for name, call in METHODS.items():
        try:
            call(repository, version)
        except SchemaError as exc:
            said[name] = str(exc)
        except Exception as exc:
            if "changed, or was deleted" not in str(exc):  # the version is of no row
                raise
    return said


def start(repository: PluginConfigRepository) -> PluginManager:
    return Service(repository, PLUGINS).manager


def test_a_service_does_not_start_without_the_table_and_says_what_to_run(empty_url: str) -> None:
    with PluginConfigRepository.open(empty_url) as repository:
        with pytest.raises(SchemaError, match=RUN):
            start(repository)
        migrate(empty_url)
        start(repository)


def test_a_table_that_goes_while_services_run_stops_nothing(
    repository: PluginConfigRepository, database_url: str, connection: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    repository.save("a", "enabled")
    service = Service(repository, PLUGINS)
    with PluginWatcher(service.manager, database_url):
        connection.execute("ALTER TABLE plugin_config RENAME TO gone; NOTIFY plugin_config")
        assert wait_until(lambda: RUN in caplog.text)
        for change in (service.manager.enable_plugin, service.manager.disable_plugin):
            with pytest.raises(SchemaError, match=RUN):
                change("a")
        assert service.enabled == {"a"} and service["a"].running
        connection.execute("ALTER TABLE gone RENAME TO plugin_config")
        repository.save("a", "disabled")
        assert wait_until(lambda: service.enabled == set())


@pytest.mark.parametrize("column", COLUMNS)
def test_a_table_that_lacks_a_column_says_what_to_run(
    repository: PluginConfigRepository, connection: psycopg.Connection[Any], column: str
) -> None:
    repository.save("a", "enabled")
    service = Service(repository, PLUGINS)
    connection.execute(f"ALTER TABLE plugin_config RENAME {column} TO old".encode())
    said = what_raises(repository)
    assert all("is missing from the search_path" in text and RUN in text and column in text for text in said.values())
    needs_it = set(METHODS) - ({"delete"} if column not in ("plugin_name", "config") else set())
    assert needs_it - {"delete", "save_many"} <= set(said)
    for change in (service.manager.disable_plugin, service.manager.enable_plugin):
        with pytest.raises(SchemaError, match=RUN):
            change("a")
    assert service.enabled == {"a"}


NEWER: dict[str, str] = {
    "a column that may be null": "ALTER TABLE plugin_config ADD owner text",
    "a column with a default": "ALTER TABLE plugin_config ADD owner text NOT NULL DEFAULT 'nobody'",
    "columns in another order": "ALTER TABLE plugin_config DROP disabled_at, ADD disabled_at timestamptz",
    "another migration": """INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc)
                            VALUES ('ff', 'plugin_store.0099.of-the-future', now())""",
}


@pytest.mark.parametrize("what", NEWER)
def test_a_table_newer_than_the_code_works(database_url: str, connection: psycopg.Connection[Any], what: str) -> None:
    connection.execute(NEWER[what].encode())
    repairs = ["repair of plugin_config_times_readable"] if "DROP disabled_at" in NEWER[what] else []
    assert migrate(database_url) == repairs
    with PluginConfigRepository.open(database_url) as repository:
        assert what_raises(repository) == {}
        row = repository.save("a", "enabled", {"k": 1})
        assert (row.plugin_name, row.status, row.config) == ("a", "enabled", {"k": 1})
        assert start(repository).is_enabled("a")


def test_one_that_asks_for_more_than_the_code_knows_says_so(
    repository: PluginConfigRepository, connection: psycopg.Connection[Any]
) -> None:
    repository.save("a", "enabled")
    connection.execute("ALTER TABLE plugin_config ADD owner text; UPDATE plugin_config SET owner = 'me'")
    connection.execute("ALTER TABLE plugin_config ALTER owner SET NOT NULL")
    manager = start(repository)
    assert manager.is_enabled("a")
    said = what_raises(repository)
    assert {"save", "save_config", "update_config", "add", "save_many"} <= set(said)
    assert all(text.endswith("; update plugin_store") for text in said.values())


@pytest.mark.parametrize("in_path", [True, False])
def test_a_table_in_another_schema(database_url: str, connection: psycopg.Connection[Any], in_path: bool) -> None:
    connection.execute("CREATE SCHEMA plugins; ALTER TABLE plugin_config SET SCHEMA plugins")
    url = make_conninfo(database_url, options=f"-c search_path={'public,plugins' if in_path else 'public'}")
    with PluginConfigRepository.open(url) as repository:
        if not in_path:
            said = what_raises(repository)
            assert said.keys() == METHODS.keys()
            assert all("missing from the search_path" in text and RUN in text for text in said.values())
            return
        assert what_raises(repository) == {}
        repository.save("a", "disabled")
        service = Service(repository, PLUGINS)
        with PluginWatcher(service.manager, url):
            connection.execute("UPDATE plugins.plugin_config SET status = 'enabled' WHERE plugin_name = 'a'")
            assert wait_until(lambda: service.enabled == {"a"})
