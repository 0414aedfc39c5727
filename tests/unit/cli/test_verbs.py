"""What the commands do to a store; what they print is tested with the commands."""

from __future__ import annotations

from typing import Any

import pytest

from plugin_store import InMemoryPluginConfigStore, InvalidConfigError, InvalidNameError, PluginNotFoundError
from plugin_store.cli import verbs


@pytest.fixture
def store() -> InMemoryPluginConfigStore:
    store = InMemoryPluginConfigStore()
    store.save("mail", "enabled", {"port": 25, "smtp": {"host": "h", "tls": True}})
    return store


JSON = {
    "25": 25,
    "-1": -1,
    "0": 0,
    "0.5": 0.5,
    "25.0": 25.0,
    "1e-07": 1e-07,
    "9007199254740993": 9007199254740993,
    "true": True,
    "null": None,
    '"25"': "25",
    '"é"': "é",
    '"\\u00e9"': "é",
    '["a","b"]': ["a", "b"],
    '{ "a" :\n[1.10, 1e3]}': {"a": [1.1, 1000.0]},
    "[-0.0]": [0],
}
TEXT = [
    *(
        "mail",
        "",
        " ",
        "1.10",
        "77950e8",
        "12e3456",
        "007",
        "1_000",
        "+1",
        "-0",
        "-0.0",
        "1E5",
        "1e16",
        "1e+16",
        ".5",
        "5.",
    ),
    *("NaN", "-Infinity", "nan", "True", "0.1000000000000000055", "1e-400", "1e-99999999999999999999", "9" * 5000),
    *("25 ", " 25", "25\n", "[1] ", "[1", "{a: 1}", '{"a": 1, "a": 2}', '[{"a": 1, "a": 1}]', "[NaN]", "[1e999]"),
    *("[12345678901234567890.5]", "[" * 100_000, "0x10", "2024-01-01", "٢", "5.", '"a\\/b"'),
]


@pytest.mark.parametrize(("text", "value"), JSON.items())
def test_parse_value_returns_json_that_reads_back(text: str, value: object) -> None:
    parsed = verbs.parse_value(text)
    assert (parsed, type(parsed)) == (value, type(value))
    assert verbs.parse_value(text, as_text=True) == text


@pytest.mark.parametrize("text", TEXT, ids=lambda text: text[:20])
def test_parse_value_returns_other_text_as_typed(text: str) -> None:
    assert verbs.parse_value(text) == text


def test_set_status_returns_the_rows(store: InMemoryPluginConfigStore) -> None:
    assert verbs.set_status(store, ["mail", "mail"], "disabled") == [store.get_by_name("mail")]
    rows = verbs.set_status(store, ["mail", "chat"], "enabled", create=True)
    assert [(row.plugin_name, row.status) for row in rows] == [("chat", "enabled"), ("mail", "enabled")]


@pytest.mark.parametrize("names", [["mail", "maul"], ["mail", "x" * 101]])
def test_set_status_changes_nothing_when_name_is_refused(store: InMemoryPluginConfigStore, names: list[str]) -> None:
    before = store.get_all()
    with pytest.raises((PluginNotFoundError, InvalidNameError)):
        verbs.set_status(store, names, "disabled")
    assert store.get_all() == before


def test_unknown_name_error_names_near_names_and_create(store: InMemoryPluginConfigStore) -> None:
    with pytest.raises(PluginNotFoundError, match=r"'maul' is stored \(did you mean 'mail'\?\); --create"):
        verbs.set_status(store, ["maul"], "enabled")
    with pytest.raises(PluginNotFoundError, match="--create"):
        verbs.set_key(store, "maul", "key", 1)


@pytest.mark.parametrize("create", [False, True])
def test_names_joined_by_a_comma_are_refused(store: InMemoryPluginConfigStore, create: bool) -> None:
    with pytest.raises(PluginNotFoundError, match="separate names with blanks, 'mail chat'"):
        verbs.set_status(store, ["mail,chat"], "enabled", create=create)
    store.save("mail,chat", "disabled")
    assert verbs.set_status(store, ["mail,chat"], "enabled")[0].status == "enabled"


def test_set_key_creates_a_disabled_row(store: InMemoryPluginConfigStore) -> None:
    assert verbs.set_key(store, "ads", "key", 1, create=True) == []
    row = store.get_by_name("ads")
    assert row is not None and (row.status, row.config) == ("disabled", {"key": 1})


@pytest.mark.parametrize(
    ("value", "notes"),
    [
        (587, []),
        (0.5, []),
        ("587", ["port was a number, and is text now"]),
        (True, ["port was a number, and is true or false now"]),
        (None, ["port was a number, and is null now"]),
        ({}, ["port was a number, and is an object now"]),
    ],
)
def test_set_key_tells_that_the_type_changed(store: InMemoryPluginConfigStore, value: object, notes: list[str]) -> None:
    assert verbs.set_key(store, "mail", "port", value) == notes
    assert verbs.set_key(store, "mail", "new", value) == []


def test_dotted_key_of_an_object_is_refused(store: InMemoryPluginConfigStore) -> None:
    before = store.get_all()
    with pytest.raises(InvalidConfigError) as refused:
        verbs.set_key(store, "mail", "smtp.port", 25)
    whole = """config set mail smtp '{"host": …, "tls": …, "port": …}'"""
    assert str(refused.value).endswith(f"is set as a whole: {whole}")
    with pytest.raises(InvalidConfigError) as refused:
        verbs.unset_keys(store, "mail", ["smtp.tls"])
    assert str(refused.value).endswith("""config set mail smtp '{"host": …}'""")
    assert store.get_all() == before


@pytest.mark.parametrize("key", ["other.port", "port.number", ".", "a."])
def test_dotted_key_is_set_without_such_an_object(store: InMemoryPluginConfigStore, key: str) -> None:
    verbs.set_key(store, "mail", key, 1)
    assert config_of(store)[key] == 1


def test_dotted_key_that_is_stored_can_be_set(store: InMemoryPluginConfigStore) -> None:
    store.update_config("mail", {"smtp.port": 1})
    verbs.set_key(store, "mail", "smtp.port", 2)
    assert config_of(store)["smtp.port"] == 2


def test_unset_keys_returns_what_was_not_stored(store: InMemoryPluginConfigStore) -> None:
    assert verbs.unset_keys(store, "mail", ["port", "prot", "prot"]) == ["prot"]
    assert list(config_of(store)) == ["smtp"]
    assert verbs.unset_keys(store, "maul", ["port"]) == ["port"]
    assert store.get_by_name("maul") is None


def config_of(store: InMemoryPluginConfigStore) -> dict[str, Any]:
    row = store.get_by_name("mail")
    assert row is not None
    return row.config
