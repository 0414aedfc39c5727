"""Plugins in a file, and what is different between two states of the table."""

import json
from typing import Any

import pytest

from plugin_store import PluginConfig, diff_plugins, dump_plugins, load_plugins
from plugin_store.cli.transfer import PluginChange
from plugin_store.errors import InvalidFileError


def file_of(plugin: Any, name: str = "a") -> str:
    return json.dumps({"format": 1, "plugins": {name: plugin}})


def test_file_is_ordered_readable_and_reads_back() -> None:
    rows = [PluginConfig("é", "disabled", {"b": [1, None], "a": {"y": "ü"}}), PluginConfig("mail")]
    text = dump_plugins(rows)
    assert text == (
        '{\n  "format": 1,\n  "plugins": {\n    "mail": {\n      "config": {},\n      "status": "disabled"\n    },\n'
        '    "é": {\n      "config": {\n        "a": {\n          "y": "ü"\n        },\n'
        '        "b": [\n          1,\n          null\n        ]\n      },\n      "status": "disabled"\n    }\n  }\n}\n'
    )
    assert dump_plugins(reversed(rows)) == text
    assert load_plugins(text) == rows[::-1]
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le"):  # Windows writes the last three
        assert load_plugins(text.replace("\n", "\r\n").encode(encoding)) == rows[::-1]


def test_file_moves_no_cursor_and_loses_no_character() -> None:
    rows = [PluginConfig("a\x1b[2J\n", "disabled", {"k\x9b": "\x7f\u202e\U000e0001 é"})]
    text = dump_plugins(rows)
    assert text.replace("\n", "").isprintable()
    assert load_plugins(text) == rows


ITS_KEYS = "a file of plugins must be an object with the keys format and plugins, and no others"
PLUGINS_KEYS = "plugin 'a' must be an object with the keys status and config"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "this is not a file of plugins: Expecting value: line 1 column 1"),
        ('{"format": 1,\n "plugins": {,}}', "line 2 column 14"),
        (b'{"format": 1,\n\n "\xff', "'utf-8' codec can't decode byte 0xff"),
        (b"\xff\xfe{", "'utf-16-le' codec can't decode"),
        ("9" * 5000, "this is not a file of plugins: "),
        ("[" * 100_000, "this is not a file of plugins: "),
        ("[]", ITS_KEYS),
        ('{"format": 1, "plugins": {}, "more": 1}', ITS_KEYS),
        ('{"format": 2, "plugins": {}}', "its format is 2, and this plugin_store reads 1 only"),
        ('{"format": true, "plugins": {}}', "its format is True"),
        ('{"format": 1, "plugins": []}', r"plugins must be an object$"),
        ('{"format": 1, "plugins": {"a": {"config": [{"c": 1, "c": 2}]}}}', "the key 'c' is given twice"),
        (file_of(1), PLUGINS_KEYS),
        (file_of({"status": "on", "config": {}, "id": 1}), PLUGINS_KEYS),
        (file_of({"status": [], "config": {}}), "plugin 'a': status must be"),
        (file_of({"status": "enabled", "config": {"b": ["\0"]}}), r"plugin 'a': config\.b\[0\] holds a NUL"),
        (file_of({"status": "enabled", "config": {}}, "x" * 101), "has 101 characters"),
        ('{"format": 1, "plugins": {"a": {"status": "enabled", "config": {"b": 1e999}}}}', r"config\.b is inf"),
    ],
)
def test_file_that_breaks_rule_is_refused(text: str | bytes, problem: str) -> None:
    with pytest.raises(InvalidFileError, match=problem):
        load_plugins(text)


def test_changes_are_by_plugin_and_key() -> None:
    old = [PluginConfig("a", "enabled", {"x": 1, "y": None}), PluginConfig("b", "enabled", {"z": 1})]
    new = [PluginConfig("c"), PluginConfig("a", "disabled", {"x": True, "w": None})]
    assert diff_plugins(old, new) == [
        PluginChange("~", "a", "status", "enabled", "disabled"),
        PluginChange("~", "a", "config.x", 1, True),
        PluginChange("+", "a", "config.w", None, None),
        PluginChange("-", "a", "config.y", None, None),
        PluginChange("-", "b", "status", "enabled", None),
        PluginChange("-", "b", "config.z", 1, None),
        PluginChange("+", "c", "status", None, "disabled"),
    ]
    assert [change.plugin_name for change in diff_plugins(old, new[:1], partial=True)] == ["c"]


def test_change_is_line_that_moves_no_cursor() -> None:
    change = PluginChange("~", "a\x1b[2J", "config.k\n", "é\x9b", {"$env": "KEY"})
    assert str(change) == r'~ a\u001b[2J: config.k\n "é\u009b" -> {"$env": "KEY"}'
