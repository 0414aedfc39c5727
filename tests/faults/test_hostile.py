"""Names and configs that mean harm: they travel through a whole service unchanged."""

from typing import Any

from databases import Connection
from recorder import Service, rows
from watching import following, service_on
from workers import wait_until

from plugin_store import PluginConfig, PluginConfigRepository

NAMES = [
    "'; DROP TABLE plugin_config; --", '"; DELETE FROM plugin_config; --', "%s %(plugin_name)s %", "{name} $1 :name",
    "\\'\\\"\\\\", "$$ $stamp$", "NULL", " ", "\n\r\t\x1b[2J", "../../etc/passwd", "a\u202eb", "\U0001f9e8" * 100,
    "plugin_config", "x" * 100, "\ufffe\uffff\U0010ffff", "'" * 100, "enabled",
]  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "numbers": {"a": 2**64, "b": 1 - 2**14_000, "c": 1.7976931348623157e308, "d": -0.0, "e": 1e16, "f": 5e-324},
    "a text of 1 MB": {"a": "é☃\U0001f9e8\\\"'%s" * 60_000},
    "a key of 1 MB": {"a" * 1_000_000: 1},
    "10,000 keys": {f"key {number}": number for number in range(10_000)},
    "escapes": {"".join(map(chr, range(1, 0x20))): "\x7f\u2028\u2029\u0080"},
} | {name: {name: [name, {name: name}]} for name in NAMES}
BY_HAND = {  # in jsonb, and in Python
    '{"a": 1, "a": 2}': {"a": 2},
    '{"a": 1e400}': {"a": 10**400},
    '{"a": 1.0, "b": 1E2, "c": -0, "d": 1.50}': {"a": 1.0, "b": 100, "c": 0, "d": 1.5},
    '{"\\u0061\\ud83e\\udde8": "\\u00e9"}': {"a\U0001f9e8": "é"},
    '{"": {"": {"": null}}}': {"": {"": {"": None}}},
}


def test_service_follows_hostile_names_and_configs(repository: PluginConfigRepository, database_url: str) -> None:
    service = service_on(repository, dict.fromkeys(CONFIGS, ()))
    with following(service, database_url):
        repository.save_many(PluginConfig(name, "enabled", config) for name, config in CONFIGS.items())
        assert wait_until(lambda: service.enabled == set(CONFIGS))
        assert {name: plugin._config for name, plugin in service.plugins.items()} == CONFIGS
        for name in NAMES:
            service.manager.disable_plugin(name)
            service.manager.update_config(name, {"more": name}, remove=[name])
    found = rows(repository)
    assert {name: found[name] for name in NAMES} == {name: ("disabled", {"more": name}) for name in NAMES}


def test_service_has_what_jsonb_makes_of_a_text(repository: PluginConfigRepository, connection: Connection) -> None:
    for text in BY_HAND:
        connection.execute("INSERT INTO plugin_config (plugin_name, config) VALUES (%s, %s::jsonb)", [text, text])
    service = Service(repository, dict.fromkeys(BY_HAND, ()))
    assert {name: plugin._config for name, plugin in service.plugins.items()} == BY_HAND
    for name, config in BY_HAND.items():
        row = repository.get_by_name(name)
        assert repository.save_config(name, config) == row  # no change
