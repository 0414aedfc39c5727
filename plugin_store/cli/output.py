"""Writes the output of commands: escaped text, tables, JSON, and a message when a call takes long."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from threading import Timer
from typing import Any, NamedTuple, TextIO

from plugin_store.errors import PluginStoreError

PATIENCE_SECONDS = 1.0
HIDDEN = "***"


class Answer(NamedTuple):
    """The result of a command: text for stdout, notes for stderr and the exit status."""

    text: str = ""
    notes: Iterable[str] = ()
    status: int = 0


def open_streams() -> None:
    """Open the streams that the caller closed, and make stdout accept any text."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # without this, a socket could get its number
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  (open until the end)
    if isinstance(sys.stdout, TextIOWrapper):
        # A program reads the same bytes in every locale. A terminal shows an escape for what it lacks.
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace", newline="\n")


def write(text: str, stream: TextIO | None = None) -> None:
    """Write to stdout, or to another stream, and flush it. BrokenPipeError means that the reader has what it wants."""
    file = stream or sys.stdout
    try:
        print(text, end="", file=file, flush=True)
    except BaseException as exc:  # discard the rest: at its exit, Python would try again, and exit with 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
        if isinstance(exc, BrokenPipeError) or not isinstance(exc, OSError):
            raise
        raise PluginStoreError(f"cannot write the output: {exc.strerror}; the command itself succeeded") from exc


def say(text: str, end: str = "\n") -> None:
    """Write to stderr. Ignore a full or closed stderr."""
    with suppress(BrokenPipeError, PluginStoreError):
        write(text + end, sys.stderr)


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """If the ``with`` block takes longer than a second, print what it does to stderr, at a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    timer = Timer(PATIENCE_SECONDS, say, [f"{doing} ..."])  # a thread, because the block waits inside libpq
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def near(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean …?)" with the known words that are similar to the word, or ""."""
    import difflib  # here, as it is slow to load

    found = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, found))}?)" if found else ""


def hidden(value: Any) -> Any:
    """Return the value with ``***`` for everything in it but keys, null and references to secrets."""
    from plugin_store.plugins.secrets import is_plain

    if not is_plain(value):
        return value
    if isinstance(value, dict):
        return {key: hidden(item) for key, item in value.items()}
    return [hidden(item) for item in value] if isinstance(value, list) else HIDDEN


def printable(text: str, keep: str = "") -> str:
    """Escape the characters that could move a terminal's cursor or end the line, except those to keep.

    The escapes are JSON's, so a JSON text keeps its value.
    """
    return "".join(c if c.isprintable() or c in keep else json.dumps(c)[1:-1] for c in text)


def as_json(value: Any) -> str:
    """Return indented JSON, with timestamps and ids as text."""
    return json.dumps(value, indent=2, default=plain) + "\n"


def plain(value: Any) -> str:
    """Return a timestamp or an id as text for JSON."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def local(time: Any) -> str:
    """Return a timestamp in the local time zone, "-" for None."""
    return "-" if time is None else time.astimezone().isoformat(sep=" ", timespec="seconds")


def as_table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows of cells as aligned lines."""
    lines = [list(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)
