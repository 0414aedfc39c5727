"""``plugin-store migrate`` and ``status`` on databases in the states that operators meet."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from databases import UNREADABLE_ROW, Connection

from plugin_store import PluginConfigRepository
from plugin_store.stores.statements import folder

NAMES = sorted(path.stem for path in Path(folder("migrations")).glob("*.sql") if not path.match("*.rollback.sql"))


Run = Callable[..., Any]


def test_migrate_prints_what_it_applied(run: Run, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_url)
    pending = [f"pending {name}" for name in NAMES]
    for _ in range(2):
        checked = run("migrate", "--check")
        assert (checked.status, checked.out.splitlines(), checked.err) == (1, pending, "")
    first = run("migrate")
    assert (first.status, first.out.splitlines(), first.err) == (0, [f"applied {name}" for name in NAMES], "")
    for args in ((), ("--wait", "9"), ("--check",)):
        assert run("migrate", *args) == (0, "nothing to apply, the table is up to date\n", "")
    assert json.loads(run("--json", "migrate").out) == {"applied": []}


def test_migrate_repairs_the_table(run: Run, connection: Connection) -> None:
    stored = PluginConfigRepository(connection).save("mail", "enabled", {"port": 25})
    connection.execute("ALTER TABLE plugin_config DISABLE TRIGGER plugin_config_stamp")
    for _ in range(2):
        checked = run("migrate", "--check", "--json")
        assert (checked.status, json.loads(checked.out)) == (1, {"pending": ["repair of plugin_config_stamp"]})
    assert run("migrate") == (0, "applied repair of plugin_config_stamp\n", "")
    assert run("status").status == 0
    assert PluginConfigRepository(connection).get_all() == [stored]
    connection.execute("ALTER TABLE plugin_config DROP CONSTRAINT plugin_config_plugin_name_key")
    connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('mail')")
    failed = run("migrate")
    assert failed.status == 1 and 'could not create unique index "plugin_config_plugin_name_key"' in failed.err


def test_migrate_makes_a_dropped_table_again(run: Run, connection: Connection) -> None:
    connection.execute("DROP TABLE plugin_config")
    assert run("migrate", "--check")[:2] == (1, "pending repair of plugin_config\n")
    assert run("migrate") == (0, "applied repair of plugin_config\n", "")
    assert run("status").status == 0


OTHERS = {
    "TABLE plugin_config (id serial, name text)": "no column updated_at, its column id is integer, not uuid: set",
    "TABLE plugin_config (LIKE gone); ALTER TABLE plugin_config ALTER config TYPE text": "column config is text, not",
    "TABLE plugin_config (LIKE gone) PARTITION BY LIST (status)": "it is not an ordinary table: set the search_path",
    "VIEW plugin_config AS SELECT * FROM gone": "it is not an ordinary table: set the search_path",
}


@pytest.mark.parametrize("other", OTHERS)
def test_migrate_refuses_a_relation_of_others(run: Run, connection: Connection, other: str) -> None:
    connection.execute(f"ALTER TABLE plugin_config RENAME TO gone; CREATE {other}".encode())
    connection.execute("DELETE FROM _yoyo_migration")
    failed = run("migrate")
    assert failed.status == run("status").status == 1
    assert OTHERS[other] in failed.err and "plugin-store migrate" not in failed.err
    triggers = connection.execute("SELECT FROM pg_trigger WHERE tgrelid = 'plugin_config'::regclass")
    assert triggers.fetchall() == []


def test_status_of_a_sound_table(run: Run, connection: Connection) -> None:
    for name, status in (("a", "enabled"), ("b", "enabled"), ("c", "disabled")):
        PluginConfigRepository(connection).save(name, status)
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
        ("DELETE FROM _yoyo_migration", f"migrations are pending, {', '.join(NAMES)}: run"),
        ("ALTER TABLE plugin_config DROP COLUMN config CASCADE", "has no column config"),
        (UNREADABLE_ROW, "the row of plugin 'odd' cannot be read"),
    ],
)
def test_status_names_the_problem(run: Run, connection: Connection, damage: str, problem: str) -> None:
    connection.execute(damage.encode())
    done, as_json = run("status"), run("status", "--json")
    assert (done.status, as_json.status) == (1, 1)
    assert problem in done.out
    assert any(problem in each for each in json.loads(as_json.out)["problems"])


def test_services_role_may_not_read_migrations(run: Run, connection: Connection, database_url: str, role: str) -> None:
    connection.execute(f"GRANT SELECT ON plugin_config TO {role}".encode())
    url = f"{database_url}&options=-crole%3D{role}"
    done = run("status", "--database", url)
    assert (done.status, done.err) == (0, "") and "this role may not read them" in done.out
    done = run("migrate", "--check", "--database", url)
    assert (done.status, done.out) == (1, "") and "may not read which migrations are applied" in done.err
