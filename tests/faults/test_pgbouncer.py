"""Behind a PgBouncer in transaction mode: each statement may run in another session of the server than the last."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from recorder import Service
from servers import Server
from workers import PLUGINS, environment, pgbouncer, wait_until

from plugin_store import PluginConfig, PluginConfigRepository, PluginWatcher, dump_plugins
from plugin_store.cli.migrate import migrate
from plugin_store.testing import ConcurrentPluginConfigStoreContract, PluginConfigStoreContract


@pytest.fixture(scope="module")
def pooled_url(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database through a PgBouncer that has three sessions for all of its clients."""
    with psycopg.connect(server.url(server.maintenance_dbname), autocommit=True) as connection:
        connection.execute("CREATE DATABASE behind_pgbouncer")
        try:
            url = server.url("behind_pgbouncer")
            with pgbouncer(url, tmp_path_factory.mktemp("pgbouncer"), default_pool_size=3) as pooled:
                migrate(pooled)
                yield pooled
        finally:
            connection.execute("DROP DATABASE behind_pgbouncer WITH (FORCE)")


@pytest.fixture
def store(pooled_url: str) -> Iterator[PluginConfigRepository]:
    with PluginConfigRepository.open(pooled_url, min_size=2, max_size=8) as store:
        for row in store.get_all():
            store.delete(row.plugin_name)
        yield store


class TestStore(PluginConfigStoreContract, ConcurrentPluginConfigStoreContract):
    """The whole contract."""


def test_clients_that_use_the_same_sessions_do_not_disturb_each_other(
    store: PluginConfigRepository, pooled_url: str
) -> None:
    def use(client: int) -> None:
        name = f"client {client}"
        with PluginConfigRepository.open(pooled_url, min_size=2, max_size=2) as own:
            # Each begins with another method, so that what they would prepare under one name is not the same.
            methods = [
                lambda: own.save(name, "enabled", {"client": client}).config["client"] == client,
                lambda: own.get_by_name("no such plugin") is None,
                lambda: own.delete("no such plugin") is False,
                lambda: own.get_by_name("kept").config == {"kept": True},
                lambda: own.save_many([PluginConfig(name, "disabled", {"client": client})]) is None,
                lambda: "kept" in [row.plugin_name for row in own.get_all()],
                lambda: own.update_config(name, {"more": 1}).config["client"] == client,
                lambda: own.get_by_name("kept") is not None,
            ]
            for number in range(200):
                assert methods[(client + number) % len(methods)](), number

    store.save("kept", "enabled", {"kept": True})
    for client in range(8):
        store.save(f"client {client}", "enabled", {"client": client})
    with ThreadPoolExecutor(8) as executor:
        for done in [executor.submit(use, client) for client in range(8)]:
            done.result(timeout=60)
    assert len(store.get_all()) == 9


def test_a_read_never_runs_the_delete_of_another_client(store: PluginConfigRepository, pooled_url: str) -> None:
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


def test_the_command_line_too_and_it_leaves_nothing_behind(
    store: PluginConfigRepository, pooled_url: str, tmp_path: Path
) -> None:
    names = [f"plugin {number}" for number in range(10)]
    few = tmp_path / "few.json"
    few.write_text(dump_plugins([PluginConfig(name, "enabled") for name in names]))
    for command in (
        ["enable", "--create", "to be pruned", *(f"{number} too" for number in range(10))],
        ["import", "--prune", str(few)],
        ["disable", *names],
        ["enable", *names],
        ["show", names[0], "--json"],
        ["list"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "plugin_store", *command, "--database", pooled_url],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
    # What is left in a session is in the way of the next client that it is given to.
    with ExitStack() as stack:
        for _ in range(3):
            session = stack.enter_context(psycopg.connect(pooled_url, prepare_threshold=None))
            assert session.execute("SELECT statement FROM pg_prepared_statements").fetchall() == []
    assert [(row.plugin_name, row.status) for row in store.get_all()] == [(name, "enabled") for name in names]


def test_the_watcher_polls_and_says_so_once(
    store: PluginConfigRepository, pooled_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(store, PLUGINS)
    with PluginWatcher(service.manager, pooled_url, resync_seconds=0.3, poll_seconds=0.05):
        for number in range(10):
            store.save("a", "enabled", {"number": number})
            assert wait_until(lambda: service["a"].get_config("number") == number)  # noqa: B023
    assert [record.getMessage() for record in caplog.records if record.name.startswith("plugin_store")] == [
        "polling plugin_config every 0.05 s: there is a connection pooler before the server"
    ]
