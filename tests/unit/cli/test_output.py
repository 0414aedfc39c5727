"""What the commands print, and how."""

from __future__ import annotations

from plugin_store.cli.output import as_table, hidden, near, printable


def test_hidden_keeps_keys_null_and_references() -> None:
    reference = {"$env": "NAME"}
    value = {"a": 1, "b": [True, None, reference], "c": {"d": "x", "ref": reference}, "e": {}}
    assert hidden(value) == {"a": "***", "b": ["***", None, reference], "c": {"d": "***", "ref": reference}, "e": {}}
    assert hidden({"$env": "NAME", "more": "x"}) == {"$env": "***", "more": "***"}


def test_near_names_what_is_similar() -> None:
    assert near("maul", ["mail", "chat"]) == " (did you mean 'mail'?)"
    assert near("x", ["mail"]) == ""


def test_table_is_aligned_and_on_one_line_each() -> None:
    assert as_table([("a", "b"), ("long\n", "")]) == "a       b\nlong\\n\n"
    assert printable("a\x1b\u202eé") == "a\\x1b\\u202eé"
