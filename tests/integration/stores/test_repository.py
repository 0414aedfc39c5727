"""What only the store in PostgreSQL promises: connections, round trips, races seen on the server, errors, secrets."""

import logging
import os
import re
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from math import nan
from typing import Any

import psycopg
import pytest
from methods import METHODS
from psycopg import pq
from psycopg.rows import dict_row, namedtuple_row
from psycopg_pool import ConnectionPool
from recorder import until
from servers import Server

from plugin_store import (
    PluginConfig,
    PluginConfigRepository,
    PluginStoreError,
    SchemaError,
    StoreError,
    StoreUnavailableError,
)
from plugin_store.errors import InvalidDatabaseURLError
from plugin_store.stores.connections import connect
from plugin_store.stores.conninfo import checked_conninfo, masked

each_method = pytest.mark.parametrize("call", METHODS.values(), ids=METHODS.keys())
in_and_out_of_autocommit_mode = pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transactions"])


# Configs that the table allows and Python cannot read, with what is said of them.
NOT_FOR_PYTHON = {
    "an integer of 5,000 digits": ("""{"a": """ + "9" * 5000 + "}", "Exceeds the limit"),
    "2,000 levels": ("""{"a": """ + "[" * 2000 + "]" * 2000 + "}", "maximum recursion depth|nested deeper than 100"),
    "101 levels": ("""{"a": """ + "[" * 100 + "]" * 100 + "}", "nested deeper than 100 levels"),
}


@contextmanager
def pool_of_one(url: str, **kwargs: Any) -> Iterator[ConnectionPool[Any]]:
    with ConnectionPool(url, min_size=1, max_size=1, timeout=20, kwargs=kwargs, open=True) as pool:
        yield pool


@contextmanager
def in_threads() -> Iterator[Callable[..., "Future[Any]"]]:
    """Give a function that starts a call in a thread. What the calls wait for is to end within this block."""
    with ThreadPoolExecutor(8) as executor:
        yield executor.submit


def value(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def waiting_for_locks(connection: psycopg.Connection[Any]) -> int:
    count = value(
        connection,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    assert isinstance(count, int)
    return count


def whole_text(error: BaseException) -> str:
    """Return all that a log or a screen would show of an error."""
    return "\n".join([str(error), repr(error), *traceback.format_exception(error)])


class TestConnections:
    def test_the_pool_is_neither_opened(self, database_url: str) -> None:
        pool: ConnectionPool[Any] = ConnectionPool(database_url, open=False)
        with pytest.raises(StoreUnavailableError):
            PluginConfigRepository(pool).get_all()
        assert pool.closed

    def test_nor_closed(self, pool: ConnectionPool[Any]) -> None:
        repository = PluginConfigRepository(pool)
        repository.get_all()
        del repository
        assert not pool.closed
        with pool.connection() as connection:
            assert value(connection, "SELECT 1") == 1

    @in_and_out_of_autocommit_mode
    @each_method
    def test_the_connection_goes_back_clean_and_in_its_mode(
        self, database_url: str, autocommit: bool, call: Callable[..., object]
    ) -> None:
        with pool_of_one(database_url, autocommit=autocommit) as pool:
            repository = PluginConfigRepository(pool)
            version = repository.save("analytics", "enabled").updated_at
            call(repository, version)
            with pool.connection() as connection:
                assert connection.autocommit is autocommit
                assert connection.info.transaction_status is pq.TransactionStatus.IDLE

    @in_and_out_of_autocommit_mode
    def test_also_after_errors(self, empty_url: str, autocommit: bool) -> None:
        with pool_of_one(empty_url, autocommit=autocommit) as pool:
            repository = PluginConfigRepository(pool)
            for _ in range(3):
                with pytest.raises(SchemaError):
                    repository.get_all()
            with pool.connection() as connection:
                assert connection.autocommit is autocommit
                assert connection.info.transaction_status is pq.TransactionStatus.IDLE
            assert pool.get_stats()["pool_size"] == 1

    @in_and_out_of_autocommit_mode
    def test_what_is_written_is_committed(
        self, database_url: str, connection: psycopg.Connection[Any], autocommit: bool
    ) -> None:
        with pool_of_one(database_url, autocommit=autocommit) as pool:
            PluginConfigRepository(pool).save("analytics", "enabled")
            assert value(connection, "SELECT count(*) FROM plugin_config") == 1

    def test_a_pool_whose_check_leaves_a_transaction_open_is_fine(self, database_url: str) -> None:
        with ConnectionPool(
            database_url, min_size=1, max_size=1, check=lambda connection: connection.execute("SELECT 1"), open=True
        ) as pool:
            repository = PluginConfigRepository(pool)
            repository.save("analytics", "enabled")
            assert repository.get_by_name("analytics").config == {}
            with pool.connection() as connection:
                assert connection.autocommit is False

    def test_a_connection_works_inside_the_callers_transaction(
        self, database_url: str, connection: psycopg.Connection[Any]
    ) -> None:
        with psycopg.connect(database_url) as own:
            repository = PluginConfigRepository(own)
            repository.save("analytics", "enabled", {"a": 1})
            repository.update_config("analytics", {"b": 2})
            assert repository.get_by_name("analytics").config == {"a": 1, "b": 2}
            assert own.info.transaction_status is pq.TransactionStatus.INTRANS
            assert value(connection, "SELECT count(*) FROM plugin_config") == 0
            own.rollback()
            assert repository.get_all() == []
            repository.save("analytics", "enabled")
            own.commit()
            assert value(connection, "SELECT count(*) FROM plugin_config") == 1

    def test_a_connection_in_autocommit_mode_commits_each_call(
        self, database_url: str, connection: psycopg.Connection[Any]
    ) -> None:
        PluginConfigRepository(connection).save("analytics", "enabled")
        with psycopg.connect(database_url) as other:
            assert value(other, "SELECT count(*) FROM plugin_config") == 1

    def test_a_savepoint_of_the_caller_undoes_what_was_done_in_it(self, database_url: str) -> None:
        with psycopg.connect(database_url) as own:
            repository = PluginConfigRepository(own)
            repository.save("kept", "enabled")
            with own.transaction(force_rollback=True):
                repository.save("undone", "enabled")
                assert len(repository.get_all()) == 2
            assert [row.plugin_name for row in repository.get_all()] == ["kept"]

    @pytest.mark.parametrize("cursor_factory", [psycopg.Cursor, psycopg.ClientCursor, psycopg.RawCursor])
    @pytest.mark.parametrize("row_factory", [dict_row, namedtuple_row])
    def test_the_callers_rows_and_cursors_do_not_matter(
        self, database_url: str, cursor_factory: Any, row_factory: Any
    ) -> None:
        with pool_of_one(database_url, cursor_factory=cursor_factory, row_factory=row_factory) as pool:
            repository = PluginConfigRepository(pool)
            saved = repository.save("analytics", "enabled", {"a": 1})
            assert isinstance(saved, PluginConfig) and saved.config == {"a": 1}
            assert repository.get_by_name("analytics").config == {"a": 1}
            assert repository.update_config("analytics", {"b": 2}, remove=["a"]).config == {"b": 2}
            assert repository.get_all() == [repository.get_by_name("analytics")]
            assert repository.delete("analytics")
            with pool.connection() as connection:
                assert connection.row_factory is row_factory
                assert connection.cursor_factory is cursor_factory

    def test_nor_does_their_encoding(self, database_url: str) -> None:
        with pool_of_one(database_url, client_encoding="latin1") as pool:
            repository = PluginConfigRepository(pool)
            saved = repository.save("café", "enabled", {"é": ["ß", "\xc3\xa9"]})  # the last would be é in UTF-8
            assert saved == repository.get_by_name("café") == repository.get_all()[0]
            assert (saved.plugin_name, saved.config) == ("café", {"é": ["ß", "\xc3\xa9"]})
            with pytest.raises(StoreError, match="has no equivalent in encoding"):
                repository.save("café", "enabled", {"snow": "☃"})
            assert repository.get_all() == [saved]

    def test_the_table_is_found_through_the_search_path(
        self, database_url: str, connection: psycopg.Connection[Any]
    ) -> None:
        connection.execute("CREATE SCHEMA plugins")
        connection.execute("ALTER TABLE plugin_config SET SCHEMA plugins")
        with pool_of_one(database_url, options="-c search_path=plugins") as pool:
            PluginConfigRepository(pool).save("analytics", "enabled")
        assert value(connection, "SELECT count(*) FROM plugins.plugin_config") == 1

    def test_the_order_of_names_is_pythons_whatever_the_locale_of_the_database(
        self, connection: psycopg.Connection[Any]
    ) -> None:
        # The embedded server has no locale that would sort otherwise.
        of_the_name = "SELECT collation_name FROM information_schema.columns WHERE column_name = 'plugin_name'"
        assert value(connection, of_the_name) == "C"


class TestRoundTrips:
    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="psycopg traces a connection on Linux only")
    @in_and_out_of_autocommit_mode
    @each_method
    def test_a_warm_method_is_one_statement_and_one_round_trip(
        self, database_url: str, autocommit: bool, call: Callable[[PluginConfigRepository, datetime], object]
    ) -> None:
        with pool_of_one(database_url, autocommit=autocommit) as pool, tempfile.TemporaryFile("r+") as trace:
            repository = PluginConfigRepository(pool)
            version = repository.save("analytics", "enabled", {"a": 1}).updated_at
            assert version is not None
            for _ in range(6):  # psycopg prepares a statement after five uses
                version = repository.get_by_name("analytics").updated_at
                call(repository, version)
            version = repository.get_by_name("analytics").updated_at
            with pool.connection() as connection:
                pgconn = connection.pgconn
            pgconn.trace(os.dup(trace.fileno()))
            pgconn.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
            call(repository, version)
            pgconn.untrace()
            trace.seek(0)
            messages = [line.split("\t")[0:3:2] for line in trace.read().splitlines()]
        assert messages.count(["B", "ReadyForQuery"]) == 1
        assert messages.count(["F", "Execute"]) == 1
        assert messages.count(["F", "Parse"]) == messages.count(["F", "Query"]) == 0


class TestOpen:
    def test_yields_a_working_store_and_closes_its_pool(
        self, database_url: str, connection: psycopg.Connection[Any]
    ) -> None:
        ours = """SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'plugin_store' AND datname = current_database()"""
        with PluginConfigRepository.open(database_url) as repository:
            repository.save("analytics", "enabled", {"a": 1})
            assert repository.get_by_name("analytics").config == {"a": 1}
            assert value(connection, ours) >= 1
        with pytest.raises(StoreUnavailableError):
            repository.get_all()
        until(lambda: value(connection, ours) == 0)

    def test_closes_it_after_an_error_too(self, database_url: str) -> None:
        with pytest.raises(ZeroDivisionError), PluginConfigRepository.open(database_url) as repository:
            raise ZeroDivisionError
        with pytest.raises(StoreUnavailableError):
            repository.get_all()

    def test_takes_the_scheme_that_yoyo_and_sqlalchemy_write(self, database_url: str) -> None:
        for scheme in ("postgresql+psycopg", "postgres+psycopg", "postgres"):
            with PluginConfigRepository.open(database_url.replace("postgresql", scheme, 1)) as repository:
                assert repository.get_all() == []

    def test_without_a_conninfo_the_pg_variables_say_where(
        self, database_url: str, server: Server, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, setting in {
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGUSER": server.user,
            "PGPASSWORD": server.password,
            "PGDATABASE": connection.info.dbname,
        }.items():
            monkeypatch.setenv(name, setting)
        with PluginConfigRepository.open() as repository:
            repository.save("analytics", "enabled")
        assert value(connection, "SELECT count(*) FROM plugin_config") == 1

    def test_it_opens_however_short_a_time_calls_are_to_wait(self, database_url: str) -> None:
        for _ in range(10):  # the pool's thread may be quick enough
            with PluginConfigRepository.open(database_url, min_size=0, timeout=0.00001):
                pass  # a call may find that its time is over before it has begun

    def test_a_server_that_refuses_is_unavailable_at_once(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"postgresql://postgres@127.0.0.1:{unused.getsockname()[1]}/postgres"
            start = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="cannot be reached"), PluginConfigRepository.open(url):
                pytest.fail("there is no server")
            assert time.monotonic() - start < 5

    def test_it_may_wait_for_a_database_and_says_so_once(
        self, server: Server, connection: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        url, started = server.url("later"), time.monotonic()
        with pytest.raises(StoreUnavailableError), PluginConfigRepository.open(url, wait_seconds=1):
            pytest.fail("there is no such database")
        assert time.monotonic() - started >= 1

        def open_and_close() -> None:
            with PluginConfigRepository.open(url, wait_seconds=20) as repository, pytest.raises(SchemaError):
                repository.get_all()

        with in_threads() as start:
            opening = start(open_and_close)
            until(lambda: len(caplog.messages) == 2)
            connection.execute("CREATE DATABASE later")
            try:
                opening.result(timeout=20)
            finally:
                connection.execute("DROP DATABASE later WITH (FORCE)")
        assert len(caplog.messages) == 2 and server.password not in caplog.text
        assert all(re.match(r"waiting up to \S+ s for the database: .*exist", message) for message in caplog.messages)

    def test_its_connections_speak_utf_8_whatever_is_asked_for(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
        for url in (database_url, f"{database_url}&client_encoding=latin1"):
            with PluginConfigRepository.open(url, min_size=2) as repository, in_threads() as start:
                names = [f"☃ {number}" for number in range(8)]
                for call in [start(repository.save, name, "enabled") for name in names]:
                    call.result(timeout=20)
                assert [row.plugin_name for row in repository.get_all()] == names

    @pytest.mark.parametrize("nothing", [None, b"", 5432])
    def test_what_is_no_conninfo_is_refused(self, nothing: Any) -> None:
        with (
            pytest.raises(InvalidDatabaseURLError, match=r"must be a str, not .*: is the variable set"),
            PluginConfigRepository.open(nothing),
        ):
            pytest.fail("it is no conninfo")

    @pytest.mark.parametrize("nothing", [None, "postgresql://host/db"])
    def test_what_is_neither_pool_nor_connection_is_refused(self, nothing: Any) -> None:
        with pytest.raises(TypeError, match=r"takes a psycopg_pool.ConnectionPool .*open\(\) takes a conninfo"):
            PluginConfigRepository(nothing)

    def test_a_wait_that_is_not_a_number_is_none(self, server: Server) -> None:
        with pytest.raises(StoreUnavailableError), PluginConfigRepository.open(server.url("no"), wait_seconds=nan):
            pytest.fail("there is no such database")

    def test_a_server_that_accepts_and_says_nothing_is_unavailable_after_the_connect_timeout(self) -> None:
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            url = f"postgresql://postgres@127.0.0.1:{mute.getsockname()[1]}/postgres?connect_timeout=2"
            with pytest.raises(StoreUnavailableError, match="timeout"), PluginConfigRepository.open(url):
                pytest.fail("there is no server")

    @pytest.mark.parametrize("host", ["/nonexistent", "a..b", "a" * 64, "nonexistent.invalid"])
    def test_a_host_that_does_not_exist_is_unavailable(self, host: str) -> None:
        with (
            pytest.raises((StoreUnavailableError, InvalidDatabaseURLError)),
            PluginConfigRepository.open(f"host={host}"),
        ):
            pytest.fail("there is no server")

    def test_a_database_that_does_not_exist_is_unavailable(self, server: Server) -> None:
        with (
            pytest.raises(StoreUnavailableError, match="does not exist") as caught,
            PluginConfigRepository.open(server.url("nonexistent")),
        ):
            pytest.fail("there is no database")
        assert isinstance(caught.value.__cause__, psycopg.OperationalError)

    def test_a_setting_that_cannot_be_is_one_of_our_errors(self, database_url: str) -> None:
        for setting in ("connect_timeout=soon", "sslmode=perhaps", "target_session_attrs=any-thing"):
            with pytest.raises(PluginStoreError), PluginConfigRepository.open(f"{database_url}&{setting}"):
                pytest.fail("there is no such setting")

    def test_connect_gives_a_connection_in_autocommit_mode(self, database_url: str) -> None:
        with connect(database_url) as connection:
            assert connection.autocommit
            assert value(connection, "SHOW application_name") == "plugin_store"
        with connect(f"{database_url}&application_name=mine") as connection:
            assert value(connection, "SHOW application_name") == "mine"


class TestErrors:
    def test_a_missing_table_is_a_schema_error_that_says_how_to_migrate(self, empty_url: str) -> None:
        with PluginConfigRepository.open(empty_url) as repository:
            for call in METHODS.values():
                with pytest.raises(SchemaError) as caught:
                    call(repository, datetime.now().astimezone())
                assert "`plugin-store migrate`" in str(caught.value)
                assert "yoyo apply -d postgresql+psycopg://… package:plugin_store:migrations" in str(caught.value)
                assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedTable)

    def test_a_table_without_one_of_the_columns_is_a_schema_error(
        self, repository: PluginConfigRepository, connection: psycopg.Connection[Any]
    ) -> None:
        connection.execute("ALTER TABLE plugin_config DROP COLUMN disabled_at")
        with pytest.raises(SchemaError, match="out of date"):
            repository.get_all()

    def test_a_table_without_its_unique_name_is_a_schema_error(
        self, repository: PluginConfigRepository, connection: psycopg.Connection[Any]
    ) -> None:
        connection.execute("ALTER TABLE plugin_config DROP CONSTRAINT plugin_config_plugin_name_key")
        with pytest.raises(SchemaError, match="out of date"):
            repository.save("analytics", "enabled")

    def test_a_role_without_rights_is_told_so(self, database_url: str) -> None:
        with psycopg.connect(database_url) as own:  # rolled back: no role is left behind
            own.execute("CREATE ROLE plugin_store_stranger")
            own.execute("SET ROLE plugin_store_stranger")
            with pytest.raises(StoreError, match=r"role may not do this: permission denied.*grants\.sql") as caught:
                PluginConfigRepository(own).get_all()
            assert type(caught.value) is StoreError
            assert isinstance(caught.value.__cause__, psycopg.errors.InsufficientPrivilege)
            own.rollback()

    def test_a_role_that_may_only_read_can_read(self, database_url: str) -> None:
        with psycopg.connect(database_url) as own:
            own.execute("CREATE ROLE plugin_store_reader")
            own.execute("GRANT SELECT ON plugin_config TO plugin_store_reader")
            own.execute("SET ROLE plugin_store_reader")
            repository = PluginConfigRepository(own)
            assert (repository.get_all(), repository.get_enabled()) == ([], [])
            assert repository.get_by_name("a") is None
            with pytest.raises(StoreError, match="role may not do this"):
                repository.save("analytics", "enabled")
            own.rollback()

    def test_a_pool_without_a_free_connection_is_unavailable(self, database_url: str) -> None:
        with (
            ConnectionPool(database_url, min_size=1, max_size=1, timeout=0.1, open=True) as pool,
            pool.connection(timeout=20),
            pytest.raises(StoreUnavailableError, match=r"the pool gives no connection: .* in use") as caught,
        ):
            PluginConfigRepository(pool).get_all()
        assert isinstance(caught.value.__cause__, psycopg.OperationalError)

    @in_and_out_of_autocommit_mode
    def test_a_connection_terminated_while_idle_is_replaced_for_a_write_too(
        self, database_url: str, connection: psycopg.Connection[Any], autocommit: bool
    ) -> None:
        with pool_of_one(database_url, autocommit=autocommit) as pool:
            repository = PluginConfigRepository(pool)
            with pool.connection() as victim:
                pid = victim.info.backend_pid
            assert value(connection, f"SELECT pg_terminate_backend({pid}, 20000)")
            saved = repository.save("analytics", "enabled")
            assert repository.get_all() == [saved]

    def test_a_read_whose_connection_was_lost_is_repeated_though_all_of_the_pools_are_lost(
        self, database_url: str, connection: psycopg.Connection[Any]
    ) -> None:
        with ConnectionPool(database_url, min_size=3, max_size=3, open=True) as pool:
            repository = PluginConfigRepository(pool)
            pool.wait(20)
            for _ in range(3):  # on each: the pool hands them out in turn
                repository.get_all()
            connection.execute(
                "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert repository.get_all() == []
            repository.save("analytics", "enabled")

    def test_a_read_that_the_database_refuses_is_not_repeated(
        self, repository: PluginConfigRepository, connection: psycopg.Connection[Any]
    ) -> None:
        connection.execute("DROP TABLE plugin_config")
        with pytest.raises(SchemaError):
            repository.get_all()

    def test_a_connection_terminated_while_it_waits_is_unavailable(
        self, repository: PluginConfigRepository, database_url: str, connection: psycopg.Connection[Any]
    ) -> None:
        with in_threads() as start, psycopg.connect(database_url) as blocker:
            blocker.execute("LOCK TABLE plugin_config")
            call = start(repository.save, "analytics", "enabled")
            until(lambda: waiting_for_locks(connection) == 1)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            with pytest.raises(StoreUnavailableError, match="the database closed the connection"):
                call.result(timeout=20)
            blocker.rollback()
            assert repository.get_all() == []

    def test_a_connection_of_the_callers_prepares_as_the_caller_says(self, database_url: str) -> None:
        with psycopg.connect(database_url, prepare_threshold=None) as own:
            for _ in range(10):
                PluginConfigRepository(own).get_all()
            assert value(own, "SELECT count(*) FROM pg_prepared_statements") == 0

    def test_a_closed_connection_is_unavailable(self, database_url: str) -> None:
        own = psycopg.connect(database_url)
        own.close()
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            PluginConfigRepository(own).get_all()

    @pytest.mark.parametrize(
        ("setting", "cause"),
        [
            ("SET statement_timeout = '50ms'", psycopg.errors.QueryCanceled),
            ("SET lock_timeout = '50ms'", psycopg.errors.LockNotAvailable),
        ],
    )
    def test_whatever_else_the_database_refuses_is_a_store_error(
        self, database_url: str, connection: psycopg.Connection[Any], setting: str, cause: type[Exception]
    ) -> None:
        with psycopg.connect(database_url) as blocker:
            blocker.execute("LOCK TABLE plugin_config IN EXCLUSIVE MODE")
            connection.execute(setting.encode())
            with pytest.raises(StoreError, match="usually another transaction holds a lock") as caught:
                PluginConfigRepository(connection).save("analytics", "enabled")
            assert type(caught.value) is StoreError
            assert type(caught.value.__cause__) is cause

    def test_a_row_that_another_transaction_has_changed_meanwhile_is_a_store_error(
        self, database_url: str, repository: PluginConfigRepository
    ) -> None:
        repository.save("analytics", "disabled")
        with psycopg.connect(database_url) as own:
            own.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            assert PluginConfigRepository(own).get_by_name("analytics").config == {}
            saved = repository.save("analytics", "disabled", {"by": "another"})
            with pytest.raises(StoreError, match=r"refused: could not serialize .*; nothing was changed"):
                PluginConfigRepository(own).save("analytics", "enabled")
            own.rollback()
        assert repository.get_all() == [saved]

    def test_a_database_that_is_only_read_is_a_store_error(self, database_url: str) -> None:
        with pool_of_one(database_url, options="-c default_transaction_read_only=on") as pool:
            assert PluginConfigRepository(pool).get_all() == []
            with pytest.raises(StoreError, match="connect to the primary") as caught:
                PluginConfigRepository(pool).save("analytics", "enabled")
        assert isinstance(caught.value.__cause__, psycopg.errors.ReadOnlySqlTransaction)

    def test_a_transaction_that_has_failed_is_a_store_error(self, database_url: str) -> None:
        with psycopg.connect(database_url) as own:
            with pytest.raises(psycopg.errors.DivisionByZero):
                own.execute("SELECT 1 / 0")
            with pytest.raises(StoreError, match="the database refused: current transaction is aborted"):
                PluginConfigRepository(own).get_all()
            own.rollback()
            assert PluginConfigRepository(own).get_all() == []

    def test_a_row_that_a_constraint_refuses_is_a_store_error(
        self, repository: PluginConfigRepository, connection: psycopg.Connection[Any]
    ) -> None:
        connection.execute("ALTER TABLE plugin_config ADD CHECK (NOT config ? 'forbidden')")
        with pytest.raises(StoreError, match="the database refused: ") as caught:
            repository.save_config("analytics", {"forbidden": "a secret"})
        assert "a secret" not in str(caught.value)
        assert isinstance(caught.value.__cause__, psycopg.errors.CheckViolation)
        assert repository.get_all() == []

    def test_a_row_that_a_trigger_drops_is_a_store_error(
        self, repository: PluginConfigRepository, connection: psycopg.Connection[Any]
    ) -> None:
        connection.execute(
            "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
            "CREATE TRIGGER drop_it BEFORE INSERT ON plugin_config FOR EACH ROW EXECUTE FUNCTION drop_it()"
        )
        with pytest.raises(StoreError, match=r"^plugin 'analytics' was not stored: a trigger or rule on plugin_config"):
            repository.save("analytics", "enabled")

    def test_a_name_that_the_connection_cannot_send_is_a_store_error(self, database_url: str) -> None:
        with pool_of_one(database_url, client_encoding="latin1") as pool:
            with pytest.raises(StoreError, match="client_encoding has no '☃': connect with client_encoding=utf8"):
                PluginConfigRepository(pool).get_by_name("☃")
            assert PluginConfigRepository(pool).get_all() == []

    def test_a_column_that_must_be_given_and_is_not_ours_is_a_schema_error(
        self, repository: PluginConfigRepository, connection: psycopg.Connection[Any]
    ) -> None:
        connection.execute("ALTER TABLE plugin_config ADD owner text NOT NULL")
        with pytest.raises(SchemaError, match=r"newer than this plugin_store: .*\"owner\"(.|\n)*; update"):
            repository.save("analytics", "enabled")
        assert repository.get_all() == []

    def test_errors_that_are_not_the_drivers_pass_unchanged(self, repository: PluginConfigRepository) -> None:
        with pytest.raises(TypeError):
            repository.save_many(7)  # type: ignore[arg-type]  # what is being tested


class TestRaces:
    """Made to happen: a transaction holds what the writers need until the server shows them waiting for it."""

    @pytest.mark.parametrize("blocker_commits", [True, False])
    def test_first_saves_that_race_make_one_row(
        self, database_url: str, connection: psycopg.Connection[Any], blocker_commits: bool
    ) -> None:
        with ExitStack() as stack:
            repositories = [stack.enter_context(PluginConfigRepository.open(database_url)) for _ in range(2)]
            start = stack.enter_context(in_threads())
            blocker = stack.enter_context(psycopg.connect(database_url))
            PluginConfigRepository(blocker).save("analytics", "disabled", {"by": "blocker"})
            saves = [start(each.save, "analytics", "enabled", {"by": n}) for n, each in enumerate(repositories)]
            until(lambda: waiting_for_locks(connection) == 2)
            if blocker_commits:
                blocker.commit()
            else:
                blocker.rollback()
            rows = [save.result(timeout=20) for save in saves]
            assert rows[0].id == rows[1].id
            assert [row.config for row in rows] == [{"by": 0}, {"by": 1}]
            (stored,) = repositories[0].get_all()
            assert stored == max(rows, key=lambda row: row.updated_at)

    def test_a_save_that_keeps_the_config_keeps_the_one_that_it_had_to_wait_for(
        self, repository: PluginConfigRepository, database_url: str, connection: psycopg.Connection[Any]
    ) -> None:
        with in_threads() as start, psycopg.connect(database_url) as blocker:
            PluginConfigRepository(blocker).save("analytics", "disabled", {"by": "blocker"})
            save = start(repository.save, "analytics", "enabled")
            until(lambda: waiting_for_locks(connection) == 1)
            blocker.commit()
            row = save.result(timeout=20)
            assert (row.status, row.config) == ("enabled", {"by": "blocker"})

    def test_add_returns_the_row_that_it_had_to_wait_for(
        self, repository: PluginConfigRepository, database_url: str, connection: psycopg.Connection[Any]
    ) -> None:
        with in_threads() as start, psycopg.connect(database_url) as blocker:
            stored = PluginConfigRepository(blocker).save("analytics", "disabled", {"by": "blocker"})
            adds = [start(repository.add, "analytics", "enabled", {"by": n}) for n in range(3)]
            until(lambda: waiting_for_locks(connection) == 3)
            blocker.commit()
            assert [add.result(timeout=20) for add in adds] == [stored] * 3
            assert repository.get_all() == [stored]

    def test_add_makes_the_row_if_the_one_that_it_waits_for_is_never_made(
        self, repository: PluginConfigRepository, database_url: str, connection: psycopg.Connection[Any]
    ) -> None:
        with in_threads() as start, psycopg.connect(database_url) as blocker:
            PluginConfigRepository(blocker).save("analytics", "disabled", {"by": "blocker"})
            adds = [start(repository.add, "analytics", "enabled", {"by": n}) for n in range(3)]
            until(lambda: waiting_for_locks(connection) == 3)
            blocker.rollback()
            rows = [add.result(timeout=20) for add in adds]
            assert rows == [rows[0]] * 3 == repository.get_all() * 3

    @pytest.mark.parametrize("first", [True, False], ids=["first save", "existing row"])
    def test_update_config_loses_no_key_of_those_that_it_had_to_wait_for(
        self,
        repository: PluginConfigRepository,
        database_url: str,
        connection: psycopg.Connection[Any],
        first: bool,
    ) -> None:
        if not first:
            repository.save("analytics", "enabled", {"old": 0, "gone": 0})
        with in_threads() as start, psycopg.connect(database_url) as blocker:
            PluginConfigRepository(blocker).update_config("analytics", {"blocker": 1})
            updates = [start(repository.update_config, "analytics", {f"key {n}": n}, remove=["gone"]) for n in range(3)]
            until(lambda: waiting_for_locks(connection) == 3)
            blocker.commit()
            for update in updates:
                update.result(timeout=20)
        old = {} if first else {"old": 0}
        assert repository.get_by_name("analytics").config == {**old, "blocker": 1, "key 0": 0, "key 1": 1, "key 2": 2}

    def test_of_writers_that_expect_one_version_those_that_had_to_wait_are_refused(
        self, repository: PluginConfigRepository, database_url: str, connection: psycopg.Connection[Any]
    ) -> None:
        version = repository.save("analytics", "enabled").updated_at
        with in_threads() as start, psycopg.connect(database_url) as blocker:
            stored = PluginConfigRepository(blocker).save_config("analytics", {"n": 1}, expected_updated_at=version)
            saves = [
                start(repository.save_config, "analytics", {"n": 2}, expected_updated_at=version) for _ in range(2)
            ]
            until(lambda: waiting_for_locks(connection) == 2)
            blocker.commit()
            for save in saves:
                assert "changed, or was deleted, since it was read" in str(save.exception(timeout=20))
        assert repository.get_all() == [stored]

    def test_get_all_is_of_one_moment_however_long_it_reads(
        self, repository: PluginConfigRepository, connection: psycopg.Connection[Any]
    ) -> None:
        names = [f"plugin {number:04}" for number in range(500)]
        reading, written = True, 0

        def write() -> None:
            nonlocal written
            while reading:
                repository.save_many(PluginConfig(name, "enabled", {"n": written, "x": "x" * 500}) for name in names)
                written += 1

        with in_threads() as start:
            writer = start(write)
            try:
                until(lambda: written > 0)
                before = written
                while written < before + 5:
                    rows = repository.get_all()
                    assert len(rows) == len(names)
                    assert len({row.config["n"] for row in rows}) == 1
            finally:
                reading = False
            writer.result(timeout=20)


SECRET = "s3cr3t-Pa55"

# What people write, and forget to percent-encode. {} is where the password stands.
UNREADABLE = [
    "postgresql://user:{}@x@host/db",
    "postgresql://user:x@{}@host/db",
    "postgresql://user:{}/x@host/db",
    "postgresql://user:x/{}@host/db",
    "postgresql://user:{}?x@host/db",
    "postgresql://user:x?{}@host/db",
    "postgresql://user:x/y?{}@host/db",
    "postgresql://user:{}%@host/db",
    "postgresql://user:{}%zz@host/db",
    "postgresql://user:%{}@host/db",
    "postgresql://user:{}",
    "postgresql://host:{}/db",
    "postgresql://user:{}@host:port/db",
    "postgresql://user:{}@[host/db",
    "postgresql://user:{}@host/db?unknown=1",
    "postgresql://user:{}@host/db?sslmode",
    "postgresql://host/db?password={}&unknown=1",
    "postgresql:/user:{}@host/db",
    "postgresql:user:{}@host/db",
    "user:{}@host/db",
    "user:{}@host://db",
    "{}://host/db",
    "//user:{}@host/db",
    "mysql://user:{}@host/db",
    "postgresql+psycopg2://user:{}@host/db",
    "http://user:{}@host/db",
    "jdbc:postgresql://user:{}@host/db",
    "DATABASE_URL=postgresql://user:{}@host/db",
    "host=host password={} x",
    "host=host password='{}",
    "host=host password={} unknown=1",
    "host=host pass word={}",
    "host=host port={}",
    "{}",
    "postgresql://user:{}\udcff@host/db",
]


class TestSecrets:
    @pytest.mark.parametrize("template", UNREADABLE, ids=ascii)
    @pytest.mark.parametrize(
        "read", [checked_conninfo, connect, lambda url: PluginConfigRepository.open(url).__enter__()]
    )
    def test_a_url_that_cannot_be_read_is_refused_without_its_password(
        self, template: str, read: Callable[[str], object], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with pytest.raises(InvalidDatabaseURLError) as caught:
            read(template.format(SECRET))
        assert SECRET not in whole_text(caught.value)
        assert SECRET not in caplog.text
        assert "postgresql://" in str(caught.value)

    @pytest.mark.parametrize(
        "conninfo",
        [
            "",
            "host=host password='it''s @:/#%' dbname=db",
            "host=host port=5432",
            "postgresql://",
            "postgresql:///db",
            "postgresql://host/db",
            "postgresql://user@host/db",
            "postgresql://user:p#ss@host/db",
            "postgresql://user:p:ss@host/db",
            "postgresql://user:p%40ss%2F%3F%25@host/db",
            "postgresql://host:/db",
            "postgresql://host:5432,other:5433/db",
            "postgresql://host,other/db",
            "postgresql://[::1]:5432/db",
            "postgresql:///db?host=/tmp&user=me@corp",
            "postgresql://%2Ftmp/db",
            "postgres://user@host/db",
            "service=plugins",
        ],
    )
    def test_what_libpq_takes_is_taken_as_it_is(self, conninfo: str) -> None:
        conninfo = conninfo.replace("it''s", r"it\'s")
        assert checked_conninfo(conninfo) == conninfo

    def test_the_scheme_of_yoyo_and_sqlalchemy_becomes_libpqs(self) -> None:
        assert checked_conninfo("postgresql+psycopg://user@host/db") == "postgresql://user@host/db"
        assert checked_conninfo("postgres+psycopg:///db?host=/tmp") == "postgresql:///db?host=/tmp"

    @pytest.mark.parametrize("file_text", ["{}\n", "{}\r\n", " {} ", "\ufeff{}\n"])
    def test_a_secret_files_blanks_around_a_url_are_dropped(self, file_text: str) -> None:
        assert checked_conninfo(file_text.format("postgresql://user@host/db")) == "postgresql://user@host/db"

    @pytest.mark.parametrize("char", "@:/?#%&= '\\[]äé\u20ac")
    def test_a_percent_encoded_password_opens_the_database(
        self, database_url: str, connection: psycopg.Connection[Any], char: str
    ) -> None:
        from urllib.parse import quote

        from psycopg.conninfo import conninfo_to_dict

        url = database_url.replace("postgresql://postgres:", f"postgresql://postgres:{quote(char, safe='')}x", 1)
        assert str(conninfo_to_dict(checked_conninfo(url))["password"]).startswith(f"{char}x")

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://postgres:{}@127.0.0.1:{}/db",
            "host=127.0.0.1 user=postgres password={} port={} dbname=db",
            "postgresql://127.0.0.1/db?user=postgres&password={}&port={}",
        ],
    )
    def test_a_server_that_cannot_be_reached_shows_no_password(
        self, url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            given = url.format(SECRET, unused.getsockname()[1])
            with pytest.raises(StoreUnavailableError) as caught, PluginConfigRepository.open(given):
                pytest.fail("there is no server")
        assert SECRET not in whole_text(caught.value) + caplog.text

    def test_a_wrong_password_is_not_shown(self, server: Server, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        wrong = server.url("postgres").replace(f":{server.password}@", f":{SECRET}@")
        with pytest.raises(StoreUnavailableError, match="authentication failed") as caught:
            connect(wrong)
        assert SECRET not in whole_text(caught.value) + caplog.text

    def test_nothing_of_a_working_repository_shows_the_password(
        self, server: Server, database_url: str, connection: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        shown = []
        with PluginConfigRepository.open(database_url, max_size=1) as repository:
            shown += [repr(repository), str(repository), repr(repository.save("analytics", "enabled"))]
            connection.execute(
                "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE application_name = 'plugin_store'"
                " AND datname = current_database()"
            )
            repository.save("analytics", "disabled")
            connection.execute("DROP TABLE plugin_config")
            with pytest.raises(SchemaError) as missing:
                repository.get_all()
        with pytest.raises(StoreUnavailableError) as closed:
            repository.get_all()
        shown += [whole_text(error.value) for error in (missing, closed)]
        assert server.password in database_url
        assert server.password not in "\n".join(shown) + caplog.text

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("postgresql://user:s3cret@host/db", "postgresql://***@host/db"),
            ("postgresql://user:p@ss:/s3cret@host/db", "postgresql://***@host/db"),
            ("see postgresql://u:s3cret@h/db and more", "see postgresql://***@h/db and more"),
            ("postgresql://host/db?password=s3cret&user=me", "postgresql://host/db?password=***&user=me"),
            ("host=h password=s3cret dbname=d", "host=h password=*** dbname=d"),
            ("host=h PASSWORD = 's3cret s3cret' dbname=d", "host=h PASSWORD = *** dbname=d"),
            (r"host=h password='s3\'cret s3cret' dbname=d", "host=h password=*** dbname=d"),
            ('no plugin "postgresql://u:pa\'s3cret@h/db"', 'no plugin "postgresql://***@h/db"'),
            ("no plugin 'postgresql://u:pa s3cret@h/db'", "no plugin 'postgresql://***@h/db'"),
            ("host=h password=p's3cret dbname=d", "host=h password=*** dbname=d"),
            (r"host=h password=a\ s3cret dbname=d", "host=h password=*** dbname=d"),
            ("nothing to hide at http://host/db", "nothing to hide at http://host/db"),
            ("like postgresql://USER:PASSWORD@HOST/DATABASE", "like postgresql://USER:PASSWORD@HOST/DATABASE"),
        ],
    )
    def test_masked_text_shows_no_user_and_no_password(self, text: str, shown: str) -> None:
        assert masked(text) == shown
