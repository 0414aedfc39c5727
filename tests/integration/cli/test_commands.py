"""The commands of ``plugin-store`` on a table. The unit tests have what the verbs do to a store."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from databases import UNREADABLE_ROW, Connection
from recorder import rows

from plugin_store import PluginConfig, PluginConfigRepository

Repository = PluginConfigRepository
Run = Callable[..., Any]

SECRET = {"user": "sesame-1742", "smtp": {"pin": 90317}, "list": ["sesame-1742"], "ref": {"$env": "SMTP_PASSWORD"}}
VETO = "CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'vetoed'; END $$"
VETOES = {
    "at once": "TRIGGER veto BEFORE UPDATE ON plugin_config FOR EACH ROW",
    "at commit": "CONSTRAINT TRIGGER veto AFTER UPDATE ON plugin_config DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
}


def test_list_names_the_config_keys(run: Run, repository: Repository) -> None:
    assert run("list") == (0, "", "no plugin is stored yet\n")
    assert run("list", "--json") == (0, "[]\n", "")
    repository.save("mail", "enabled", {"port": 25, "host": "x"})
    header, row = run("list").out.splitlines()
    assert header.index("CONFIG KEYS") == row.index("host, port")


def test_output_escapes_what_moves_the_cursor(run: Run, repository: Repository) -> None:
    hostile = {"a\x9b": "\x9b31m \u202e\x7f é"}
    repository.save("\x1b[2Jé\n", "enabled", hostile)
    assert run("list").out.splitlines()[1].startswith("\\u001b[2Jé\\n  enabled")
    shown = run("show", "\x1b[2Jé\n", "--show-values").out
    assert shown.replace("\n", "").isprintable()
    assert json.loads(shown.partition("\nconfig ")[2]) == hostile


def test_show_prints_every_column(run: Run, repository: Repository) -> None:
    row = repository.save("mail", "enabled", {"port": 25})
    shown = run("show", "mail").out
    for column in PluginConfig.__slots__:
        assert f"\n{column} " in f"\n{shown}"
    assert str(row.id) in shown
    as_json = json.loads(run("--json", "show", "mail").out)
    assert list(as_json) == list(PluginConfig.__slots__)
    assert (as_json["id"], as_json["updated_at"]) == (str(row.id), row.updated_at.isoformat())
    assert json.loads(run("list", "--json").out) == [as_json]


def test_values_are_hidden_unless_asked_for(run: Run, repository: Repository) -> None:
    repository.save("mail", "enabled", SECRET)
    for command in (["show", "mail"], ["show", "mail", "--json"], ["list"], ["list", "--json"]):
        done = run(*command)
        assert "sesame" not in done.out and "90317" not in done.out
        assert "smtp" in done.out
    shown = {"user": "***", "smtp": {"pin": "***"}, "list": ["***"], "ref": {"$env": "SMTP_PASSWORD"}}
    assert json.loads(run("show", "mail", "--json").out)["config"] == shown
    assert json.loads(run("show", "mail", "--json", "--show-values").out)["config"] == SECRET


def test_no_change_echoes_a_value(run: Run, repository: Repository, tmp_path: Path) -> None:
    repository.save("mail", "enabled", SECRET)
    file = tmp_path / "plugins.json"
    file.write_text(json.dumps({"format": 1, "plugins": {"mail": {"status": "enabled", "config": {"x": "walnut"}}}}))
    said = [
        run("config", "set", "mail", "new", "walnut"),
        run("config", "unset", "mail", "list"),
        run("diff", str(file)),
        run("config", "set", "mail", "user", "walnut", "--json"),
        run("disable", "mail", "--json"),
        run("import", str(file), "--dry-run", "--json"),
        run("import", str(file)),
        run("delete", "mail", "--json"),
    ]
    assert "walnut" not in repr(said) and "sesame" not in repr(said) and "90317" not in repr(said)
    assert (said[0].out, said[1].out) == ("mail: set new\n", "mail: unset list\n")
    assert '+ mail: config.x "***"\n' in said[2].out
    assert '- mail: config.ref {"$env": "SMTP_PASSWORD"}\n' in said[2].out
    assert json.loads(said[3].out) == {"plugin_name": "mail", "set": ["user"]}
    assert json.loads(said[4].out)[0]["status"] == "disabled"
    assert json.loads(said[-1].out) == {"plugin_name": "mail", "deleted": True}
    assert '+ mail: config.x "walnut"\n' in run("diff", str(file), "--show-values").out


def test_enable_and_disable_print_each_row(run: Run, repository: Repository) -> None:
    created = run("enable", "--create", "mail", "analytics", "mail")
    assert (created.status, created.err) == (0, "")
    assert re.sub(r" since 20.*", "", created.out) == "analytics: enabled\nmail: enabled\n"
    assert run("disable", "--create", "mail", "ads").status == 0
    assert rows(repository) == {"ads": ("disabled", {}), "analytics": ("enabled", {}), "mail": ("disabled", {})}


UNKNOWN = ["show analytcs", "config get analytcs", "export analytics analytcs"]
UNKNOWN_BUT_CREATED = ["enable analytcs", "disable analytics analytcs", "config set analytcs key 1"]


@pytest.mark.parametrize("command", UNKNOWN + UNKNOWN_BUT_CREATED)
def test_unknown_name_is_refused_with_near_names(run: Run, repository: Repository, command: str) -> None:
    before = repository.save("analytics", "enabled", {"key": 0})
    missed = run(*command.split())
    assert (missed.status, missed.out) == (1, "")
    assert missed.err.startswith("plugin-store: no plugin 'analytcs' is stored (did you mean 'analytics'?)")
    assert ("--create" in missed.err) == (command in UNKNOWN_BUT_CREATED)
    assert repository.get_all() == [before]


@pytest.mark.parametrize("trigger", VETOES.values(), ids=VETOES.keys())
def test_enable_changes_all_or_none(run: Run, connection: Connection, trigger: str) -> None:
    connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('a'), ('b')")
    connection.execute(f"{VETO}; CREATE {trigger} WHEN (OLD.plugin_name = 'b') EXECUTE FUNCTION veto()".encode())
    refused = run("enable", "a", "b")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.startswith("plugin-store: ") and "vetoed" in refused.err
    assert PluginConfigRepository(connection).get_enabled() == []


def test_delete_says_what_follows(run: Run, repository: Repository) -> None:
    repository.save("mail", "enabled")
    note = "nothing is deleted: no plugin 'maul' is stored (did you mean 'mail'?)\n"
    assert run("delete", "maul") == (0, "", note)
    done = run("delete", "mail")
    assert (done.status, done.out) == (0, "mail: deleted\n")
    assert "comes back enabled" in done.err and "disable" in done.err
    assert repository.get_all() == []


TYPED: list[tuple[list[str], object]] = [
    (["-1.5"], -1.5),
    (["-1e5"], "-1e5"),
    (["--", "-x"], "-x"),
    (["--text", "-1"], "-1"),
    (['["a", {"b": 1}]'], ["a", {"b": 1}]),
]
PIPED: dict[bytes, object] = {b"secret\r\n": "secret", b" secret\n\n": " secret\n", b"": "", b"[\n25]\n": [25]}
PIPED["\ufeffé\n".encode()] = "é"


@pytest.mark.parametrize(("typed", "value"), TYPED)
def test_config_set_keeps_what_was_typed(run: Run, repository: Repository, typed: list[str], value: object) -> None:
    repository.save("mail", "enabled", {"other": 1})
    assert run("config", "set", "mail", "key", *typed) == (0, "mail: set key\n", "")
    assert rows(repository)["mail"][1] == {"other": 1, "key": value}
    assert json.loads(run("--json", "config", "get", "mail", "key").out) == value


def test_config_set_reads_standard_input(run: Run, repository: Repository) -> None:
    repository.save("mail", "enabled")
    for stdin, value in PIPED.items():
        assert run("config", "set", "mail", "key", "-", stdin=stdin).status == 0
        assert rows(repository)["mail"][1] == {"key": value}
    for stdin in (b"walnut\xff", "walnut".encode("utf-16")):
        refused = run("config", "set", "mail", "key", "-", stdin=stdin)
        assert refused == (1, "", "plugin-store: the value on standard input is not UTF-8: convert it\n")


def test_config_set_says_what_may_surprise(run: Run, repository: Repository) -> None:
    repository.save("mail", "enabled", {"port": 25})
    assert run("config", "set", "mail", "port", "smtp").err == "port was a number, and is text now\n"
    assert run("config", "set", "mail", "new", "{a: 1}").err.startswith("new is stored as text: ")
    assert run("config", "set", "mail", "new", "--text", "{a: 1}").err == ""
    assert run("config", "set", "--create", "ads", "key", "1").status == 0
    assert rows(repository)["ads"][1] == {"key": 1}


def test_config_unset_says_what_was_not_stored(run: Run, repository: Repository) -> None:
    repository.save("mail", "enabled", {"host": 1, "port": 25})
    done = run("config", "unset", "mail", "port", "prot")
    assert done == (0, "mail: unset port\n", "no key 'prot' of plugin 'mail' is stored\n")
    assert rows(repository)["mail"][1] == {"host": 1}
    assert run("config", "unset", "maul", "port") == (0, "", "no plugin 'maul' is stored (did you mean 'mail'?)\n")


def test_config_get_prints_values_as_they_are(run: Run, repository: Repository) -> None:
    repository.save("mail", "enabled", {"host": "a\x9b\nb", "port": 25})
    assert run("config", "get", "mail", "host").out == "a\x9b\nb\n"
    assert run("config", "get", "mail", "port").out == "25\n"
    assert json.loads(run("config", "get", "mail").out) == {"host": "a\x9b\nb", "port": 25}
    missed = run("config", "get", "mail", "hots")
    assert missed.status == 1
    assert "no key 'hots' is stored in its config (did you mean 'host' or" in missed.err


def test_unreadable_row_is_named_beside_the_others(run: Run, connection: Connection) -> None:
    PluginConfigRepository(connection).save("mail", "enabled")
    connection.execute(UNREADABLE_ROW)
    for command in (["list"], ["list", "--json"], ["export"]):
        done = run(*command)
        assert done.status == 1
        assert "mail" in done.out and "odd" not in done.out
        assert "plugin 'odd' cannot be read" in done.err and "`plugin-store delete NAME`" in done.err
    assert run("export", "mail").status == 0
    assert "no plugin 'maul' is stored (did you mean 'mail'?)" in run("disable", "maul").err


def test_unreadable_row_can_be_changed(run: Run, connection: Connection) -> None:
    PluginConfigRepository(connection).save("mail", "enabled")
    connection.execute(UNREADABLE_ROW)
    assert run("disable", "mail").status == 0
    assert run("disable", "odd").out == "odd: disabled since -\n"
    assert run("config", "set", "odd", "other", "1").status == 1
    assert run("config", "unset", "odd", "n") == (0, "odd: unset n\n", "")
    assert PluginConfigRepository(connection).get_enabled() == []
    connection.execute(UNREADABLE_ROW)
    assert run("delete", "odd").status == 0
    assert len(PluginConfigRepository(connection).get_all()) == 1


PLUGINS = {"chat": {"config": {}, "status": "disabled"}}
PLUGINS |= {"mail": {"config": {"host": "smtp.example", "port": 25}, "status": "enabled"}}
STORED = json.dumps({"format": 1, "plugins": PLUGINS}, indent=2) + "\n"
EMPTY = b'{"format": 1, "plugins": {}}'
CHANGES = [
    '+ chat: status "disabled"',
    '- extra: status "enabled"',
    '+ mail: config.host "***"',
    '~ mail: config.port "***" -> "***"',
    '- mail: config.tls "***"',
]


@pytest.fixture
def file(repository: Repository, tmp_path: Path) -> str:
    """The path of a file that says what is stored."""
    repository.save("mail", "enabled", {"port": 25, "host": "smtp.example"})
    repository.save("chat", "disabled")
    file = tmp_path / "plugins.json"
    file.write_text(STORED)
    return str(file)


def test_import_prints_what_changes_and_does_it(run: Run, file: str, repository: Repository) -> None:
    repository.update_config("mail", {"port": 587, "tls": True}, remove=["host"])
    repository.delete("chat")
    repository.save("extra", "enabled")
    before = repository.get_all()
    for more, changes in (((), [line for line in CHANGES if "extra" not in line]), (("--prune",), CHANGES)):
        dry = run("import", file, "--dry-run", *more)
        assert (dry.status, dry.out.splitlines(), dry.err) == (0, changes, "")
        assert repository.get_all() == before
    assert run("import", file, "--prune").out.splitlines() == CHANGES
    assert run("export").out == STORED
    assert run("import", file) == (0, "", "no difference, the table is as the file says\n")


def test_prune_by_an_empty_file_needs_yes(run: Run, file: str, repository: Repository) -> None:
    before = repository.get_all()
    refused = run("import", "--prune", "-", stdin=EMPTY)
    assert (refused.status, refused.out) == (1, "") and "--prune deletes all rows; --yes" in refused.err
    assert run("import", "--prune", "--dry-run", "-", stdin=EMPTY).out.count("- ") == 4
    assert run("import", "-", stdin=EMPTY).status == 0
    assert repository.get_all() == before
    assert run("import", "--prune", "--yes", "-", stdin=EMPTY).out.count("- ") == 4
    assert repository.get_all() == []


def test_diff_has_a_status_for_each_outcome(run: Run, file: str, repository: Repository, tmp_path: Path) -> None:
    assert run("diff", file)[:2] == (0, "")
    repository.save("extra", "enabled")
    assert run("diff", file) == (1, '- extra: status "enabled"\n', "")
    change = {"sign": "-", "plugin_name": "extra", "what": "status", "before": "enabled", "after": None}
    assert json.loads(run("diff", file, "--json").out) == [change]
    (tmp_path / "broken").write_text('{\n  "format": 1,\nx}')
    for name, words in (("missing", "cannot read"), ("broken", "line 3 column 1")):
        for command, status in (("diff", 2), ("import", 1)):
            failed = run(command, str(tmp_path / name))
            assert (failed.status, failed.out) == (status, "")
            assert words in failed.err


def test_statuses_tell_refused_from_away(run: Run, empty_url: str, file: str, caplog: pytest.LogCaptureFixture) -> None:
    nowhere = "postgresql://someone:s3cret@127.0.0.1:1/none"
    for command in ("list", "disable mail", f"diff {file}", f"import {file}", "migrate --wait 0.1", "status", "watch"):
        away = run(*command.split(), "--database", nowhere)
        assert (away.status, away.out) == (3, "")
        assert "cannot be reached" in away.err and "s3cret" not in away.err + caplog.text
    assert [message.partition(":")[0] for message in caplog.messages] == ["waiting up to 0.1 s for the database"]
    for command, status in (("list", 1), (f"diff {file}", 2), (f"import {file}", 1), ("watch", 1)):
        missing = run(*command.split(), "--database", empty_url)
        assert (missing.status, missing.out) == (status, "")
        assert "`plugin-store migrate`" in missing.err


def test_database_is_found_in_this_order(
    run: Run, database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", " \n")
    failed = run("list")
    assert failed.status == 1
    assert "DATABASE_URL" in failed.err and "plugin-store sandbox" in failed.err
    info = connection.info
    libpq = {"HOST": info.host, "PORT": str(info.port), "USER": info.user, "DATABASE": info.dbname}
    for name, value in (libpq | {"PASSWORD": info.password}).items():
        monkeypatch.setenv(f"PG{name}", value)
    assert run("list").status == 0
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    assert run("list").status == 3
    assert run("--database", f"{database_url}\r\n", "list").status == 0
    monkeypatch.setenv("DATABASE_URL", f"{database_url}\n")
    assert run("list").status == 0


def test_role_with_serializable_default_may_write(run: Run, database_url: str, file: str) -> None:
    url = f"{database_url}&options=-cdefault_transaction_isolation%3Dserializable"
    assert run("disable", "mail", "--database", url).status == 0
    assert run("import", file, "--database", url).status == 0


def test_wait_for_a_lock_is_limited(run: Run, database_url: str, connection: Connection) -> None:
    connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('mail')")
    connection.execute(VETO.replace("'vetoed'", "'the limit is %', current_setting('lock_timeout')").encode())
    connection.execute(f"CREATE {VETOES['at once']} EXECUTE FUNCTION veto()".encode())
    assert "the limit is 15s" in run("disable", "mail").err
    given = f"{database_url}&options=-clock_timeout%3D2min"
    assert "the limit is 2min" in run("disable", "mail", "--database", given).err
