"""A signal handler that raises leaves the manager free.

Not a unit test: coverage holds locks of its own while it measures a call, and such an exception would leave them held.
"""

from __future__ import annotations

import random
import signal
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from recorder import Recorder, events_of, started, stored


class TimeLimitError(Exception):
    """What the signal handler raises."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers here")
def test_manager_is_free_after_exceptions_of_signal_handler() -> None:
    manager = started(stored(base="enabled", mail="disabled"), Recorder("base"), Recorder("mail", "base"))
    manager.load_persisted_state()
    armed, hits, end = False, 0, monotonic() + 1.5

    def handler(*_: object) -> None:
        if armed:
            raise TimeLimitError

    before = signal.signal(signal.SIGALRM, handler)
    numbers = random.Random(1)
    try:
        while monotonic() < end:
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, numbers.uniform(0.00001, 0.0003))
                    armed = True
                    (manager.enable_plugin if hits % 2 else manager.disable_plugin)("mail")
                finally:
                    armed = False
            except Exception:
                hits += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert hits > 10
    manager.wait_seconds = 1
    events = events_of(manager)
    with ThreadPoolExecutor(1) as other_thread:
        other_thread.submit(manager.disable_plugin, "mail").result(30)
        other_thread.submit(manager.enable_plugin, "mail").result(30)
    assert events[-1] == ("enabled", "mail")
