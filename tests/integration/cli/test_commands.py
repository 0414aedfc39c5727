"""The commands of ``plugin-store`` on a table, run in this process."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from plugin_store import PluginConfig, PluginConfigRepository
from plugin_store.cli import main


class Done(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]

# Python does not read so many digits; PostgreSQL holds them.
UNREADABLE = """UPDATE plugin_config SET config = jsonb_build_object('n', repeat('9', 5000)::numeric)
    WHERE plugin_name = 'odd'"""


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on the test's database; ``stdin`` is what it reads."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    def run(*args: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return Done(main(list(args)), *capsys.readouterr())

    return run


@pytest.fixture
def unreadable(connection: psycopg.Connection[Any], repository: PluginConfigRepository) -> None:
    """A row that Python cannot read, beside one that it can."""
    repository.save("mail", "enabled", {"port": 25})
    repository.save("odd", "enabled")
    connection.execute("ALTER TABLE plugin_config DROP CONSTRAINT plugin_config_config_readable")
    connection.execute(UNREADABLE)


def status_of(connection: psycopg.Connection[Any], name: str) -> str | None:
    row = connection.execute("SELECT status FROM plugin_config WHERE plugin_name = %s", [name]).fetchone()
    return row and row[0]


def config_of(repository: PluginConfigRepository, name: str = "mail") -> dict[str, Any]:
    row = repository.get_by_name(name)
    assert row is not None
    return row.config


# -- list and show --------------------------------------------------------------------------------


def test_list_prints_an_aligned_table(run: Run, repository: PluginConfigRepository) -> None:
    repository.save("a-long-name", "enabled", {"port": 25, "host": "x"})
    repository.save("b", "disabled")
    header, first, second = run("list").out.splitlines()
    assert header.index("STATUS") == first.index("enabled") == second.index("disabled")
    assert header.index("CONFIG KEYS") == first.index("host, port")
    assert second == second.rstrip()


def test_list_of_nothing_says_so_on_stderr(run: Run) -> None:
    assert run("list") == (0, "", "no plugin is stored yet\n")
    assert run("list", "--json") == (0, "[]\n", "")


def test_list_and_show_escape_what_moves_the_cursor(run: Run, repository: PluginConfigRepository) -> None:
    hostile = {"a\x9b": "\x9b31m \u202e\x7f é"}
    repository.save("\x1b[2Jé\n", "enabled", hostile)
    assert run("list").out.splitlines()[1].startswith("\\x1b[2Jé\\n  enabled")
    shown = run("show", "\x1b[2Jé\n", "--show-values").out
    assert shown.replace("\n", "").isprintable()
    assert json.loads(shown.partition("\nconfig ")[2]) == hostile


def test_show_prints_every_column(run: Run, repository: PluginConfigRepository) -> None:
    row = repository.save("mail", "enabled", {"host": "smtp.example"})
    shown = run("show", "mail").out
    for column in ("plugin_name", "status", "id", "enabled_at", "disabled_at", "created_at", "updated_at", "config"):
        assert f"\n{column} " in f"\n{shown}"
    assert str(row.id) in shown


SECRET = {"user": "sesame-1742", "smtp": {"pin": 90317}, "list": ["sesame-1742"], "ref": {"$env": "SMTP_PASSWORD"}}


def test_show_and_list_hide_values_unless_asked(run: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled", SECRET)
    for command in (["show", "mail"], ["show", "mail", "--json"], ["list"], ["list", "--json"]):
        done = run(*command)
        assert "sesame" not in done.out and "90317" not in done.out
        assert "smtp" in done.out
    shown = {"user": "***", "smtp": {"pin": "***"}, "list": ["***"], "ref": {"$env": "SMTP_PASSWORD"}}
    assert json.loads(run("show", "mail", "--json").out)["config"] == shown
    assert json.loads(run("show", "mail", "--json", "--show-values").out)["config"] == SECRET
    assert json.loads(run("list", "--json", "--show-values").out)[0]["config"] == SECRET


def test_no_change_echoes_a_value(run: Run, repository: PluginConfigRepository, tmp_path: Path) -> None:
    repository.save("mail", "enabled", SECRET)
    file = tmp_path / "plugins.json"
    file.write_text(json.dumps({"format": 1, "plugins": {"mail": {"status": "enabled", "config": {"x": "walnut"}}}}))
    said = [
        run("config", "set", "mail", "new", "walnut"),
        run("config", "set", "mail", "user", "walnut", "--json"),
        run("config", "unset", "mail", "list"),
        run("disable", "mail", "--json"),
        run("diff", str(file)),
        run("import", str(file), "--dry-run", "--json"),
        run("import", str(file)),
        run("delete", "mail", "--json"),
    ]
    assert "walnut" not in repr(said) and "sesame" not in repr(said) and "90317" not in repr(said)
    assert said[0].out == "mail: set new\n"
    assert said[2].out == "mail: unset list\n"
    assert '+ mail: config.x "***"\n' in said[4].out
    assert '- mail: config.ref {"$env": "SMTP_PASSWORD"}\n' in said[4].out
    assert '+ mail: config.x "walnut"\n' in run("diff", str(file), "--show-values").out


def test_json_output_has_every_column(run: Run, repository: PluginConfigRepository) -> None:
    row = repository.save("mail", "enabled", {"port": 25})
    assert row.updated_at is not None
    for args in (("--json", "list"), ("list", "--json")):
        (listed,) = json.loads(run(*args).out)
        assert listed["id"] == str(row.id)
        assert listed["updated_at"] == row.updated_at.isoformat()
        assert listed["disabled_at"] is None
    assert json.loads(run("--json", "show", "mail").out) == listed
    assert json.loads(run("--json", "disable", "mail").out)[0]["status"] == "disabled"
    assert json.loads(run("--json", "config", "set", "mail", "a", "1").out) == {"plugin_name": "mail", "set": ["a"]}
    assert json.loads(run("--json", "delete", "mail").out) == {"plugin_name": "mail", "deleted": True}


# -- enable, disable, delete ----------------------------------------------------------------------


def test_enable_and_disable_print_each_row(run: Run, repository: PluginConfigRepository) -> None:
    created = run("enable", "--create", "mail", "analytics", "mail")
    assert (created.status, created.err) == (0, "")
    assert re.sub(r" since 20.*", "", created.out) == "analytics: enabled\nmail: enabled\n"
    assert run("disable", "--create", "mail", "ads").status == 0
    assert [(row.plugin_name, row.status) for row in repository.get_all()] == [
        ("ads", "disabled"),
        ("analytics", "enabled"),
        ("mail", "disabled"),
    ]


@pytest.mark.parametrize(
    "command",
    [
        ("show", "analytcs"),
        ("enable", "analytcs"),
        ("disable", "analytics", "analytcs"),
        ("config", "get", "analytcs"),
        ("config", "set", "analytcs", "key", "1"),
        ("export", "analytics", "analytcs"),
    ],
)
def test_unknown_name_is_refused_with_near_names(
    run: Run, repository: PluginConfigRepository, command: tuple[str, ...]
) -> None:
    before = repository.save("analytics", "enabled", {"key": 0})
    missed = run(*command)
    assert (missed.status, missed.out) == (1, "")
    assert missed.err.startswith("plugin-store: no plugin 'analytcs' is stored (did you mean 'analytics'?)")
    assert ("--create" in missed.err) == (command[0] in ("enable", "disable") or "set" in command)
    assert repository.get_all() == [before]


def test_enable_changes_all_or_none(run: Run, connection: psycopg.Connection[Any]) -> None:
    connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('a'), ('b')")
    connection.execute("""CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'vetoed'; END $$""")
    connection.execute("""CREATE TRIGGER veto BEFORE UPDATE ON plugin_config
        FOR EACH ROW WHEN (OLD.plugin_name = 'b') EXECUTE FUNCTION veto()""")
    refused = run("enable", "a", "b")
    assert (refused.status, refused.out) == (1, "") and "vetoed" in refused.err
    assert status_of(connection, "a") == "disabled"


def test_refusal_at_commit_is_an_error(run: Run, connection: psycopg.Connection[Any]) -> None:
    connection.execute("INSERT INTO plugin_config (plugin_name, status) VALUES ('mail', 'enabled')")
    connection.execute("""CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'vetoed at commit'; END $$""")
    connection.execute("""CREATE CONSTRAINT TRIGGER veto AFTER UPDATE ON plugin_config
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION veto()""")
    refused = run("disable", "mail")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.startswith("plugin-store: ") and "vetoed at commit" in refused.err
    assert status_of(connection, "mail") == "enabled"


def test_delete_says_that_a_default_comes_back(run: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled")
    done = run("delete", "mail")
    assert (done.status, done.out) == (0, "mail: deleted\n")
    assert "comes back enabled" in done.err and "disable" in done.err
    assert repository.get_all() == []


def test_delete_of_a_missing_row_succeeds(run: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled")
    note = "nothing is deleted: no plugin 'maul' is stored (did you mean 'mail'?)\n"
    assert run("delete", "maul") == (0, "", note)
    assert len(repository.get_all()) == 1


# -- config ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        (["15"], 15),
        (["-1.5"], -1.5),
        (["-25"], -25),
        (["-1e5"], "-1e5"),
        (["-.5"], "-.5"),
        (["--", "-x"], "-x"),
        (["1.10"], "1.10"),
        (["77950e8"], "77950e8"),
        (["--text", "15"], "15"),
        (["--text", "-1"], "-1"),
        (["true"], True),
        (["null"], None),
        (['["a", {"b": 1}]'], ["a", {"b": 1}]),
        (['"15"'], "15"),
        ([""], ""),
        (["smtp example"], "smtp example"),
        (["1e-07"], 1e-07),
        (["9007199254740993"], 9007199254740993),
    ],
)
def test_config_set_keeps_what_was_typed(
    run: Run, repository: PluginConfigRepository, typed: list[str], value: object
) -> None:
    repository.save("mail", "enabled", {"other": 1})
    done = run("config", "set", "mail", "key", *typed)
    assert done == (0, "mail: set key\n", "")
    stored = config_of(repository)
    assert (stored, type(stored["key"])) == ({"other": 1, "key": value}, type(value))
    assert json.loads(run("--json", "config", "get", "mail", "key").out) == value


@pytest.mark.parametrize(
    ("stdin", "value"),
    [
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b"secret\n\n", "secret\n"),
        (b" secret ", " secret "),
        (b"", ""),
        (b"25\n", 25),
        (b'{\n "a": 1\n}\n', {"a": 1}),
        ("\ufeffé\n".encode(), "é"),
    ],
)
def test_config_set_reads_standard_input(
    run: Run, repository: PluginConfigRepository, stdin: bytes, value: object
) -> None:
    repository.save("mail", "enabled")
    assert run("config", "set", "mail", "key", "-", stdin=stdin).status == 0
    assert config_of(repository) == {"key": value}


def test_config_set_refuses_other_encodings(run: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled")
    for stdin in (b"walnut\xff", "walnut".encode("utf-16")):
        refused = run("config", "set", "mail", "key", "-", stdin=stdin)
        assert refused == (1, "", "plugin-store: the value on standard input is not UTF-8\n")


def test_config_set_says_that_the_type_changed(run: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled", {"port": 25})
    assert run("config", "set", "mail", "port", "smtp").err == "port was a number, and is text now\n"
    assert run("config", "set", "mail", "new", "{a: 1}").err.startswith("new is text: ")
    assert run("config", "set", "mail", "new", "--text", "{a: 1}").err == ""


def test_config_set_create_makes_a_disabled_row(run: Run, repository: PluginConfigRepository) -> None:
    assert run("config", "set", "--create", "ads", "key", "1").status == 0
    assert [(row.status, row.config) for row in repository.get_all()] == [("disabled", {"key": 1})]


def test_config_set_refuses_a_dotted_key_of_an_object(run: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled", {"smtp": {"host": "sesame"}})
    refused = run("config", "set", "mail", "smtp.port", "25")
    assert (refused.status, refused.out) == (1, "")
    assert """config set mail smtp '{"host": …, "port": …}'""" in refused.err and "sesame" not in refused.err


def test_config_set_refuses_what_cannot_be_stored(run: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled", {})
    refused = run("config", "set", "mail", "key", '{"a": "\\u0000"}')
    assert refused.status == 1
    assert "plugin-store: plugin 'mail': config.key.a holds a NUL character" in refused.err
    assert config_of(repository) == {}


def test_config_unset_says_what_was_not_stored(run: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled", {"host": 1, "port": 25})
    done = run("config", "unset", "mail", "port", "prot")
    assert done == (0, "mail: unset port\n", "no key 'prot' of plugin 'mail' is stored\n")
    assert config_of(repository) == {"host": 1}
    assert run("config", "unset", "maul", "port") == (0, "", "no key 'port' of plugin 'maul' is stored\n")


def test_config_get_prints_values_as_they_are(run: Run, repository: PluginConfigRepository) -> None:
    repository.save("mail", "enabled", {"host": "a\x9b\nb", "port": 25})
    assert run("config", "get", "mail", "host").out == "a\x9b\nb\n"
    assert run("config", "get", "mail", "port").out == "25\n"
    assert json.loads(run("config", "get", "mail").out) == {"host": "a\x9b\nb", "port": 25}
    missed = run("config", "get", "mail", "hots")
    assert missed.status == 1
    assert "no key 'hots' is stored in its config (did you mean 'host' or" in missed.err


# -- a row that cannot be read --------------------------------------------------------------------


@pytest.mark.usefixtures("unreadable")
def test_list_and_export_name_an_unreadable_row(run: Run) -> None:
    for command in (["list"], ["list", "--json"], ["export"]):
        done = run(*command)
        assert done.status == 1
        assert "mail" in done.out and "odd" not in done.out
        assert "plugin 'odd' cannot be read" in done.err and "`plugin-store delete NAME`" in done.err
    assert run("export", "mail").status == 0


@pytest.mark.usefixtures("unreadable")
def test_disable_and_delete_work_on_unreadable_rows(run: Run, connection: psycopg.Connection[Any]) -> None:
    assert run("disable", "mail").status == 0
    assert run("disable", "odd").out == "odd: disabled since -\n"
    assert status_of(connection, "odd") == "disabled"
    assert run("config", "set", "odd", "other", "1").status == 1
    assert run("config", "unset", "odd", "n") == (0, "odd: unset n\n", "")
    connection.execute(UNREADABLE)
    assert run("delete", "odd").status == 0
    assert status_of(connection, "odd") is None


@pytest.mark.usefixtures("unreadable")
def test_unknown_name_is_told_beside_an_unreadable_row(run: Run) -> None:
    assert "no plugin 'maul' is stored (did you mean 'mail'?)" in run("disable", "maul").err


# -- export, import, diff -------------------------------------------------------------------------

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
EMPTY = '{"format": 1, "plugins": {}}'
CHANGES = [
    '+ chat: status "disabled"',
    '- extra: status "enabled"',
    '+ mail: config.host "***"',
    '~ mail: config.port "***" -> "***"',
    '- mail: config.tls "***"',
]


@pytest.fixture
def file(repository: PluginConfigRepository, tmp_path: Path) -> str:
    """The path of a file that says what is stored."""
    repository.save("mail", "enabled", {"port": 25, "host": "smtp.example"})
    repository.save("chat", "disabled")
    file = tmp_path / "plugins.json"
    file.write_text(STORED)
    return str(file)


def change_all(repository: PluginConfigRepository) -> list[PluginConfig]:
    repository.update_config("mail", {"port": 587, "tls": True}, remove=["host"])
    repository.delete("chat")
    repository.save("extra", "enabled")
    return repository.get_all()


def test_import_prints_what_changes_and_does_it(run: Run, file: str, repository: PluginConfigRepository) -> None:
    before = change_all(repository)
    for more, changes in (((), [line for line in CHANGES if "extra" not in line]), (("--prune",), CHANGES)):
        dry = run("import", file, "--dry-run", *more)
        assert (dry.status, dry.out.splitlines(), dry.err) == (0, changes, "")
        assert repository.get_all() == before
    assert run("import", file, "--prune").out.splitlines() == CHANGES
    assert run("export").out == STORED
    assert run("import", file) == (0, "", "no difference, the table is as the file says\n")


@pytest.mark.parametrize(
    "data",
    [
        STORED.encode(),
        STORED.replace("\n", "\r\n").encode("utf-8-sig"),
        STORED.encode("utf-16"),
        b"\xfe\xff" + STORED.encode("utf-16-be"),
        STORED.encode("utf-16-le"),
    ],
    ids=["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "no mark"],
)
def test_import_reads_what_windows_writes(run: Run, repository: PluginConfigRepository, data: bytes) -> None:
    assert run("import", "-", stdin=data).status == 0
    assert [row.plugin_name for row in repository.get_all()] == ["chat", "mail"]


def test_prune_by_an_empty_file_needs_yes(run: Run, file: str, repository: PluginConfigRepository) -> None:
    before = repository.get_all()
    refused = run("import", "--prune", "-", stdin=EMPTY.encode())
    assert (refused.status, refused.out) == (1, "") and "--prune deletes all rows; --yes" in refused.err
    assert repository.get_all() == before
    assert run("import", "--prune", "--dry-run", "-", stdin=EMPTY.encode()).out.count("- ") == 4
    assert run("import", "-", stdin=EMPTY.encode()).status == 0
    assert run("import", "--prune", "--yes", "-", stdin=EMPTY.encode()).out.count("- ") == 4
    assert repository.get_all() == []
    assert run("import", "--prune", "-", stdin=EMPTY.encode()).status == 0


def test_diff_exits_with_1_on_a_difference(run: Run, file: str, repository: PluginConfigRepository) -> None:
    assert run("diff", file)[:2] == (0, "")
    repository.save("extra", "enabled")
    assert run("diff", file) == (1, '- extra: status "enabled"\n', "")
    change = {"sign": "-", "plugin_name": "extra", "what": "status", "before": "enabled", "after": None}
    assert json.loads(run("diff", file, "--json").out) == [change]


def test_unreadable_file_has_its_own_status(run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text('{\n  "format": 1,\nx}')
    for file, words in (("missing", "cannot read"), ("broken", "is refused: line 3, column 1: not JSON")):
        for command, status in (("diff", 2), ("import", 1)):
            failed = run(command, str(tmp_path / file))
            assert (failed.status, failed.out) == (status, "")
            assert words in failed.err


# -- the database ---------------------------------------------------------------------------------


def test_statuses_tell_refused_from_away(run: Run, empty_url: str, file: str) -> None:
    nowhere = "postgresql://someone:s3cret@127.0.0.1:1/none"
    for command in (["list"], ["disable", "mail"], ["diff", file], ["import", file], ["migrate"], ["watch"]):
        away = run(*command, "--database", nowhere)
        assert (away.status, away.out) == (3, "")
        assert "cannot be reached" in away.err and "s3cret" not in away.err
    for command, status in ((["list"], 1), (["diff", file], 2), (["watch"], 1)):
        missing = run(*command, "--database", empty_url)
        assert (missing.status, missing.out) == (status, "")
        assert "`plugin-store migrate`" in missing.err


def test_no_database_says_what_to_set(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", " \n")
    failed = run("list")
    assert failed.status == 1
    assert "DATABASE_URL" in failed.err and "plugin-store sandbox" in failed.err


@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
def test_url_may_end_with_a_blank(run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url + end)
    assert run("list").status == 0
    assert run("list", "--database", database_url + end).status == 0


def test_database_option_beats_url_and_libpq(
    run: Run, database_url: str, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = connection.info
    libpq = {"PGHOST": info.host, "PGPORT": str(info.port), "PGUSER": info.user, "PGDATABASE": info.dbname}
    for name, value in (libpq | {"PGPASSWORD": info.password, "DATABASE_URL": ""}).items():
        monkeypatch.setenv(name, value)
    assert run("list").status == 0
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    assert run("list").status == 3
    assert run("--database", database_url, "list").status == 0


def test_role_with_serializable_default_may_write(run: Run, database_url: str, file: str) -> None:
    url = f"{database_url}&options=-cdefault_transaction_isolation%3Dserializable"
    assert run("disable", "mail", "--database", url).status == 0
    assert run("import", file, "--database", url).status == 0


def test_wait_for_a_lock_is_limited(run: Run, database_url: str, connection: psycopg.Connection[Any]) -> None:
    url = f"{database_url}&options=-clock_timeout%3D100"
    connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('mail')")
    with connection.transaction():
        connection.execute("UPDATE plugin_config SET status = 'enabled'")
        for command in (["disable", "mail"], ["import", "--prune", "--yes", "-"]):
            refused = run(*command, "--database", url, stdin=EMPTY.encode())
            assert refused.status == 1 and "usually another transaction holds a lock" in refused.err


def test_lock_timeout_is_set_unless_given(run: Run, database_url: str, connection: psycopg.Connection[Any]) -> None:
    connection.execute("INSERT INTO plugin_config (plugin_name, status) VALUES ('mail', 'enabled')")
    connection.execute("""CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'the limit is %', current_setting('lock_timeout'); END $$""")
    connection.execute("""CREATE TRIGGER tell BEFORE UPDATE ON plugin_config
        FOR EACH ROW EXECUTE FUNCTION tell()""")
    assert "the limit is 15s" in run("disable", "mail").err
    assert (
        "the limit is 2min" in run("disable", "mail", "--database", f"{database_url}&options=-clock_timeout%3D2min").err
    )


def test_output_goes_to_streams_without_a_file_too(
    database_url: str, repository: PluginConfigRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.save("mail", "enabled")
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["--database", database_url, "list"]) == 0
    assert main(["--database", database_url, "export"]) == 0
    assert '"mail": {' in output.getvalue()
