"""The part of the contract about what a row holds: names, statuses, configs, ids and timestamps."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from plugin_store import ConflictError, InvalidConfigError, InvalidNameError, PluginConfig, PluginConfigStore
from plugin_store.errors import InvalidStatusError

from .methods import WRITERS, Write, read, with_each_writer

# One value of each kind that jsonb or a JSON reader treats differently.
NUMBERS = [0, -(2**63) - 1, 2**53 + 1, 0.1 + 0.2, 1e22, 5e-324]
TEXTS = ["", "null", "\"'\\ \\u0000 \x01\x7f\n % %s {0} ä e\u0301 \U0001f600 \uffff", "x" * 100_000]
KEYS = {"": 1, "b": 2, "a.b": 3, "é": 4, "'": 5, '"': 6, "%s": 7, "$.a": 8}
STORABLE = [None, True, *NUMBERS, *TEXTS, [], {}, KEYS, [[], [{"d": None}]]]
UNSTORABLE = [float("nan"), float("-inf"), "a\0b", "\ud800", {"\0": 1}, {1: "a"}, datetime.max, {1}, (1, 2), b"a"]
BAD_NAMES = ["", "x" * 101, "a\0b", "\ud800", None, 1]


class ValuesContract:
    """Which values are stored. Other values are refused before anything is written."""

    @pytest.mark.parametrize("value", STORABLE, ids=lambda value: ascii(value)[:20])
    def test_storable_value_comes_back_equal(self, store: PluginConfigStore, value: Any) -> None:
        for name, write in WRITERS.items():
            write(store, name, {"value": value})
            found = read(store, name).config
            assert found == {"value": value}
            assert isinstance(found["value"], bool) == isinstance(value, bool)

    @pytest.mark.parametrize("name", ["é" * 100, "\U0001f600" * 100, "a'b\"c;--%s", " ", "\n"], ids=ascii)
    def test_any_text_can_be_a_name(self, store: PluginConfigStore, name: str) -> None:
        assert store.save(name, "enabled") == read(store, name)
        assert store.delete(name)

    @with_each_writer
    def test_given_config_is_copied(self, store: PluginConfigStore, write: Write) -> None:
        given: dict[str, Any] = {"list": [1], "object": {"a": 1}}
        write(store, "analytics", given)
        given["list"].append(2)
        given["object"]["b"] = 2
        assert read(store, "analytics").config == {"list": [1], "object": {"a": 1}}

    def test_returned_config_is_a_copy(self, store: PluginConfigStore) -> None:
        config = {"list": [1], "object": {"a": 1}}
        returned = [store.save("analytics", "enabled", config), store.save("analytics", "enabled")]
        returned += [store.save_config("analytics", config), store.update_config("analytics", {})]
        returned += [store.add("analytics", "enabled"), read(store, "analytics")]
        for row in returned + store.get_all() + store.get_enabled():
            row.config["list"].append(2)
            row.config["object"]["b"] = 2
            assert read(store, "analytics").config == config

    @pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name)[:20])
    def test_bad_name_is_refused(self, store: PluginConfigStore, name: Any) -> None:
        for method in (store.get_by_name, store.delete, lambda name: store.save(name, "enabled")):
            with pytest.raises(InvalidNameError):
                method(name)
        for write in WRITERS.values():
            with pytest.raises(InvalidNameError):
                write(store, name, {})
        assert store.get_all() == []

    @pytest.mark.parametrize("status", ["", "ENABLED", "error", None, True, []], ids=repr)
    def test_bad_status_is_refused(self, store: PluginConfigStore, status: Any) -> None:
        row = store.save("analytics", "enabled", {"n": 1})
        for name in ("analytics", "new"):
            with pytest.raises(InvalidStatusError, match=name):
                store.save(name, status)
            with pytest.raises(InvalidStatusError, match=name):
                store.add(name, status)
            with pytest.raises(InvalidStatusError, match=name):
                store.save_many([PluginConfig(name, status)])
        assert store.get_all() == [row]

    @with_each_writer
    @pytest.mark.parametrize("value", UNSTORABLE, ids=ascii)
    def test_unstorable_value_is_refused(self, store: PluginConfigStore, write: Write, value: Any) -> None:
        row = store.save("analytics", "enabled", {"n": 1})
        for name in ("analytics", "new"):
            with pytest.raises(InvalidConfigError, match=rf"{name}.*\bmail\b.*\bports\b.*\b1\b"):
                write(store, name, {"fine": 1, "mail": {"ports": [25, value]}})
        assert store.get_all() == [row]

    @with_each_writer
    def test_config_must_be_a_finite_object(self, store: PluginConfigStore, write: Write) -> None:
        ring: dict[str, Any] = {}
        ring["again"] = [ring]
        for config in (ring, [], "{}", 1, [("a", 1)]):
            with pytest.raises(InvalidConfigError, match="analytics"):
                write(store, "analytics", config)
        assert store.get_all() == []


class VersionsContract:
    """When ids and timestamps move, and how ``expected_updated_at`` uses them."""

    def test_new_row_has_the_timestamps_of_its_status(self, store: PluginConfigStore) -> None:
        for name, write in WRITERS.items():
            write(store, name, {})
        store.save("saved", "disabled")
        store.add("added", "disabled")
        store.save_many([PluginConfig("one of many")])
        for row in store.get_all():
            assert version(row).utcoffset() is not None and row.created_at == row.updated_at
            expected = {"enabled": (row.created_at, None), "disabled": (None, row.created_at)}
            assert (row.enabled_at, row.disabled_at) == expected[row.status]

    def test_changed_status_moves_its_timestamp(self, store: PluginConfigStore) -> None:
        first = store.save("analytics", "enabled", {"n": 1})
        second = store.save("analytics", "disabled")
        assert version(second) > version(first)
        moment = second.updated_at
        assert second == replace(first, status="disabled", disabled_at=moment, updated_at=moment)
        store.save_many([PluginConfig("analytics", "enabled", {"n": 1})])
        third = read(store, "analytics")
        assert version(third) > version(second)
        moment = third.updated_at
        assert third == replace(second, status="enabled", enabled_at=moment, updated_at=moment)

    @with_each_writer
    def test_changed_config_moves_only_updated_at(self, store: PluginConfigStore, write: Write) -> None:
        store.save("analytics", "disabled")
        before = store.save("analytics", "enabled")
        write(store, "analytics", {"n": 1})
        after = read(store, "analytics")
        if write is WRITERS["add"]:
            assert after == before
        else:
            assert version(after) > version(before)
            assert after == replace(before, config={"n": 1}, updated_at=after.updated_at)

    @with_each_writer
    def test_writing_stored_values_moves_nothing(self, store: PluginConfigStore, write: Write) -> None:
        before = store.save("analytics", "enabled", {"a": [1, {"b": None}]})
        write(store, "analytics", {"a": [1, {"b": None}]})
        assert store.get_all() == [before]

    def test_every_change_has_a_greater_version(self, store: PluginConfigStore) -> None:
        versions = [version(store.save_config("analytics", {"n": n})) for n in range(30)]
        versions += [version(store.save("analytics", status)) for status in ("enabled", "disabled") * 5]
        assert versions == sorted(set(versions))

    @pytest.mark.parametrize(("old", "new"), [(1, True), ([False], [0])])
    def test_number_and_boolean_are_different_versions(self, store: PluginConfigStore, old: Any, new: Any) -> None:
        before = store.save_config("analytics", {"key": old})
        assert version(store.save_config("analytics", {"key": new})) > version(before)

    def test_id_and_created_at_never_change(self, store: PluginConfigStore) -> None:
        first, other = store.save("analytics", "enabled"), store.save("other", "enabled")
        for number, write in enumerate(WRITERS.values()):
            write(store, "analytics", {"number": number})
        row = store.save("analytics", "disabled")
        assert (row.id, row.created_at) == (first.id, first.created_at)
        assert row.id != other.id

    def test_save_config_writes_when_version_is_expected(self, store: PluginConfigStore) -> None:
        expected = version(store.save("analytics", "enabled", {"n": 1})).astimezone(timezone(timedelta(hours=5)))
        row = store.save_config("analytics", {"n": 2}, expected_updated_at=expected)
        assert (row.status, row.config) == ("enabled", {"n": 2})
        assert store.save_config("analytics", {"n": 3}, expected_updated_at=row.updated_at).config == {"n": 3}

    def test_save_config_refuses_another_version(self, store: PluginConfigStore) -> None:
        stale = version(store.save("analytics", "enabled", {"n": 1}))
        row = store.save("analytics", "disabled")
        for expected in (stale, version(row) - timedelta.resolution, version(row) + timedelta.resolution):
            with pytest.raises(ConflictError, match="analytics"):
                store.save_config("analytics", {"n": 2}, expected_updated_at=expected)
        assert store.get_all() == [row]
        store.delete("analytics")
        with pytest.raises(ConflictError, match="analytics"):
            store.save_config("analytics", {"n": 2}, expected_updated_at=version(row))
        assert store.get_all() == []


def version(row: PluginConfig) -> datetime:
    """Return the row's version, which every stored row has."""
    assert row.updated_at is not None
    return row.updated_at
