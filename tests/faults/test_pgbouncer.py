"""Behind a PgBouncer in transaction mode: each statement may run in another session of the server than the last."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from databases import Databases
from workers import pgbouncer

from plugin_store import PluginConfig, PluginConfigRepository, dump_plugins
from plugin_store.cli import main
from plugin_store.testing import ConcurrentPluginConfigStoreContract, PluginConfigStoreContract


@pytest.fixture(scope="module")
def pooled_url(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database through a PgBouncer that has three sessions for all of its clients."""
    place = tmp_path_factory.mktemp("pgbouncer")
    with databases.migrated() as url, pgbouncer(url, place, default_pool_size=3) as pooled:
        yield pooled


@pytest.fixture
def store(pooled_url: str) -> Iterator[PluginConfigRepository]:
    with PluginConfigRepository.open(pooled_url, min_size=2, max_size=8) as store:
        for row in store.get_all():
            store.delete(row.plugin_name)
        yield store


class TestStore(PluginConfigStoreContract, ConcurrentPluginConfigStoreContract):
    """The whole contract."""


def test_read_never_runs_delete_of_another_client(store: PluginConfigRepository, pooled_url: str) -> None:
    # What they would prepare has one name, and each stays behind in the session where it was prepared.
    with (
        PluginConfigRepository.open(pooled_url, max_size=1) as reader,
        PluginConfigRepository.open(pooled_url, max_size=1) as deleter,
        psycopg.connect(pooled_url) as holder,
    ):
        saved = store.save("kept", "enabled")
        for _ in range(3):
            reader.get_by_name("kept")
            holder.execute("SELECT 1")  # takes a session away, for as long as its transaction lasts
            deleter.delete("another")
            assert reader.get_by_name("kept") == saved
            holder.rollback()
        assert store.get_all() == [saved]


def test_commands_leave_no_prepared_statement(store: PluginConfigRepository, pooled_url: str, tmp_path: Path) -> None:
    names = [f"plugin {number}" for number in range(10)]
    few = tmp_path / "few.json"
    few.write_text(dump_plugins([PluginConfig(name, "enabled") for name in names]))
    for command in (
        ["enable", "--create", "to be pruned", *(f"{number} too" for number in range(10))],
        ["import", "--prune", str(few)],
        ["disable", *names],
        ["enable", *names],
        ["list"],
    ):
        assert main([*command, "--database", pooled_url]) == 0
    with ExitStack() as stack:
        for _ in range(3):
            session = stack.enter_context(psycopg.connect(pooled_url, prepare_threshold=None))
            assert session.execute("SELECT statement FROM pg_prepared_statements").fetchall() == []
    assert [(row.plugin_name, row.status) for row in store.get_all()] == [(name, "enabled") for name in names]
