"""The server's disk is full: a write raises our error and changes nothing."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from workers import OwnServer, as_nobody

from plugin_store import PluginConfig, PluginConfigRepository, StoreError


@pytest.fixture
def small_disk(own_server: OwnServer) -> Iterator[Path]:
    """A folder of the server's with a file system of 4 MB of its own."""
    place = own_server.directory / "small"
    place.mkdir()
    owner = as_nobody()
    options = f"size=4m,mode=700,uid={owner.get('user', os.geteuid())},gid={owner.get('group', os.getegid())}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
    try:
        subprocess.run(mount, capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"a file system cannot be mounted here: {exc}")
    try:
        yield place
    finally:
        own_server.stop()
        subprocess.run(["umount", place], check=True, timeout=30)


def big(name: str) -> PluginConfig:
    return PluginConfig(name, "enabled", {"big": os.urandom(50_000).hex()})


def fill(store: PluginConfigRepository) -> None:
    for number in range(1000):
        store.save_many([big(f"row {number}")])


def test_writes_are_refused_whole_until_disk_has_room(small_disk: Path, own_server: OwnServer) -> None:
    with psycopg.connect(own_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'".encode())
        connection.execute("ALTER TABLE plugin_config SET TABLESPACE small")
    with PluginConfigRepository.open(own_server.url, max_size=1) as store:
        store.save("kept", "enabled", {"n": 1})
        with pytest.raises(StoreError, match=r"the database refused: (.|\n)*No space left on device") as caught:
            fill(store)
        assert isinstance(caught.value.__cause__, psycopg.errors.DiskFull)
        before = store.get_all()
        many = [big(f"many {number}") for number in range(50)]
        with pytest.raises(StoreError, match="No space left on device"):
            store.save_many(many)
        assert store.get_all() == before != []
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True, timeout=30)
        store.save_many(many)
        assert len(store.get_all()) == len(before) + len(many)
