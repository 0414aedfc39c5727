"""The changes that ``plugin-store`` and ``flask plugins`` make to a store. Nothing here prints.

A verb checks all names before it writes. Inside a transaction, it changes all named plugins or none.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from plugin_store.errors import InvalidConfigError, PluginNotFoundError, UnreadableRowsError
from plugin_store.stores.model import PluginConfig, PluginConfigStore
from plugin_store.stores.validation import checked_config

from .output import near

TYPES = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}


def set_status(store: PluginConfigStore, names: Iterable[str], status: str, create: bool = False) -> list[PluginConfig]:
    """Enable or disable these plugins, readable or not, and return their rows.

    Raises PluginNotFoundError for a name without a row, unless ``create``.
    """
    wanted = sorted(set(names))  # the same order everywhere, so that two commands do not deadlock
    for name in wanted:
        _required_config(store, name, create)
    rows = []
    for name in wanted:
        try:
            rows.append(store.save(name, status))
        except UnreadableRowsError:  # the status is stored, but the config is unreadable
            rows.append(PluginConfig(name, status))
    return rows


def set_key(store: PluginConfigStore, name: str, key: str, value: Any, *, create: bool = False) -> list[str]:
    """Set one key of a plugin's stored config. Return a note for the operator if the value has a new type.

    Raises InvalidConfigError for ``a.b`` if ``a`` is a stored object, and PluginNotFoundError unless ``create``.
    """
    config = _required_config(store, name, create)
    _refuse_dotted(name, key, config, [key.partition(".")[2]])
    store.update_config(name, {key: value})
    before, after = (TYPES.get(type(each), "null") for each in (config.get(key, value), value))
    return [f"{key} was {before}, and is {after} now"] if before != after else []


def unset_keys(store: PluginConfigStore, name: str, keys: Iterable[str]) -> tuple[list[str], list[str]]:
    """Remove keys from a plugin's stored config. Return the removed keys, and notes about what was not stored."""
    wanted = dict.fromkeys(keys)
    config = _config(store, name, unreadable=wanted)  # an unreadable config may hold any of the keys
    if config is None:
        return [], [unknown(store, name)]
    for key in wanted:
        _refuse_dotted(name, key, config, [])
    removed = [key for key in wanted if key in config]
    if removed:
        store.update_config(name, {}, remove=removed)
    return removed, [f"no key {key!r} of plugin {name!r} is stored" for key in wanted if key not in config]


def existing(store: PluginConfigStore, name: str) -> PluginConfig:
    """Return the plugin's row; PluginNotFoundError names similar plugins."""
    row = store.get_by_name(name)
    if row is None:
        raise PluginNotFoundError(unknown(store, name))
    return row


def read_all(store: PluginConfigStore) -> tuple[list[PluginConfig], list[str]]:
    """Return the readable rows, and a list with the problem of the unreadable rows, if there are any."""
    try:
        return store.get_all(), []
    except UnreadableRowsError as exc:
        return exc.rows, [str(exc)]


def unknown(store: PluginConfigStore, name: str) -> str:
    """Return the message that this plugin has no row, with a hint."""
    return f"no plugin {name!r} is stored{hint(name, [row.plugin_name for row in read_all(store)[0]])}"


def hint(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: how to separate names, or the known names that are similar."""
    return f": separate names with blanks, {name.replace(',', ' ')!r}" if "," in name else near(name, known)


def given_text(argument: str) -> str:
    """Return the argument; for ``-``, the text on standard input without a byte order mark and one line's end."""
    if argument != "-":
        return argument
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:  # its text would show the value
        raise InvalidConfigError("the value on standard input is not UTF-8: convert it") from None


def parse_value(text: str) -> Any:
    """Return the JSON value of the text if it reads back exactly as typed, else the text.

    So ``25`` is a number, and ``1.10``, ``007`` and ``12e3456`` are text. Inside objects and lists,
    blanks and the spelling of numbers are free. A number that loses digits, or a repeated key, makes all of it text.
    """
    numbers: Any = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), _number)
    try:
        value = json.loads(text, object_pairs_hook=unique_keys, **numbers)
    except (ValueError, ArithmeticError, RecursionError):
        return text
    if isinstance(value, (dict, list)):
        return value if text == text.strip() else text
    return value if text in (json.dumps(value), json.dumps(value, ensure_ascii=False)) else text


def _config(store: PluginConfigStore, name: str, *, unreadable: dict[str, Any]) -> dict[str, Any] | None:
    """Return the plugin's stored config: ``unreadable`` if it cannot be read, None without a row."""
    try:
        row = store.get_by_name(name)
    except UnreadableRowsError:
        return unreadable
    return None if row is None else row.config


def _required_config(store: PluginConfigStore, name: str, create: bool) -> dict[str, Any]:
    """Return the plugin's stored config. Without a row, raise PluginNotFoundError unless ``create``."""
    config = _config(store, name, unreadable={})
    if config is None and (not create or "," in name):  # with a comma, it is probably two names
        advice = "" if create else "; --create makes a row for a plugin that has none"
        raise PluginNotFoundError(unknown(store, name) + advice)
    return config or {}


def _refuse_dotted(name: str, key: str, config: dict[str, Any], new: list[str]) -> None:
    """Raise InvalidConfigError for ``a.b`` if ``a`` is a stored object and ``a.b`` is not a key.

    The error shows the command that sets ``a`` with its keys other than ``b``, and with the new keys.
    """
    outer, dot, inner = key.partition(".")
    if dot and key not in config and isinstance(config.get(outer), dict):
        keys = [each for each in config[outer] if each != inner] + new
        whole = ", ".join(f"{json.dumps(each)}: …" for each in keys)
        command = shlex.join(["plugin-store", "config", "set", name, outer, f"{{{whole}}}"])
        raise InvalidConfigError(f"plugin {name!r}: {outer!r} is an object, which is set as a whole: {command}")


def _number(digits: str) -> Any:
    """Return the number as the table stores it. Raise ValueError if digits are lost, and for NaN and Infinity."""
    number = int(digits) if digits.lstrip("-").isdecimal() else float(digits) + 0.0  # jsonb stores -0.0 as 0.0
    stored = checked_config("", {"": number})[""]
    if Decimal(digits) != Decimal(str(stored)):
        raise ValueError("it loses digits")
    return stored


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object. Raise ValueError for a repeated key."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key!r} is given twice")
        made[key] = value
    return made
