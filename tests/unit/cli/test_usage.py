"""The command line: its help, and what is wrong usage. No database is asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from plugin_store.cli import main

COMMANDS = [
    *("", "migrate", "status", "list", "show", "enable", "disable", "delete", "config get", "config set"),
    *("config unset", "export", "import", "diff", "watch", "sandbox", "demo"),
]


def wrong(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what is said of the wrong usage."""
    with pytest.raises(SystemExit) as raised:
        main(args)
    assert raised.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_statuses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([*command.split(), "--help"])
    assert raised.value.code == 0
    shown = capsys.readouterr().out
    assert f"examples:\n  plugin-store {command}" in shown
    assert "3  the database is away" in shown


@pytest.mark.parametrize(
    "args", [[], ["frobnicate"], ["enable"], ["config"], ["config", "set", "name", "key"], ["list", "extra"]]
)
def test_wrong_usage_exits_with_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "usage: plugin-store" in wrong(args, capsys)


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
def test_wrong_usage_does_not_repeat_a_conninfo(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    shown = wrong(list(args), capsys)
    assert "s3cret" not in shown
    assert "it belongs after --database" in shown


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["my", "s3cret"], "too many arguments: quote what has blanks"),
        (["x", "--value=s3cret"], "unknown option --value"),
    ],
)
def test_wrong_usage_does_not_repeat_a_value(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = wrong(["config", "set", "mail", "key", *args], capsys)
    assert said in shown and "s3cret" not in shown


def test_help_loads_no_driver() -> None:
    program = """
import sys
from plugin_store.cli import main
try:
    main(["--help"])
except SystemExit:
    print(sorted({"psycopg", "yoyo", "flask", "difflib"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
