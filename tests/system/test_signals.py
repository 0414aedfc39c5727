"""A signal handler that raises, as Celery's soft time limit does, leaves no connection and no thread behind.

Not an integration test: coverage holds locks of its own while it measures a call, and would leave them held.
"""

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic

import pytest
from watching import service_on, watcher_threads
from workers import wait_until

from plugin_store import PluginConfigRepository, PluginWatcher

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
Interrupted = Callable[[Callable[[], object]], bool]


class TimeLimitError(Exception):
    """What the signal handler raises."""


@pytest.fixture
def interrupted() -> Iterator[Interrupted]:
    """A function that calls another, and returns whether a signal handler raised at a random moment of the call."""
    armed, numbers = False, random.Random(1)

    def handler(*_: object) -> None:
        if armed:
            raise TimeLimitError

    def call(function: Callable[[], object]) -> bool:
        nonlocal armed
        ended = False
        with suppress(Exception):
            try:
                signal.setitimer(signal.ITIMER_REAL, numbers.uniform(0.00001, 0.001))
                armed = True
                function()
                ended = True
            finally:
                armed = False
        return not ended

    before = signal.signal(signal.SIGALRM, handler)
    yield call
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_pool_is_whole_after_signal_handlers_raise(database_url: str, interrupted: Interrupted) -> None:
    hits, end = 0, monotonic() + 2
    with PluginConfigRepository.open(database_url, max_size=1, timeout=5) as repository:
        while monotonic() < end:
            hits += interrupted(lambda: repository.get_by_name("mail"))
        assert hits > 10
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert repository.get_by_name("mail") is None


def test_stop_ends_thread_after_signal_handlers_raise(database_url: str, interrupted: Interrupted) -> None:
    hits, end = 0, monotonic() + 6
    with PluginConfigRepository.open(database_url) as repository:
        watcher = PluginWatcher(service_on(repository).manager, database_url)
        while monotonic() < end:
            watcher.start()
            hits += interrupted(watcher.stop)
            watcher.stop()
        assert hits > 10
        assert wait_until(lambda: watcher_threads() == [])
