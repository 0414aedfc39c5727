"""The command ``plugin-store``, run as people and scripts run it: as a process."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from workers import wait_until

from plugin_store import PluginConfig, PluginConfigRepository
from plugin_store.cli import main

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(**more: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")} | more


def run_plain(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "plugin_store", *args]
    return subprocess.run(command, env=environment(**env), capture_output=True, text=True, timeout=60)


@pytest.fixture
def run(database_url: str) -> Run:
    """Run the command on the test's database."""
    return lambda *args: run_plain(*args, DATABASE_URL=database_url)


@pytest.fixture
def inside(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process, for what needs many runs and no process."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        status = main(list(args))
        return subprocess.CompletedProcess(args, status, *capsys.readouterr())

    return run


def test_a_plugin_is_created_listed_disabled_and_deleted(run: Run, connection: psycopg.Connection[Any]) -> None:
    created = run("enable", "--create", "mail", "analytics", "mail")
    assert (created.returncode, created.stderr) == (0, "")
    changed = [line.partition(" since 20")[0] for line in created.stdout.splitlines()]
    assert changed == ["analytics: enabled", "mail: enabled"]

    lines = run("list").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["NAME", "STATUS"], ["analytics", "enabled"], ["mail", "enabled"]]

    assert run("disable", "mail").returncode == 0
    assert connection.execute("SELECT plugin_name, status FROM plugin_config ORDER BY 1").fetchall() == [
        ("analytics", "enabled"),
        ("mail", "disabled"),
    ]

    deleted = run("delete", "mail")
    assert deleted.stdout == "mail: deleted, it was disabled with config {}\n"
    assert run("delete", "mail").returncode == 1


def test_list_is_an_aligned_table(inside: Run, repository: PluginConfigRepository) -> None:
    repository.save("a-long-name", "enabled", {"port": 25, "host": "x"})
    repository.save("b", "disabled")
    header, first, second = inside("list").stdout.splitlines()
    assert header.index("STATUS") == first.index("enabled") == second.index("disabled")
    assert header.index("CONFIG KEYS") == first.index("host, port")
    assert second == second.rstrip()


def test_list_of_nothing_says_so_beside_the_output(inside: Run) -> None:
    listed = inside("list")
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, "", "no plugin is stored yet\n")


def test_list_escapes_what_could_move_the_cursor(inside: Run, repository: PluginConfigRepository) -> None:
    repository.save("\x1b[2Jé\n", "enabled")
    assert inside("list").stdout.splitlines()[1].startswith("\\x1b[2Jé\\n  enabled")


def test_show_prints_every_column(inside: Run, repository: PluginConfigRepository) -> None:
    row = repository.save("mail", "enabled", {"host": "smtp.example"})
    shown = inside("show", "mail").stdout
    for column in ("plugin_name", "status", "id", "enabled_at", "disabled_at", "created_at", "updated_at", "config"):
        assert f"\n{column} " in f"\n{shown}"
    assert str(row.id) in shown
    assert '"host": "smtp.example"' in shown


HOSTILE = {"a\x9b": "\x9b31m \u202e\x7f é"}


def test_show_escapes_what_could_move_the_cursor(inside: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled", HOSTILE)
    shown = inside("show", "mail").stdout
    assert shown.replace("\n", "").isprintable()
    assert "é" in shown
    assert json.loads(shown.partition("\nconfig ")[2]) == HOSTILE


def test_a_value_is_escaped_at_a_terminal_and_as_it_is_for_a_program(
    inside: Run, database_url: str, repository: PluginConfigRepository
) -> None:
    pty = pytest.importorskip("pty", reason="terminals of POSIX")
    value = "\x9b31m \u202e\x7f é\nand a second line"
    repository.save("mail", "enabled", {"key": value})
    assert inside("config", "get", "mail", "key").stdout == value + "\n"
    screen, terminal = pty.openpty()
    with open(screen, "rb", buffering=0) as reader, open(terminal, "wb"):
        command = [sys.executable, "-m", "plugin_store", "config", "get", "mail", "key"]
        env = environment(DATABASE_URL=database_url, PYTHONIOENCODING="utf-8")
        subprocess.run(command, env=env, stdout=terminal, check=True, timeout=60)
        shown = reader.read(1000).decode()
    assert shown.splitlines() == [r"\u009b31m \u202e\u007f é", "and a second line"]


def test_json_is_for_machines(inside: Run, repository: PluginConfigRepository) -> None:
    row = repository.save("mail", "enabled", {"port": 25})
    assert row.updated_at is not None
    for args in (("--json", "list"), ("list", "--json")):
        (listed,) = json.loads(inside(*args).stdout)
        assert listed["plugin_name"] == "mail"
        assert listed["config"] == {"port": 25}
        assert listed["id"] == str(row.id)
        assert listed["updated_at"] == row.updated_at.isoformat()
        assert listed["disabled_at"] is None
    assert json.loads(inside("--json", "show", "mail").stdout) == listed
    assert json.loads(inside("--json", "disable", "mail").stdout)[0]["status"] == "disabled"
    assert json.loads(inside("--json", "delete", "mail").stdout)["deleted"]["plugin_name"] == "mail"
    assert json.loads(inside("--json", "list").stdout) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("15", 15),
        ("-1.5", -1.5),
        ("true", True),
        ("null", None),
        ('["a", {"b": 1}]', ["a", {"b": 1}]),
        ('"15"', "15"),
        ("smtp.example", "smtp.example"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("", ""),
    ],
)
def test_config_values_are_json_or_else_text(
    inside: Run, repository: PluginConfigRepository, text: str, value: object
) -> None:
    repository.save("mail", "enabled", {"other": 1})
    assert inside("config", "set", "mail", "key", "--", text).returncode == 0
    assert repository.get_by_name("mail").config == {"other": 1, "key": value}
    assert json.loads(inside("--json", "config", "get", "mail", "key").stdout) == value


def test_config_is_read_and_unset(inside: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled", {"host": "smtp.example", "port": 25, "tls": True})
    assert inside("config", "get", "mail", "host").stdout == "smtp.example\n"
    assert inside("config", "get", "mail", "port").stdout == "25\n"
    assert json.loads(inside("config", "get", "mail").stdout) == {"host": "smtp.example", "port": 25, "tls": True}
    assert json.loads(inside("config", "unset", "mail", "port", "tls").stdout) == {"host": "smtp.example"}
    assert repository.get_by_name("mail").config == {"host": "smtp.example"}


def test_a_config_value_that_cannot_be_stored_is_refused(inside: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled", {})
    refused = inside("config", "set", "mail", "key", '{"a": "\\u0000"}')
    assert refused.returncode == 1
    assert "plugin-store: plugin 'mail': config.key.a holds a NUL character" in refused.stderr
    assert repository.get_by_name("mail").config == {}


def test_a_key_that_is_not_there_is_an_error_with_near_matches(inside: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled", {"host": 1})
    for command in (("config", "get", "mail", "hots"), ("config", "unset", "mail", "host", "hots")):
        missed = inside(*command)
        assert missed.returncode == 1
        assert "no key 'hots' is stored in its config (did you mean 'host'?)" in missed.stderr
    assert repository.get_by_name("mail").config == {"host": 1}


@pytest.mark.parametrize(
    "command",
    [
        ("show", "analytcs"),
        ("enable", "analytcs"),
        ("disable", "analytics", "analytcs"),
        ("delete", "analytcs"),
        ("config", "get", "analytcs"),
        ("config", "set", "analytcs", "key", "1"),
        ("config", "unset", "analytcs", "key"),
    ],
)
def test_a_name_with_no_row_is_an_error_with_near_matches(
    inside: Run, repository: PluginConfigRepository, command: tuple[str, ...]
) -> None:
    before = repository.save("analytics", "enabled", {"key": 0})
    missed = inside(*command)
    assert (missed.returncode, missed.stdout) == (1, "")
    assert missed.stderr.startswith("plugin-store: no plugin 'analytcs' is stored (did you mean 'analytics'?)")
    assert "enable --create" in missed.stderr
    assert repository.get_all() == [before]


def test_several_names_are_all_enabled_or_none(inside: Run, repository: PluginConfigRepository) -> None:
    repository.save("good", "disabled")
    assert inside("enable", "--create", "good", "new", "x" * 101).returncode == 1
    assert [row.status for row in repository.get_all()] == ["disabled"]


def test_two_that_name_the_same_plugins_in_another_order_do_not_deadlock(
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
    waiting = """SELECT count(*) FROM pg_stat_activity WHERE application_name = 'plugin_store cli'
        AND datname = current_database() AND wait_event_type = 'Lock'"""
    command, env = [sys.executable, "-m", "plugin_store", "disable"], environment(DATABASE_URL=database_url)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([*command, "a", "b"], env=env, **pipes) as one,
        subprocess.Popen([*command, "b", "a"], env=env, **pipes) as other,
    ):
        try:
            assert wait_until(lambda: connection.execute(waiting).fetchone() == (2,), 60)
        finally:
            connection.execute("SELECT pg_advisory_unlock(1)")
        ended = [(*process.communicate(timeout=60), process.returncode) for process in (one, other)]
    assert [(stderr, status) for _, stderr, status in ended] == [("", 0)] * 2
    assert [row.status for row in repository.get_all()] == ["disabled"] * 2


def test_what_the_database_refuses_at_commit_is_an_error(
    inside: Run, connection: psycopg.Connection[Any], repository: PluginConfigRepository
) -> None:
    before = repository.save("mail", "enabled")
    connection.execute("""CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'vetoed at commit'; END $$""")
    connection.execute("""CREATE CONSTRAINT TRIGGER veto AFTER UPDATE ON plugin_config
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION veto()""")
    refused = inside("disable", "mail")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("plugin-store: ") and "vetoed at commit" in refused.stderr
    assert repository.get_all() == [before]


STORED = """\
{
  "format": 1,
  "plugins": {
    "chat": {
      "config": {},
      "status": "disabled"
    },
    "mail": {
      "config": {
        "host": "smtp.example",
        "port": 25
      },
      "status": "enabled"
    }
  }
}
"""


@pytest.fixture
def stored(repository: PluginConfigRepository, tmp_path: Path) -> str:
    """The path of a file that says what is stored."""
    repository.save("mail", "enabled", {"port": 25, "host": "smtp.example"})
    repository.save("chat", "disabled")
    file = tmp_path / "plugins.json"
    file.write_text(STORED)
    return str(file)


CHANGES = [
    '+ chat: status "disabled"',
    '- extra: status "enabled"',
    '+ mail: config.host "smtp.example"',
    "~ mail: config.port 587 -> 25",
    "- mail: config.tls true",
]


def change_all(repository: PluginConfigRepository) -> list[PluginConfig]:
    repository.update_config("mail", {"port": 587, "tls": True}, remove=["host"])
    repository.delete("chat")
    repository.save("extra", "enabled")
    return repository.get_all()


@pytest.mark.usefixtures("stored")
def test_export_is_the_same_file_in_each_locale(run: Run, database_url: str) -> None:
    exported = run("export")
    assert (exported.returncode, exported.stdout, exported.stderr) == (0, STORED, "")
    command = [sys.executable, "-m", "plugin_store", "config", "set", "mail", "host", "é"]
    subprocess.run(command, env=environment(DATABASE_URL=database_url), check=True, stdout=subprocess.DEVNULL)
    command[3:] = ["export", "mail"]
    env = environment(DATABASE_URL=database_url, PYTHONIOENCODING="ascii")
    one = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout
    assert '"host": "é"'.encode() in one and b"chat" not in one


def test_export_of_a_name_with_no_row_prints_no_file(inside: Run, stored: str) -> None:
    failed = inside("export", "mail", "maul")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "did you mean 'mail'" in failed.stderr


def test_import_prints_what_changes_and_does_it(inside: Run, stored: str, repository: PluginConfigRepository) -> None:
    before = change_all(repository)
    for more, changes in (((), [line for line in CHANGES if "extra" not in line]), (("--prune",), CHANGES)):
        dry = inside("import", stored, "--dry-run", *more)
        assert (dry.returncode, dry.stdout.splitlines(), dry.stderr) == (0, changes, "")
        assert repository.get_all() == before
    assert inside("import", stored, "--prune").stdout.splitlines() == CHANGES
    assert inside("export").stdout == STORED
    again = inside("import", stored)
    assert (again.returncode, again.stdout, again.stderr) == (
        0,
        "",
        "no difference, the table is as the file says\n",
    )


def test_import_reads_standard_input(database_url: str, repository: PluginConfigRepository) -> None:
    command = [sys.executable, "-m", "plugin_store", "import", "-"]
    env = environment(DATABASE_URL=database_url)
    done = subprocess.run(command, input=STORED, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row.plugin_name for row in repository.get_all()] == ["chat", "mail"]


def test_diff_exits_with_1_on_a_difference(inside: Run, stored: str, repository: PluginConfigRepository) -> None:
    same = inside("diff", stored)
    assert (same.returncode, same.stdout) == (0, "")
    repository.save("extra", "enabled")
    other = inside("diff", stored)
    assert (other.returncode, other.stdout) == (1, '- extra: status "enabled"\n')
    assert inside("diff", "--partial", stored).returncode == 0
    change_all(repository)
    assert inside("diff", stored).stdout.splitlines() == CHANGES


def test_diff_exits_with_2_on_an_error(inside: Run, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text('{\n  "format": 1,\nx}')
    for file, words in (("missing", "cannot read"), ("broken", "is refused: line 3, column 1: not JSON")):
        for command, status in (("diff", 2), ("import", 1)):
            failed = inside(command, str(tmp_path / file))
            assert (failed.returncode, failed.stdout) == (status, "")
            assert words in failed.stderr


def test_changes_are_json_for_machines(inside: Run, stored: str, repository: PluginConfigRepository) -> None:
    repository.save("extra", "enabled")
    change = {"sign": "-", "plugin_name": "extra", "what": "status", "before": "enabled", "after": None}
    assert json.loads(inside("diff", stored, "--json").stdout) == [change]
    assert json.loads(inside("import", stored, "--json").stdout) == []


def test_migrate_says_what_it_applied(empty_url: str) -> None:
    first = run_plain("migrate", "--database", empty_url)
    assert (first.returncode, first.stderr) == (0, "")
    assert "applied plugin_store.0001.create-plugin-config\n" in first.stdout
    second = run_plain("migrate", "--wait", "9", DATABASE_URL=empty_url)
    assert second.stdout == "nothing to apply, the table is up to date\n"
    third = run_plain("--json", "migrate", DATABASE_URL=empty_url)
    assert json.loads(third.stdout) == {"applied": []}


def test_migrate_waits_for_the_database_as_long_as_it_is_told() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"postgresql://me:secret@127.0.0.1:{unused.getsockname()[1]}/db"
        failed = run_plain("migrate", "--wait", "1.5", "--database", url)
    assert failed.returncode == 1
    assert failed.stderr.startswith("waiting up to 1.5 s for the database: the database cannot be reached: ")
    assert failed.stderr.count("waiting") == 1 and "plugin-store: the database cannot be reached" in failed.stderr
    assert "secret" not in failed.stderr


def test_a_missing_table_is_an_error_that_names_the_command(empty_url: str) -> None:
    failed = run_plain("list", DATABASE_URL=empty_url)
    assert failed.returncode == 1
    assert "plugin-store migrate" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_without_a_database_the_error_says_what_to_set() -> None:
    failed = run_plain("list", DATABASE_URL="")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "DATABASE_URL" in failed.stderr
    assert "plugin-store sandbox" in failed.stderr


def test_the_database_is_the_option_then_database_url_then_libpqs_variables(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    info, nowhere = connection.info, "postgresql://127.0.0.1:1/none"
    libpq = {"PGHOST": info.host, "PGPORT": str(info.port), "PGUSER": info.user, "PGDATABASE": info.dbname}
    libpq["PGPASSWORD"] = info.password
    assert run_plain("list", **libpq).returncode == 0
    assert run_plain("list", DATABASE_URL=nowhere, **libpq).returncode == 1
    assert run_plain("--database", database_url, "list", DATABASE_URL=nowhere).returncode == 0


@pytest.mark.parametrize(
    "args", [[], ["frobnicate"], ["enable"], ["config"], ["config", "set", "name", "key"], ["list", "extra"]]
)
def test_wrong_usage_exits_with_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(args)
    assert raised.value.code == 2
    assert "usage: plugin-store" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        *("", "migrate", "list", "show", "enable", "disable", "delete", "config get", "config set", "config unset"),
        *("export", "import", "diff", "demo"),
    ],
)
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([*command.split(), "--help"])
    assert raised.value.code == 0
    assert f"examples:\n  plugin-store {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args",
    [
        ("list", "URL"),
        ("--database", "URL", "list"),
        ("--database", "postgresql://u:s3cret@@127.0.0.1:1/d", "list"),
        ("--database", "postgresql://u:%zzs3cret@127.0.0.1:1/d", "list"),
        ("--database", "host=127.0.0.1 port=1 password=oh s3cret", "list"),
        ("--database", "host=127.0.0.1 port=1 password=s3cret", "list"),
        ("show", "URL"),
        ("migrate", "--database", "URL"),
    ],
)
def test_no_output_shows_a_password(args: tuple[str, ...]) -> None:
    url = "postgresql://someone:s3cret@127.0.0.1:1/d"
    failed = run_plain(*(url if arg == "URL" else arg for arg in args), DATABASE_URL=url)
    assert failed.returncode in (1, 2)
    assert failed.stderr
    assert "s3cret" not in failed.stdout + failed.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("list", "postgresql://u:pa's3cret@h/db"),
        ("list", "postgresql://u:pa s3cret@h/db"),
        ("list", "postgresql://h/db?password=p's3cret"),
        ("migrate", "--wait", "postgresql://u:pa's3cret@h/db"),
        ("--databse", "u:pa's3cret@h/db", "list"),
        ("host=h Password=a\\ s3cret",),
        ("show", "host=h", "password=a'", "s3cret"),
    ],
)
def test_wrong_usage_does_not_repeat_what_looks_like_a_conninfo(
    args: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(list(args))
    assert raised.value.code == 2
    shown = capsys.readouterr().err
    assert "s3cret" not in shown
    assert "it belongs after --database" in shown


def test_a_reader_that_stops_reading_is_no_error(database_url: str, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled", {"key": "x" * 1_000_000})
    command = [sys.executable, "-m", "plugin_store", "config", "get", "mail"]
    env = environment(DATABASE_URL=database_url)
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait(30) == 128 + signal.SIGPIPE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize(
    ("args", "status"), [(["list"], 1), (["config", "get", "mail"], 1), (["diff", "STORED", "--json"], 2)]
)
def test_output_that_cannot_be_written_is_an_error(
    database_url: str, repository: PluginConfigRepository, stored: str, args: list[str], status: int
) -> None:
    repository.save("mail", "enabled", {"key": "x" * 1_000_000})  # of which a part is written before the end
    command = [sys.executable, "-m", "plugin_store", *(stored if arg == "STORED" else arg for arg in args)]
    with open("/dev/full", "wb") as full:
        env = environment(DATABASE_URL=database_url, PYTHONUNBUFFERED="")  # to be flushed at exit, if not before
        failed = subprocess.run(command, env=env, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert failed.stderr == "plugin-store: [Errno 28] No space left on device\n"
    assert failed.returncode == status


def test_an_interrupt_ends_it_without_a_traceback(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setattr(PluginConfigRepository, "get_all", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == ""


def test_output_that_the_terminal_cannot_show_is_escaped(database_url: str, repository: PluginConfigRepository) -> None:
    repository.save("é", "enabled")
    listed = run_plain("list", DATABASE_URL=database_url, PYTHONIOENCODING="ascii")
    assert listed.returncode == 0
    assert listed.stdout.splitlines()[1].startswith("\\xe9")


def test_it_prints_to_streams_that_are_no_files_too(
    database_url: str, repository: PluginConfigRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.save("mail", "enabled")
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["--database", database_url, "list"]) == 0
    assert main(["--database", database_url, "export"]) == 0
    assert '"mail": {' in output.getvalue()
