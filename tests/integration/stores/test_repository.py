"""What only the store in PostgreSQL promises: errors of the database, and races that the server shows."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from typing import Any

import psycopg
import pytest
from methods import METHODS

from plugin_store import PluginConfig, PluginConfigRepository, SchemaError, StoreError
from plugin_store.errors import UnreadableRowsError

Connection = psycopg.Connection[Any]
Repository = PluginConfigRepository
LONG_AGO = datetime(2001, 1, 1, tzinfo=timezone.utc)


@contextmanager
def refused(message: str, cause: type[Exception]) -> Iterator[None]:
    with pytest.raises(StoreError, match=message) as caught:
        yield
    assert type(caught.value) is StoreError
    assert type(caught.value.__cause__) is cause


def test_missing_table_error_says_how_to_migrate(empty_url: str) -> None:
    with PluginConfigRepository.open(empty_url) as repository:
        for call in METHODS.values():
            with pytest.raises(SchemaError, match="`plugin-store migrate`") as caught:
                call(repository, LONG_AGO)
            assert "yoyo apply -d postgresql+psycopg://… package:plugin_store:migrations" in str(caught.value)
            assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedTable)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("DROP COLUMN disabled_at", "out of date"),
        ("DROP CONSTRAINT plugin_config_plugin_name_key", "out of date"),
        ("ADD owner text NOT NULL", r"newer than this plugin_store: .*\"owner\"(.|\n)*migrate`, or update"),
    ],
)
def test_other_table_is_a_schema_error(
    repository: Repository, connection: Connection, damage: str, message: str
) -> None:
    connection.execute(f"ALTER TABLE plugin_config {damage}".encode())
    with pytest.raises(SchemaError, match=message):
        repository.save("analytics", "enabled")
    assert connection.execute("SELECT FROM plugin_config").fetchall() == []


def test_role_is_told_which_rights_it_lacks(database_url: str, connection: Connection, role: str) -> None:
    with psycopg.connect(database_url, user=role, password="test", autocommit=True) as own:
        repository = PluginConfigRepository(own)
        with refused(r"role may not do this: permission denied.*grants\.sql", psycopg.errors.InsufficientPrivilege):
            repository.get_all()
        connection.execute(f"GRANT SELECT ON plugin_config TO {role}".encode())
        assert (repository.get_all(), repository.get_enabled(), repository.get_by_name("a")) == ([], [], None)
        with refused("role may not do this", psycopg.errors.InsufficientPrivilege):
            repository.save("analytics", "enabled")
        connection.execute(f"GRANT INSERT, UPDATE, DELETE ON plugin_config TO {role}".encode())
        for call in METHODS.values():
            call(repository, repository.save("analytics", "enabled").updated_at)


@pytest.mark.parametrize("policy", ["SELECT", "CREATE POLICY some_rows ON plugin_config USING (plugin_name = 'b')"])
def test_methods_refuse_row_security(database_url: str, connection: Connection, role: str, policy: str) -> None:
    row = PluginConfigRepository(connection).save("analytics", "enabled")
    connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON plugin_config TO {role}".encode())
    connection.execute("ALTER TABLE plugin_config ENABLE ROW LEVEL SECURITY")
    connection.execute(policy.encode())
    with psycopg.connect(database_url, user=role, password="test", autocommit=True) as own:
        for call in METHODS.values():
            with pytest.raises(StoreError, match="row-level security"):
                call(PluginConfigRepository(own), LONG_AGO)
    assert PluginConfigRepository(connection).get_all() == [row]


def test_wait_for_a_lock_is_limited(database_url: str, connection: Connection) -> None:
    with psycopg.connect(database_url) as blocker:
        blocker.execute("LOCK TABLE plugin_config IN EXCLUSIVE MODE")
        for setting, cause in (
            ("lock_timeout", psycopg.errors.LockNotAvailable),
            ("statement_timeout", psycopg.errors.QueryCanceled),
        ):
            connection.execute(f"RESET ALL; SET {setting} = '50ms'".encode())
            with refused("usually another transaction holds a lock", cause):
                PluginConfigRepository(connection).save("analytics", "enabled")


def test_stale_snapshot_is_a_store_error(database_url: str, repository: Repository) -> None:
    with psycopg.connect(database_url) as own:
        own.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert PluginConfigRepository(own).get_all() == []
        saved = repository.save("analytics", "disabled")
        message = r"refused: could not serialize .*; nothing was changed"
        with refused(message, psycopg.errors.SerializationFailure):
            PluginConfigRepository(own).save("analytics", "enabled")
        with refused("current transaction is aborted", psycopg.errors.InFailedSqlTransaction):
            PluginConfigRepository(own).get_all()
        own.rollback()
        assert PluginConfigRepository(own).get_all() == [saved]


def test_read_only_database_is_a_store_error(connection: Connection) -> None:
    connection.execute("SET default_transaction_read_only = on")
    assert PluginConfigRepository(connection).get_all() == []
    with refused("connect to the primary", psycopg.errors.ReadOnlySqlTransaction):
        PluginConfigRepository(connection).save("analytics", "enabled")


def test_refused_row_is_not_shown(repository: Repository, connection: Connection) -> None:
    connection.execute("ALTER TABLE plugin_config ADD CONSTRAINT rule CHECK (NOT config ? 'forbidden')")
    with refused('the database refused: [^;]* check constraint "rule"$', psycopg.errors.CheckViolation):
        repository.save_config("analytics", {"forbidden": "a secret"})
    assert repository.get_all() == []


@pytest.mark.parametrize("config", ["[1]", "null", None])
def test_config_that_is_not_an_object_is_named(
    repository: Repository, connection: Connection, config: str | None
) -> None:
    connection.execute("ALTER TABLE plugin_config DROP CONSTRAINT plugin_config_config_is_object")
    connection.execute("ALTER TABLE plugin_config ALTER config DROP NOT NULL")
    repository.save("good", "enabled", {"port": 25})
    connection.execute("INSERT INTO plugin_config (plugin_name, config) VALUES ('odd', %s)", [config])
    with pytest.raises(UnreadableRowsError, match="plugin 'odd' cannot be read") as caught:
        repository.get_all()
    assert [row.plugin_name for row in caught.value.rows] == ["good"]


def test_dropped_row_is_a_store_error(repository: Repository, connection: Connection) -> None:
    connection.execute(
        "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
        "CREATE TRIGGER drop_it BEFORE INSERT ON plugin_config FOR EACH ROW EXECUTE FUNCTION drop_it()"
    )
    with pytest.raises(StoreError, match=r"^plugin 'analytics' was not stored: a trigger or rule on plugin_config"):
        repository.save("analytics", "enabled")
    with pytest.raises(StoreError, match="dropped 1 rows"):
        repository.save_many([PluginConfig("analytics")])


Race = Callable[..., list[Any]]


@pytest.fixture
def race(database_url: str, until_waiting: Callable[[int], None]) -> Race:
    """A function that makes calls wait for a transaction, and returns their results or exceptions."""

    def race(hold: Callable[[PluginConfigRepository], object], *calls: Callable[[], object], commit: bool) -> list[Any]:
        with ThreadPoolExecutor(3) as threads, psycopg.connect(database_url) as blocker:
            hold(PluginConfigRepository(blocker))
            running = [threads.submit(call) for call in calls]
            until_waiting(len(calls))
            if not commit:
                blocker.rollback()
        return [call.exception() or call.result() for call in running]

    return race


@pytest.mark.parametrize("commit", [True, False])
def test_racing_first_saves_make_one_row(race: Race, repository: Repository, commit: bool) -> None:
    calls = [partial(repository.save, "a", "enabled", {str(n): n}) for n in range(2)]
    rows = race(lambda store: store.save("a", "disabled", {"by": "blocker"}), *calls, commit=commit)
    assert repository.get_all() == [max(rows, key=lambda row: row.updated_at)]
    assert repository.get_all()[0].config == {"0": 0, "1": 1} | ({"by": "blocker"} if commit else {})


@pytest.mark.parametrize("commit", [True, False])
def test_racing_adds_return_the_same_row(race: Race, repository: Repository, commit: bool) -> None:
    calls = [partial(repository.add, "a", "enabled", {"by": n}) for n in range(3)]
    rows = race(lambda store: store.add("a", "disabled", {"by": "blocker"}), *calls, commit=commit)
    assert rows == [rows[0]] * 3 == repository.get_all() * 3
    assert (rows[0].config == {"by": "blocker"}) is commit
