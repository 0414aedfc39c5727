"""What the two command lines have in common: hints for names, and values in arguments."""

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
