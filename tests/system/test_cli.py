"""The command ``plugin-store`` as a process: its streams, its signals, its terminal."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from databases import Connection
from programs import completed, started
from recorder import rows
from workers import environment, wait_until

from plugin_store import PluginConfigRepository

COMMAND = [sys.executable, "-m", "plugin_store"]
LIMIT_SECONDS = 60

Run = Callable[..., "subprocess.CompletedProcess[str]"]
needs_full_disk = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")


@pytest.fixture
def shell(database_url: str, empty_file: str) -> Run:
    """Run a line of a shell, in which ``store`` is the command and $EMPTY a file without plugins."""

    def run(line: str, **env: str) -> subprocess.CompletedProcess[str]:
        script = f'store() {{ "{sys.executable}" -m plugin_store "$@"; }}; {line}'
        return completed("sh", "-c", script, DATABASE_URL=database_url, EMPTY=empty_file, **env)

    return run


@pytest.fixture
def empty_file(tmp_path: Path) -> str:
    """An exported file without plugins."""
    file = tmp_path / "plugins.json"
    file.write_text('{"format": 1, "plugins": {}}')
    return str(file)


@pytest.fixture
def mail(repository: PluginConfigRepository) -> PluginConfigRepository:
    """The store, with one row, whose config is long enough to fill a pipe."""
    repository.save("mail", "enabled", {"key": "x" * 1_000_000})
    return repository


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_disable_works_with_closed_streams(shell: Run, mail: PluginConfigRepository, closed: str) -> None:
    done = shell(f"store disable mail {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(mail)["mail"][0] == "disabled"
    assert shell(f"store disable maul {closed}").returncode == 1


@needs_full_disk
@pytest.mark.parametrize(
    ("line", "status"), [("list", 1), ("config get mail", 1), ("disable mail", 1), ("diff $EMPTY --json", 2)]
)
def test_full_disk_is_an_error(shell: Run, mail: PluginConfigRepository, line: str, status: int) -> None:
    done = shell(f"store {line} >/dev/full")
    assert done.returncode == status
    assert done.stderr.startswith("plugin-store: cannot write the output: No space left on device")
    assert done.stderr.count("\n") == 1
    assert (rows(mail)["mail"][0] == "disabled") == line.startswith("disable")


@needs_full_disk
def test_full_stream_leaves_the_status(shell: Run, mail: PluginConfigRepository) -> None:
    for line, status in (("disable maul 2>", 1), ("delete mail 2>", 0), ("no-such-command 2>", 2), ("--help >", 1)):
        assert shell(f"store {line}/dev/full").returncode == status


def test_closed_pipe_leaves_the_status(shell: Run, mail: PluginConfigRepository) -> None:
    for line, status in (("config get mail", 0), ("list", 0), ("diff $EMPTY --show-values", 1)):
        done = shell(f"{{ store {line}; echo $? >&2; }} | head -c 1 >/dev/null")
        assert done.stderr == f"{status}\n"


def test_other_locale_reads_and_writes_the_same(shell: Run, mail: PluginConfigRepository, tmp_path: Path) -> None:
    env = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell("store enable --create é€ && store config set é€ ключ ☃ && store list", **env)
    assert (done.returncode, done.stderr) == (0, "")
    row = mail.get_by_name("é€")
    assert row is not None and row.config == {"ключ": "☃"}
    assert "é€" in shell("store export é€", **env).stdout
    assert shell("store config get é€ ключ", **env).stdout == "☃\n"
    done = shell(f"cd '{tmp_path}' && store export > -1é && store diff -1é", **env)
    assert (done.returncode, done.stdout) == (0, "")


def test_import_into_a_pager_holds_no_lock(database_url: str, mail: PluginConfigRepository, empty_file: str) -> None:
    plugins = {f"plugin {number}": {"status": "disabled", "config": {}} for number in range(3000)}
    Path(empty_file).write_text(json.dumps({"format": 1, "plugins": plugins}))
    with started(*COMMAND, "import", empty_file, DATABASE_URL=database_url) as process:
        assert wait_until(lambda: len(mail.get_all()) == 3001, LIMIT_SECONDS)
        assert process.poll() is None  # its output fills the pipe, and nobody reads
        mail.save("mail", "disabled")
        process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0


# -- a terminal -----------------------------------------------------------------------------------


class Terminal:
    """The command at a terminal of its own; a context manager. ``shown`` is what the terminal shows."""

    def __init__(self, url: str, *arguments: str) -> None:
        self._screen, terminal = pty.openpty()
        env = environment(DATABASE_URL=url, PYTHONIOENCODING="utf-8")
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=env,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )
        os.close(terminal)
        self.shown = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)

    def shows(self, text: str) -> bool:
        """Return whether the terminal comes to show this."""
        end = time.monotonic() + LIMIT_SECONDS
        with suppress(OSError):  # Linux's end of file
            while text not in self.shown:
                if not select.select([self._screen], [], [], max(0, end - time.monotonic()))[0]:
                    break
                self.shown += os.read(self._screen, 10_000).decode()
        return text in self.shown

    def status_after(self, answer: str) -> int:
        """Type the answer, and return the exit status."""
        os.write(self._screen, answer.encode())
        return self.process.wait(LIMIT_SECONDS)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("delete mail", "go on? [y/N] "),
        ("disable mail", "waiting for the database, or for a lock in it ...\r\n"),
        ("import FILE", "importing, and waiting for transactions that write to the table ...\r\n"),
        ("migrate", "migrating, and waiting for other migrations and for transactions that use the table ...\r\n"),
    ],
)
def test_interrupt_ends_a_wait(
    database_url: str, connection: Connection, mail: PluginConfigRepository, empty_file: str, command: str, said: str
) -> None:
    connection.execute("DROP TRIGGER plugin_config_stamp ON plugin_config")  # for migrate to repair
    with psycopg.connect(database_url) as other:
        other.execute("UPDATE plugin_config SET config = '{\"n\": 1}'")
        with Terminal(database_url, *command.replace("FILE", empty_file).split()) as terminal:
            assert terminal.shows(said)
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.process.wait(LIMIT_SECONDS) == 130
            assert not terminal.shows("Traceback")
        other.rollback()
    assert rows(mail)["mail"][0] == "enabled"
    assert connection.execute("SELECT count(*) FROM yoyo_lock").fetchone() == (0,)


@pytest.mark.parametrize(("answer", "status", "left"), [("yes\n", 0, 0), ("\n", 1, 1)])
@pytest.mark.parametrize("command", ["delete mail", "import --prune FILE"])
def test_terminal_is_asked_before_rows_are_deleted(
    database_url: str, mail: PluginConfigRepository, empty_file: str, command: str, answer: str, status: int, left: int
) -> None:
    with Terminal(database_url, *command.replace("FILE", empty_file).split()) as terminal:
        assert terminal.shows("[y/N] ")
        assert "comes back enabled" in terminal.shown or "prune" in command
        assert terminal.status_after(answer) == status
    assert len(mail.get_all()) == left


def test_terminal_is_not_asked_when_yes_is_given(database_url: str, mail: PluginConfigRepository) -> None:
    with Terminal(database_url, "delete", "mail", "--yes") as terminal:
        assert terminal.process.wait(LIMIT_SECONDS) == 0
    assert mail.get_all() == []


def test_value_is_escaped_at_a_terminal(database_url: str, mail: PluginConfigRepository) -> None:
    mail.save("mail", "enabled", {"key": "\x9b31m \u202e\x7f é\nand a second line"})
    with Terminal(database_url, "config", "get", "mail", "key") as terminal:
        assert terminal.shows("second line\r\n")
    assert terminal.shown.splitlines() == [r"\u009b31m \u202e\u007f é", "and a second line"]
