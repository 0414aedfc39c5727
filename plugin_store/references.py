"""References: config values that say where a secret is, so that the secret is not in the config.

``{"$env": "NAME"}`` stands for an environment variable, ``{"$file": "PATH"}`` for the text of a file, wherever in a
config they are. What is stored, exported, logged and announced is the reference.
"""

from __future__ import annotations

import os
from typing import Any

from .errors import UnresolvedReferenceError
from .validation import dotted

ENV = "$env"
FILE = "$file"

# A text that has so many of a secret's characters in a row is taken to show it: messages quote long values in part.
TELLING = 4


def resolve(plugin_name: str, value: Any, path: tuple[str | int, ...], secrets: list[str] | None = None) -> Any:
    """Return the value with what its references stand for, itself if it has none; add that to ``secrets``.

    Of a file, one line feed at its end is left out. Raises UnresolvedReferenceError, naming the plugin and the path,
    for a variable that is not set, a file that cannot be read as UTF-8, and a dict with one of the two keys that is
    more or other than a reference.
    """
    if isinstance(value, dict):
        old: dict[Any, Any] = dict(value)  # in one step: another thread may be adding a key
        if ENV in old or FILE in old:
            text, problem = _look_up(old)
            if problem:
                raise UnresolvedReferenceError(f"plugin {plugin_name!r}: {dotted(path)} {problem}")
            if secrets is not None:
                secrets.append(text)
            return text
    elif isinstance(value, list):
        old = dict(enumerate(value))
    else:
        return value
    new = {step: resolve(plugin_name, item, (*path, step), secrets) for step, item in old.items()}
    if all(new[step] is old[step] for step in old):
        return value
    return new if isinstance(value, dict) else list(new.values())


def is_plain(value: Any) -> bool:
    """Return whether the value holds anything but references, None, and lists and dicts of these."""
    if isinstance(value, dict):
        return not (ENV in value or FILE in value) and any(map(is_plain, value.values()))
    if isinstance(value, list):
        return any(map(is_plain, value))
    return value is not None


def shows(error: BaseException, secrets: list[str]) -> bool:
    """Return whether the message of an error, or of one that it is chained to, tells one of the secrets."""
    texts, left = [], [error]
    for exc in left:
        texts += [str(exc), *getattr(exc, "__notes__", ())]
        left += [other for other in (exc.__cause__, exc.__context__) if other is not None and other not in left]
    text = "\n".join(texts)
    pieces = {secret[at : at + TELLING] for secret in secrets for at in range(max(1, len(secret) - TELLING + 1))}
    return any(piece in text for piece in pieces - {""})


def _look_up(reference: dict[str, Any]) -> tuple[str, str]:
    """Return what a reference stands for, or "" and why it cannot be told."""
    ((kind, place), *more) = reference.items()
    if more or not isinstance(place, str):
        return "", f'is no reference: that is {{"{ENV}": "NAME"}} or {{"{FILE}": "PATH"}}, and nothing beside it'
    try:
        if kind == FILE:
            with open(place, encoding="utf-8", newline="") as file:
                return file.read().removesuffix("\n"), ""
        return os.environ[place], ""
    except KeyError:
        return "", f"needs the environment variable {place!r}: set it where this process runs"
    except OSError as exc:
        return "", f"needs the file {place!r}, which cannot be read: {exc.strerror}"
    except ValueError:  # not repeated, as a UnicodeDecodeError holds the text
        return "", f"needs {place!r}, which is not text in UTF-8"
