"""Telling someone at a terminal what takes so long."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

PATIENCE_SECONDS = 1.0


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Say on stderr what the ``with`` block does, once it has taken a second and if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    # A thread, as the block waits in C for a database or a process.
    timer = Timer(PATIENCE_SECONDS, print, [f"{doing} ..."], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
