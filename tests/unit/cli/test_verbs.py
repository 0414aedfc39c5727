"""What the commands do to a store; what they print is tested with the commands."""

import pytest
from recorder import FailingStore, rows

from plugin_store import InMemoryPluginConfigStore, InvalidConfigError, PluginNotFoundError
from plugin_store.cli import verbs


@pytest.fixture
def store() -> InMemoryPluginConfigStore:
    store = InMemoryPluginConfigStore()
    store.save("mail", "enabled", {"port": 25, "smtp": {"host": "h", "tls": True}})
    return store


JSON = [
    *(("-1", -1), ("0", 0), ("25.0", 25.0), ("1e-07", 1e-07), ("9007199254740993", 9007199254740993)),
    *(("true", True), ("null", None), ('"25"', "25"), ('"\\u00e9"', "é"), ("[-0.0]", [0])),
    ('{ "a" :\n[1.10, 1e3]}', {"a": [1.1, 1000.0]}),
]
TEXT = [
    *("mail", "", " ", "1.10", "77950e8", "12e3456", "007", "1_000", "+1", "-0", "-0.0", "1E5", "1e16", ".5", "5."),
    *("NaN", "-Infinity", "True", "0.1000000000000000055", "1e-400", "1e-99999999999999999999", "9" * 5000, "0x10"),
    *("25 ", " 25", "25\n", "[1] ", "[1", "{a: 1}", '[{"a": 1, "a": 1}]', "[NaN]", "[1e999]", "[" * 100_000),
    *("[12345678901234567890.5]", "2024-01-01", "٢", '"a\\/b"'),
]


@pytest.mark.parametrize(("text", "value"), JSON)
def test_parse_value_returns_json_that_reads_back(text: str, value: object) -> None:
    parsed = verbs.parse_value(text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize("text", TEXT, ids=lambda text: text[:20])
def test_parse_value_returns_other_text_as_typed(text: str) -> None:
    assert verbs.parse_value(text) == text


def test_set_status_saves_in_order_of_names() -> None:
    verbs.set_status(store := FailingStore(), ["b", "c", "a", "b"], "enabled", create=True)
    saved = [name for method, name, *_ in store.called if method == "save"]
    assert saved == ["a", "b", "c"]  # in another order, two commands could deadlock


@pytest.mark.parametrize("create", [False, True])
def test_names_joined_by_comma_are_refused(store: InMemoryPluginConfigStore, create: bool) -> None:
    with pytest.raises(PluginNotFoundError, match="separate names with blanks, 'mail chat'"):
        verbs.set_status(store, ["mail,chat"], "enabled", create=create)
    store.save("mail,chat", "disabled")
    assert verbs.set_status(store, ["mail,chat"], "enabled")[0].status == "enabled"


@pytest.mark.parametrize(
    ("value", "notes"),
    [
        (0.5, []),
        ("587", ["port was a number, and is text now"]),
        (True, ["port was a number, and is true or false now"]),
        (None, ["port was a number, and is null now"]),
        ({}, ["port was a number, and is an object now"]),
    ],
)
def test_set_key_says_that_type_changed(store: InMemoryPluginConfigStore, value: object, notes: list[str]) -> None:
    assert verbs.set_key(store, "mail", "port", value) == notes
    assert verbs.set_key(store, "mail", "new", value) == []


def test_dotted_key_of_object_is_refused(store: InMemoryPluginConfigStore) -> None:
    before = store.get_all()
    with pytest.raises(InvalidConfigError) as refused:
        verbs.set_key(store, "mail", "smtp.port", 25)
    whole = """plugin-store config set mail smtp '{"host": …, "tls": …, "port": …}'"""
    assert str(refused.value).endswith(f"is set as a whole: {whole}")
    with pytest.raises(InvalidConfigError) as refused:
        verbs.unset_keys(store, "mail", ["smtp.tls"])
    assert str(refused.value).endswith("""plugin-store config set mail smtp '{"host": …}'""")
    assert store.get_all() == before


@pytest.mark.parametrize("key", ["other.port", "port.number", ".", "a.", "smtp.stored"])
def test_dotted_key_is_set_without_such_object(store: InMemoryPluginConfigStore, key: str) -> None:
    store.update_config("mail", {"smtp.stored": 0})
    verbs.set_key(store, "mail", key, 1)
    assert rows(store)["mail"][1][key] == 1
