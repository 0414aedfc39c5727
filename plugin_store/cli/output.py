"""What the commands print: hints for names, text for terminals, and a line when something takes long."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any, NoReturn

PATIENCE_SECONDS = 1.0


def open_streams() -> None:
    """Let stdout and stderr take any text, also where their encoding lacks a character."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def near(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean …?)" with those of the known words that are like the word, or ""."""
    found = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, found))}?)" if found else ""


def value_of(text: str) -> Any:
    """Return the value of JSON text, else the text: NaN and Infinity, which are not JSON, are text too."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text


def printable(text: str) -> str:
    """Return the text with what could move a terminal's cursor, or a line's end, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return the text, of several lines, with what could move a terminal's cursor escaped as in JSON.

    Of JSON it is the same value. Escaped are also the characters that turn the text around.
    """
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


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
