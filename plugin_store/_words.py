"""What the command lines have in common: hints for names, values in arguments, text for terminals."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any, NoReturn


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
