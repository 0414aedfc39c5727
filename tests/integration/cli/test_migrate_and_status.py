"""``plugin-store migrate`` and ``status`` on databases in the states that operators meet."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from plugin_store import PluginConfigRepository, StoreError
from plugin_store.cli import main
from plugin_store.cli import migrate as module
from plugin_store.cli.migrate import migrate
from plugin_store.errors import MigrationError

Connection = psycopg.Connection[Any]

NAMES = [
    "plugin_store.0001.create-plugin-config",
    "plugin_store.0002.notify-changes",
    "plugin_store.0003.refuse-unreadable-values",
]


class Done(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(empty_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on an empty database."""
    monkeypatch.setenv("DATABASE_URL", empty_url)
    return lambda *args: Done(main(list(args)), *capsys.readouterr())


@pytest.fixture
def admin(empty_url: str) -> Iterator[Connection]:
    """A superuser's connection to the empty database."""
    with psycopg.connect(empty_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def role(admin: Connection) -> Iterator[str]:
    """A role that may do what everyone may."""
    name = f"plugin_store_test_{uuid4().hex}"
    admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    yield name
    admin.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(sql.Identifier(name)))


def with_options(url: str, options: str) -> str:
    return f"{url}&options={quote(options)}"


def everything(connection: Connection) -> list[Any]:
    query = """SELECT nspname, relname, relkind::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname !~ '^pg_|^information_schema$' ORDER BY 1, 2"""
    return connection.execute(query).fetchall()


# -- migrate --------------------------------------------------------------------------------------


def test_migrate_says_what_it_applied(run: Run) -> None:
    first = run("migrate")
    assert (first.status, first.err) == (0, "")
    assert first.out.splitlines() == [f"applied {name}" for name in NAMES]
    assert run("migrate", "--wait", "9") == (0, "nothing to apply, the table is up to date\n", "")
    assert json.loads(run("--json", "migrate").out) == {"applied": []}


def test_migrate_check_changes_nothing(run: Run, admin: Connection) -> None:
    checked = run("migrate", "--check")
    assert (checked.status, checked.out.splitlines()) == (1, [f"pending {name}" for name in NAMES])
    assert everything(admin) == []
    run("migrate")
    assert run("migrate", "--check").status == 0
    admin.execute("ALTER TABLE plugin_config DISABLE TRIGGER plugin_config_stamp")
    for _ in range(2):
        assert run("migrate", "--check", "--json") == (
            1,
            '{\n  "pending": [\n    "repair of plugin_config_stamp"\n  ]\n}\n',
            "",
        )


@pytest.mark.parametrize(
    "damage",
    [
        "ALTER TABLE plugin_config DISABLE TRIGGER USER",
        "DROP TRIGGER plugin_config_stamp ON plugin_config",
        "DROP FUNCTION plugin_config_notify() CASCADE",
        "ALTER TABLE plugin_config DROP CONSTRAINT plugin_config_config_readable",
        "ALTER TABLE plugin_config ENABLE REPLICA TRIGGER plugin_config_notify_rows",
    ],
)
def test_migrate_repairs_the_table(run: Run, admin: Connection, damage: str) -> None:
    run("migrate")
    stored = PluginConfigRepository(admin).save("mail", "enabled", {"port": 25})
    admin.execute(damage.encode())
    assert run("status").status == 1
    repaired = run("migrate")
    assert (repaired.status, repaired.out[:26]) == (0, "applied repair of plugin_c")
    assert run("status").status == 0
    assert PluginConfigRepository(admin).get_all() == [stored]
    assert run("migrate").out.startswith("nothing to apply")


def test_migrate_says_what_it_cannot_repair(run: Run, admin: Connection) -> None:
    run("migrate")
    admin.execute("ALTER TABLE plugin_config DROP CONSTRAINT plugin_config_plugin_name_key")
    failed = run("migrate")
    assert failed.status == 1
    assert "repair of plugin_config_plugin_name_key failed" in failed.err


def test_migrate_keeps_to_the_table_in_use(run: Run, admin: Connection, empty_url: str) -> None:
    run("migrate")
    PluginConfigRepository(admin).save("mail", "enabled")
    admin.execute('CREATE SCHEMA "own ""schema"')
    admin.execute("DROP TRIGGER plugin_config_stamp ON plugin_config")
    admin.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE 'plugin_store.0003%'")
    url = with_options(empty_url, '-csearch_path="own\\ ""schema",public')
    assert migrate(url) == [NAMES[2], "repair of plugin_config_stamp"]
    assert migrate(url) == []
    assert not [row for row in everything(admin) if row[0] != "public"]


@pytest.mark.parametrize(
    "other",
    [
        "CREATE TABLE plugin_config (id serial PRIMARY KEY, name text, value text)",
        "CREATE VIEW plugin_config AS SELECT 1 AS one",
        """CREATE VIEW plugin_config AS SELECT 1 AS id, '' AS plugin_name, '' AS status, '' AS config, 1 AS enabled_at,
            1 AS disabled_at, 1 AS created_at, 1 AS updated_at""",
    ],
)
def test_migrate_refuses_a_relation_of_others(run: Run, admin: Connection, other: str) -> None:
    admin.execute(other.encode())
    before = everything(admin)
    failed = run("migrate")
    assert failed.status == 1
    assert "plugin_config" in failed.err and "plugin-store migrate" not in failed.err
    assert [row for row in everything(admin) if "yoyo" not in row[1]] == before
    status = run("status")
    assert status.status == 1


def test_migrate_refuses_an_old_server(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inspect = module.inspect_schema
    old = lambda connection: dataclasses.replace(inspect(connection), server_version=130022)  # noqa: E731
    monkeypatch.setattr(module, "inspect_schema", old)
    with pytest.raises(MigrationError, match=r"PostgreSQL 13\.22: plugin_store needs PostgreSQL 14"):
        migrate(empty_url)


def test_migrate_works_for_a_user_without_name(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(
        os, "environ", {k: v for k, v in os.environ.items() if k not in ("LOGNAME", "USER", "LNAME", "USERNAME")}
    )
    assert migrate(empty_url) == NAMES


def test_migrations_of_the_host_do_not_disturb(run: Run, admin: Connection, empty_url: str, tmp_path: Path) -> None:
    yoyo = pytest.importorskip("yoyo")
    (tmp_path / "0001.host.sql").write_text("CREATE TABLE host ()")
    backend = yoyo.get_backend(empty_url.replace("postgresql://", "postgresql+psycopg://"))
    with backend, backend.lock():
        backend.apply_migrations(backend.to_apply(yoyo.read_migrations(str(tmp_path))))
    assert [line.split()[1] for line in run("migrate").out.splitlines()] == NAMES
    assert run("status").status == 0
    applied = admin.execute("SELECT migration_id FROM _yoyo_migration ORDER BY 1").fetchall()
    assert applied == [("0001.host",), *((name,) for name in NAMES)]


def test_migrate_waits_for_a_limited_time(admin: Connection, empty_url: str) -> None:
    migrate(empty_url)
    admin.execute("DROP TRIGGER plugin_config_stamp ON plugin_config")
    with psycopg.connect(empty_url) as other:
        other.execute("SELECT FROM plugin_config")
        with pytest.raises(StoreError, match="lock timeout"):
            migrate(with_options(empty_url, "-clock_timeout=100"))


def test_repair_needs_the_owner(admin: Connection, empty_url: str, role: str) -> None:
    migrate(empty_url)
    admin.execute("DROP TRIGGER plugin_config_stamp ON plugin_config")
    admin.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {0}").format(sql.Identifier(role)))
    admin.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {0}").format(sql.Identifier(role)))
    with pytest.raises(MigrationError, match=r"must be owner of .*; migrate as the owner of the table"):
        migrate(with_options(empty_url, f"-crole={role}"))


# -- status ---------------------------------------------------------------------------------------


def test_status_of_a_table_that_is_well(run: Run, admin: Connection) -> None:
    run("migrate")
    for name, status in (("a", "enabled"), ("b", "enabled"), ("c", "disabled")):
        PluginConfigRepository(admin).save(name, status)
    done = run("status")
    assert (done.status, done.err) == (0, "")
    assert re.search(r"\nversion +\d\d\.\d+\n", done.out)
    assert re.search(r"\nrows +1 disabled, 2 enabled\n$", done.out)
    values = json.loads(run("status", "--json").out)
    assert values["rows"] == {"enabled": 2, "disabled": 1}
    assert (values["table"], values["pending_migrations"], values["problems"]) == ("public.plugin_config", [], [])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("DROP TABLE plugin_config", "there is no table plugin_config in the search_path: run `plugin-store migrate`"),
        ("ALTER TABLE plugin_config DISABLE TRIGGER USER", "triggers missing or disabled, plugin_config_stamp"),
        ("DELETE FROM _yoyo_migration", f"migrations are pending, {NAMES[0]}, {NAMES[1]}, {NAMES[2]}: run"),
        ("ALTER TABLE plugin_config DROP COLUMN config CASCADE", "has no column config"),
        (
            """ALTER TABLE plugin_config DROP CONSTRAINT plugin_config_config_readable;
            INSERT INTO plugin_config (plugin_name, config)
            VALUES ('odd', jsonb_build_object('n', repeat('9', 5000)::numeric))""",
            "the row of plugin 'odd' cannot be read",
        ),
    ],
)
def test_status_names_what_needs_a_hand(run: Run, admin: Connection, damage: str, problem: str) -> None:
    run("migrate")
    admin.execute(damage.encode())
    done = run("status")
    assert done.status == 1
    assert problem in done.out
    as_json = run("status", "--json")
    assert as_json.status == 1
    assert any(problem in each for each in json.loads(as_json.out)["problems"])


def test_status_works_for_the_role_of_a_service(run: Run, admin: Connection, empty_url: str, role: str) -> None:
    run("migrate")
    admin.execute(sql.SQL("GRANT SELECT ON plugin_config TO {}").format(sql.Identifier(role)))
    done = run("status", "--database", with_options(empty_url, f"-crole={role}"))
    assert (done.status, done.err) == (0, "")
    assert "this role may not read them" in done.out


def test_check_is_refused_when_migrations_are_unreadable(run: Run, empty_url: str, role: str) -> None:
    run("migrate")
    done = run("migrate", "--check", "--database", with_options(empty_url, f"-crole={role}"))
    assert (done.status, done.out) == (1, "")
    assert "may not read which migrations are applied" in done.err


def test_migrate_names_the_cause_when_read_only(run: Run, empty_url: str) -> None:
    done = run("migrate", "--database", with_options(empty_url, "-cdefault_transaction_read_only=on"))
    assert (done.status, done.out) == (1, "")
    assert "takes no writes" in done.err


def test_status_tells_that_the_database_is_away(run: Run) -> None:
    assert run("status", "--database", "postgresql://127.0.0.1:1/none").status == 3
