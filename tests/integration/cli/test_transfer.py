"""Plugins of a file brought into a table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row, scalar_row
from recorder import until

from plugin_store import (
    InvalidConfigError,
    PluginConfig,
    PluginConfigRepository,
    SchemaError,
    StoreError,
    import_plugins,
)
from plugin_store.cli.transfer import PluginChange

Connection = psycopg.Connection[Any]

MAIL = PluginConfig("mail", "enabled", {"port": 25})


def test_an_import_writes_what_is_different_and_leaves_the_rest(
    connection: Connection, repository: PluginConfigRepository
) -> None:
    equal = repository.save("equal", "enabled", {"a": 1})
    other = repository.save("other", "enabled")
    repository.save("mail", "disabled", {"port": 587})
    version = "SELECT xmin::text FROM plugin_config WHERE plugin_name = 'equal'"
    written = connection.execute(version).fetchone()
    made = import_plugins(connection, [MAIL, PluginConfig("equal", "enabled", {"a": 1})])
    assert made == [
        PluginChange("~", "mail", "status", "disabled", "enabled"),
        PluginChange("~", "mail", "config.port", 587, 25),
    ]
    rows = {row.plugin_name: row for row in repository.get_all()}
    assert (rows["equal"], rows["other"]) == (equal, other)
    assert connection.execute(version).fetchone() == written
    assert (rows["mail"].status, rows["mail"].config) == ("enabled", {"port": 25})

    import_plugins(connection, [MAIL], prune=True)
    assert [row.plugin_name for row in repository.get_all()] == ["mail"]


def fail(*args: object) -> None:
    raise InvalidConfigError("no")


@pytest.mark.parametrize(
    "options",
    [
        {"plugins": [MAIL, PluginConfig("bad", "on")]},
        {"plugins": [MAIL, MAIL]},
        {"plugins": [MAIL], "check": fail},
    ],
)
def test_an_import_that_fails_changes_nothing(
    connection: Connection, repository: PluginConfigRepository, options: dict[str, Any]
) -> None:
    before = repository.save("mail", "disabled"), repository.save("other", "enabled")
    with pytest.raises(ValueError, match=r"no|status|twice"):
        import_plugins(connection, **options, prune=True)
    assert tuple(repository.get_all()) == before


def test_an_import_is_a_part_of_the_callers_transaction(database_url: str, repository: PluginConfigRepository) -> None:
    with psycopg.connect(database_url) as connection, connection.transaction():
        import_plugins(connection, [MAIL])
        assert repository.get_all() == []
    assert len(repository.get_all()) == 1


def test_a_transaction_that_sees_an_older_table_is_refused(
    database_url: str, repository: PluginConfigRepository
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT FROM plugin_config")
        other = repository.save("other", "enabled")
        with pytest.raises(StoreError, match="import in READ COMMITTED"):
            import_plugins(connection, [MAIL], prune=True)
        connection.rollback()
        assert repository.get_all() == [other]
        # One that begins with the import sees all that is there.
        assert import_plugins(connection, [MAIL], prune=True)
    assert [row.plugin_name for row in repository.get_all()] == ["mail"]


def test_a_check_sees_each_name_and_config(connection: Connection) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    import_plugins(connection, [MAIL], check=lambda *given: seen.append(given))
    assert seen == [("mail", {"port": 25})]


def test_import_waits_for_earlier_writers(
    connection: Connection, database_url: str, repository: PluginConfigRepository
) -> None:
    repository.save("mail", "disabled", {"port": 1})
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with ThreadPoolExecutor(1) as threads, psycopg.connect(database_url) as first:
        first.execute("UPDATE plugin_config SET config = '{\"port\": 2}'")
        with psycopg.connect(database_url, autocommit=True) as own:
            importing = threads.submit(import_plugins, own, [MAIL])
            until(lambda: connection.execute(waiting).fetchone() == (1,))
            first.commit()
            assert PluginChange("~", "mail", "config.port", 2, 25) in importing.result(timeout=60)


def test_import_works_on_any_row_factory(database_url: str, repository: PluginConfigRepository) -> None:
    for factory in (dict_row, scalar_row):
        repository.save("mail", "disabled", {"port": 587})
        with psycopg.connect(database_url, row_factory=factory) as connection:  # type: ignore[arg-type]
            connection.execute("SELECT 1")  # the transaction is open
            import_plugins(connection, [MAIL])
        assert [(row.status, row.config) for row in repository.get_all()] == [("enabled", {"port": 25})]


def test_without_the_table_the_error_says_how_to_migrate(empty_url: str) -> None:
    with psycopg.connect(empty_url) as connection, pytest.raises(SchemaError, match="plugin-store migrate"):
        import_plugins(connection, [MAIL])
