"""Servers that answer no more: a backend that is stopped, and a table that is locked for long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from plugin_store import PluginConfigRepository, StoreError, StoreUnavailableError

LONGEST = 40.0


@contextmanager
def stopped_backend(repository: PluginConfigRepository) -> Iterator[None]:
    """Stop the one server process that the repository uses; it acknowledges packets and does not answer."""
    with repository.transaction() as inside, inside._connections.cursor() as cursor:
        pid = cursor.connection.info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def repository(database_url: str) -> Iterator[PluginConfigRepository]:
    with PluginConfigRepository.open(database_url, max_size=1) as repository:
        yield repository


def test_call_on_stopped_backend_ends(repository: PluginConfigRepository) -> None:
    repository.save("a", "enabled")
    began = time.monotonic()
    with stopped_backend(repository), pytest.raises(StoreUnavailableError, match="did not answer within 25 seconds"):
        repository.get_by_name("a")
    assert time.monotonic() - began < LONGEST
    assert [row.plugin_name for row in repository.get_all()] == ["a"]


def test_write_that_waits_for_a_lock_ends(repository: PluginConfigRepository, database_url: str) -> None:
    began = time.monotonic()
    with psycopg.connect(database_url) as blocker:
        blocker.execute("LOCK TABLE plugin_config")
        with pytest.raises(StoreError, match="another transaction holds a lock"):
            repository.save("a", "enabled")
    assert time.monotonic() - began < LONGEST
    assert repository.get_all() == []  # the server cancelled it


def test_close_does_not_wait_for_stopped_backend(database_url: str) -> None:
    repository = PluginConfigRepository.open(database_url)
    with stopped_backend(repository):
        began = time.monotonic()
        repository.close()
        assert time.monotonic() - began < 1


def test_interpreter_exits_during_a_silent_call(database_url: str) -> None:
    program = """
import sys, threading, time
from plugin_store import PluginConfigRepository
repository = PluginConfigRepository.open(sys.argv[1])
threading.Thread(target=repository.save, args=["a", "enabled"]).start()
time.sleep(0.5)
"""
    with psycopg.connect(database_url) as blocker:
        blocker.execute("LOCK TABLE plugin_config")
        done = subprocess.run(
            [sys.executable, "-c", program, database_url], capture_output=True, text=True, timeout=LONGEST
        )
    assert "another transaction holds a lock" in done.stderr
