"""References: config values that say where a secret is, so that the secret is not in the config.

``{"$env": "NAME"}`` stands for an environment variable, ``{"$file": "PATH"}`` for the text of a file, wherever in a
config they are. What is stored, exported, logged and announced is the reference.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from .errors import UnresolvedReferenceError
from .stores.validation import dotted

ENV = "$env"
FILE = "$file"

# A text that has so many of a secret's characters in a row is taken to show it: messages quote long values in part.
TELLING = 4


def has_reference(value: Any) -> bool:
    """Return whether there is a reference in the value, malformed ones included."""
    if isinstance(value, dict):
        return ENV in value or FILE in value or any(map(has_reference, tuple(value.values())))
    return isinstance(value, list) and any(map(has_reference, value))


def resolve(plugin_name: str, value: Any, path: tuple[str | int, ...], secrets: list[str] | None = None) -> Any:
    """Return a copy of the value with what its references stand for, which is added to ``secrets``.

    Of a file, one line feed at its end is left out. Raises UnresolvedReferenceError, naming the plugin and the path,
    for a variable that is not set, a file that is no regular one or cannot be read as UTF-8, and a dict with one of
    the two keys that is more or other than a reference.
    """
    if isinstance(value, list):
        return [resolve(plugin_name, item, (*path, index), secrets) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    value = dict(value)  # in one step: another thread may be adding a key
    if ENV in value or FILE in value:
        text, problem = _look_up(value)
        if problem:
            raise UnresolvedReferenceError(f"plugin {plugin_name!r}: {dotted(path)} {problem}")
        if secrets is not None:
            secrets.append(text)
        return text
    return {key: resolve(plugin_name, item, (*path, key), secrets) for key, item in value.items()}


def is_plain(value: Any) -> bool:
    """Return whether the value holds anything but references, None, and lists and dicts of these."""
    if isinstance(value, dict):
        return not _is_reference(value) and any(map(is_plain, value.values()))
    if isinstance(value, list):
        return any(map(is_plain, value))
    return value is not None


def shows(error: BaseException, secrets: list[str]) -> bool:
    """Return whether the message of an error, or of one that would be logged with it, tells one of the secrets."""
    import json  # here, as it is seldom needed and slow to load

    texts, left = [], [error]
    for exc in left:
        texts += [str(exc), *getattr(exc, "__notes__", ())]
        others = (exc.__cause__, exc.__context__, *getattr(exc, "exceptions", ()))
        left += [other for other in others if other is not None and other not in left]
    text = "\n".join(texts)
    # As they are, and as repr() and JSON quote them.
    forms = [form for secret in secrets for form in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1])]
    pieces = {form[at : at + TELLING] for form in forms for at in range(max(1, len(form) - TELLING + 1))}
    return any(piece in text for piece in pieces - {""})


def _is_reference(value: dict[Any, Any]) -> bool:
    return len(value) == 1 and isinstance(value.get(ENV, value.get(FILE)), str)


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file: a FIFO or a device could hold up its reader for ever."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file")


def _look_up(reference: dict[Any, Any]) -> tuple[str, str]:
    """Return what a reference stands for, or "" and why it cannot be told."""
    if not _is_reference(reference):
        return "", f'is no reference: that is {{"{ENV}": "NAME"}} or {{"{FILE}": "PATH"}}, and nothing beside it'
    ((kind, place),) = reference.items()
    try:
        if kind == FILE:
            with open(place, encoding="utf-8", newline="", opener=_open_regular) as file:
                return file.read().removesuffix("\n"), ""
        return os.environ[place], ""
    except KeyError:
        return "", f"needs the environment variable {place!r}: set it where this process runs"
    except OSError as exc:
        return "", f"needs the file {place!r}, which cannot be read: {exc.strerror}"
    except ValueError:  # not repeated, as a UnicodeDecodeError holds the text
        return "", f"needs {place!r}, which is not text in UTF-8"
