"""The command line: its help, and what is wrong usage. No database is asked."""

import pytest

from plugin_store.cli import main

COMMANDS = [
    *("", "migrate", "status", "list", "show", "enable", "disable", "delete", "config get", "config set"),
    *("config unset", "export", "import", "diff", "watch", "sandbox", "demo"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_statuses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([*command.split(), "--help"])
    assert raised.value.code == 0
    shown = capsys.readouterr().out
    assert f"examples:\n  plugin-store {command}" in shown
    assert "3  the database is away" in shown


CONNINFO = "it belongs after --database"
SET = ["config", "set", "mail", "key"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], ""),
        (["enable"], ""),
        (SET, ""),
        (["list", "postgresql://u:pa's3cret@h/db"], CONNINFO),
        (["list", "postgresql://h/db?password=p's3cret"], CONNINFO),
        (["migrate", "--wait", "postgresql://u:pa s3cret@h/db"], CONNINFO),
        (["--databse", "u:pa's3cret@h/db", "list"], CONNINFO),
        (["host=h Password=a\\ s3cret"], CONNINFO),
        (["show", "host=h", "password=a'", "s3cret"], CONNINFO),
        ([*SET, "my", "s3cret"], "too many arguments: quote what has blanks"),
        ([*SET, "x", "--value=s3cret"], "unknown option --value"),
        ([*SET, "--text=s3cret"], "argument --text: ignored explicit argument (hidden)"),
    ],
)
def test_wrong_usage_exits_with_2_without_secret(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(args)
    assert raised.value.code == 2
    shown = capsys.readouterr().err
    assert "usage: plugin-store" in shown and said in shown and "s3cret" not in shown
