"""What a command says at a terminal when it takes long."""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from plugin_store.cli.migrate import migrate
from plugin_store.cli.output import progress

pty = pytest.importorskip("pty", reason="terminals of POSIX")

FILE = '{"format": 1, "plugins": {"mail": {"status": "enabled", "config": {}}}}'


@contextmanager
def at_terminal(*command: str, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process whose stderr is a terminal, and the descriptor from which to read what it shows."""
    screen, terminal = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, *command], env=os.environ | env, stdout=subprocess.DEVNULL, stderr=terminal
        )
        try:
            os.close(terminal)
            yield process, screen
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(screen)


def shown(screen: int, until: bytes = b"\n") -> str:
    """Return what the terminal shows up to there, or up to the end of the process."""
    text = b""
    while until not in text:
        assert select.select([screen], [], [], 60)[0], text
        try:
            text += os.read(screen, 1000)
        except OSError:  # Linux's end of file
            break
    return text.decode()


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "plugins.json").write_text(FILE)
    return str(tmp_path / "plugins.json")


def test_an_import_that_waits_says_for_what(database_url: str, file: str) -> None:
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE plugin_config IN ROW EXCLUSIVE MODE")
        with at_terminal("-m", "plugin_store", "import", file, DATABASE_URL=database_url) as (process, screen):
            assert shown(screen) == "importing, after transactions that write to the table ...\r\n"
            other.rollback()
            assert process.wait(60) == 0
            assert shown(screen) == ""


def test_a_migration_that_waits_says_for_what(empty_url: str) -> None:
    migrate(empty_url)
    with psycopg.connect(empty_url) as other:
        other.execute("INSERT INTO yoyo_lock (locked, pid) VALUES (1, 0)")
        with at_terminal("-m", "plugin_store", "migrate", "--database", empty_url) as (process, screen):
            assert shown(screen) == "migrating, after other migrations and transactions that use the table ...\r\n"
            other.rollback()
            assert process.wait(60) == 0


def test_the_demo_says_what_it_waits_for() -> None:
    program = """
from plugin_store.cli import output as _progress
from plugin_store.demo import play
_progress.PATIENCE_SECONDS = 0.01
play._check_installation = lambda: None
play.APP = "nothing"
play.play()
"""
    with at_terminal("-c", program) as (_, screen):
        lines = shown(screen, until=b"the end of the process").splitlines()
    assert lines[:2] == ["starting a throw-away PostgreSQL ...", "waiting for a service that starts ..."]
    assert "failed: promised was a service that starts" in lines[2]


def test_what_is_quick_says_nothing(database_url: str, file: str) -> None:
    program = """
import sys
from plugin_store.cli import output as _progress
from plugin_store.cli import main
_progress.PATIENCE_SECONDS = 20  # for a machine that is not
sys.exit(main(["import", sys.argv[1]]))
"""
    with at_terminal("-c", program, file, DATABASE_URL=database_url) as (process, screen):
        assert shown(screen) == ""
        assert process.wait(60) == 0


def test_nothing_is_said_where_no_one_sits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    before = threading.enumerate()
    with progress("working"):
        assert threading.enumerate() == before


def test_what_raises_says_nothing_later(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    timers: list[threading.Thread] = []

    def work() -> None:
        before = threading.enumerate()
        with progress("working"):
            timers.extend(set(threading.enumerate()) - set(before))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        work()
    timers[0].join(timeout=60)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
