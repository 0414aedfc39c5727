"""What each role may do, when sql/recipes/grants.sql has made it; and what a role is told that may not."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from plugin_store import PluginConfigRepository, SchemaError
from plugin_store.cli.migrate import migrate

Psql = Callable[..., Any]
SCRIPT = Path(__file__).parents[2] / "sql" / "recipes" / "grants.sql"
# As hostile as names of roles can be.
NAMES = {"owner": 'The "Owner"', "service": "it's a service; DROP TABLE plugin_config", "reader": "reader -- %s"}
ALL = {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"}


@pytest.fixture
def run_script(psql: Psql) -> Callable[..., str]:
    """Run a recipe in psql, as an operator does, and return what it said."""

    def run(url: str, script: Path = SCRIPT) -> str:
        names = [f"--set={kind}={name}" for kind, name in NAMES.items()]
        done = psql("-d", url, "--quiet", "--set=ON_ERROR_STOP=1", *names, f"--file={script}")
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    return run


@pytest.fixture
def urls(empty_url: str, run_script: Callable[..., str]) -> Iterator[dict[str, str]]:
    """The URL of each role, as an operator gets them: the script, the migration as the owner, the script twice more."""
    password = secrets.token_hex(8)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        try:
            assert "migrate as the owner, then run this again" in run_script(empty_url)
            for name in NAMES.values():
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), password))
            urls = {role: make_conninfo(empty_url, user=name, password=password) for role, name in NAMES.items()}
            assert len(migrate(urls["owner"])) >= 2
            assert run_script(empty_url) == run_script(empty_url) == "the roles are ready"
            yield urls
        finally:
            for name in NAMES.values():
                connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


RIGHTS = """
    SELECT has_table_privilege('plugin_config', %s), has_schema_privilege(current_schema(), 'CREATE'),
           pg_has_role(tableowner, 'MEMBER'),
           (SELECT bool_or(has_table_privilege(tablename, 'SELECT')) FROM pg_tables WHERE tablename ~ 'yoyo')
      FROM pg_tables
     WHERE tablename = 'plugin_config'
"""


def test_each_role_has_exactly_its_rights(urls: dict[str, str]) -> None:
    expected = {"owner": ALL, "service": {"SELECT", "INSERT", "UPDATE", "DELETE"}, "reader": {"SELECT"}}
    for role, rights in expected.items():
        with psycopg.connect(urls[role]) as own:
            answers = {right: own.execute(RIGHTS, [right]).fetchone() for right in ALL}
        owns = role == "owner"
        assert answers == {right: (right in rights, owns, owns, owns) for right in ALL}


def test_owner_migrates_what_another_role_began(
    urls: dict[str, str], empty_url: str, run_script: Callable[..., str]
) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(NAMES["owner"])))
        connection.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE '%notify%'")
    run_script(empty_url)
    assert migrate(urls["owner"]) == ["plugin_store.0002.notify-changes"]
    assert migrate(urls["owner"]) == []


def test_rights_apply_where_the_table_is(urls: dict[str, str], empty_url: str, run_script: Callable[..., str]) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute('DROP TABLE plugin_config; CREATE SCHEMA first; CREATE SCHEMA "Own, one"')
    assert migrate(make_conninfo(empty_url, options=r'-csearch_path="Own,\ one"'))
    path = r'-csearch_path=first,"Own,\ one"'
    assert run_script(make_conninfo(empty_url, options=path)) == "the roles are ready"
    with PluginConfigRepository.open(make_conninfo(urls["service"], options=path)) as repository:
        assert [repository.save("a", "enabled")] == repository.get_all()
    owner = make_conninfo(urls["owner"], options=path)
    assert migrate(owner) == []
    with psycopg.connect(owner, autocommit=True) as own:
        own.execute("ALTER TABLE plugin_config DISABLE TRIGGER USER; ALTER FUNCTION plugin_config_stamp() COST 1")


def test_service_cannot_forge_history(urls: dict[str, str], run_script: Callable[..., str]) -> None:
    run_script(urls["owner"], SCRIPT.with_name("history.sql"))
    with psycopg.connect(urls["service"], autocommit=True) as own:
        own.execute("CREATE TEMP TABLE mine (plugin_name text, status text, config jsonb)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function"):
            own.execute("""CREATE TRIGGER forge AFTER INSERT OR DELETE ON mine
                FOR EACH ROW EXECUTE FUNCTION public.plugin_config_remember()""")
        own.execute("INSERT INTO plugin_config (plugin_name) VALUES ('real')")
    with psycopg.connect(urls["owner"]) as owner:
        found = owner.execute("SELECT who, what, name_after FROM plugin_config_history").fetchall()
    assert found == [(NAMES["service"], "insert", "real")]


def test_role_without_schema_is_told_so(urls: dict[str, str], empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA elsewhere; ALTER TABLE plugin_config SET SCHEMA elsewhere")
    url = make_conninfo(urls["service"], options="-c search_path=elsewhere")
    with PluginConfigRepository.open(url) as repository, pytest.raises(SchemaError, match="may not use its schema"):
        repository.get_all()
