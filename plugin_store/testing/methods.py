"""The part of the contract about the methods: what each one reads, writes and returns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TypeAlias
from uuid import UUID

import pytest

from plugin_store import InvalidConfigError, PluginConfig, PluginConfigStore, PluginStoreError

Write: TypeAlias = Callable[[PluginConfigStore, str, Any], object]

# Every method that writes a config.
WRITERS: dict[str, Write] = {
    "save": lambda store, name, config: store.save(name, "enabled", config),
    "save_config": lambda store, name, config: store.save_config(name, config),
    "update_config": lambda store, name, config: store.update_config(name, config),
    "add": lambda store, name, config: store.add(name, "enabled", config),
    "save_many": lambda store, name, config: store.save_many([PluginConfig(name, "enabled", config)]),
}

with_each_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())


def read(store: PluginConfigStore, name: str) -> PluginConfig:
    """Return the row. It must exist."""
    row = store.get_by_name(name)
    assert row is not None
    return row


class MethodsContract:
    """What each method reads, writes and returns."""

    def test_get_by_name_returns_none_when_unknown(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled")
        assert store.get_by_name("unknown") is None

    @pytest.mark.parametrize("other", ["Café", "cafe\u0301", "café ", "caf", "%", "caf_"], ids=ascii)
    def test_names_are_compared_exactly(self, store: PluginConfigStore, other: str) -> None:
        row = store.save("café", "enabled")
        assert store.get_by_name(other) is None
        store.save(other, "disabled")
        assert read(store, "café") == row

    def test_rows_are_ordered_by_code_point(self, store: PluginConfigStore) -> None:
        names = ["a", "é", "B", "b", "a b", "a-b", "a_b", "ab", "A", "10", "9", "\U0001f600", "\uffff"]
        for name in names:
            store.save(name, "enabled")
        assert [row.plugin_name for row in store.get_all()] == sorted(names)
        assert [row.plugin_name for row in store.get_enabled()] == sorted(names)

    def test_reads_return_the_same_rows(self, store: PluginConfigStore) -> None:
        assert store.get_all() == store.get_enabled() == []
        rows = [store.save("a", "enabled", {"n": 1}), store.save("b", "disabled", {"n": 2})]
        assert [read(store, "a"), read(store, "b")] == rows
        assert store.get_all() == rows
        assert store.get_enabled() == rows[:1]

    def test_save_creates_a_row(self, store: PluginConfigStore) -> None:
        row = store.save("analytics", "enabled", {"n": 1})
        assert isinstance(row, PluginConfig) and isinstance(row.id, UUID)
        assert (row.plugin_name, row.status, row.config) == ("analytics", "enabled", {"n": 1})
        assert store.get_all() == [row]
        assert store.save("without config", "enabled").config == {}

    def test_save_sets_the_status(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled", {"n": 1})
        row = store.save("analytics", "disabled")
        assert (row.status, row.config) == ("disabled", {"n": 1})
        assert store.get_all() == [row]

    def test_save_merges_top_level_keys(self, store: PluginConfigStore) -> None:
        store.save("analytics", "disabled", {"a": 1, "b": {"x": 1}})
        row = store.save("analytics", "enabled", {"b": {"y": 2}, "c": None})
        assert (row.status, row.config) == ("enabled", {"a": 1, "b": {"y": 2}, "c": None})
        assert store.save("analytics", "enabled", {}) == row
        assert store.get_all() == [row]

    @pytest.mark.parametrize("status", ["enabled", "disabled"])
    def test_save_config_replaces_only_the_config(self, store: PluginConfigStore, status: str) -> None:
        store.save("analytics", status, {"a": 1})
        row = store.save_config("analytics", {"b": 2})
        assert (row.status, row.config) == (status, {"b": 2})
        assert store.get_all() == [row]

    def test_update_config_sets_and_removes_keys(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled", {"a": 1, "b": {"a": 1, "c": 2}, "d": 3, "e": 4})
        row = store.update_config("analytics", {"b": {"c": 9}, "f": None}, remove=iter(["d", "e", "missing", ""]))
        assert (row.status, row.config) == ("enabled", {"a": 1, "b": {"c": 9}, "f": None})
        assert store.get_all() == [row]

    @pytest.mark.parametrize("remove", ["text", None, ["a\0b"], ["\ud800"], [1], ["set"]], ids=ascii)
    def test_update_config_refuses_invalid_keys_to_remove(self, store: PluginConfigStore, remove: Any) -> None:
        row = store.save("analytics", "enabled", {"a": 1})
        with pytest.raises(InvalidConfigError, match="analytics"):
            store.update_config("analytics", {"set": 1}, remove=remove)
        assert store.get_all() == [row]

    def test_config_methods_create_a_disabled_row(self, store: PluginConfigStore) -> None:
        rows = [store.save_config("a", {"n": 1}), store.update_config("b", {"n": 1}, remove=["m"])]
        assert [(row.status, row.config) for row in rows] == [("disabled", {"n": 1})] * 2
        assert store.get_all() == rows

    def test_add_creates_a_row(self, store: PluginConfigStore) -> None:
        row = store.add("analytics", "enabled", {"n": 1})
        assert (row.plugin_name, row.status, row.config) == ("analytics", "enabled", {"n": 1})
        assert store.get_all() == [row]
        assert store.add("without config", "disabled").config == {}

    def test_add_returns_an_existing_row_unchanged(self, store: PluginConfigStore) -> None:
        row = store.save("analytics", "disabled", {"n": 1})
        assert store.add("analytics", "enabled", {"n": 2}) == row
        assert store.get_all() == [row]

    def test_save_many_creates_and_replaces_rows(self, store: PluginConfigStore) -> None:
        old = store.save("b", "enabled", {"old": 1})
        given = [PluginConfig("c", "enabled", {"n": 3}), PluginConfig("b", "disabled", {"n": 2}), PluginConfig("a")]
        store.save_many(iter(given))
        found = [(row.plugin_name, row.status, row.config) for row in store.get_all()]
        assert found == [("a", "disabled", {}), ("b", "disabled", {"n": 2}), ("c", "enabled", {"n": 3})]
        assert read(store, "b").id == old.id
        store.save_many([])
        assert len(store.get_all()) == 3

    def test_save_many_ignores_ids_and_timestamps(self, store: PluginConfigStore) -> None:
        past = datetime(2001, 1, 1, tzinfo=timezone.utc)
        stamps = dict.fromkeys(("enabled_at", "disabled_at", "created_at", "updated_at"), past)
        store.save_many([PluginConfig("analytics", "enabled", {}, id=UUID(int=1), **stamps)])
        row = read(store, "analytics")
        assert row.id != UUID(int=1)
        assert past not in (row.enabled_at, row.disabled_at, row.created_at, row.updated_at)

    @pytest.mark.parametrize("bad", [PluginConfig("b", "on"), PluginConfig("b", config={"x": {1}}), PluginConfig("a")])
    def test_save_many_writes_nothing_when_one_is_invalid(self, store: PluginConfigStore, bad: PluginConfig) -> None:
        row = store.save("a", "enabled", {"n": 1})
        with pytest.raises(PluginStoreError):
            store.save_many([PluginConfig("a", "disabled"), bad])  # the last bad one repeats a name
        assert store.get_all() == [row]

    def test_deleted_plugin_starts_afresh(self, store: PluginConfigStore) -> None:
        old = store.save("analytics", "enabled", {"n": 1})
        assert store.delete("analytics") is True
        assert store.delete("analytics") is False
        assert store.get_all() == []
        new = store.save("analytics", "disabled")
        assert (new.config, new.enabled_at) == ({}, None)
        assert new.id != old.id

    def test_writes_leave_other_plugins_alone(self, store: PluginConfigStore) -> None:
        other = store.save("other", "enabled", {"n": 1})
        for write in WRITERS.values():
            write(store, "analytics", {"n": 2})
        store.delete("analytics")
        assert store.get_all() == [other]
