"""The contract for stores holds in memory, and fails for stores that break a promise."""

import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import Mock

import pytest

from plugin_store import InMemoryPluginConfigStore, PluginConfig
from plugin_store.testing import ConcurrentPluginConfigStoreContract, PluginConfigStoreContract


class TestInMemory(PluginConfigStoreContract, ConcurrentPluginConfigStoreContract):
    @pytest.fixture
    def store(self) -> InMemoryPluginConfigStore:
        return InMemoryPluginConfigStore()


def test_updated_at_grows_when_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = datetime(2020, 1, 1, tzinfo=timezone.utc)
    clock = Mock(now=Mock(side_effect=[first - timedelta(hours=turn) for turn in range(5)]))
    monkeypatch.setattr(sys.modules[InMemoryPluginConfigStore.__module__], "datetime", clock)
    store = InMemoryPluginConfigStore()
    versions = [store.save_config("analytics", {"turn": turn}).updated_at for turn in range(5)]
    assert versions == [first + timedelta(microseconds=turn) for turn in range(5)]


class ReplacesTheConfig(InMemoryPluginConfigStore):
    def save(self, plugin_name: str, status: str, config: dict[str, Any] | None = None) -> PluginConfig:
        row = super().save(plugin_name, status)
        return row if config is None else super().save_config(plugin_name, config)


class ReadsAndThenWrites(InMemoryPluginConfigStore):
    def update_config(self, plugin_name: str, changes: dict[str, Any], *, remove: Iterable[str] = ()) -> PluginConfig:
        row = self.get_by_name(plugin_name) or PluginConfig(plugin_name)
        time.sleep(0.001)  # long enough for another thread to write
        return self.save_config(plugin_name, {k: v for k, v in row.config.items() if k not in remove} | changes)


@pytest.mark.parametrize(
    ("wrong", "promise"),
    [
        (ReplacesTheConfig, PluginConfigStoreContract().test_save_merges_top_level_keys),
        (ReadsAndThenWrites, ConcurrentPluginConfigStoreContract().test_concurrent_changes_of_different_keys_all_win),
    ],
)
def test_contract_fails_for_wrong_store(
    wrong: type[InMemoryPluginConfigStore], promise: Callable[[InMemoryPluginConfigStore], None]
) -> None:
    # pytest.fail raises no Exception, but a BaseException of its own.
    with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
        promise(wrong())
    promise(InMemoryPluginConfigStore())
