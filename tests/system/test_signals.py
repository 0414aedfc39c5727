"""A signal handler that raises, as Celery's soft time limit does, leaves nothing held.

Not a unit test: coverage holds locks of its own while it measures a call, and such an exception would leave them held.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from recorder import Recorder, events_of, started, stored

from plugin_store import PluginConfigRepository

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers here"),
]


class TimeLimitError(Exception):
    """What the signal handler raises."""


def interrupt(calls: list[Callable[[], object]], longest: float) -> int:
    """Make the calls in turn for two seconds, each interrupted at a random moment. Return how many raised."""
    armed, hits, end, numbers = False, 0, monotonic() + 2, random.Random(1)

    def handler(*_: object) -> None:
        if armed:
            raise TimeLimitError

    before = signal.signal(signal.SIGALRM, handler)
    try:
        while monotonic() < end:
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, numbers.uniform(0.00001, longest))
                    armed = True
                    calls[hits % len(calls)]()
                finally:
                    armed = False
            except Exception:
                hits += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return hits


def test_manager_is_free_after_exceptions_of_signal_handler() -> None:
    manager = started(stored(base="enabled", mail="disabled"), Recorder("base"), Recorder("mail", "base"))
    manager.load_persisted_state()
    assert interrupt([lambda: manager.enable_plugin("mail"), lambda: manager.disable_plugin("mail")], 0.0003) > 10
    manager.wait_seconds = 1
    events = events_of(manager)
    with ThreadPoolExecutor(1) as other_thread:
        other_thread.submit(manager.disable_plugin, "mail").result(30)
        other_thread.submit(manager.enable_plugin, "mail").result(30)
    assert events[-1] == ("enabled", "mail")


def test_pool_is_whole_after_exceptions_of_signal_handler(database_url: str) -> None:
    with PluginConfigRepository.open(database_url, max_size=1, timeout=5) as repository:
        assert interrupt([lambda: repository.get_by_name("mail")], 0.001)
        assert repository.get_by_name("mail") is None
