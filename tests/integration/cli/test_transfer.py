"""Plugins of a file brought into a table."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from databases import Connection
from psycopg.rows import dict_row
from recorder import raising, rows

from plugin_store import InvalidConfigError, PluginConfig, PluginConfigRepository, StoreError, import_plugins
from plugin_store.cli.transfer import PluginChange

Repository = PluginConfigRepository

MAIL = PluginConfig("mail", "enabled", {"port": 25})


def test_import_writes_only_what_is_different(connection: Connection, repository: Repository) -> None:
    equal, other = repository.save("equal", "enabled", {"a": 1}), repository.save("other", "enabled")
    repository.save("mail", "disabled", {"port": 587})
    version = "SELECT xmin::text FROM plugin_config WHERE plugin_name = 'equal'"
    written = connection.execute(version).fetchone()
    seen: list[object] = []
    plugins = [MAIL, PluginConfig("equal", "enabled", {"a": 1})]
    assert import_plugins(connection, plugins, check=lambda *given: seen.append(given)) == [
        PluginChange("~", "mail", "status", "disabled", "enabled"),
        PluginChange("~", "mail", "config.port", 587, 25),
    ]
    assert sorted(map(repr, seen)) == ["('equal', {'a': 1})", "('mail', {'port': 25})"]
    assert repository.get_by_name("equal") == equal and repository.get_by_name("other") == other
    assert connection.execute(version).fetchone() == written
    assert rows(repository)["mail"] == ("enabled", {"port": 25})
    import_plugins(connection, [MAIL], prune=True)
    assert list(rows(repository)) == ["mail"]


@pytest.mark.parametrize(
    "options",
    [
        {"plugins": [MAIL, PluginConfig("bad", "on")]},
        {"plugins": [MAIL, MAIL]},
        {"plugins": [MAIL], "check": raising(InvalidConfigError("no"))},
    ],
)
def test_failed_import_changes_nothing(connection: Connection, repository: Repository, options: dict[str, Any]) -> None:
    before = [repository.save("mail", "disabled"), repository.save("other", "enabled")]
    with pytest.raises(ValueError, match=r"no|status|twice"):
        import_plugins(connection, **options, prune=True)
    assert repository.get_all() == before


def test_import_works_in_callers_transaction(database_url: str, repository: Repository) -> None:
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        connection.execute("SELECT 1")  # the transaction is open
        import_plugins(connection, [MAIL])
        assert repository.get_all() == []
    assert rows(repository) == {"mail": ("enabled", {"port": 25})}


def test_import_refuses_an_older_snapshot(database_url: str, repository: Repository) -> None:
    with psycopg.connect(database_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT FROM plugin_config")
        repository.save("other", "enabled")
        with pytest.raises(StoreError, match="import in READ COMMITTED"):
            import_plugins(connection, [MAIL], prune=True)
        connection.rollback()
        assert list(rows(repository)) == ["other"]
        # A transaction that begins with the import sees all rows.
        assert import_plugins(connection, [MAIL], prune=True)
    assert list(rows(repository)) == ["mail"]


def test_import_waits_for_earlier_writers(
    connection: Connection, database_url: str, until_waiting: Callable[[int], None]
) -> None:
    connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('mail')")
    with (
        psycopg.connect(database_url, autocommit=True) as own,
        ThreadPoolExecutor(1) as threads,
        psycopg.connect(database_url) as first,
    ):
        first.execute("UPDATE plugin_config SET config = '{\"port\": 2}'")
        importing = threads.submit(import_plugins, own, [MAIL])
        until_waiting(1)
        first.commit()
        assert PluginChange("~", "mail", "config.port", 2, 25) in importing.result(timeout=60)
