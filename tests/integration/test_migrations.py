"""The migrations, run by the stock yoyo command and by migrate(), and what they make of a database."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from servers import Server
from yoyo.backends import DatabaseBackend

import plugin_store.cli.migrate
from plugin_store import PluginConfig, PluginConfigRepository, StoreUnavailableError
from plugin_store.cli.migrate import migrate
from plugin_store.errors import InstallationError, InvalidDatabaseURLError, MigrationError
from plugin_store.stores.statements import folder

if TYPE_CHECKING:
    from typing_extensions import LiteralString

CHECKOUT = Path(__file__).parents[2]
MIGRATIONS = sorted(path for path in (CHECKOUT / "migrations").glob("*.sql") if not path.match("*.rollback.sql"))
ROLLBACKS = sorted((CHECKOUT / "migrations").glob("*.rollback.sql"))
STATEMENTS = sorted((CHECKOUT / "sql").glob("*.sql"))
NAMES = [path.stem for path in MIGRATIONS]
YOYO = Path(sysconfig.get_path("scripts")) / "yoyo"

Connection = psycopg.Connection[Any]

# What a migration can leave behind, but for yoyo's own tables.
EVERYTHING = """
    SELECT kind, name
      FROM (SELECT 'relation', relname, relnamespace FROM pg_class
             UNION ALL SELECT 'function', proname, pronamespace FROM pg_proc
             UNION ALL SELECT 'type', typname, typnamespace FROM pg_type
             UNION ALL SELECT 'constraint', conname, connamespace FROM pg_constraint
             UNION ALL SELECT 'collation', collname, collnamespace FROM pg_collation
             UNION ALL SELECT 'trigger', tgname, relnamespace FROM pg_trigger JOIN pg_class ON tgrelid = pg_class.oid
             UNION ALL SELECT 'extension', extname, extnamespace FROM pg_extension
           ) AS object (kind, name, namespace)
      JOIN pg_namespace ON pg_namespace.oid = namespace
     WHERE nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
       AND name NOT LIKE '%yoyo%'
     ORDER BY kind, name
"""


def run_yoyo(command: str, url: str, *arguments: str) -> None:
    """Run the stock command as an operator would, from a checkout."""
    url = url.replace("postgresql://", "postgresql+psycopg://")
    done = subprocess.run(
        [YOYO, command, "--batch", "--no-config-file", "-d", url, *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def everything(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(EVERYTHING).fetchall()


def tables(url: str) -> list[str]:
    query = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE tablename = 'plugin_config' ORDER BY 1"
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute(query)]


def recorded(url: str) -> list[str]:
    """What yoyo takes for applied."""
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute("SELECT migration_id FROM _yoyo_migration ORDER BY 1")]


def with_options(url: str, options: str) -> str:
    """The URL with settings for the server, such as another search_path or role."""
    return f"{url}&options={options.replace('=', '%3D')}"


def stamps(connection: Connection, name: str = "x") -> PluginConfig:
    stored = PluginConfigRepository(connection).get_by_name(name)
    assert stored is not None
    return stored


@pytest.fixture
def role(empty_url: str) -> Iterator[str]:
    """A role that owns nothing and may do nothing but what everyone may."""
    name = f"plugin_store_test_{uuid4().hex}"
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


class TestYoyo:
    def test_up_down_and_up_again_leaves_nothing_behind(self, empty_url: str) -> None:
        before = everything(empty_url)
        run_yoyo("apply", empty_url, "migrations")
        made = everything(empty_url)
        assert ("relation", "plugin_config") in made
        assert ("function", "plugin_config_stamp") in made

        run_yoyo("rollback", empty_url, "--all", "migrations")
        assert everything(empty_url) == before

        run_yoyo("apply", empty_url, "migrations")
        assert everything(empty_url) == made

    def test_every_migration_can_be_rolled_back_and_is_told_apart_from_the_hosts(self) -> None:
        # yoyo knows a migration by its file name alone
        assert NAMES
        assert all(re.fullmatch(r"plugin_store\.\d{4}\.[a-z-]+", name) for name in NAMES)
        assert [path.name.replace(".rollback.sql", "") for path in ROLLBACKS] == NAMES

    def test_the_folder_holds_only_migrations(self) -> None:
        # yoyo would take an __init__.py for one
        files = set((CHECKOUT / "migrations").iterdir())
        assert files - {CHECKOUT / "migrations" / "README.md"} == {*MIGRATIONS, *ROLLBACKS}

    @pytest.mark.parametrize("files", [MIGRATIONS, ROLLBACKS], ids=["up", "down"])
    def test_a_migration_can_be_run_twice(self, empty_url: str, files: list[Path]) -> None:
        migrate(empty_url)
        with psycopg.connect(empty_url) as connection:
            for path in files:
                connection.execute(path.read_bytes())
                once = connection.execute(EVERYTHING).fetchall()
                connection.execute(path.read_bytes())
                assert connection.execute(EVERYTHING).fetchall() == once

    def test_a_run_killed_before_it_was_recorded_is_made_good_by_the_next(self, empty_url: str) -> None:
        migrate(empty_url)
        with psycopg.connect(empty_url, autocommit=True) as connection:
            stored = PluginConfigRepository(connection).save("x", "enabled", {"kept": True})
            connection.execute("DELETE FROM _yoyo_migration")

            run_yoyo("apply", empty_url, "migrations")

            assert recorded(empty_url) == NAMES
            assert PluginConfigRepository(connection).get_all() == [stored]

    def test_a_schema_of_its_own_through_the_search_path(self, empty_url: str) -> None:
        with psycopg.connect(empty_url, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA own")
        url = with_options(empty_url, "-csearch_path=own")

        run_yoyo("apply", url, "migrations")

        assert tables(empty_url) == ["own.plugin_config"]
        with PluginConfigRepository.open(url) as repository:
            repository.save("x", "enabled", {"a": 1})
            assert repository.get_by_name("x").config == {"a": 1}

    def test_two_schemas_of_one_database_have_a_table_each(self, empty_url: str) -> None:
        with psycopg.connect(empty_url, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA own")
        own_url = with_options(empty_url, "-csearch_path=own")

        assert migrate(empty_url) == NAMES
        assert migrate(own_url) == NAMES

        assert tables(empty_url) == ["own.plugin_config", "public.plugin_config"]
        with PluginConfigRepository.open(empty_url) as public, PluginConfigRepository.open(own_url) as own:
            public.save("x", "enabled")
            assert own.get_all() == []

    # Ready, then wait for a line: so that the runs meet in the database, not one after the other at start-up.
    STOCK = "from yoyo.scripts.main import main; run = lambda url: main(['apply', '--batch', '-d', url, 'migrations'])"
    OURS = "from plugin_store.cli.migrate import migrate as run"

    @pytest.mark.parametrize("program", [STOCK, OURS], ids=["yoyo", "migrate"])
    def test_four_processes_migrate_a_fresh_database_at_once(self, empty_url: str, program: str) -> None:
        program += "; import sys; print('ready', flush=True); sys.stdin.readline(); run(sys.argv[1])"
        url = empty_url.replace("postgresql://", "postgresql+psycopg://")
        command = [sys.executable, "-c", program, url]
        runs = [
            subprocess.Popen(
                command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(4)
        ]
        assert [run.stdout.readline() for run in runs if run.stdout] == ["ready\n"] * 4

        with ThreadPoolExecutor(len(runs)) as threads:
            ends = list(threads.map(lambda run: (*run.communicate("go\n", timeout=60), run.returncode), runs))

        assert [status for _, _, status in ends] == [0] * 4, ends
        assert tables(empty_url) == ["public.plugin_config"]
        assert recorded(empty_url) == NAMES


class TestMigrate:
    def test_returns_what_it_applied_then_nothing(self, empty_url: str) -> None:
        assert migrate(empty_url) == NAMES
        assert migrate(empty_url) == []
        assert tables(empty_url) == ["public.plugin_config"]

    def test_takes_over_from_the_stock_command_and_back(self, empty_url: str) -> None:
        run_yoyo("apply", empty_url, "migrations")
        assert migrate(empty_url) == []
        run_yoyo("rollback", empty_url, "--all", "migrations")
        assert migrate(empty_url) == NAMES
        assert tables(empty_url) == ["public.plugin_config"]

    def test_waits_for_another_run(self, empty_url: str) -> None:
        migrate(empty_url)
        run_yoyo("rollback", empty_url, "--all", "migrations")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%yoyo_lock%'"
        with (
            ThreadPoolExecutor(1) as threads,  # before the connections: it ends when the lock that it waits for is gone
            psycopg.connect(empty_url) as other,
            psycopg.connect(empty_url, autocommit=True) as connection,
        ):
            other.execute("INSERT INTO yoyo_lock (locked, pid) VALUES (1, 0)")
            migrating = threads.submit(migrate, empty_url)
            deadline = time.monotonic() + 30
            while connection.execute(waiting).fetchone() == (0,):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert tables(empty_url) == []

            other.rollback()

            assert migrating.result(timeout=30) == NAMES
        assert tables(empty_url) == ["public.plugin_config"]

    def test_a_database_without_an_encoding_is_migrated_and_used(self, empty_url: str, server: Server) -> None:
        with psycopg.connect(empty_url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE no_encoding ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
            try:
                url = server.url("no_encoding")
                assert migrate(url) == NAMES
                with PluginConfigRepository.open(url) as repository:
                    saved = repository.save("é", "enabled", {"a": 1})
                    assert repository.get_all() == [saved]
            finally:
                connection.execute("DROP DATABASE no_encoding WITH (FORCE)")

    def test_a_role_that_may_not_create_tables_hears_so_at_once(self, empty_url: str, role: str) -> None:
        with psycopg.connect(empty_url, autocommit=True) as connection:
            connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            url = with_options(empty_url, f"-crole={role}")
            started = time.monotonic()

            with pytest.raises(MigrationError, match=f"'{role}' may not create tables .* 'public'") as raised:
                migrate(url)

            assert time.monotonic() - started < 5  # yoyo would try for 10 seconds
            assert everything(empty_url) == []
            # and the cure that it names is one
            connection.execute(str(raised.value).partition("or run ")[2].encode())
            assert migrate(url) == NAMES

    def test_a_lock_left_by_a_killed_run_is_reported_with_its_cure(
        self, empty_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        migrate(empty_url)
        run_yoyo("rollback", empty_url, "--all", "migrations")
        killed = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys, yoyo\n"
                "with yoyo.get_backend(sys.argv[1]).lock():\n"
                "    print('locked', flush=True)\n"
                "    sys.stdin.read()",
                empty_url.replace("postgresql://", "postgresql+psycopg://"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with killed:
            assert killed.stdout is not None
            assert killed.stdout.readline() == "locked\n"
            killed.kill()
        # the 10 seconds that yoyo waits by default
        monkeypatch.setattr(DatabaseBackend.lock.__wrapped__, "__defaults__", (0.1,))

        with pytest.raises(MigrationError, match=f"holds yoyo's lock: Process {killed.pid} ") as raised:
            migrate(empty_url)

        cure = re.search(r"`yoyo (\S+) -d postgresql\+psycopg://…`", str(raised.value))
        assert cure is not None
        run_yoyo(cure[1], empty_url)
        assert migrate(empty_url) == NAMES

    def test_a_search_path_of_schemas_that_do_not_exist(self, empty_url: str) -> None:
        with pytest.raises(MigrationError, match="no schema in the search_path exists: CREATE SCHEMA first"):
            migrate(with_options(empty_url, "-csearch_path=nowhere"))
        assert everything(empty_url) == []

    def test_without_yoyo_it_names_the_extra(self, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yoyo", None)
        with pytest.raises(InstallationError, match=r"pip install yoyo-migrations"):
            migrate(empty_url)

    def test_a_package_without_its_migrations_is_not_taken_for_a_database_up_to_date(
        self, empty_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(plugin_store.cli.migrate, "folder", lambda name: str(tmp_path))
        with pytest.raises(InstallationError, match=f"no migrations in {tmp_path}: install plugin_store again"):
            migrate(empty_url)

    def test_brackets_in_the_path_of_the_package_are_no_pattern(
        self, empty_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        link = tmp_path / "venv[1]"
        link.symlink_to(folder("migrations"), target_is_directory=True)
        monkeypatch.setattr(plugin_store.cli.migrate, "folder", lambda name: str(link))
        assert migrate(empty_url) == NAMES

    def test_an_unreadable_url_is_not_repeated(self) -> None:
        with pytest.raises(InvalidDatabaseURLError, match="cannot be read") as raised:
            migrate("postgresql://user:p@ss:word@localhost/x")
        assert "ss:word" not in str(raised.value)

    def test_a_server_that_does_not_answer(self) -> None:
        with pytest.raises(StoreUnavailableError, match="cannot be reached") as raised:
            migrate("postgresql://user:secret@127.0.0.1:1/x")
        assert "secret" not in str(raised.value)


class TestTable:
    def test_a_role_that_may_only_read_and_write_rows_can_use_the_whole_store(self, empty_url: str, role: str) -> None:
        migrate(empty_url)
        with psycopg.connect(empty_url, autocommit=True) as connection:
            grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON plugin_config TO {}"
            connection.execute(sql.SQL(grant).format(sql.Identifier(role)))

        with PluginConfigRepository.open(with_options(empty_url, f"-crole={role}")) as repository:
            stored = repository.save("a", "enabled", {"k": 1})
            assert repository.get_by_name("a") == stored
            assert repository.add("a", "disabled") == stored
            changed = repository.save_config("a", {"k": 2}, expected_updated_at=stored.updated_at)
            assert changed.config == {"k": 2}
            assert repository.save_config("a", {"k": 3}).config == {"k": 3}
            assert repository.update_config("a", {"l": 4}, remove=["k"]).config == {"l": 4}
            repository.save_many([PluginConfig("b", "enabled", {}), PluginConfig("c")])
            assert [row.plugin_name for row in repository.get_all()] == ["a", "b", "c"]
            assert [row.plugin_name for row in repository.get_enabled()] == ["a", "b"]
            assert repository.get_by_name("a").config == {"l": 4}
            assert repository.delete("a")

    def test_columns_types_nullability_and_defaults(self, connection: Connection) -> None:
        rows = connection.execute(
            """
            SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)
              FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
             WHERE attrelid = 'plugin_config'::regclass AND attnum > 0
             ORDER BY attnum
            """
        )
        assert rows.fetchall() == [
            ("id", "uuid", True, "gen_random_uuid()"),
            ("plugin_name", "character varying(100)", True, None),
            ("status", "character varying(20)", True, "'disabled'::character varying"),
            ("config", "jsonb", True, "'{}'::jsonb"),
            ("enabled_at", "timestamp with time zone", False, None),
            ("disabled_at", "timestamp with time zone", False, None),
            ("created_at", "timestamp with time zone", True, "now()"),
            ("updated_at", "timestamp with time zone", True, "now()"),
        ]

    def test_the_primary_key_is_the_id(self, connection: Connection) -> None:
        rows = connection.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = 'plugin_config'::regclass AND contype IN ('p', 'u') ORDER BY contype"
        )
        assert rows.fetchall() == [("PRIMARY KEY (id)",), ("UNIQUE (plugin_name)",)]

    @pytest.mark.parametrize(
        ("row", "error"),
        [
            ("(plugin_name) VALUES (NULL)", psycopg.errors.NotNullViolation),
            ("(plugin_name) VALUES ('')", psycopg.errors.CheckViolation),
            ("(plugin_name) VALUES (repeat('x', 101))", psycopg.errors.StringDataRightTruncation),
            ("(plugin_name) VALUES ('taken')", psycopg.errors.UniqueViolation),
            ("(plugin_name, status) VALUES ('x', NULL)", psycopg.errors.NotNullViolation),
            ("(plugin_name, status) VALUES ('x', 'Enabled')", psycopg.errors.CheckViolation),
            ("(plugin_name, config) VALUES ('x', NULL)", psycopg.errors.NotNullViolation),
            ("(plugin_name, config) VALUES ('x', '[]')", psycopg.errors.CheckViolation),
            ("(plugin_name, config) VALUES ('x', 'null')", psycopg.errors.CheckViolation),
            ("(plugin_name, created_at) VALUES ('x', NULL)", psycopg.errors.NotNullViolation),
            ("(plugin_name, updated_at) VALUES ('x', NULL)", psycopg.errors.NotNullViolation),
        ],
    )
    def test_refuses(self, connection: Connection, row: LiteralString, error: type[Exception]) -> None:
        connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('taken')")
        with pytest.raises(error):
            connection.execute("INSERT INTO plugin_config " + row)
        assert connection.execute("SELECT count(*) FROM plugin_config").fetchall() == [(1,)]

    def test_the_table_and_every_column_has_a_comment(self, connection: Connection) -> None:
        rows = connection.execute(
            """
            SELECT attname, col_description(attrelid, attnum), obj_description(attrelid, 'pg_class')
              FROM pg_attribute
             WHERE attrelid = 'plugin_config'::regclass AND attnum > 0
            """
        ).fetchall()
        assert len(rows) == 8
        assert [name for name, of_column, of_table in rows if not of_column or not of_table] == []

    @pytest.mark.parametrize("path", STATEMENTS, ids=lambda path: path.stem)
    def test_every_statement_opens_with_a_comment_and_can_be_prepared(self, connection: Connection, path: Path) -> None:
        statement = path.read_text(encoding="utf-8")
        assert statement.startswith("-- ")
        numbers: dict[str, int] = {}
        statement = re.sub(r"%\((\w+)\)s", lambda name: f"${numbers.setdefault(name[1], len(numbers) + 1)}", statement)
        assert "%" not in statement  # psycopg would take it for the start of a parameter, in a comment too

        if path.stem in ("listen", "lock_table"):  # not those that can be prepared
            with connection.transaction():
                connection.execute(statement.encode())
            return
        connection.execute(f"PREPARE statement AS {statement}".encode())

        prepared = connection.execute("SELECT cardinality(parameter_types) FROM pg_prepared_statements")
        assert prepared.fetchall() == [(len(numbers),)]


class TestStamps:
    """What a person types into psql leaves the row as right as the library would."""

    @pytest.fixture
    def psql(self, connection: Connection) -> Connection:
        connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('x')")
        return connection

    def test_a_new_row_is_disabled_since_it_was_made(self, psql: Connection) -> None:
        row = stamps(psql)
        assert (row.status, row.config, row.enabled_at) == ("disabled", {}, None)
        assert row.disabled_at == row.created_at == row.updated_at
        assert row.created_at is not None
        assert row.created_at.utcoffset() is not None
        assert isinstance(row.id, UUID)

    def test_a_new_enabled_row_is_enabled_since_it_was_made(self, connection: Connection) -> None:
        connection.execute("INSERT INTO plugin_config (plugin_name, status) VALUES ('x', 'enabled')")
        row = stamps(connection)
        assert row.enabled_at == row.created_at == row.updated_at
        assert row.disabled_at is None

    def test_each_of_enabled_at_and_disabled_at_keeps_its_value_when_the_other_moves(self, psql: Connection) -> None:
        made = stamps(psql)
        psql.execute("UPDATE plugin_config SET status = 'enabled' WHERE plugin_name = 'x'")
        enabled = stamps(psql)
        assert enabled.enabled_at == enabled.updated_at > made.updated_at  # type: ignore[operator]
        assert enabled.disabled_at == made.disabled_at

        psql.execute("UPDATE plugin_config SET status = 'disabled' WHERE plugin_name = 'x'")
        disabled = stamps(psql)
        assert disabled.disabled_at == disabled.updated_at > enabled.updated_at  # type: ignore[operator]
        assert disabled.enabled_at == enabled.enabled_at

    def test_a_config_edit_is_neither_an_enabling_nor_a_disabling(self, psql: Connection) -> None:
        before = stamps(psql)
        psql.execute("UPDATE plugin_config SET config = '{\"a\": 1}' WHERE plugin_name = 'x'")
        after = stamps(psql)
        assert after.updated_at > before.updated_at  # type: ignore[operator]
        assert (after.enabled_at, after.disabled_at) == (before.enabled_at, before.disabled_at)

    def test_a_new_name_is_a_new_version(self, psql: Connection) -> None:
        before = stamps(psql)
        psql.execute("UPDATE plugin_config SET plugin_name = 'y' WHERE plugin_name = 'x'")
        after = stamps(psql, "y")
        assert after.updated_at > before.updated_at  # type: ignore[operator]
        assert (after.id, after.disabled_at) == (before.id, before.disabled_at)

    @pytest.mark.parametrize(
        "update",
        [
            "UPDATE plugin_config SET status = status",
            "UPDATE plugin_config SET status = 'disabled', config = '{}'",
            "UPDATE plugin_config SET id = gen_random_uuid()",
            "UPDATE plugin_config SET created_at = '2001-01-01 UTC'",
            "UPDATE plugin_config SET updated_at = '2001-01-01 UTC'",
            "UPDATE plugin_config SET updated_at = now() + interval '1 year'",
            "UPDATE plugin_config SET enabled_at = now()",
            "UPDATE plugin_config SET disabled_at = NULL",
        ],
    )
    def test_an_update_that_changes_nothing_of_substance_changes_nothing(
        self, psql: Connection, update: LiteralString
    ) -> None:
        before = stamps(psql)
        assert psql.execute(update).rowcount == 1
        assert stamps(psql) == before

    def test_id_and_created_at_stay_when_all_else_changes(self, psql: Connection) -> None:
        before = stamps(psql)
        psql.execute(
            "UPDATE plugin_config SET status = 'enabled', config = '{\"a\": 1}',"
            " id = gen_random_uuid(), created_at = '2001-01-01 UTC'"
        )
        after = stamps(psql)
        assert (after.status, after.config) == ("enabled", {"a": 1})
        assert (after.id, after.created_at) == (before.id, before.created_at)

    def test_updated_at_grows_with_each_change_even_in_one_transaction(self, psql: Connection) -> None:
        versions: list[datetime | None] = [stamps(psql).updated_at]
        with psql.transaction():
            for number in range(20):
                psql.execute("UPDATE plugin_config SET config = jsonb_build_object('n', %s::int)", (number,))
                versions.append(stamps(psql).updated_at)
        assert versions == sorted(set(versions))  # type: ignore[type-var]

    def test_updated_at_grows_even_when_the_clock_was_wrong(self, connection: Connection) -> None:
        # as it is left by a server whose clock ran ahead, and was put right
        connection.execute("INSERT INTO plugin_config (plugin_name, updated_at) VALUES ('x', now() + interval '1 day')")
        before = stamps(connection)
        connection.execute("UPDATE plugin_config SET status = 'enabled' WHERE plugin_name = 'x'")
        after = stamps(connection)
        assert before.updated_at is not None
        assert after.updated_at == after.enabled_at == before.updated_at + timedelta(microseconds=1)

    def test_the_stamps_of_a_restored_dump_are_kept(self, connection: Connection) -> None:
        old = [f"200{number}-06-01 UTC" for number in range(1, 5)]
        connection.execute(
            "INSERT INTO plugin_config (plugin_name, status, enabled_at, disabled_at, created_at, updated_at)"
            " VALUES ('x', 'enabled', %s, %s, %s, %s)",
            old,
        )
        row = stamps(connection)
        kept = [row.enabled_at, row.disabled_at, row.created_at, row.updated_at]
        assert [stamp and stamp.year for stamp in kept] == [2001, 2002, 2003, 2004]
