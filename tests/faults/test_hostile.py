"""Names, configs and rows that mean harm: refused with an error of ours, or stored and returned equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql
from recorder import Service
from workers import wait_until

from plugin_store import (
    InvalidConfigError,
    InvalidNameError,
    PluginConfig,
    PluginConfigRepository,
    PluginWatcher,
)

NAMES = [
    "'; DROP TABLE plugin_config; --", '"; DELETE FROM plugin_config; --', "%s %(plugin_name)s %", "{name} $1 :name",
    "\\'\\\"\\\\", "$$ $stamp$", "NULL", " ", "\n\r\t\x1b[2J", "../../etc/passwd", "a\u202eb", "\U0001f9e8" * 100,
    "plugin_config", "x" * 100, "\ufffe\uffff\U0010ffff", "'" * 100, "enabled",
]  # fmt: skip
BAD_NAMES = ["", "a\0b", "\0", "\ud800", "a\udfffb", "\U0001f9e8" * 101, "x" * 1_000_000, None, 7, b"a", ["a"]]


def nested(levels: int) -> dict[str, Any]:
    """An object of so many levels, lists and objects in turn."""
    value: Any = {}
    for level in range(levels - 1):
        value = {"a": value} if level % 2 or level == levels - 2 else [value]
    assert isinstance(value, dict)
    return value


CONFIGS: dict[str, dict[str, Any]] = {
    "2**64": {"a": 2**64, "b": -(2**64), "c": 2**63 - 1, "d": 2**53 + 1},
    "an integer of 14,000 bits": {"a": 2**14_000 - 1, "b": 1 - 2**14_000},
    "floats at the ends": {"a": 1.7976931348623157e308, "b": 5e-324, "c": -0.0, "d": 0.1 + 0.2, "e": 1e16, "f": 1e22},
    "a text of 1 MB": {"a": "é☃\U0001f9e8\\\"'%s" * 60_000},
    "keys of 1 MB": {"a" * 1_000_000: 1},
    "100,000 keys": {f"key {number}": number for number in range(100_000)},
    "100 levels": nested(100),
    "SQL": {name: [name, {name: name}] for name in NAMES},
    "what JSON would escape": {"".join(map(chr, range(1, 0x20))): "\x7f\u2028\u2029\u0080"},
}
BAD_CONFIGS: dict[str, Any] = {
    "an integer of 14,001 bits": {"a": 2**14_000},
    "an integer of 5,000 digits": {"a": 10**5_000},
    "101 levels": nested(101),
    "1,000 levels": nested(1_000),
    "100,000 levels": nested(100_000),
    "infinity": {"a": 1e999},
    "not a number": {"a": [float("nan")]},
    "a NUL in a text": {"a": {"b": "x\0"}},
    "a NUL in a key": {"a": {"b\0": 1}},
    "a lone surrogate": {"a": ["\ud83e"]},
    "a lone surrogate in a key": {"\udd00": 1},
    "no object": [{"a": 1}],
    "text": '{"a": 1}',
}
WRITES: dict[str, Callable[[PluginConfigRepository, str, Any], object]] = {
    "save": lambda repository, name, config: repository.save(name, "enabled", config),
    "save_config": lambda repository, name, config: repository.save_config(name, config),
    "update_config": lambda repository, name, config: repository.update_config(name, config),
    "add": lambda repository, name, config: repository.add(name, "enabled", config),
    "save_many": lambda repository, name, config: repository.save_many([PluginConfig(name, "enabled", config)]),
}
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())


@each_write
def test_hostile_names_are_stored_and_returned_equal(
    repository: PluginConfigRepository, write: Callable[..., object]
) -> None:
    for name in NAMES:
        write(repository, name, {name: name})
    rows = {row.plugin_name: row for row in repository.get_all()}
    assert list(rows) == sorted(NAMES)
    for name in NAMES:
        assert repository.get_by_name(name) == rows[name]
        assert repository.get_by_name(name).config == {name: name}
    for name in NAMES:
        assert repository.delete(name)
    assert repository.get_all() == []


@each_write
def test_names_that_cannot_be_are_refused_and_nothing_is_written(
    repository: PluginConfigRepository, write: Callable[..., object]
) -> None:
    for name in BAD_NAMES:
        for call in (lambda name: write(repository, name, {}), repository.get_by_name, repository.delete):
            with pytest.raises(InvalidNameError) as caught:
                call(name)
            assert len(str(caught.value)) < 1_000
    assert repository.get_all() == []


def test_hostile_names_travel_through_a_service(repository: PluginConfigRepository, database_url: str) -> None:
    service = Service(repository, dict.fromkeys(NAMES, ()))
    with PluginWatcher(service.manager, database_url):
        repository.save_many([PluginConfig(name, "enabled", {name: [name]}) for name in NAMES])
        assert wait_until(lambda: service.enabled == set(NAMES))
        assert all(service[name]._config == {name: [name]} for name in NAMES)
        for name in NAMES:
            service.manager.disable_plugin(name)
            service.manager.update_config(name, {"more": name}, remove=[name])
    assert {row.plugin_name: (row.status, row.config) for row in repository.get_all()} == {
        name: ("disabled", {"more": name}) for name in NAMES
    }


@each_write
@pytest.mark.parametrize("what", CONFIGS)
def test_hostile_configs_are_stored_and_returned_equal(
    repository: PluginConfigRepository, write: Callable[..., object], what: str
) -> None:
    write(repository, "a", CONFIGS[what])
    assert repository.get_by_name("a").config == CONFIGS[what]
    (row,) = repository.get_all()
    assert row.config == CONFIGS[what]
    service = Service(repository, {"a": ()})
    service.manager.enable_plugin("a")
    assert service["a"]._config == CONFIGS[what]
    assert repository.get_by_name("a").config == CONFIGS[what]


@each_write
@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_configs_that_cannot_be_are_refused_and_nothing_is_written(
    repository: PluginConfigRepository, write: Callable[..., object], what: str
) -> None:
    repository.save("a", "disabled", {"as": "before"})
    before = repository.get_all()
    with pytest.raises(InvalidConfigError, match="plugin 'a': ") as caught:
        write(repository, "a", BAD_CONFIGS[what])
    assert len(str(caught.value)) < 1_000
    assert repository.get_all() == before


def set_by_hand(connection: psycopg.Connection[Any], column: str, value: str, plugin_name: str = "a") -> None:
    statement = "UPDATE plugin_config SET {} = {} WHERE plugin_name = %s"
    connection.execute(sql.SQL(statement).format(sql.Identifier(column), sql.SQL(value)), [plugin_name])


BY_HAND = {  # in jsonb, and in Python
    '{"a": 1, "a": 2}': {"a": 2},
    '{"a": {"b": 1, "b": [], "b": {}}}': {"a": {"b": {}}},
    '{"a": 1e400}': {"a": 10**400},
    '{"a": 1.0, "b": 1E2, "c": -0, "d": 1.50}': {"a": 1.0, "b": 100, "c": 0, "d": 1.5},
    '{"\\u0061\\ud83e\\udde8": "\\u00e9"}': {"a\U0001f9e8": "é"},
    '{"": {"": {"": null}}}': {"": {"": {"": None}}},
}


def test_what_jsonb_makes_of_a_text_is_what_a_service_has(
    repository: PluginConfigRepository, connection: psycopg.Connection[Any]
) -> None:
    for text, config in BY_HAND.items():
        connection.execute("INSERT INTO plugin_config (plugin_name, config) VALUES (%s, %s::jsonb)", [text, text])
        assert repository.get_by_name(text).config == config
        assert repository.save_config(text, config) == repository.get_by_name(text)
    service = Service(repository, dict.fromkeys(BY_HAND, ()))
    assert {name: plugin._config for name, plugin in service.plugins.items()} == BY_HAND


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("plugin_name", "''"), ("plugin_name", "repeat('x', 101)"), ("plugin_name", "NULL"),
        ("plugin_name", r"E'a\x00'"), ("status", "'on'"), ("status", "''"), ("status", "'ENABLED'"), ("status", "NULL"),
        ("config", "'[]'"), ("config", "'1'"), ("config", "'null'"), ("config", "NULL"), ("config", "'{'"),
        ("config", r"""'{"a": "\u0000"}'"""), ("config", r"""'{"a": "\ud800"}'"""), ("config", "'{\"a\": NaN}'"),
        ("config", "'{\"a\": Infinity}'"),
    ],
)  # fmt: skip
def test_the_table_refuses_by_itself_what_breaks_the_rules(
    repository: PluginConfigRepository, connection: psycopg.Connection[Any], column: str, value: str
) -> None:
    repository.save("a", "enabled")
    before = repository.get_all()
    with pytest.raises(psycopg.Error):
        set_by_hand(connection, column, value)
    assert repository.get_all() == before


UNREADABLE = {
    "config": """'{"a": ' || repeat('9', 5000) || '}'""",
    "config of 2,000 levels": """'{"a": ' || repeat('[', 2000) || repeat(']', 2000) || '}'""",
    "config of 300 levels": """'{"a": ' || repeat('{"b": ', 299) || '0' || repeat('}', 299) || '}'""",
    "enabled_at": "'infinity'",
    "disabled_at": "'294276-01-01'",
    "updated_at": "'-infinity'",
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_table_refuses_what_python_cannot_read(
    repository: PluginConfigRepository, connection: psycopg.Connection[Any], what: str
) -> None:
    column = what.partition(" ")[0]
    repository.save("a", "enabled", {"k": 1})
    before = repository.get_all()
    connection.execute("SET session_replication_role = replica")  # else the trigger keeps the stamps
    value = f"({UNREADABLE[what]})::{'jsonb' if column == 'config' else 'timestamptz'}"
    with pytest.raises(psycopg.errors.CheckViolation, match=r"plugin_config_(config|times)_readable"):
        set_by_hand(connection, column, value, "a")
    assert repository.get_all() == before
