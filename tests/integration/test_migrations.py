"""The migrations, run by the stock yoyo command and by migrate(), and what they make of a database."""

import dataclasses
import pwd
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from databases import Connection
from recorder import raising
from servers import Server
from yoyo.backends import DatabaseBackend

import plugin_store.cli.migrate
from plugin_store import PluginConfig, PluginConfigRepository
from plugin_store.cli.migrate import migrate
from plugin_store.errors import InstallationError, MigrationError
from plugin_store.stores.statements import folder

CHECKOUT = Path(__file__).parents[2]
MIGRATIONS = sorted(path for path in (CHECKOUT / "migrations").glob("*.sql") if not path.match("*.rollback.sql"))
ROLLBACKS = sorted((CHECKOUT / "migrations").glob("*.rollback.sql"))
STATEMENTS = sorted((CHECKOUT / "sql").glob("*.sql"))
NAMES = [path.stem for path in MIGRATIONS]
YOYO = Path(sysconfig.get_path("scripts")) / "yoyo"

# What a migration can leave behind, but for yoyo's own tables.
EVERYTHING = """
    SELECT kind, nspname, name
      FROM (SELECT 'relation', relname, relnamespace FROM pg_class
             UNION ALL SELECT 'function', proname, pronamespace FROM pg_proc
             UNION ALL SELECT 'type', typname, typnamespace FROM pg_type
             UNION ALL SELECT 'constraint', conname, connamespace FROM pg_constraint
             UNION ALL SELECT 'trigger', tgname, relnamespace FROM pg_trigger JOIN pg_class ON tgrelid = pg_class.oid
           ) AS object (kind, name, namespace)
      JOIN pg_namespace ON pg_namespace.oid = namespace
     WHERE nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
       AND name NOT LIKE '%yoyo%'
     ORDER BY 1, 2, 3
"""


def run_yoyo(command: str, url: str, *arguments: str) -> None:
    """Run the stock command as an operator would, from a checkout."""
    options = ["--batch", "--no-config-file", "-d", url.replace("postgresql://", "postgresql+psycopg://")]
    subprocess.run([YOYO, command, *options, *arguments], cwd=CHECKOUT, timeout=60, check=True)


def everything(connection: Connection) -> list[Any]:
    return connection.execute(EVERYTHING).fetchall()


def tables(connection: Connection) -> list[str]:
    found = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'plugin_config' ORDER BY 1")
    return [f"{schema}.plugin_config" for (schema,) in found]


def applied(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT migration_id FROM _yoyo_migration ORDER BY 1")]


def with_options(url: str, options: str) -> str:
    """Return the URL with settings for the server, such as another search_path or role."""
    return f"{url}&options={quote(options)}"


@pytest.fixture
def admin(empty_url: str) -> Iterator[Connection]:
    """A superuser's connection to the empty database."""
    with psycopg.connect(empty_url, autocommit=True) as connection:
        yield connection


def test_folder_holds_migrations_with_rollbacks_only() -> None:
    # yoyo tells migrations apart by their file names alone, and would take an __init__.py for one.
    assert NAMES and all(re.fullmatch(r"plugin_store\.\d{4}\.[a-z-]+", name) for name in NAMES)
    assert [path.name.replace(".rollback.sql", "") for path in ROLLBACKS] == NAMES
    files = set((CHECKOUT / "migrations").iterdir())
    assert files - {CHECKOUT / "migrations" / "README.md"} == {*MIGRATIONS, *ROLLBACKS}


@pytest.mark.parametrize("files", [MIGRATIONS, ROLLBACKS], ids=["up", "down"])
def test_migration_can_be_run_twice(connection: Connection, files: list[Path]) -> None:
    for path in files:
        connection.execute(path.read_bytes())
        once = everything(connection)
        connection.execute(path.read_bytes())
        assert everything(connection) == once


@pytest.mark.parametrize("path", STATEMENTS, ids=lambda path: path.stem)
def test_statement_opens_with_a_comment(path: Path) -> None:
    statement = path.read_text(encoding="utf-8")
    assert statement.startswith("-- ")
    # psycopg would take any other % for the start of a parameter, in a comment too.
    assert "%" not in re.sub(r"%\(\w+\)s", "", statement)


def test_yoyo_and_migrate_take_turns(empty_url: str, admin: Connection) -> None:
    before = everything(admin)
    run_yoyo("apply", empty_url, "migrations")
    made = everything(admin)
    assert tables(admin) == ["public.plugin_config"]
    assert migrate(empty_url) == []
    run_yoyo("rollback", empty_url, "--all", "migrations")
    assert everything(admin) == before
    assert migrate(empty_url) == NAMES
    assert everything(admin) == made


def test_each_schema_has_a_table(empty_url: str, admin: Connection) -> None:
    admin.execute("CREATE SCHEMA own")
    own_url = with_options(empty_url, "-csearch_path=own")
    run_yoyo("apply", own_url, "migrations")
    assert tables(admin) == ["own.plugin_config"]
    assert migrate(empty_url) == NAMES
    assert tables(admin) == ["own.plugin_config", "public.plugin_config"]
    with PluginConfigRepository.open(own_url) as own:
        stored = own.save("x", "enabled", {"a": 1})
        assert own.get_all() == [stored]
    assert PluginConfigRepository(admin).get_all() == []


def test_yoyo_makes_no_table_that_hides_another(
    database_url: str, connection: Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    connection.execute('CREATE SCHEMA "Own"')
    with pytest.raises(subprocess.CalledProcessError):
        run_yoyo("apply", with_options(database_url, '-csearch_path="Own",public'), "migrations")
    assert 'schema public has the table plugin_config, and one in schema "Own" would hide it' in capfd.readouterr().err
    assert tables(connection) == ["public.plugin_config"]
    run_yoyo("apply", with_options(database_url, '-csearch_path="Own"'), "migrations")
    assert tables(connection) == ["Own.plugin_config", "public.plugin_config"]


def test_four_threads_may_migrate_at_once(empty_url: str, admin: Connection) -> None:
    with ThreadPoolExecutor(4) as threads:
        names = list(threads.map(migrate, [empty_url] * 4))
    assert sorted(names) == [[], [], [], NAMES]
    assert applied(admin) == NAMES


def test_migrate_says_how_to_break_a_lock(
    database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = PluginConfigRepository(connection).save("x", "enabled", {"kept": True})
    # A migration was killed before it was recorded.
    connection.execute("DELETE FROM _yoyo_migration; INSERT INTO yoyo_lock (locked, pid) VALUES (1, 4711)")
    monkeypatch.setattr(DatabaseBackend.lock.__wrapped__, "__defaults__", (0.1,))  # seconds; yoyo waits for 10
    with pytest.raises(MigrationError, match="holds yoyo's lock: Process 4711 ") as raised:
        migrate(database_url)
    cure = re.search(r"`yoyo (\S+) -d postgresql\+psycopg://…`", str(raised.value))
    assert cure is not None
    run_yoyo(cure[1], database_url)
    assert migrate(database_url) == applied(connection) == NAMES
    assert PluginConfigRepository(connection).get_all() == [stored]


def test_migrate_works_without_an_encoding(admin: Connection, server: Server) -> None:
    admin.execute("CREATE DATABASE no_encoding ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        url = server.url("no_encoding")
        assert migrate(url) == NAMES
        with PluginConfigRepository.open(url) as repository:
            saved = repository.save("é", "enabled", {"a": 1})
            assert repository.get_all() == [saved]
    finally:
        admin.execute("DROP DATABASE no_encoding WITH (FORCE)")


def test_migrate_works_for_a_user_without_name(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwuid", raising(KeyError("uid not found")))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")  # getpass takes no empty name; migrate() sets one, and pytest removes it again
    assert migrate(empty_url) == NAMES


def test_migrations_of_the_host_do_not_disturb(empty_url: str, admin: Connection, tmp_path: Path) -> None:
    (tmp_path / "0001.host.sql").write_text("CREATE TABLE host ()")
    run_yoyo("apply", empty_url, str(tmp_path))
    assert migrate(empty_url) == NAMES
    assert applied(admin) == ["0001.host", *NAMES]


def test_migrate_keeps_to_the_table_in_use(database_url: str, connection: Connection) -> None:
    connection.execute('CREATE SCHEMA "own ""schema"; DROP TRIGGER plugin_config_stamp ON plugin_config')
    connection.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE 'plugin_store.0003%'")
    url = with_options(database_url, '-csearch_path="own\\ ""schema",public')
    assert migrate(url) == [NAMES[2], "repair of plugin_config_stamp"]
    assert migrate(url) == []
    assert {schema for _, schema, _ in everything(connection)} == {"public"}


def test_migrate_says_what_prevents_it(empty_url: str, admin: Connection) -> None:
    with pytest.raises(MigrationError, match="no schema in the search_path exists: CREATE SCHEMA first"):
        migrate(with_options(empty_url, "-csearch_path=nowhere"))
    with pytest.raises(MigrationError, match="the database takes no writes here"):
        migrate(with_options(empty_url, "-cdefault_transaction_read_only=on"))
    assert everything(admin) == []


def test_migrate_names_the_grant_that_it_needs(empty_url: str, admin: Connection, role: str) -> None:
    admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    url, started = with_options(empty_url, f"-crole={role}"), time.monotonic()
    with pytest.raises(MigrationError, match=f"'{role}' may not create tables .* 'public'") as raised:
        migrate(url)
    assert time.monotonic() - started < 5  # yoyo would try for 10 seconds
    assert everything(admin) == []
    admin.execute(str(raised.value).partition("or run ")[2].encode())
    assert migrate(url) == NAMES


def test_repair_needs_the_owner(database_url: str, connection: Connection, role: str) -> None:
    connection.execute("DROP TRIGGER plugin_config_stamp ON plugin_config")
    connection.execute(f"GRANT ALL ON SCHEMA public TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    with pytest.raises(MigrationError, match=r"must be owner of .*; migrate as the owner of the table"):
        migrate(with_options(database_url, f"-crole={role}"))


def test_migrate_refuses_an_old_server(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inspect = plugin_store.cli.migrate.inspect_schema
    old = lambda connection: dataclasses.replace(inspect(connection), server_version=130022)  # noqa: E731
    monkeypatch.setattr(plugin_store.cli.migrate, "inspect_schema", old)
    with pytest.raises(MigrationError, match=r"PostgreSQL 13\.22: plugin_store needs PostgreSQL 14"):
        migrate(empty_url)


def test_migrate_without_yoyo_names_the_package(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yoyo", None)
    with pytest.raises(InstallationError, match=r"pip install yoyo-migrations"):
        migrate(empty_url)


def test_migrate_refuses_an_empty_folder(empty_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "venv[1]"  # a path is not a pattern
    link.symlink_to(folder("migrations"), target_is_directory=True)
    paths = [tmp_path, link]
    for module in (plugin_store.stores.statements, plugin_store.cli.migrate):
        monkeypatch.setattr(module, "folder", lambda name: str(paths[0]))
    with pytest.raises(InstallationError, match=f"no migrations in {tmp_path}: install plugin_store again"):
        migrate(empty_url)
    del paths[0]
    assert migrate(empty_url) == NAMES


def test_table_has_these_columns_with_comments(connection: Connection) -> None:
    rows = connection.execute(
        """
        SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)
          FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
         WHERE attrelid = 'plugin_config'::regclass AND attnum > 0
           AND col_description(attrelid, attnum) <> '' AND obj_description(attrelid, 'pg_class') <> ''
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
    keys = connection.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'plugin_config'::regclass AND contype IN ('p', 'u') ORDER BY contype"
    )
    assert keys.fetchall() == [("PRIMARY KEY (id)",), ("UNIQUE (plugin_name)",)]
    # Names are sorted as Python sorts them. The embedded server has no locale that would sort otherwise.
    collation = "SELECT collation_name FROM information_schema.columns WHERE column_name = 'plugin_name'"
    assert connection.execute(collation).fetchall() == [("C",)]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("(plugin_name) VALUES ('')", psycopg.errors.CheckViolation),
        ("(plugin_name, status) VALUES ('x', 'Enabled')", psycopg.errors.CheckViolation),
        ("(plugin_name, status) VALUES ('x', NULL)", psycopg.errors.NotNullViolation),
        ("(plugin_name, config) VALUES ('x', '[]')", psycopg.errors.CheckViolation),
    ],
)
def test_table_refuses_wrong_values(connection: Connection, row: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        connection.execute(f"INSERT INTO plugin_config {row}".encode())


# A statement in psql stamps the row as the library would.
UPDATE = "UPDATE plugin_config SET "


def stamped(connection: Connection, statement: str) -> PluginConfig:
    """Execute the statement, and return the only row."""
    assert connection.execute(statement.encode()).rowcount == 1
    (row,) = PluginConfigRepository(connection).get_all()
    return row


def updated(connection: Connection, values: str) -> PluginConfig:
    return stamped(connection, UPDATE + values)


@pytest.fixture
def made(connection: Connection) -> PluginConfig:
    return stamped(connection, "INSERT INTO plugin_config (plugin_name) VALUES ('x')")


def test_changed_status_moves_its_stamp(made: PluginConfig, connection: Connection) -> None:
    enabled = updated(connection, "status = 'enabled'")
    assert enabled.enabled_at == enabled.updated_at > made.updated_at
    assert enabled.disabled_at == made.disabled_at
    disabled = updated(connection, "status = 'disabled'")
    assert disabled.disabled_at == disabled.updated_at > enabled.updated_at
    assert disabled.enabled_at == enabled.enabled_at


@pytest.mark.parametrize("values", ["config = '{\"a\": 1}'", "plugin_name = 'y'"])
def test_other_change_moves_only_updated_at(made: PluginConfig, connection: Connection, values: str) -> None:
    row = updated(connection, f"{values}, id = gen_random_uuid(), created_at = '2001-01-01 UTC', enabled_at = now()")
    assert row.updated_at > made.updated_at
    same = {"id": made.id, "created_at": made.created_at, "enabled_at": None, "disabled_at": made.disabled_at}
    assert {name: getattr(row, name) for name in same} == same


@pytest.mark.parametrize(
    "values",
    [
        "status = 'disabled', config = '{}'",
        "id = gen_random_uuid(), created_at = '2001-01-01 UTC'",
        "updated_at = '2001-01-01 UTC'",
        "enabled_at = now(), disabled_at = NULL",
    ],
)
def test_update_without_a_change_moves_nothing(made: PluginConfig, connection: Connection, values: str) -> None:
    assert updated(connection, values) == made


def test_stamps_of_a_restored_dump_are_kept(connection: Connection) -> None:
    row = stamped(
        connection,
        "INSERT INTO plugin_config (plugin_name, status, enabled_at, disabled_at, created_at, updated_at) VALUES"
        " ('x', 'enabled', '2001-06-01 UTC', '2002-06-01 UTC', '2003-06-01 UTC', '2004-06-01 UTC')",
    )
    kept = [row.enabled_at, row.disabled_at, row.created_at, row.updated_at]
    assert [stamp and stamp.year for stamp in kept] == [2001, 2002, 2003, 2004]
