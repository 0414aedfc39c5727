"""The checks that every store makes before it writes.

The limits of configs come from PostgreSQL's jsonb and from Python's JSON reader. jsonb keeps numbers as decimals, and
text without NUL (PostgreSQL manual, "JSON Types").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import TYPE_CHECKING, Any

from plugin_store.errors import InvalidConfigError, InvalidNameError, InvalidStatusError

from .model import DISABLED, ENABLED

if TYPE_CHECKING:
    from .model import PluginConfig

MAX_NAME_LENGTH = 100
MAX_DEPTH = 100
# About 4,200 digits. Python refuses integers of more than 4,300 digits (sys.set_int_max_str_digits).
MAX_INT_BITS = 14_000
# From 1e16, repr() writes an exponent. jsonb writes 1e23 out as an integer that does not equal the float 1e23.
# So a store keeps the exact integer of such a float.
FLOAT_AS_INT_FROM = 1e16


def check_name(plugin_name: str) -> None:
    """Raise InvalidNameError unless the name is 1 to 100 characters that PostgreSQL can hold."""
    if not isinstance(plugin_name, str):
        raise InvalidNameError(f"a plugin name must be a str, not {type(plugin_name).__name__}: {plugin_name!r}")
    if not plugin_name:
        raise InvalidNameError("a plugin name must not be empty")
    if len(plugin_name) > MAX_NAME_LENGTH:
        raise InvalidNameError(
            f"plugin name {plugin_name[:20]!r}… has {len(plugin_name)} characters, more than {MAX_NAME_LENGTH}"
        )
    if problem := _text_problem(plugin_name):
        raise InvalidNameError(f"plugin name {plugin_name!r} {problem}")


def check_status(plugin_name: str, status: str) -> None:
    """Raise InvalidStatusError unless the status is ``enabled`` or ``disabled``."""
    if status not in (ENABLED, DISABLED):
        raise InvalidStatusError(f"plugin {plugin_name!r}: status must be {ENABLED!r} or {DISABLED!r}, not {status!r}")


def checked_config(plugin_name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the config as a store returns it, equal to the original.

    If the config is not a dict or cannot be stored, raises InvalidConfigError, which names the plugin and key path.
    """
    if not isinstance(config, dict):
        raise InvalidConfigError(f"plugin {plugin_name!r}: config must be a dict, not {type(config).__name__}")
    copy: dict[str, Any] = _checked(config, plugin_name, (), "config")
    return copy


def checked_row(plugin_name: str, status: str, config: dict[str, Any]) -> dict[str, Any]:
    """Check a row, and return a copy of its config. Raises the errors of the checks above."""
    check_name(plugin_name)
    check_status(plugin_name, status)
    return checked_config(plugin_name, config)


def checked_changes(
    plugin_name: str, changes: dict[str, Any], remove: Iterable[str]
) -> tuple[dict[str, Any], list[str]]:
    """Return copies of update_config's arguments. Raises InvalidConfigError if one is not valid."""
    if isinstance(remove, str) or not isinstance(remove, Iterable):
        raise InvalidConfigError(f"plugin {plugin_name!r}: remove must be a list of keys, not {remove!r}")
    gone = list(remove)
    for key in gone:
        if problem := _key_problem(key):
            raise InvalidConfigError(f"plugin {plugin_name!r}: remove {problem}")
    copy = checked_config(plugin_name, changes)
    if both := sorted(copy.keys() & set(gone)):
        raise InvalidConfigError(f"plugin {plugin_name!r}: {both} cannot be both set and removed")
    return copy, list(dict.fromkeys(gone))


def checked_many(configs: Iterable[PluginConfig]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield name, status and copied config of each. Raises if one is not valid or a name is given twice."""
    names: set[str] = set()
    for given in configs:
        config = checked_row(given.plugin_name, given.status, given.config)
        if given.plugin_name in names:
            raise InvalidNameError(f"plugin {given.plugin_name!r} is given twice")
        names.add(given.plugin_name)
        yield given.plugin_name, given.status, config


def copy_json(value: Any) -> Any:
    """Return a copy of a JSON value. Dicts and lists are copied, other values are shared."""
    if isinstance(value, dict):
        # dict() copies in one step, so another thread may add a key meanwhile.
        return {key: copy_json(item) for key, item in dict(value).items()}
    if isinstance(value, list):
        return [copy_json(item) for item in value]
    return value


def same_json(one: Any, other: Any) -> bool:
    """Return whether two values are equal in JSON. Unlike in Python, true does not equal 1."""
    if one is other:  # also for a value of the code's defaults that JSON does not have, such as NaN
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def dotted(path: tuple[str | int, ...]) -> str:
    """Return ``config.mail.ports[0]`` for ("config", "mail", "ports", 0).

    For a path that is too deep, return only the first four steps.
    """
    head, *rest = path if len(path) <= MAX_DEPTH else path[:4]
    return str(head) + "".join(
        f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{step!r}]" for step in rest
    )


def _checked(value: Any, plugin_name: str, path: tuple[str | int, ...], step: str | int) -> Any:
    """Return a copy of the value at ``step`` of ``path``."""
    if problem := _problem(value, len(path)):
        raise InvalidConfigError(f"plugin {plugin_name!r}: {dotted((*path, step))} {problem}")
    if isinstance(value, dict):
        path = (*path, step)
        return {key: _checked(item, plugin_name, path, key) for key, item in value.items()}
    if isinstance(value, list):
        path = (*path, step)
        return [_checked(item, plugin_name, path, index) for index, item in enumerate(value)]
    return int(value) if isinstance(value, float) and abs(value) >= FLOAT_AS_INT_FROM else value


def _problem(value: Any, depth: int) -> str | None:
    """Return why the value itself cannot be stored, or None. Its items are not checked."""
    if isinstance(value, str):
        return _text_problem(value)
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return f"is an integer of more than {MAX_INT_BITS} bits" if value.bit_length() > MAX_INT_BITS else None
    if isinstance(value, float):
        return None if isfinite(value) else f"is {value!r}, which JSON does not have"
    if depth >= MAX_DEPTH:
        return f"is nested deeper than {MAX_DEPTH} levels, or holds itself"
    if isinstance(value, dict):
        return next(filter(None, map(_key_problem, value)), None)
    return None if isinstance(value, list) else f"is a {type(value).__name__}, which JSON does not have"


def _key_problem(key: object) -> str | None:
    if not isinstance(key, str):
        return f"has the key {key!r}, which is not a str"
    problem = _text_problem(key)
    return problem and f"has the key {key!r}, which {problem}"


def _text_problem(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character, which PostgreSQL does not store"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "holds a lone surrogate, which is not a character"
    return None
