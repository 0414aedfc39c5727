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

CALL_SECONDS = 20.0  # of silence; then the server is asked to cancel the statement
CANCEL_SECONDS = 5.0  # then the connection is closed


class LibraryConnection(psycopg.Connection[Any]):
    """A connection that the library opened.

    If a statement waits for a lock, it raises QueryCanceled after 20 seconds. If the server is silent for 25 seconds,
    a call closes the connection and raises StoreUnavailableError. A wait for notifications has no limit.
    """

    abandoned = False
    """Set it from any thread or signal handler: a call that waits closes the connection and raises."""

    def wait(self, gen: Generator[Any, Any, Result], *args: Any, **options: Any) -> Result:
        """Wait as psycopg does, but not forever."""
        return super().wait(self._limited(gen), *args, **options)

    def _limited(self, gen: Generator[Any, Any, Result]) -> Generator[Any, Any, Result]:
        """Run psycopg's generator. While the server is silent, psycopg resumes it ten times a second."""
        heard, cancelled = time.monotonic(), False
        try:
            state = next(gen)
            while True:
                if ready := (yield state):
                    heard = time.monotonic()
                elif self.abandoned:
                    self._give_up("the call was stopped")
                elif self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                    silence = time.monotonic() - heard
                    if silence > CALL_SECONDS + CANCEL_SECONDS:
                        self._give_up(f"the database did not answer within {CALL_SECONDS + CANCEL_SECONDS:g} seconds")
                    if silence > CALL_SECONDS and not cancelled:
                        cancelled = True
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

    def _give_up(self, reason: str) -> None:
        self.pgconn.finish()
        raise StoreUnavailableError(reason)

    def __del__(self, *_: object) -> None:
        """Do nothing. psycopg would warn about each inherited connection in a forked child."""
