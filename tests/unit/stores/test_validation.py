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
def test_a_bad_name_is_named_with_what_is_wrong(name: Any, message: str) -> None:
    with pytest.raises(InvalidNameError, match=f"^{re.escape(message)}$"):
        check_name(name)


def test_names_of_1_to_100_characters_pass() -> None:
    check_name("x")
    check_name("\U0001f600" * 100)


def test_a_bad_status_is_named_with_the_plugin() -> None:
    check_status("analytics", "enabled")
    check_status("analytics", "disabled")
    with pytest.raises(
        InvalidStatusError, match=r"^plugin 'analytics': status must be 'enabled' or 'disabled', not 'on'$"
    ):
        check_status("analytics", "on")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config must be a dict, not NoneType"),
        ([], "config must be a dict, not list"),
        ({"a": float("nan")}, "config.a is nan, which JSON does not have"),
        ({"a": [1, {"b": float("-inf")}]}, "config.a[1].b is -inf, which JSON does not have"),
        ({"a b": {"": "\0"}}, "config['a b'][''] holds a NUL character, which PostgreSQL does not store"),
        ({"a": {"b": {1: 2}}}, "config.a.b has the key 1, which is not a str"),
        ({"a\0": 1}, r"config has the key 'a\x00', which holds a NUL character, which PostgreSQL does not store"),
        ({"a": {1, 2}}, "config.a is a set, which JSON does not have"),
        ({"a": (1, 2)}, "config.a is a tuple, which JSON does not have"),
        ({"a": 1j}, "config.a is a complex, which JSON does not have"),
    ],
)
def test_a_bad_config_is_named_with_plugin_and_key_path(config: Any, message: str) -> None:
    assert refused(config) == message


def test_integers_may_have_as_many_bits_as_python_reads_back() -> None:
    largest = 2**MAX_INT_BITS - 1
    assert int(str(largest)) == largest
    assert checked_config("analytics", {"n": [largest, -largest]}) == {"n": [largest, -largest]}
    assert refused({"n": [largest + 1]}) == f"config.n[0] is an integer of more than {MAX_INT_BITS} bits"
    assert refused({"n": -largest - 1}) == f"config.n is an integer of more than {MAX_INT_BITS} bits"


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {}


def test_configs_may_be_nested_as_deep_as_is_said() -> None:
    assert checked_config("analytics", nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    assert refused(nested(MAX_DEPTH + 1)) == "config.a.a.a is nested deeper than 100 levels, or holds itself"
    ring: list[Any] = []
    ring.append(ring)
    assert refused({"a": ring}) == "config.a[0][0] is nested deeper than 100 levels, or holds itself"


def test_the_checked_config_is_an_equal_copy() -> None:
    given = {"a": [{"b": 1}], "c": {"d": None}, "e": 1e300, "f": 0.5, "g": True}
    copy = checked_config("analytics", given)
    assert copy == given
    assert copy is not given and copy["a"] is not given["a"] and copy["a"][0] is not given["a"][0]
    assert copy["c"] is not given["c"]
    assert copy["g"] is True


def test_large_floats_become_integers_that_are_equal() -> None:
    # repr() writes them with an exponent, which jsonb would give back as other digits.
    copy = checked_config("analytics", {"a": 1e16, "b": -1e23, "c": 1e15})
    assert copy == {"a": 1e16, "b": -1e23, "c": 1e15}
    assert [type(value) for value in copy.values()] == [int, int, float]


def test_subclasses_of_what_json_has_are_taken_for_it() -> None:
    class Text(str, Enum):
        HELLO = "hello"

    copy = checked_config("analytics", OrderedDict(a=OrderedDict(b=1), c=Text.HELLO))
    assert copy == {"a": {"b": 1}, "c": "hello"}
    assert type(copy) is dict and type(copy["a"]) is dict


def test_changes_and_keys_to_remove() -> None:
    assert checked_changes("analytics", {"a": [1]}, ["b", "b", "c"]) == ({"a": [1]}, ["b", "c"])
    assert checked_changes("analytics", {}, iter(())) == ({}, [])


@pytest.mark.parametrize(
    ("changes", "remove", "message"),
    [
        ({}, "abc", "remove must be a list of keys, not 'abc'"),
        ({}, None, "remove must be a list of keys, not None"),
        ({}, [1], "remove has the key 1, which is not a str"),
        ({}, [["a"]], "remove has the key ['a'], which is not a str"),
        ({}, ["\0"], r"remove has the key '\x00', which holds a NUL character, which PostgreSQL does not store"),
        ({"b": 1, "a": 1}, ["c", "b", "a"], "['a', 'b'] cannot be both set and removed"),
        ([], [], "config must be a dict, not list"),
    ],
)
def test_bad_changes_are_named_with_the_plugin(changes: Any, remove: Any, message: str) -> None:
    with pytest.raises(InvalidConfigError, match=f"^plugin 'analytics': {re.escape(message)}$"):
        checked_changes("analytics", changes, remove)


def test_many_are_checked_one_by_one() -> None:
    assert checked_many([PluginConfig("a"), PluginConfig("b", "enabled", {"n": 1})]) == [
        ("a", "disabled", {}),
        ("b", "enabled", {"n": 1}),
    ]
    with pytest.raises(InvalidNameError, match="plugin 'a' is given twice"):
        checked_many([PluginConfig("a"), PluginConfig("a")])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (1, 1.0, True),
        (1, True, False),
        (False, 0, False),
        ([1], [True], False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": None}, {"b": None}, False),
        ([1, 2], [1], False),
        ([1, 2], [2, 1], False),
        ([], {}, False),
        ({}, None, False),
        ("1", 1, False),
    ],
)
def test_same_json_is_equality_that_tells_truth_values_from_numbers(one: Any, other: Any, same: bool) -> None:
    assert same_json(one, other) is same
    assert same_json(other, one) is same


def test_copy_json_copies_dicts_and_lists_and_shares_the_rest() -> None:
    shared = object()
    given = {"a": [{"b": shared}]}
    copy = copy_json(given)
    assert copy == given
    assert copy is not given and copy["a"] is not given["a"] and copy["a"][0] is not given["a"][0]
    assert copy["a"][0]["b"] is shared
