"""What the server refuses or cannot do: one of our errors, nothing changed, and the connection goes back clean."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool
from workers import OwnServer, as_nobody, wait_until

from plugin_store import PluginConfig, PluginConfigRepository, StoreError, StoreUnavailableError
from plugin_store.cli.migrate import migrate

WRITES: dict[str, Callable[[PluginConfigRepository], object]] = {
    "save": lambda repository: repository.save("a", "enabled", {"n": 1}),
    "save_config": lambda repository: repository.save_config("a", {"n": 1}),
    "update_config": lambda repository: repository.update_config("a", {"n": 1}),
    "save_many": lambda repository: repository.save_many([PluginConfig(name, "enabled") for name in "abc"]),
    "delete": lambda repository: repository.delete("a"),
}
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
in_and_out_of_autocommit_mode = pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transactions"])


@contextmanager
def store_with(url: str, autocommit: bool = True, **settings: str) -> Iterator[PluginConfigRepository]:
    """Give a repository on a pool of one, which must be the same and clean at the end."""
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    kwargs = {"autocommit": autocommit, "options": options}
    with ConnectionPool(url, min_size=1, max_size=1, kwargs=kwargs, timeout=10, open=True) as pool:
        with pool.connection() as connection:
            pid = connection.info.backend_pid
        repository = PluginConfigRepository(pool)
        yield repository
        with pool.connection() as connection:
            assert connection.info.transaction_status is TransactionStatus.IDLE
            assert connection.autocommit is autocommit
            assert connection.info.backend_pid == pid


def refused(write: Callable[..., object], store: PluginConfigRepository, cause: type[Exception]) -> None:
    cures = r"another transaction holds a lock|connect to the primary|repeat the call|the database refused: "
    with pytest.raises(StoreError, match=cures) as caught:
        write(store)
    assert type(caught.value) is StoreError
    assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize(
    ("setting", "cause"),
    [("statement_timeout", psycopg.errors.QueryCanceled), ("lock_timeout", psycopg.errors.LockNotAvailable)],
)
@in_and_out_of_autocommit_mode
@each_write
def test_a_timeout(
    database_url: str, write: Callable[..., object], autocommit: bool, setting: str, cause: type[Exception]
) -> None:
    with store_with(database_url, autocommit, **{setting: "500"}) as store:
        before = store.save("a", "disabled")
        with psycopg.connect(database_url) as blocker:
            blocker.execute("LOCK TABLE plugin_config IN EXCLUSIVE MODE")
            refused(write, store, cause)
        assert store.get_all() == [before]
        write(store)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@in_and_out_of_autocommit_mode
@each_write
def test_a_serialization_failure(
    database_url: str,
    connection: psycopg.Connection[Any],
    write: Callable[..., object],
    autocommit: bool,
    level: str,
) -> None:
    isolation = level.replace(" ", r"\ ")
    with store_with(database_url, autocommit, default_transaction_isolation=isolation) as store:
        store.save("a", "disabled")
        with ThreadPoolExecutor(1) as executor, psycopg.connect(database_url) as other:
            theirs = PluginConfigRepository(other).save("a", "disabled", {"by": "another"})
            writing = executor.submit(refused, write, store, psycopg.errors.SerializationFailure)
            waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            assert wait_until(lambda: len(connection.execute(waiting).fetchall()) == 1)
            other.commit()
            writing.result(timeout=20)
        assert store.get_all() == [theirs]
        write(store)


@in_and_out_of_autocommit_mode
@each_write
def test_a_read_only_server(
    database_url: str, connection: psycopg.Connection[Any], write: Callable[..., object], autocommit: bool
) -> None:
    PluginConfigRepository(connection).save("a", "disabled")
    with store_with(database_url, autocommit, default_transaction_read_only="on") as store:
        before = store.get_all()
        refused(write, store, psycopg.errors.ReadOnlySqlTransaction)
        assert store.get_all() == before


# -- a full disk ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the server's with a file system of 4 MB of its own."""
    place = tmp_path_factory.mktemp("small") / "disk"
    place.mkdir()
    owner = as_nobody()
    options = f"size=4m,mode=700,uid={owner.get('user', os.geteuid())},gid={owner.get('group', os.getegid())}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, timeout=30)
    except OSError as exc:
        pytest.skip(f"there is no mount: {exc}")
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        for folder in place.parents:
            if os.geteuid() == 0 and not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o001)  # for nobody
        yield place
    finally:
        subprocess.run(["umount", place], check=True, timeout=30)


def test_a_full_disk(small_disk: Path) -> None:
    with OwnServer() as server:
        migrate(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'".encode())
            connection.execute("ALTER TABLE plugin_config SET TABLESPACE small")
        with store_with(server.url) as store:
            store.save("kept", "enabled", {"n": 1})
            with pytest.raises(StoreError, match=r"the database refused: (.|\n)*No space left on device") as caught:
                fill(store)
            assert isinstance(caught.value.__cause__, psycopg.errors.DiskFull)
            before = store.get_all()
            refused(
                lambda store: store.save_many(
                    PluginConfig(f"many {number}", "enabled", {"big": os.urandom(50_000).hex()}) for number in range(50)
                ),
                store,
                psycopg.errors.DiskFull,
            )
            assert store.get_all() == before
            subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True, timeout=30)
            fill(store, 10)
            assert len(store.get_all()) > len(before)


def fill(store: PluginConfigRepository, rows: int = 1000) -> None:
    for number in range(rows):
        store.save(f"{number} of {rows}", "enabled", {"big": os.urandom(50_000).hex()})


# -- the pool -------------------------------------------------------------------------------------


def test_an_exhausted_pool(database_url: str, connection: psycopg.Connection[Any]) -> None:
    with (
        ConnectionPool(database_url, min_size=3, max_size=3, timeout=0.5, open=True) as pool,
        ThreadPoolExecutor(3) as executor,
        psycopg.connect(database_url) as blocker,
    ):
        pool.wait(20)
        store = PluginConfigRepository(pool)
        blocker.execute("LOCK TABLE plugin_config")
        busy = [executor.submit(store.save, f"busy {number}", "enabled") for number in range(3)]
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        assert wait_until(lambda: len(connection.execute(waiting).fetchall()) == 3)
        for call in (PluginConfigRepository.get_all, *WRITES.values()):
            told = r"the pool gives no connection: .*0\.50 sec; its max_size connections are in use"
            with pytest.raises(StoreUnavailableError, match=told):
                call(store)
        blocker.rollback()
        assert [each.result(timeout=20).status for each in busy] == ["enabled"] * 3
        assert len(store.get_all()) == 3
