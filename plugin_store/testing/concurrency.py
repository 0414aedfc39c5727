"""The contract of a store that threads share, and a helper that makes calls at the same time."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from threading import Barrier
from typing import TypeVar

from plugin_store import ConflictError, PluginConfig, PluginConfigStore

from .methods import read

T = TypeVar("T")


class ConcurrentPluginConfigStoreContract:
    """What a store promises when threads share it. Derive a test class, and define a fixture ``store``.

    At most four threads call the store at the same time.
    """

    def test_concurrent_first_writes_create_one_row(self, store: PluginConfigStore) -> None:
        def add(writer: int) -> PluginConfig:
            return store.add(name, "enabled", {"by": writer})

        for name in ("a", "b", "c", "d", "e"):
            assert at_once(4, add) == [read(store, name)] * 4

    def test_concurrent_changes_of_different_keys_all_win(self, store: PluginConfigStore) -> None:
        def write(writer: int) -> None:
            for n in range(10):
                store.update_config("analytics", {f"{writer}.{n}": n}, remove=[f"{writer}.{n - 2}"])
                store.save("analytics", "enabled", {f"saved by {writer}": n})

        at_once(4, write)
        expected = {f"{writer}.{n}": n for writer in range(4) for n in (8, 9)}
        assert read(store, "analytics").config == expected | {f"saved by {writer}": 9 for writer in range(4)}

    def test_concurrent_status_and_config_changes_both_win(self, store: PluginConfigStore) -> None:
        def write(writer: int) -> object:
            return store.save("a", status) if writer else store.save_config("a", {"status": status})

        for status in ("enabled", "disabled") * 5:
            at_once(2, write)
            row = read(store, "a")
            assert (row.status, row.config) == (status, {"status": status})

    def test_concurrent_changes_of_one_version_have_one_winner(self, store: PluginConfigStore) -> None:
        def write(writer: int) -> PluginConfig | None:
            try:
                return store.save_config("a", {"by": [writer, row.config]}, expected_updated_at=row.updated_at)
            except ConflictError:
                return None

        row = store.save("a", "enabled")
        for _ in range(10):
            (row,) = [saved for saved in at_once(4, write) if saved is not None]
            assert read(store, "a") == row

    def test_save_many_is_atomic_and_never_deadlocks(self, store: PluginConfigStore) -> None:
        names = [f"plugin {number:02}" for number in range(40)]
        orders = [names, names[::-1], names[20:] + names[:20]]

        def write_or_read(thread: int) -> None:
            for n in range(10):
                if thread < 3:
                    store.save_many(PluginConfig(name, "enabled", {"by": [thread, n]}) for name in orders[thread])
                configs = [row.config for row in store.get_all()]
                assert configs in ([], configs[:1] * 40)

        at_once(4, write_or_read)

    def test_concurrent_deletes_report_one_success(self, store: PluginConfigStore) -> None:
        for _ in range(5):
            store.save("analytics", "enabled")
            assert sorted(at_once(4, lambda _: store.delete("analytics"))) == [False, False, False, True]


def at_once(count: int, call: Callable[[int], T], seconds: float = 60) -> list[T]:
    """Return the results of ``call(0)`` to ``call(count - 1)``, made in threads that start together.

    Raises what the first failing call raised, and TimeoutError if a call takes longer than ``seconds``.
    """
    start = Barrier(count)

    def run(number: int) -> T:
        start.wait(seconds)
        return call(number)

    with ThreadPool(count) as threads:  # its threads are daemons, so a hanging call does not keep the process alive
        return threads.map_async(run, range(count), chunksize=1).get(seconds)
