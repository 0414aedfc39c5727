"""The command ``plugin-store`` as a process: its streams, its signals, its terminal."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from workers import environment, wait_until

from plugin_store import PluginConfigRepository

COMMAND = [sys.executable, "-m", "plugin_store"]
EMPTY = '{"format": 1, "plugins": {}}'

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(database_url: str) -> Run:
    """Run a line of a shell, in which ``store`` is the command."""

    def run(line: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", f'store() {{ "{sys.executable}" -m plugin_store "$@"; }}; {line}']
        env = environment(DATABASE_URL=database_url, **env)
        return subprocess.run(command, env=env, capture_output=True, encoding="utf-8", errors="replace", timeout=60)

    return run


@pytest.fixture
def mail(repository: PluginConfigRepository) -> PluginConfigRepository:
    """The store, with one row."""
    repository.save("mail", "enabled", {"key": "x"})
    return repository


def status_of(repository: PluginConfigRepository) -> str | None:
    row = repository.get_by_name("mail")
    return row and row.status


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_disable_works_with_closed_streams(shell: Run, mail: PluginConfigRepository, closed: str) -> None:
    done = shell(f"store disable mail {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert status_of(mail) == "disabled"
    assert shell(f"store disable maul {closed}").returncode == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize(
    ("line", "status"), [("list", 1), ("config get mail", 1), ("disable mail", 1), ("diff - --json", 2)]
)
def test_full_disk_is_an_error(shell: Run, mail: PluginConfigRepository, line: str, status: int) -> None:
    mail.save("mail", "enabled", {"key": "x" * 1_000_000})  # of which a part is written before the end
    done = shell(f"echo '{EMPTY}' | store {line} >/dev/full")
    assert done.returncode == status
    assert done.stderr.startswith("plugin-store: cannot write the output: No space left on device")
    assert done.stderr.count("\n") == 1
    assert (status_of(mail) == "disabled") == line.startswith("disable")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_full_stderr_leaves_the_status(shell: Run, mail: PluginConfigRepository) -> None:
    assert shell("store disable maul 2>/dev/full").returncode == 1
    assert shell("store delete mail 2>/dev/full").returncode == 0
    assert shell("store no-such-command 2>/dev/full").returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_help_fails_on_full_disk(shell: Run) -> None:
    assert shell("store --help >/dev/full").returncode == 1


def test_closed_pipe_leaves_the_status(shell: Run, mail: PluginConfigRepository) -> None:
    mail.save("mail", "enabled", {"key": "x" * 1_000_000})
    for line, status in (("config get mail", 0), ("list", 0), ("diff - --show-values", 1), ("diff -", 1)):
        done = shell(f"{{ echo '{EMPTY}' | store {line}; echo $? >&2; }} | head -c 1 >/dev/null")
        assert done.stderr == f"{status}\n"


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
    ],
)
def test_other_locales_read_and_write_the_same(
    shell: Run, mail: PluginConfigRepository, tmp_path: Path, env: dict[str, str]
) -> None:
    done = shell("store enable --create é€ && store config set é€ ключ ☃ && store list", **env)
    assert (done.returncode, done.stderr) == (0, "")
    row = mail.get_by_name("é€")
    assert row is not None and row.config == {"ключ": "☃"}
    assert "é€" in shell("store export é€", **env).stdout
    assert shell("store config get é€ ключ", **env).stdout == "☃\n"
    done = shell(f"cd '{tmp_path}' && store export > -1é && store diff -1é", **env)
    assert (done.returncode, done.stdout) == (0, "")


def test_no_output_shows_a_password(shell: Run) -> None:
    for url in (
        "postgresql://u:s3cret@127.0.0.1:1/d",
        "postgresql://u:s3cret@@127.0.0.1:1/d",
        "postgresql://u:%zzs3cret@127.0.0.1:1/d",
        "host=127.0.0.1 port=1 password=oh s3cret",
        "host=127.0.0.1 port=1 password=s3cret",
    ):
        for command in ("list", "migrate", "status", "watch"):
            failed = shell(f"store {command} --database '{url}'")
            assert failed.returncode in (1, 3) and failed.stderr
            assert "s3cret" not in failed.stdout + failed.stderr


# -- locks, signals -------------------------------------------------------------------------------


@contextmanager
def locked_row(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Someone's open transaction that holds the row."""
    with psycopg.connect(database_url) as other:
        other.execute("UPDATE plugin_config SET config = '{\"n\": 1}'")
        yield other
        other.rollback()


def waits_for_a_lock(connection: psycopg.Connection[Any], count: int = 1) -> bool:
    waiting = """SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'plugin_store%'
        AND datname = current_database() AND wait_event_type = 'Lock'"""
    return wait_until(lambda: connection.execute(waiting).fetchone() == (count,), 60)


def test_commands_that_name_the_same_plugins_do_not_deadlock(
    database_url: str, connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    for name in ("a", "b"):
        repository.save(name, "enabled")
    # Each waits when it has changed its first row, until both have begun.
    connection.execute("""CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$""")
    connection.execute("""CREATE TRIGGER hold AFTER UPDATE ON plugin_config
        FOR EACH ROW EXECUTE FUNCTION hold()""")
    connection.execute("SELECT pg_advisory_lock(1)")
    env = environment(DATABASE_URL=database_url)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([*COMMAND, "disable", "a", "b"], env=env, **pipes) as one,
        subprocess.Popen([*COMMAND, "disable", "b", "a"], env=env, **pipes) as other,
    ):
        try:
            assert waits_for_a_lock(connection, 2)
        finally:
            connection.execute("SELECT pg_advisory_unlock(1)")
        ended = [(*process.communicate(timeout=60), process.returncode) for process in (one, other)]
    assert [(stderr, status) for _, stderr, status in ended] == [("", 0)] * 2
    assert [row.status for row in repository.get_all()] == ["disabled"] * 2


@pytest.mark.parametrize("command", [["disable", "mail"], ["import", "-"], ["migrate"]])
def test_interrupt_ends_a_wait_for_a_lock(
    database_url: str, connection: psycopg.Connection[Any], mail: PluginConfigRepository, command: list[str]
) -> None:
    connection.execute("DROP TRIGGER plugin_config_stamp ON plugin_config")  # for migrate to repair
    env = environment(DATABASE_URL=database_url)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with locked_row(database_url), subprocess.Popen([*COMMAND, *command], env=env, text=True, **pipes) as process:
        assert process.stdin is not None
        process.stdin.write(EMPTY)
        process.stdin.close()
        process.stdin = None
        assert waits_for_a_lock(connection)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")
    assert status_of(mail) == "enabled"
    assert connection.execute("SELECT count(*) FROM yoyo_lock").fetchone() == (0,)


def test_import_into_a_pager_holds_no_lock(database_url: str, mail: PluginConfigRepository) -> None:
    plugins = {f"plugin {number}": {"status": "disabled", "config": {}} for number in range(3000)}
    env = environment(DATABASE_URL=database_url)
    command = [*COMMAND, "import", "-"]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"format": 1, "plugins": plugins}))
        process.stdin.close()
        process.stdin = None
        assert wait_until(lambda: len(mail.get_all()) == 3001, 60)
        assert process.poll() is None  # its output fills the pipe, and nobody reads
        mail.save("mail", "disabled")
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_migrate_waits_for_the_database() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"postgresql://me:secret@127.0.0.1:{unused.getsockname()[1]}/db"
        command = [*COMMAND, "migrate", "--wait", "1.5", "--database", url]
        failed = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert failed.returncode == 3
    assert failed.stderr.startswith("waiting up to 1.5 s for the database: ")
    assert failed.stderr.count("waiting") == 1 and "plugin-store: the database cannot be reached" in failed.stderr
    assert "secret" not in failed.stderr


# -- a terminal -----------------------------------------------------------------------------------


class Terminal:
    """A process at a terminal of its own, and what the terminal shows."""

    def __init__(self, *command: str, stdin: Any = None, **env: str) -> None:
        pty = pytest.importorskip("pty", reason="terminals of POSIX")
        self._screen, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env=environment(**env),
            stdin=terminal if stdin is None else stdin,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)

    def reads(self, pattern: str) -> bool:
        """Return whether the terminal comes to show this."""
        end = time.monotonic() + 30
        while not re.search(pattern, self.shown):
            if not select.select([self._screen], [], [], max(0, end - time.monotonic()))[0]:
                return False
            try:
                self.shown += os.read(self._screen, 10_000).decode()
            except OSError:  # Linux's end of file
                return bool(re.search(pattern, self.shown))
        return True

    def types(self, text: str) -> None:
        os.write(self._screen, text.encode())


@pytest.fixture
def terminal(database_url: str) -> Callable[..., Terminal]:
    return lambda *args, **more: Terminal("-m", "plugin_store", *args, DATABASE_URL=database_url, **more)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["disable", "mail"], "waiting for the database, or for a lock in it"),
        (["config", "set", "mail", "key", "1"], "waiting for the database, or for a lock in it"),
        (["import", "FILE"], "importing, after transactions that write to the table"),
        (["migrate"], "migrating, after other migrations and transactions that use the table"),
    ],
)
def test_command_that_waits_says_so(
    terminal: Callable[..., Terminal],
    database_url: str,
    connection: psycopg.Connection[Any],
    mail: PluginConfigRepository,
    tmp_path: Path,
    command: list[str],
    said: str,
) -> None:
    connection.execute("DROP TRIGGER plugin_config_stamp ON plugin_config")  # for migrate to repair
    file = tmp_path / "plugins.json"
    file.write_text(EMPTY)
    command = [str(file) if argument == "FILE" else argument for argument in command]
    with locked_row(database_url) as other, terminal(*command) as shown:
        assert shown.reads(re.escape(f"{said} ...\r\n"))
        other.rollback()
        assert shown.process.wait(60) == 0


def test_migrate_that_waits_says_so(
    terminal: Callable[..., Terminal], database_url: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("ALTER TABLE plugin_config DISABLE TRIGGER USER")  # to be repaired
    with psycopg.connect(database_url) as other:
        other.execute("INSERT INTO yoyo_lock (locked, pid) VALUES (1, 0)")
        with terminal("migrate") as shown:
            assert shown.reads(r"migrating, after other migrations and transactions that use the table \.\.\.\r\n")
            other.rollback()
            assert shown.process.wait(60) == 0


@pytest.mark.parametrize(("answer", "status", "left"), [("y\n", 0, 0), ("yes\n", 0, 0), ("n\n", 1, 1), ("\n", 1, 1)])
def test_delete_asks_at_a_terminal(
    terminal: Callable[..., Terminal], mail: PluginConfigRepository, answer: str, status: int, left: int
) -> None:
    with terminal("delete", "mail") as shown:
        assert shown.reads(r"the row of 'mail' is deleted [^\0]*\[y/N\] $")
        assert "comes back enabled" in shown.shown and "disable" in shown.shown
        shown.types(answer)
        assert shown.process.wait(60) == status
    assert len(mail.get_all()) == left


def test_delete_with_yes_does_not_ask(terminal: Callable[..., Terminal], mail: PluginConfigRepository) -> None:
    with terminal("delete", "mail", "--yes") as shown:
        assert shown.process.wait(60) == 0
    assert mail.get_all() == []


def test_prune_by_an_empty_file_asks_at_a_terminal(
    terminal: Callable[..., Terminal], mail: PluginConfigRepository, tmp_path: Path
) -> None:
    file = tmp_path / "plugins.json"
    file.write_text(EMPTY)
    for answer, status, left in (("n", 1, 1), ("y", 0, 0)):
        with terminal("import", "--prune", str(file)) as shown:
            assert shown.reads(r"\[y/N\] $")
            shown.types(f"{answer}\n")
            assert shown.process.wait(60) == status
        assert len(mail.get_all()) == left


def test_interrupt_ends_a_question(terminal: Callable[..., Terminal], mail: PluginConfigRepository) -> None:
    with terminal("delete", "mail") as shown:
        assert shown.reads(r"\[y/N\] $")
        shown.process.send_signal(signal.SIGINT)
        assert shown.process.wait(60) == 130
        assert not shown.reads("Traceback")
    assert len(mail.get_all()) == 1


def test_value_is_escaped_at_a_terminal(terminal: Callable[..., Terminal], mail: PluginConfigRepository) -> None:
    mail.save("mail", "enabled", {"key": "\x9b31m \u202e\x7f é\nand a second line"})
    with terminal("config", "get", "mail", "key", PYTHONIOENCODING="utf-8") as shown:
        assert shown.reads("second line\r\n")
    assert shown.shown.splitlines() == [r"\u009b31m \u202e\u007f é", "and a second line"]
