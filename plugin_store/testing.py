"""The suite that every PluginConfigStore must pass, for pytest.

Whoever writes a store runs it so, with an empty store for each test::

    from plugin_store.testing import PluginConfigStoreContract

    class TestMyStore(PluginConfigStoreContract):
        @pytest.fixture
        def store(self):
            return MyStore()

A store that may be shared between threads passes ConcurrentPluginConfigStoreContract in the same way.
``pytest.register_assert_rewrite("plugin_store.testing")`` in a conftest.py makes failures show the values. The
checks of names, statuses and configs that a store has to make are ready in ``plugin_store.validation``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from threading import Barrier, Event, Thread
from typing import Any
from uuid import UUID

import pytest

from .errors import ConflictError, InvalidConfigError, InvalidNameError, InvalidStatusError
from .stores.model import DISABLED, ENABLED, PluginConfig, PluginConfigStore

# The ways to write a config; each makes the row if there is none.
_WRITERS: dict[str, Callable[[PluginConfigStore, str, Any], object]] = {
    "save": lambda store, name, config: store.save(name, ENABLED, config),
    "save_config": lambda store, name, config: store.save_config(name, config),
    "update_config": lambda store, name, config: store.update_config(name, config),
    "add": lambda store, name, config: store.add(name, ENABLED, config),
    "save_many": lambda store, name, config: store.save_many([PluginConfig(name, ENABLED, config)]),
}

# Every method that takes a name.
_NAMED: dict[str, Callable[[PluginConfigStore, Any], object]] = {
    "get_by_name": lambda store, name: store.get_by_name(name),
    "save": lambda store, name: store.save(name, ENABLED, {}),
    "save_config": lambda store, name: store.save_config(name, {}),
    "update_config": lambda store, name: store.update_config(name, {}),
    "add": lambda store, name: store.add(name, ENABLED, {}),
    "save_many": lambda store, name: store.save_many([PluginConfig("first"), PluginConfig(name)]),
    "delete": lambda store, name: store.delete(name),
}

_STORABLE: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "negative": -1,
    "64 bits": 2**63,
    "negative of 64 bits": -(2**63) - 1,
    "past the floats": 2**53 + 1,
    "1,000 digits": 10**999 + 7,
    "a tenth": 0.1,
    "minus zero": -0.0,
    "more digits than a float has": 0.1 + 0.2,
    "1e15": 1e15,
    "1e16": 1e16,
    "1e22": 1e22,
    "1e23": 1e23,
    "largest float": 1.7976931348623157e308,
    "smallest float": 5e-324,
    "smallest normal float": 2.2250738585072014e-308,
    "empty string": "",
    "space": " ",
    "quotes and backslashes": "\"'\\ \\u0000 \\n",
    "control characters": "\x01\x1f\x7f\n\r\t",
    "umlauts": "äöü ÄÖÜ ß",
    "decomposed": "e\u0301",
    "past the BMP": "\U0001f600",
    "noncharacters": "\ufffe\uffff",
    "percent": "100 % %s %(name)s {0}",
    "text that reads like a value": "null",
    "long text": "x" * 100_000,
    "empty list": [],
    "empty object": {},
    "list of all": [None, True, 1, 1.5, "a", [], {}],
    "empty key": {"": 1},
    "odd keys": {"a.b": 1, "a b": 2, "é": 3, "'": 4, '"': 5, "%s": 6, "$.a": 7, "\U0001f600": 8},
    "keys in no order": {"b": 1, "a": 2, "B": 3, "aa": 4},
    "nested": {"a": [{"b": {"c": [[], [{"d": None}]]}}]},
}

# What cannot be stored, below config.mail.ports[1], and so how the message must name it.
_UNSTORABLE: dict[str, Any] = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "negative infinity": float("-inf"),
    "NUL": "a\0b",
    "lone high surrogate": "\ud800",
    "lone low surrogate": "a\udfff",
    "key with NUL": {"a\0b": 1},
    "key with surrogate": {"\ud800": 1},
    "int key": {1: "a"},
    "None key": {None: "a"},
    "bool key": {True: "a"},
    "datetime": datetime(2020, 1, 1, tzinfo=timezone.utc),
    "date": date(2020, 1, 1),
    "set": {1, 2},
    "tuple": (1, 2),
    "bytes": b"a",
    "decimal": Decimal("1.5"),
    "uuid": UUID(int=0),
    "object": object(),
}

_NOT_OBJECTS: dict[str, Any] = {"a list": [], "text": "{}", "a number": 1, "true": True, "pairs": [("a", 1)]}

_BAD_NAMES: dict[str, Any] = {
    "empty": "",
    "101 characters": "x" * 101,
    "NUL": "a\0b",
    "lone surrogate": "a\ud800",
    "None": None,
    "int": 1,
    "bytes": b"analytics",
}

_BAD_STATUSES: dict[str, Any] = {
    "empty": "",
    "capitals": "ENABLED",
    "spaces": " enabled",
    "another": "error",
    "None": None,
    "True": True,
    "list": [],
}


def _each(values: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("given", values.values(), ids=values.keys())


def _with(writers: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("write", writers.values(), ids=writers.keys())


def _row(store: PluginConfigStore, name: str = "analytics") -> PluginConfig:
    """Return the row, which must be there."""
    row = store.get_by_name(name)
    assert row is not None
    return row


def _version(row: PluginConfig) -> datetime:
    assert row.updated_at is not None
    return row.updated_at


class PluginConfigStoreContract:
    """What PluginConfigStore promises, a test for each promise. Derive, and define a fixture ``store``."""

    # get_by_name, get_all, get_enabled

    def test_get_by_name_returns_the_stored_plugin(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled", {"interval": 5})
        row = _row(store)
        assert (row.plugin_name, row.status, row.config) == ("analytics", "enabled", {"interval": 5})
        assert isinstance(row, PluginConfig) and isinstance(row.id, UUID)

    def test_get_by_name_returns_none_for_an_unknown_plugin(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled")
        assert store.get_by_name("unknown") is None

    @pytest.mark.parametrize("other", ["Analytics", "analytics ", " analytics", "analytic", "analytics2", "%", "_"])
    def test_names_are_told_apart_exactly(self, store: PluginConfigStore, other: str) -> None:
        store.save("analytics", "enabled")
        assert store.get_by_name(other) is None
        store.save(other, "disabled")
        assert len(store.get_all()) == 2

    def test_names_that_only_look_alike_are_two(self, store: PluginConfigStore) -> None:
        store.save("\u00e9", "enabled")
        store.save("e\u0301", "disabled")
        assert _row(store, "\u00e9").status == "enabled"
        assert _row(store, "e\u0301").status == "disabled"

    @pytest.mark.parametrize("name", ["x" * 100, "\u00e9" * 100, "\U0001f600" * 100, "a'b\"c;--", "%s", " ", "\n"])
    def test_a_name_may_be_any_text_of_1_to_100_characters(self, store: PluginConfigStore, name: str) -> None:
        assert store.save(name, "enabled").plugin_name == name
        assert _row(store, name).plugin_name == name
        assert store.delete(name)

    def test_get_all_of_an_empty_store_is_empty(self, store: PluginConfigStore) -> None:
        assert store.get_all() == []
        assert store.get_enabled() == []

    def test_get_all_and_get_enabled_are_ordered_by_code_point(self, store: PluginConfigStore) -> None:
        names = ["a", "é", "B", "Z", "b", "a b", "a-b", "a_b", "aa", "ab", "A", "10", "9", "ß", "\U0001f600", "\uffff"]
        for name in names:
            store.save(name, "enabled")
        assert [row.plugin_name for row in store.get_all()] == sorted(names)
        assert [row.plugin_name for row in store.get_enabled()] == sorted(names)

    def test_get_all_returns_the_rows_that_get_by_name_returns(self, store: PluginConfigStore) -> None:
        store.save("a", "enabled", {"n": 1})
        store.save("b", "disabled", {"n": 2})
        assert store.get_all() == [_row(store, "a"), _row(store, "b")]

    def test_get_enabled_returns_only_the_enabled(self, store: PluginConfigStore) -> None:
        store.save("a", "disabled")
        store.save("b", "enabled", {"n": 2})
        store.save_config("c", {})
        assert store.get_enabled() == [_row(store, "b")]

    def test_reading_writes_nothing(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled", {"n": 1})
        before = store.get_all()
        for name in ("analytics", "unknown"):
            store.get_by_name(name)
        store.get_enabled()
        assert store.get_all() == before

    # save

    def test_save_creates_and_returns_the_row_as_stored(self, store: PluginConfigStore) -> None:
        saved = store.save("analytics", "enabled", {"n": 1})
        assert (saved.plugin_name, saved.status, saved.config) == ("analytics", "enabled", {"n": 1})
        assert store.get_all() == [saved]

    def test_save_updates_and_returns_the_row_as_stored(self, store: PluginConfigStore) -> None:
        store.save("analytics", "disabled", {"n": 1})
        saved = store.save("analytics", "enabled", {"n": 2})
        assert (saved.plugin_name, saved.status, saved.config) == ("analytics", "enabled", {"n": 2})
        assert store.get_all() == [saved]

    def test_save_without_a_config_makes_an_empty_one_on_a_new_row(self, store: PluginConfigStore) -> None:
        assert store.save("analytics", "enabled").config == {}

    def test_save_without_a_config_keeps_the_stored_one(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled", {"n": 1})
        assert store.save("analytics", "disabled").config == {"n": 1}
        assert _row(store, "analytics").config == {"n": 1}

    def test_save_merges_top_level_keys(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled", {"a": 1, "b": {"c": 1}})
        assert store.save("analytics", "enabled", {"b": {"d": 2}}).config == {"a": 1, "b": {"d": 2}}

    def test_writing_one_plugin_leaves_the_others(self, store: PluginConfigStore) -> None:
        other = store.save("other", "enabled", {"n": 1})
        for number, write in enumerate(_WRITERS.values()):
            write(store, "analytics", {"number": number})
        store.delete("analytics")
        assert store.get_all() == [other]

    # save_config

    def test_save_config_of_an_unknown_plugin_makes_a_disabled_row(self, store: PluginConfigStore) -> None:
        saved = store.save_config("analytics", {"n": 1})
        assert (saved.plugin_name, saved.status, saved.config) == ("analytics", "disabled", {"n": 1})
        assert store.get_all() == [saved]

    @pytest.mark.parametrize("status", [ENABLED, DISABLED])
    def test_save_config_replaces_the_config_and_leaves_the_status(self, store: PluginConfigStore, status: str) -> None:
        store.save("analytics", status, {"a": 1})
        saved = store.save_config("analytics", {"b": 2})
        assert (saved.status, saved.config) == (status, {"b": 2})
        assert store.get_all() == [saved]

    def test_save_config_of_the_expected_version_is_written(self, store: PluginConfigStore) -> None:
        version = _version(store.save("analytics", "enabled", {"n": 1}))
        saved = store.save_config("analytics", {"n": 2}, expected_updated_at=version)
        assert (saved.status, saved.config) == ("enabled", {"n": 2})
        assert store.get_all() == [saved]

    def test_save_config_of_the_version_that_save_config_returned_is_written(self, store: PluginConfigStore) -> None:
        version = _version(store.save_config("analytics", {"n": 1}))
        version = _version(store.save_config("analytics", {"n": 2}, expected_updated_at=version))
        assert store.save_config("analytics", {"n": 3}, expected_updated_at=version).config == {"n": 3}

    @pytest.mark.parametrize("changed_by", ["config", "status"])
    def test_save_config_of_an_older_version_is_a_conflict(self, store: PluginConfigStore, changed_by: str) -> None:
        version = _version(store.save("analytics", "enabled", {"n": 1}))
        now = store.save_config("analytics", {"n": 2}) if changed_by == "config" else store.save("analytics", DISABLED)
        with pytest.raises(ConflictError, match="analytics"):
            store.save_config("analytics", {"n": 3}, expected_updated_at=version)
        assert store.get_all() == [now]

    @pytest.mark.parametrize("microseconds", [-1, 1])
    def test_save_config_of_nearly_the_version_is_a_conflict(self, store: PluginConfigStore, microseconds: int) -> None:
        row = store.save("analytics", "enabled", {"n": 1})
        with pytest.raises(ConflictError):
            store.save_config(
                "analytics", {"n": 2}, expected_updated_at=_version(row) + timedelta(microseconds=microseconds)
            )
        assert store.get_all() == [row]

    def test_the_version_is_a_moment_whatever_its_time_zone(self, store: PluginConfigStore) -> None:
        version = _version(store.save("analytics", "enabled")).astimezone(timezone(timedelta(hours=5, minutes=30)))
        assert store.save_config("analytics", {"n": 2}, expected_updated_at=version).config == {"n": 2}

    def test_save_config_with_a_version_of_a_deleted_row_is_a_conflict(self, store: PluginConfigStore) -> None:
        version = _version(store.save("analytics", "enabled"))
        store.delete("analytics")
        with pytest.raises(ConflictError, match="analytics"):
            store.save_config("analytics", {}, expected_updated_at=version)
        assert store.get_all() == []

    # update_config

    def test_update_config_sets_top_level_keys_and_keeps_the_others(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled", {"a": 1, "b": {"c": 1, "d": 2}, "e": 3})
        saved = store.update_config("analytics", {"a": 9, "b": {"c": 9}, "f": None})
        assert (saved.status, saved.config) == ("enabled", {"a": 9, "b": {"c": 9}, "e": 3, "f": None})
        assert store.get_all() == [saved]

    def test_update_config_removes_keys(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled", {"a": 1, "b": {"a": 2}, "c": 3})
        assert store.update_config("analytics", {"d": 4}, remove=["a", "c"]).config == {"b": {"a": 2}, "d": 4}
        assert _row(store, "analytics").config == {"b": {"a": 2}, "d": 4}

    def test_update_config_takes_the_keys_to_remove_from_any_iterable(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled", {"a": 1, "b": 2, "c": 3})
        assert store.update_config("analytics", {}, remove=(key for key in ("a", "a"))).config == {"b": 2, "c": 3}
        assert store.update_config("analytics", {}, remove={"b"}).config == {"c": 3}

    def test_update_config_ignores_keys_to_remove_that_are_not_there(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled", {"a": 1})
        assert store.update_config("analytics", {"b": 2}, remove=["x", ""]).config == {"a": 1, "b": 2}
        assert store.update_config("new", {"b": 2}, remove=["x"]).config == {"b": 2}

    def test_update_config_of_an_unknown_plugin_makes_a_disabled_row(self, store: PluginConfigStore) -> None:
        saved = store.update_config("analytics", {"n": 1})
        assert (saved.plugin_name, saved.status, saved.config) == ("analytics", "disabled", {"n": 1})
        assert store.get_all() == [saved]

    def test_update_config_refuses_a_key_that_is_both_set_and_removed(self, store: PluginConfigStore) -> None:
        row = store.save("analytics", "enabled", {"a": 1})
        with pytest.raises(InvalidConfigError, match=r"analytics.*'both'"):
            store.update_config("analytics", {"both": 1, "a": 2}, remove=["both", "c"])
        assert store.get_all() == [row]

    @pytest.mark.parametrize("remove", ["abc", "", None, 7, ["a\0b"], ["\ud800"], [1], [None], [["a"]]], ids=ascii)
    def test_update_config_refuses_what_cannot_be_a_key_to_remove(self, store: PluginConfigStore, remove: Any) -> None:
        row = store.save("analytics", "enabled", {"a": 1})
        with pytest.raises(InvalidConfigError, match="analytics"):
            store.update_config("analytics", {"a": 2}, remove=remove)
        assert store.get_all() == [row]

    # add

    def test_add_inserts_a_new_row_and_returns_it(self, store: PluginConfigStore) -> None:
        added = store.add("analytics", "enabled", {"n": 1})
        assert (added.plugin_name, added.status, added.config) == ("analytics", "enabled", {"n": 1})
        assert store.get_all() == [added]

    def test_add_without_a_config_makes_an_empty_one(self, store: PluginConfigStore) -> None:
        assert store.add("analytics", "disabled").config == {}

    @pytest.mark.parametrize("status", [ENABLED, DISABLED])
    def test_add_returns_a_row_that_is_there_and_leaves_it(self, store: PluginConfigStore, status: str) -> None:
        row = store.save("analytics", status, {"n": 1})
        assert store.add("analytics", ENABLED, {"n": 2}) == row
        assert store.add("analytics", DISABLED) == row
        assert store.get_all() == [row]

    # save_many

    def test_save_many_creates_and_replaces(self, store: PluginConfigStore) -> None:
        old = store.save("b", "enabled", {"old": 1})
        store.save_many(
            [PluginConfig("c", ENABLED, {"n": 3}), PluginConfig("b", DISABLED, {"n": 2}), PluginConfig("a")]
        )
        assert [(row.plugin_name, row.status, row.config) for row in store.get_all()] == [
            ("a", "disabled", {}),
            ("b", "disabled", {"n": 2}),
            ("c", "enabled", {"n": 3}),
        ]
        assert _row(store, "b").id == old.id

    def test_save_many_ignores_ids_and_timestamps(self, store: PluginConfigStore) -> None:
        long_ago = datetime(2001, 1, 1, tzinfo=timezone.utc)
        stamps = dict.fromkeys(("enabled_at", "disabled_at", "created_at", "updated_at"), long_ago)
        store.save_many([PluginConfig("analytics", ENABLED, {}, id=UUID(int=1), **stamps)])
        row = _row(store)
        assert row.id != UUID(int=1)
        assert long_ago not in (row.enabled_at, row.disabled_at, row.created_at, row.updated_at)

    def test_save_many_takes_what_get_all_returned(self, store: PluginConfigStore) -> None:
        store.save("a", "enabled", {"n": 1})
        store.save("b", "disabled", {"n": 2})
        before = store.get_all()
        store.save_many(before)
        assert store.get_all() == before

    def test_save_many_of_none_does_nothing(self, store: PluginConfigStore) -> None:
        row = store.save("analytics", "enabled")
        store.save_many([])
        store.save_many(iter(()))
        assert store.get_all() == [row]

    def test_save_many_takes_any_iterable(self, store: PluginConfigStore) -> None:
        store.save_many(PluginConfig(f"plugin {number:03}") for number in range(200))
        assert len(store.get_all()) == 200

    def test_save_many_refuses_a_name_given_twice_and_writes_nothing(self, store: PluginConfigStore) -> None:
        with pytest.raises(InvalidNameError, match="twice"):
            store.save_many([PluginConfig("first"), PluginConfig("twice", ENABLED), PluginConfig("twice", ENABLED)])
        assert store.get_all() == []

    def test_save_many_writes_nothing_if_one_of_them_is_bad(self, store: PluginConfigStore) -> None:
        row = store.save("a", "enabled", {"n": 1})
        with pytest.raises(InvalidStatusError):
            store.save_many([PluginConfig("a", DISABLED), PluginConfig("b", "on")])
        with pytest.raises(InvalidConfigError):
            store.save_many([PluginConfig("a", DISABLED), PluginConfig("b", ENABLED, {"x": {1, 2}})])
        assert store.get_all() == [row]

    # delete

    def test_delete_says_whether_there_was_a_row(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled")
        assert store.delete("analytics") is True
        assert store.delete("analytics") is False
        assert store.get_all() == []

    def test_a_plugin_saved_after_delete_starts_afresh(self, store: PluginConfigStore) -> None:
        old = store.save("analytics", "enabled", {"n": 1})
        store.delete("analytics")
        new = store.save("analytics", "disabled")
        assert new.config == {}
        assert new.id != old.id
        assert new.enabled_at is None

    # ids and timestamps

    @_with(_WRITERS)
    def test_a_new_row_has_the_timestamps_of_its_status(
        self, store: PluginConfigStore, write: Callable[..., object]
    ) -> None:
        write(store, "analytics", {})
        row = _row(store)
        assert row.created_at is not None and row.created_at == row.updated_at
        if row.status == ENABLED:
            assert (row.enabled_at, row.disabled_at) == (row.created_at, None)
        else:
            assert (row.enabled_at, row.disabled_at) == (None, row.created_at)

    def test_a_new_disabled_row_has_disabled_at(self, store: PluginConfigStore) -> None:
        store.save("saved", "disabled")
        store.add("added", "disabled")
        store.save_many([PluginConfig("one of many")])
        for row in store.get_all():
            assert row.disabled_at is not None
            assert row.enabled_at is None

    def test_timestamps_are_aware(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled")
        row = store.save("analytics", "disabled")
        for stamp in (row.enabled_at, row.disabled_at, row.created_at, row.updated_at):
            assert stamp is not None and stamp.utcoffset() is not None

    def test_enabled_at_and_disabled_at_move_with_the_status_and_keep_their_last_values(
        self, store: PluginConfigStore
    ) -> None:
        first = store.save("analytics", "enabled")
        second = store.save("analytics", "disabled")
        assert second.enabled_at == first.enabled_at
        assert second.disabled_at == second.updated_at
        third = store.save("analytics", "enabled")
        assert third.disabled_at == second.disabled_at
        assert third.enabled_at == third.updated_at
        assert _version(first) < _version(second) < _version(third)

    def test_save_many_moves_them_too(self, store: PluginConfigStore) -> None:
        first = store.save("analytics", "enabled")
        store.save_many([PluginConfig("analytics", DISABLED)])
        second = _row(store)
        assert second.enabled_at == first.enabled_at
        assert second.disabled_at == second.updated_at

    @_with({name: write for name, write in _WRITERS.items() if name != "add"})
    @pytest.mark.parametrize("status", [ENABLED, DISABLED])
    def test_a_changed_config_moves_updated_at_alone(
        self, store: PluginConfigStore, write: Callable[..., object], status: str
    ) -> None:
        store.save("analytics", "disabled" if status == ENABLED else "enabled")
        before = store.save("analytics", ENABLED)
        write(store, "analytics", {"n": 1})
        after = _row(store)
        assert _version(after) > _version(before)
        assert after == replace(before, config={"n": 1}, updated_at=after.updated_at)

    def test_updated_at_grows_with_every_change(self, store: PluginConfigStore) -> None:
        versions = [_version(store.save_config("analytics", {"n": n})) for n in range(30)]
        versions += [_version(store.save("analytics", status)) for status in (ENABLED, DISABLED) * 5]
        assert versions == sorted(set(versions))

    @_with(_WRITERS)
    def test_writing_what_is_stored_moves_nothing(self, store: PluginConfigStore, write: Callable[..., object]) -> None:
        before = store.save("analytics", "enabled", {"a": [1, {"b": None}]})
        write(store, "analytics", {"a": [1, {"b": None}]})
        assert store.get_all() == [before]

    @pytest.mark.parametrize(
        ("old", "new"), [(1, True), (0, False), (True, 1), ([0], [False]), ({"a": 1}, {"a": True})]
    )
    def test_a_number_and_a_truth_value_are_two_versions(self, store: PluginConfigStore, old: Any, new: Any) -> None:
        before = store.save_config("analytics", {"key": old})
        after = store.save_config("analytics", {"key": new})
        assert _version(after) > _version(before)

    def test_id_and_created_at_never_change(self, store: PluginConfigStore) -> None:
        first = store.save("analytics", "enabled")
        for number, write in enumerate(_WRITERS.values()):
            write(store, "analytics", {"number": number})
        store.save("analytics", "disabled")
        row = _row(store)
        assert (row.id, row.created_at) == (first.id, first.created_at)

    def test_ids_are_unique(self, store: PluginConfigStore) -> None:
        store.save_many(PluginConfig(f"plugin {number}") for number in range(10))
        assert len({row.id for row in store.get_all()}) == 10

    # copies in and out

    @_with(_WRITERS)
    def test_changing_what_was_given_changes_nothing_stored(
        self, store: PluginConfigStore, write: Callable[..., object]
    ) -> None:
        given: dict[str, Any] = {"list": [1], "object": {"a": 1}}
        write(store, "analytics", given)
        given["list"].append(2)
        given["object"]["b"] = 2
        given["new"] = []
        assert _row(store, "analytics").config == {"list": [1], "object": {"a": 1}}

    @pytest.mark.parametrize(
        "read",
        [
            lambda store: store.get_by_name("analytics").config,
            lambda store: store.get_all()[0].config,
            lambda store: store.get_enabled()[0].config,
            lambda store: store.save("analytics", "enabled").config,
            lambda store: store.save("analytics", "enabled", {"list": [1], "object": {"a": 1}}).config,
            lambda store: store.save_config("analytics", {"list": [1], "object": {"a": 1}}).config,
            lambda store: store.update_config("analytics", {"list": [1]}).config,
            lambda store: store.add("analytics", "enabled").config,
        ],
        ids=[
            "get_by_name",
            "get_all",
            "get_enabled",
            "save keeping",
            "save",
            "save_config",
            "update_config",
            "add",
        ],
    )
    def test_changing_what_was_returned_changes_nothing_stored(
        self, store: PluginConfigStore, read: Callable[[PluginConfigStore], dict[str, Any]]
    ) -> None:
        store.save("analytics", "enabled", {"list": [1], "object": {"a": 1}})
        returned = read(store)
        returned["list"].append(2)
        returned["object"]["b"] = 2
        returned["new"] = 1
        assert _row(store, "analytics").config == {"list": [1], "object": {"a": 1}}

    # what can be stored

    @_each(_STORABLE)
    def test_what_can_be_stored_comes_back_equal(self, store: PluginConfigStore, given: Any) -> None:
        for name, write in _WRITERS.items():
            write(store, name, {"value": given})
            assert _row(store, name).config == {"value": given}
            assert type(_row(store, name).config["value"]) is type(given) or isinstance(given, float)
        assert all(row.config == {"value": given} for row in store.get_all())

    def test_an_object_nested_20_deep_comes_back_equal(self, store: PluginConfigStore) -> None:
        deep: dict[str, Any] = {}
        for level in range(20):
            deep = {"level": level, "below": [deep]}
        assert store.save_config("analytics", deep).config == deep

    def test_an_object_of_many_keys_comes_back_equal(self, store: PluginConfigStore) -> None:
        wide = {f"key {number}": list(range(number % 7)) for number in range(2_000)}
        assert store.save_config("analytics", wide).config == wide

    # bad input is refused before anything is written

    @_each(_BAD_NAMES)
    @_with(_NAMED)
    def test_a_bad_name_is_refused(self, store: PluginConfigStore, write: Callable[..., object], given: Any) -> None:
        with pytest.raises(InvalidNameError) as caught:
            write(store, given)
        assert given in (None, "") or repr(given)[:10] in str(caught.value)
        assert store.get_all() == []

    @_each(_BAD_STATUSES)
    def test_a_bad_status_is_refused(self, store: PluginConfigStore, given: Any) -> None:
        row = store.save("analytics", "enabled", {"n": 1})
        for name in ("analytics", "new"):
            with pytest.raises(InvalidStatusError, match=name):
                store.save(name, given)
            with pytest.raises(InvalidStatusError, match=name):
                store.add(name, given)
            with pytest.raises(InvalidStatusError, match=name):
                store.save_many([PluginConfig("first"), PluginConfig(name, given)])
        assert store.get_all() == [row]

    @_each(_NOT_OBJECTS)
    @_with(_WRITERS)
    def test_a_config_that_is_not_an_object_is_refused(
        self, store: PluginConfigStore, write: Callable[..., object], given: Any
    ) -> None:
        row = store.save("analytics", "enabled", {"n": 1})
        for name in ("analytics", "new"):
            with pytest.raises(InvalidConfigError, match=name):
                write(store, name, given)
        assert store.get_all() == [row]

    @_each(_UNSTORABLE)
    @_with(_WRITERS)
    def test_a_config_with_what_cannot_be_stored_is_refused(
        self, store: PluginConfigStore, write: Callable[..., object], given: Any
    ) -> None:
        row = store.save("analytics", "enabled", {"n": 1})
        for name in ("analytics", "new"):
            with pytest.raises(InvalidConfigError, match=rf"{name}.*\bmail\b.*\bports\b.*\b1\b"):
                write(store, name, {"fine": 1, "mail": {"ports": [25, given]}})
        assert store.get_all() == [row]

    @_with(_WRITERS)
    def test_a_config_that_holds_itself_is_refused(
        self, store: PluginConfigStore, write: Callable[..., object]
    ) -> None:
        ring: dict[str, Any] = {}
        ring["again"] = [ring]
        with pytest.raises(InvalidConfigError, match=r"analytics.*again"):
            write(store, "analytics", ring)
        assert store.get_all() == []


class ConcurrentPluginConfigStoreContract:
    """What a store promises that several threads share, as the ones in PostgreSQL and in memory do.

    Derive, and define a fixture ``store``; a pool of 8 connections behind it is enough.
    """

    def test_first_saves_of_one_name_make_one_row(self, store: PluginConfigStore) -> None:
        for name in ("a", "b", "c", "d", "e"):
            saved = _at_once(8, lambda writer, name: store.save(name, ENABLED, {"writer": writer}), name)
            assert len({row.id for row in saved}) == 1
            assert _row(store, name) == max(saved, key=_version)

    def test_adds_of_one_name_make_one_row_and_all_return_it(self, store: PluginConfigStore) -> None:
        for name in ("a", "b", "c", "d", "e"):
            added = _at_once(8, lambda writer, name: store.add(name, ENABLED, {"writer": writer}), name)
            assert added == [_row(store, name)] * 8

    def test_writers_of_different_keys_all_win(self, store: PluginConfigStore) -> None:
        def write(writer: int) -> None:
            for number in range(10):
                store.update_config("analytics", {f"{writer}.{number}": number}, remove=[f"{writer}.{number - 2}"])

        _at_once(8, write)
        assert _row(store, "analytics").config == {f"{writer}.{n}": n for writer in range(8) for n in (8, 9)}

    def test_of_writers_that_expect_one_version_one_wins(self, store: PluginConfigStore) -> None:
        row = store.save("analytics", "enabled")
        for turn in range(5):
            outcomes = _at_once(8, lambda writer, turn, row: _try_config(store, {turn: writer}, row), str(turn), row)
            (row,) = [saved for saved in outcomes if saved is not None]
            assert _row(store) == row

    def test_changes_made_from_the_version_that_was_read_are_not_lost(self, store: PluginConfigStore) -> None:
        store.save("analytics", "enabled", {"count": 0})

        def count(_: int) -> None:
            for _ in range(5):
                row = _row(store)
                while _try_config(store, {"count": row.config["count"] + 1}, row) is None:
                    row = _row(store)

        _at_once(4, count)
        assert _row(store, "analytics").config == {"count": 20}

    def test_each_change_makes_a_version_of_its_own(self, store: PluginConfigStore) -> None:
        def write(writer: int) -> list[datetime]:
            return [_version(store.update_config("analytics", {f"{writer}": number})) for number in range(10)]

        assert len({version for versions in _at_once(4, write) for version in versions}) == 40

    def test_a_change_of_status_and_one_of_config_both_win(self, store: PluginConfigStore) -> None:
        def write(writer: int, turn: int) -> None:
            if writer:
                store.save("analytics", (ENABLED, DISABLED)[turn % 2])
            else:
                store.save_config("analytics", {"turn": turn})

        for turn in range(10):
            _at_once(2, write, turn)
            row = _row(store)
            assert (row.status, row.config) == ((ENABLED, DISABLED)[turn % 2], {"turn": turn})

    def test_overlapping_save_many_do_not_deadlock(self, store: PluginConfigStore) -> None:
        names = [f"plugin {number:02}" for number in range(40)]
        orders = [names, names[::-1], names[20:] + names[:20], names[::2] + names[1::2]]

        def write(writer: int) -> None:
            for number in range(10):
                store.save_many(PluginConfig(name, ENABLED, {"by": [writer, number]}) for name in orders[writer])

        _at_once(4, write)
        configs = [row.config for row in store.get_all()]
        assert configs == [configs[0]] * 40
        assert configs[0]["by"][1] == 9

    def test_readers_see_all_of_save_many_or_nothing(self, store: PluginConfigStore) -> None:
        names = [f"plugin {number}" for number in range(20)]
        done = Event()

        def write() -> None:
            try:
                for number in range(30):
                    store.save_many(PluginConfig(name, ENABLED, {"number": number}) for name in names)
            finally:
                done.set()

        def read() -> None:
            while not done.is_set():
                configs = [row.config for row in store.get_all()]
                assert configs in ([], configs[:1] * 20)

        _at_once(3, lambda thread: read() if thread else write())

    def test_of_deletes_of_one_row_one_says_that_there_was_one(self, store: PluginConfigStore) -> None:
        for _ in range(5):
            store.save("analytics", "enabled")
            assert sorted(_at_once(4, lambda _: store.delete("analytics"))) == [False, False, False, True]


def _try_config(store: PluginConfigStore, config: dict[str, Any], row: PluginConfig) -> PluginConfig | None:
    """Store the config if the row is still the one given; return None if it is not."""
    try:
        return store.save_config("analytics", config, expected_updated_at=row.updated_at)
    except ConflictError:
        return None


def _at_once(count: int, call: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what ``call(0, *arguments)`` to ``call(count - 1, …)`` return, made in threads that start together."""
    together = Barrier(count)
    results: dict[int, Any] = {}
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            together.wait(timeout=60)
            results[number] = call(number, *arguments)
        except BaseException as exc:
            errors.append(exc)

    threads = [Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    if errors:
        raise errors[0]
    assert len(results) == count, "a call has not returned after a minute"
    return [results[number] for number in range(count)]
