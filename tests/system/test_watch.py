"""``plugin-store watch``, as a process whose lines are read while the table changes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest
from databases import Connection
from programs import started
from watching import end_sessions

from plugin_store import PluginConfigRepository

COMMAND = (sys.executable, "-m", "plugin_store", "watch")
LIMIT_SECONDS = 60
Watch = subprocess.Popen[str]


@contextmanager
def watching(url: str, *arguments: str, before: tuple[str, ...] = ()) -> Iterator[Watch]:
    """Run the command, from after its first line until the end of the block."""
    variables = {"DATABASE_URL": url, "PYTHONIOENCODING": "utf-8", "TZ": "UTC"}
    with started(*before, *COMMAND, *arguments, **variables) as watch:
        limit = threading.Timer(LIMIT_SECONDS, watch.kill)
        limit.start()
        try:
            assert watch.stderr is not None and watch.stderr.readline() == "watching, ^C ends it\n"
            yield watch
        finally:
            limit.cancel()


def next_line(watch: Watch) -> str:
    assert watch.stdout is not None
    return watch.stdout.readline().rstrip("\n")


def changes(watch: Watch, count: int) -> list[str]:
    """Return so many lines without their times."""
    lines = [next_line(watch) for _ in range(count)]
    assert all(datetime.fromisoformat(line[:25]).tzinfo for line in lines)
    return [line[26:] for line in lines]


def outcome(watch: Watch) -> tuple[int, str, str]:
    """Return its exit status, and the rest of stdout and stderr."""
    output, errors = watch.communicate(timeout=LIMIT_SECONDS)
    return watch.returncode, output, errors


def test_watch_prints_each_change(database_url: str, connection: Connection) -> None:
    connection.execute("""INSERT INTO plugin_config (plugin_name, config) VALUES ('old', '{"key": 1}')""")
    with watching(f"{database_url}&application_name=watch", "--show-values") as watch:
        connection.execute("""INSERT INTO plugin_config (plugin_name, config) VALUES ('a\nb', '{"n": "é\u009b"}')""")
        assert changes(watch, 2) == ['+ a\\nb: status "disabled"', '+ a\\nb: config.n "é\\u009b"']
        connection.execute("UPDATE plugin_config SET status = 'enabled', config = '{}' WHERE plugin_name = 'old'")
        assert changes(watch, 2) == ['~ old: status "disabled" -> "enabled"', "- old: config.key 1"]
        end_sessions(connection, "watch")
        connection.execute("TRUNCATE plugin_config")
        assert changes(watch, 3)[-1] == '- old: status "enabled"'
        watch.send_signal(signal.SIGINT)
        status, output, errors = outcome(watch)
        assert (status, output) == (130, "") and "Traceback" not in errors


def test_watch_hides_values(database_url: str, repository: PluginConfigRepository) -> None:
    with watching(database_url) as watch:
        repository.save("mail", "enabled", {"password": "s3cret", "key": {"$env": "KEY"}})
        assert changes(watch, 3)[1:] == ['+ mail: config.key {"$env": "KEY"}', '+ mail: config.password "***"']


def test_watch_prints_json_with_time(database_url: str, repository: PluginConfigRepository) -> None:
    with watching(database_url, "--json", "--show-values") as watch:
        row = repository.save("mail", "enabled", {"port": [25, None]})
        next_line(watch)
        shown = json.loads(next_line(watch))
        assert datetime.fromisoformat(shown.pop("at")) == row.updated_at
        assert shown == {"sign": "+", "plugin_name": "mail", "what": "config.port", "before": None, "after": [25, None]}
        before = datetime.now(timezone.utc)
        repository.delete("mail")
        assert before <= datetime.fromisoformat(json.loads(next_line(watch))["at"]) <= datetime.now(timezone.utc)


def test_sigterm_ends_watch(database_url: str) -> None:
    with watching(database_url) as watch:
        watch.send_signal(signal.SIGTERM)
        assert outcome(watch) == (143, "", "")


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare, of util-linux")
def test_sigterm_ends_watch_as_process_1(database_url: str) -> None:
    user = ("--user", "--map-root-user") if os.geteuid() else ()
    unshare = ("unshare", *user, "--pid", "--fork", "--kill-child")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no namespace")
    with watching(database_url, before=unshare) as watch:
        os.kill(int(Path(f"/proc/{watch.pid}/task/{watch.pid}/children").read_text()), signal.SIGTERM)
        assert outcome(watch) == (143, "", "")


@pytest.mark.parametrize("before", [(), ("sh", "-c", "trap '' INT; exec \"$@\"", "-")], ids=["default", "background"])
def test_watch_ends_when_no_one_reads(
    database_url: str, repository: PluginConfigRepository, before: tuple[str, ...]
) -> None:
    with watching(database_url, before=before) as watch:
        if before:
            watch.send_signal(signal.SIGINT)  # a process in the background ignores it
        assert watch.stdout is not None and watch.stderr is not None
        watch.stdout.close()
        repository.save("mail", "enabled")
        assert (watch.wait(LIMIT_SECONDS), watch.stderr.read()) == (0, "")
