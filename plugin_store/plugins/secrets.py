"""References: config values that name the place of a secret.

``{"$env": "NAME"}`` refers to an environment variable, ``{"$file": "PATH"}`` to the text of a file, at any depth of
a config. The table, exports, logs and events hold the reference.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from traceback import format_exception_only
from typing import Any

from plugin_store.errors import InvalidConfigError, UnresolvedReferenceError
from plugin_store.stores.validation import dotted

ENV = "$env"
FILE = "$file"


def resolve(plugin_name: str, value: Any, path: tuple[str | int, ...]) -> Any:
    """Return a copy of the value with each reference replaced by its secret.

    Removes a byte order mark and the last end of line from a file's text. If the variable is not set, or the file is
    not regular, readable UTF-8, raises UnresolvedReferenceError. So does a dict that has ``$env`` or ``$file`` but is
    not a reference. The error names the plugin and the path.
    """
    if isinstance(value, list):
        return [resolve(plugin_name, item, (*path, index)) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if ENV in value or FILE in value:
        text, problem = _look_up(value)
        if problem:
            raise UnresolvedReferenceError(f"plugin {plugin_name!r}: {dotted(path)} {problem}")
        return text
    return {key: resolve(plugin_name, item, (*path, key)) for key, item in value.items()}


def holds_secret(config: Mapping[str, Any], secret_keys: Iterable[str]) -> bool:
    """Return whether the config has a reference or a plain secret, so that an error may show a secret."""
    return _has_reference(config) or bool(_plain_keys(config, secret_keys))


def text_of(error: BaseException, *, secret: bool) -> str:
    """Return the type and text of an error. With ``secret``, hide the text."""
    if secret:
        return f"{type(error).__name__} (its text is hidden, because it may show a secret)"
    return "".join(format_exception_only(type(error), error)).strip()


def without_plain_secrets(config: Mapping[str, Any], secret_keys: Iterable[str]) -> dict[str, Any]:
    """Return the config with ``***`` for plain values of secret keys."""
    return {**config, **dict.fromkeys(_plain_keys(config, secret_keys), "***")}


def refuse_plain_secrets(plugin_name: str, config: Mapping[str, Any], secret_keys: Iterable[str]) -> None:
    """Raise InvalidConfigError if the config has a plain value under one of the secret keys."""
    for key in _plain_keys(config, secret_keys):
        raise InvalidConfigError(
            f"plugin {plugin_name!r}: config.{key} is secret, so a plain value is not stored: put it into an "
            f'environment variable or a file, and store {{"{ENV}": "NAME"}} or {{"{FILE}": "PATH"}}'
        )


def is_plain(value: Any) -> bool:
    """Return whether the value holds anything other than references and None, at any depth."""
    if isinstance(value, dict):
        return not _is_reference(value) and any(map(is_plain, value.values()))
    if isinstance(value, list):
        return any(map(is_plain, value))
    return value is not None


def _plain_keys(config: Mapping[str, Any], secret_keys: Iterable[str]) -> list[str]:
    return [key for key in secret_keys if is_plain(config.get(key))]


def _has_reference(value: Any) -> bool:
    if isinstance(value, dict):
        return ENV in value or FILE in value or any(map(_has_reference, value.values()))
    return isinstance(value, list) and any(map(_has_reference, value))


def _is_reference(value: dict[Any, Any]) -> bool:
    return len(value) == 1 and isinstance(value.get(ENV, value.get(FILE)), str)


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file. Reading a FIFO or a device may block forever."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file")


def _look_up(reference: dict[Any, Any]) -> tuple[str, str]:
    """Return the secret, or "" and the reason why it cannot be read."""
    if not _is_reference(reference):
        return "", f'is not a reference: write {{"{ENV}": "NAME"}} or {{"{FILE}": "PATH"}}, without other keys'
    ((kind, place),) = reference.items()
    try:
        if kind == FILE:
            with open(place, encoding="utf-8-sig", newline="", opener=_open_regular) as file:
                return file.read().removesuffix("\n").removesuffix("\r"), ""
        return os.environ[place], ""
    except KeyError:
        return "", f"needs the environment variable {place!r}: set it where this process runs"
    except OSError as exc:
        return "", f"needs the file {place!r}, which cannot be read: {exc.strerror}"
    except ValueError:  # not shown: a UnicodeDecodeError holds the text
        return "", f"needs {place!r}, which is not text in UTF-8"
