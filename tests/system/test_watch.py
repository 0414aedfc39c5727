"""``plugin-store watch``, as a process whose lines are read while the table changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from queue import Empty, SimpleQueue
from typing import Any

import psycopg
import pytest
from workers import environment, wait_until

from plugin_store import PluginConfigRepository


class Watch:
    """The running command, and what it prints, line by line."""

    def __init__(self, url: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "plugin_store", *arguments],
            env=environment(DATABASE_URL=url, PYTHONIOENCODING="utf-8", TZ="UTC"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.errors: list[str] = []
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._readers = [threading.Thread(target=read) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def line(self) -> str:
        """Return the next line, waiting for it."""
        try:
            return self._lines.get(timeout=20)
        except Empty:
            pytest.fail(f"no line; stderr: {self.errors}")

    def end(self) -> int:
        # When it is idle again: an interrupt that falls into coverage's own code leaves that locked up at exit.
        time.sleep(0.3)
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()  # one that does not end would hold up the readers, and they the run of all tests
            for reader in self._readers:
                reader.join(20)
            for stream in (self.process.stdout, self.process.stderr):
                assert stream is not None
                stream.close()

    def nothing_more(self) -> bool:
        return self._lines.empty()


@contextmanager
def watching(url: str, *arguments: str) -> Iterator[Watch]:
    watch = Watch(url, *arguments)
    try:
        assert wait_until(lambda: watch.errors == ["watching, ^C ends it\n"], 20), watch.errors
        yield watch
    finally:
        if watch.process.poll() is None:
            watch.end()


def changes(watch: Watch, count: int) -> list[str]:
    """Return so many lines without their times, which must be times."""
    lines = [watch.line() for _ in range(count)]
    for line in lines:
        assert datetime.fromisoformat(line[:25]).tzinfo is not None
    return [line[26:] for line in lines]


def test_each_change_is_a_line(database_url: str, connection: psycopg.Connection[Any]) -> None:
    connection.execute("""INSERT INTO plugin_config (plugin_name, config) VALUES ('old', '{"key": 1}')""")
    with watching(database_url, "watch", "--show-values") as watch:
        connection.execute("""INSERT INTO plugin_config (plugin_name, config) VALUES ('new', '{"n": {"deep": "é"}}')""")
        assert changes(watch, 2) == ['+ new: status "disabled"', '+ new: config.n {"deep": "é"}']
        connection.execute("UPDATE plugin_config SET status = 'enabled' WHERE plugin_name = 'old'")
        assert changes(watch, 1) == ['~ old: status "disabled" -> "enabled"']
        connection.execute("""UPDATE plugin_config SET config = '{"key": true, "more": null}', status = 'disabled'
            WHERE plugin_name = 'old'""")
        assert changes(watch, 3) == [
            '~ old: status "enabled" -> "disabled"',
            "~ old: config.key 1 -> true",
            "+ old: config.more null",
        ]
        connection.execute("UPDATE plugin_config SET plugin_name = 'older' WHERE plugin_name = 'old'")
        assert changes(watch, 6) == [
            '- old: status "disabled"',
            "- old: config.key true",
            "- old: config.more null",
            '+ older: status "disabled"',
            "+ older: config.key true",
            "+ older: config.more null",
        ]
        connection.execute("TRUNCATE plugin_config")
        assert len(changes(watch, 5)) == 5
        assert watch.end() == 130
        assert watch.nothing_more()
        assert watch.errors == ["watching, ^C ends it\n"]


def test_watch_hides_values(database_url: str, repository: PluginConfigRepository) -> None:
    with watching(database_url, "watch") as watch:
        repository.save("mail", "enabled", {"password": "s3cret", "key": {"$env": "KEY"}})
        assert changes(watch, 3) == [
            '+ mail: status "enabled"',
            '+ mail: config.key {"$env": "KEY"}',
            '+ mail: config.password "***"',
        ]


def test_sigterm_ends_watch_with_its_status(database_url: str) -> None:
    with watching(database_url, "watch") as watch:
        watch.process.send_signal(signal.SIGTERM)
        assert watch.wait() == 143
        assert watch.errors == ["watching, ^C ends it\n"]


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare, of util-linux")
def test_sigterm_ends_watch_as_process_1(database_url: str) -> None:
    user = ["--user", "--map-root-user"] if os.geteuid() else []
    command = ["unshare", *user, "--pid", "--fork", "--kill-child"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no namespace")
    program = """
import os, signal, sys, threading, time
from plugin_store.cli import main
assert os.getpid() == 1
def end():
    time.sleep(2)
    os.kill(1, signal.SIGTERM)
threading.Thread(target=end, daemon=True).start()
sys.exit(main(["watch"]))
"""
    done = subprocess.run(
        [*command, sys.executable, "-c", program],
        env=environment(DATABASE_URL=database_url),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (143, "watching, ^C ends it\n")


def test_a_line_cannot_be_broken_or_move_the_cursor(
    database_url: str, connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    with watching(database_url, "watch", "--show-values") as watch:
        repository.save("\x1b[2J\n", "enabled", {"a\nb": "c\n\x9b"})
        assert changes(watch, 2) == [
            '+ \\x1b[2J\\n: status "enabled"',
            '+ \\x1b[2J\\n: config.a\\nb "c\\n\\x9b"',
        ]


def test_json_is_for_machines(database_url: str, repository: PluginConfigRepository) -> None:
    with watching(database_url, "watch", "--json", "--show-values") as watch:
        row = repository.save("mail", "enabled", {"port": [25, None]})
        assert row.updated_at is not None
        lines = [json.loads(watch.line()) for _ in range(2)]
        assert [datetime.fromisoformat(line.pop("at")) for line in lines] == [row.updated_at] * 2
        assert lines == [
            {"sign": "+", "plugin_name": "mail", "what": "status", "before": None, "after": "enabled"},
            {"sign": "+", "plugin_name": "mail", "what": "config.port", "before": None, "after": [25, None]},
        ]
        before = datetime.now(timezone.utc)
        repository.delete("mail")
        gone = [json.loads(watch.line()) for _ in range(2)]
        assert all(before <= datetime.fromisoformat(line["at"]) <= datetime.now(timezone.utc) for line in gone)
        assert [line["after"] for line in gone] == [None, None]


def test_it_survives_a_killed_connection_and_shows_what_it_missed(
    database_url: str, connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    query = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'watch' AND datname = current_database()"""
    with watching(f"{database_url}&application_name=watch", "watch", "--show-values") as watch:
        for number in range(3):
            assert wait_until(lambda: connection.execute(query).fetchall())
            repository.save("mail", "enabled", {"number": number})
            lines = changes(watch, 1 if number else 2)
            assert lines[-1].endswith(f" {number}")
        assert watch.end() == 130
        assert watch.nothing_more()
        assert "Traceback" not in "".join(watch.errors)


@pytest.mark.parametrize("interrupt", ["SIG_IGN", "default_int_handler"])
def test_it_ends_when_no_one_reads_and_not_on_an_interrupt_that_is_ignored(
    database_url: str, repository: PluginConfigRepository, interrupt: str
) -> None:
    program = f"""
import signal, sys
from plugin_store.cli import main
signal.signal(signal.SIGINT, signal.{interrupt})
sys.exit(main(["watch"]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment(DATABASE_URL=database_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    with process.stderr as stderr:
        try:
            assert stderr.readline() == "watching, ^C ends it\n"
            if interrupt == "SIG_IGN":  # as for a process in the background
                process.send_signal(signal.SIGINT)
            process.stdout.close()  # as head does
            repository.save("mail", "enabled")
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
        assert stderr.read() == ""
