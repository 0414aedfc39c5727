"""A time limit for each call on a connection that the library opens.

A stopped backend or a silent proxy still acknowledges packets, so TCP timeouts do not end the wait.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from plugin_store.errors import StoreUnavailableError

Connection = psycopg.Connection[Any]
Result = TypeVar("Result")

CALL_SECONDS = 20.0  # then the server is asked to cancel the statement
CANCEL_SECONDS = 5.0  # then the connection is closed
NO_ANSWER = f"the database did not answer within {CALL_SECONDS + CANCEL_SECONDS:g} seconds"


class LibraryConnection(psycopg.Connection[Any]):
    """A connection that the library opened.

    After 20 seconds, a call asks the server to cancel its statement, which raises QueryCanceled. If the server does not
    answer within 5 more, the call closes the connection and raises StoreUnavailableError. A wait for notifications has
    no limit.
    """

    abandoned = False
    """Set it from any thread or signal handler. A call that waits then closes the connection and raises."""

    def wait(self, gen: Generator[Any, Any, Result], *args: Any, **options: Any) -> Result:
        """Wait as psycopg does, but not forever."""
        return super().wait(self._limited(gen), *args, **options)

    def _limited(self, gen: Generator[Any, Any, Result]) -> Generator[Any, Any, Result]:
        """Run psycopg's generator. While a call waits, psycopg resumes it ten times a second."""
        end, cancelled, interrupted = time.monotonic() + CALL_SECONDS, False, False
        try:
            state = next(gen)
            while True:
                ready = yield state
                if ready is None:  # after Ctrl-C, psycopg asks the server to cancel, and waits again
                    end, cancelled, interrupted = time.monotonic() + CANCEL_SECONDS, True, True
                if self.abandoned:
                    self._give_up(StoreUnavailableError("the call was stopped"))
                if time.monotonic() > end and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                    if cancelled:
                        self._give_up(KeyboardInterrupt() if interrupted else StoreUnavailableError(NO_ANSWER))
                    end, cancelled = end + CANCEL_SECONDS, True
                    self._cancel()
                state = gen.send(ready)
        except StopIteration as done:
            result: Result = done.value
            return result

    def _cancel(self) -> None:
        # Before libpq 17, a cancel request may block forever.
        if psycopg.capabilities.has_cancel_safe():
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_SECONDS)

    def _give_up(self, error: BaseException) -> None:
        self.pgconn.finish()
        raise error

    def __del__(self, *_: object) -> None:
        """Do nothing. psycopg would warn about each inherited connection in a forked child."""
