"""A signal handler that raises, as Celery's soft time limit does, leaves no connection in use.

Not an integration test: coverage holds locks of its own while it measures a call, and would leave them held.
"""

from __future__ import annotations

import random
import signal
from contextlib import suppress
from time import monotonic

import pytest

from plugin_store import PluginConfigRepository


class TimeLimitError(Exception):
    """What the signal handler raises."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_pool_is_whole_after_signal_handlers_raise(database_url: str) -> None:
    armed, hits, end, numbers = False, 0, monotonic() + 2, random.Random(1)

    def handler(*_: object) -> None:
        if armed:
            raise TimeLimitError

    before = signal.signal(signal.SIGALRM, handler)
    with PluginConfigRepository.open(database_url, max_size=1, timeout=5) as repository:
        try:
            while monotonic() < end:
                with suppress(Exception):
                    try:
                        signal.setitimer(signal.ITIMER_REAL, numbers.uniform(0.00001, 0.001))
                        armed = True
                        hits += 1
                        repository.get_by_name("mail")
                        hits -= 1
                    finally:
                        armed = False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert hits > 10
        assert repository.get_by_name("mail") is None
