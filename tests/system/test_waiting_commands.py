"""A command that waits for the database says so at a terminal."""

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from plugin_store.cli.migrate import migrate

COMMAND = [sys.executable, "-m", "plugin_store"]


@contextmanager
def at_terminal(*arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run a command whose stderr is a terminal. Give the process, and the descriptor of what it shows."""
    screen, terminal = pty.openpty()
    with os.fdopen(screen, "rb", buffering=0), subprocess.Popen([*COMMAND, *arguments], stderr=terminal) as process:
        os.close(terminal)
        try:
            yield process, screen
        finally:
            process.kill()


def line(screen: int) -> bytes:
    text = b""
    while not text.endswith(b"\n"):
        assert select.select([screen], [], [], 60)[0], text
        text += os.read(screen, 1000)
    return text


def test_import_says_what_it_waits_for(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "plugins.json"
    file.write_text('{"format": 1, "plugins": {"mail": {"status": "enabled", "config": {}}}}')
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE plugin_config IN ROW EXCLUSIVE MODE")
        with at_terminal("import", str(file), "--database", database_url) as (process, screen):
            assert line(screen) == b"importing, after transactions that write to the table ...\r\n"
            other.rollback()
            assert process.wait(60) == 0


def test_migrate_says_what_it_waits_for(empty_url: str) -> None:
    migrate(empty_url)
    with psycopg.connect(empty_url) as other:
        other.execute("INSERT INTO yoyo_lock (locked, pid) VALUES (1, 0)")
        with at_terminal("migrate", "--database", empty_url) as (process, screen):
            assert line(screen) == b"migrating, after other migrations and transactions that use the table ...\r\n"
            other.rollback()
            assert process.wait(60) == 0
