"""The limits of names, statuses and configs, and the words of their errors; the contract suite has the rest."""

import re
from collections import OrderedDict
from enum import Enum
from typing import Any

import pytest

from plugin_store import InvalidConfigError, InvalidNameError, PluginConfig
from plugin_store.errors import InvalidStatusError
from plugin_store.stores.validation import (
    MAX_DEPTH,
    MAX_INT_BITS,
    check_name,
    check_status,
    checked_changes,
    checked_config,
    checked_many,
    copy_json,
    same_json,
)


def refused(config: Any) -> str:
    with pytest.raises(InvalidConfigError) as caught:
        checked_config("analytics", config)
    return str(caught.value).removeprefix("plugin 'analytics': ")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "a plugin name must not be empty"),
        ("x" * 101, "plugin name 'xxxxxxxxxxxxxxxxxxxx'… has 101 characters, more than 100"),
        ("a\0", r"plugin name 'a\x00' holds a NUL character, which PostgreSQL does not store"),
        ("\ud800", r"plugin name '\ud800' holds a lone surrogate, which is not a character"),
        (7, "a plugin name must be a str, not int: 7"),
    ],
)
def test_check_name_says_what_is_wrong(name: Any, message: str) -> None:
    with pytest.raises(InvalidNameError, match=f"^{re.escape(message)}$"):
        check_name(name)


def test_check_status_names_plugin() -> None:
    check_status("analytics", "enabled")
    check_status("analytics", "disabled")
    message = "plugin 'analytics': status must be 'enabled' or 'disabled', not 'on'"
    with pytest.raises(InvalidStatusError, match=f"^{message}$"):
        check_status("analytics", "on")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config must be a dict, not NoneType"),
        ({"a": [1, {"b": float("-inf")}]}, "config.a[1].b is -inf, which JSON does not have"),
        ({"a b": {"": "\0"}}, "config['a b'][''] holds a NUL character, which PostgreSQL does not store"),
        ({"a": {"b": {1: 2}}}, "config.a.b has the key 1, which is not a str"),
        ({"a\0": 1}, r"config has the key 'a\x00', which holds a NUL character, which PostgreSQL does not store"),
        ({"a": {1, 2}}, "config.a is a set, which JSON does not have"),
    ],
)
def test_checked_config_names_plugin_and_key_path(config: Any, message: str) -> None:
    assert refused(config) == message


def test_integers_have_as_many_bits_as_python_reads() -> None:
    largest = 2**MAX_INT_BITS - 1
    assert int(str(largest)) == largest
    assert checked_config("analytics", {"n": [largest, -largest]}) == {"n": [largest, -largest]}
    assert refused({"n": [largest + 1]}) == f"config.n[0] is an integer of more than {MAX_INT_BITS} bits"
    assert refused({"n": -largest - 1}) == f"config.n is an integer of more than {MAX_INT_BITS} bits"


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {}


def test_configs_are_nested_as_deep_as_is_said() -> None:
    assert checked_config("analytics", nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    assert refused(nested(MAX_DEPTH + 1)) == "config.a.a.a is nested deeper than 100 levels, or holds itself"
    ring: list[Any] = []
    ring.append(ring)
    assert refused({"a": ring}) == "config.a[0][0] is nested deeper than 100 levels, or holds itself"


def test_large_floats_become_integers_that_are_equal() -> None:
    # repr() writes them with an exponent, which jsonb would give back as other digits.
    copy = checked_config("analytics", {"a": 1e16, "b": -1e23, "c": 1e15})
    assert copy == {"a": 1e16, "b": -1e23, "c": 1e15}
    assert [type(value) for value in copy.values()] == [int, int, float]


def test_subclasses_of_json_types_are_taken_for_them() -> None:
    class Text(str, Enum):
        HELLO = "hello"

    copy = checked_config("analytics", OrderedDict(a=OrderedDict(b=1), c=Text.HELLO))
    assert copy == {"a": {"b": 1}, "c": "hello"}
    assert type(copy) is dict and type(copy["a"]) is dict


@pytest.mark.parametrize(
    ("changes", "remove", "message"),
    [
        ({}, "abc", "remove must be a list of keys, not 'abc'"),
        ({}, None, "remove must be a list of keys, not None"),
        ({}, [["a"]], "remove has the key ['a'], which is not a str"),
        ({}, ["\0"], r"remove has the key '\x00', which holds a NUL character, which PostgreSQL does not store"),
        ({"b": 1, "a": 1}, ["c", "b", "a"], "['a', 'b'] cannot be both set and removed"),
    ],
)
def test_checked_changes_names_plugin_and_problem(changes: Any, remove: Any, message: str) -> None:
    assert checked_changes("analytics", {"a": [1]}, iter(["b", "b", "c"])) == ({"a": [1]}, ["b", "c"])
    with pytest.raises(InvalidConfigError, match=f"^plugin 'analytics': {re.escape(message)}$"):
        checked_changes("analytics", changes, remove)


def test_checked_many_refuses_repeated_name() -> None:
    assert list(checked_many([PluginConfig("a", "enabled", {"n": 1})])) == [("a", "enabled", {"n": 1})]
    with pytest.raises(InvalidNameError, match="plugin 'a' is given twice"):
        list(checked_many([PluginConfig("a"), PluginConfig("a")]))


SAME: list[tuple[Any, Any]] = [
    ({"a": [1, {"b": None}], "c": 2}, {"c": 2, "a": [1, {"b": None}]}),
    (1, 1.0),
]
DIFFERENT: list[tuple[Any, Any]] = [
    *((1, True), ([False], [0]), ({"a": 1}, {"a": True}), ("1", 1), ([], {}), ({}, None)),
    *(({"a": 1}, {"a": 1, "b": 2}), ({"a": None}, {"b": None}), ([1, 2], [1]), ([1, 2], [2, 1])),
]


def test_same_json_tells_booleans_from_numbers() -> None:
    for one, other in SAME:
        assert same_json(one, other) and same_json(other, one)
    for one, other in DIFFERENT:
        assert not same_json(one, other) and not same_json(other, one)


@pytest.mark.parametrize("copied", [copy_json, lambda given: checked_config("analytics", given)])
def test_copies_share_no_dict_or_list(copied: Any) -> None:
    given = {"a": [{"b": 1}], "c": {"d": None}, "e": 0.5, "f": True}
    copy = copied(given)
    assert copy == given and copy["f"] is True
    for one, other in ((copy, given), (copy["a"], given["a"]), (copy["a"][0], given["a"][0]), (copy["c"], given["c"])):
        assert one is not other


def test_checked_many_refuses_missing_config() -> None:
    with pytest.raises(InvalidConfigError, match="config must be a dict, not NoneType"):
        list(checked_many([PluginConfig("mail", "enabled", None)]))  # type: ignore[arg-type]
