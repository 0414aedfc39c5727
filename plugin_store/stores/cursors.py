"""Cursors for a repository: what they give for a config, and what they say of one that cannot be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import Format
from psycopg.rows import tuple_row
from psycopg.types.json import JsonbLoader

from plugin_store.errors import StoreError, UnreadableRowsError

from .model import PluginConfig
from .validation import MAX_DEPTH

if TYPE_CHECKING:
    from psycopg.abc import AdaptContext, Buffer

Connection = psycopg.Connection[Any]
Cursor = psycopg.Cursor[tuple[Any, ...]]

JSONB_OID = psycopg.adapters.types["jsonb"].oid


def new_cursor(connection: Connection) -> Cursor:
    """Return a plain cursor, whatever cursors and rows the caller's connections make by default.

    Raises StoreError for a session whose text or times psycopg does not read, before anything is asked of it.
    """
    check_session(connection)
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    # Unless the service has a loader of its own for this connection (set_json_loads).
    if connection.adapters.get_loader(JSONB_OID, Format.TEXT) is JsonbLoader:
        cursor.adapters.register_loader(JSONB_OID, _ConfigLoader)
    return cursor


def check_session(connection: Connection) -> None:
    """Raise StoreError for a session in which names would be bytes, or in which no time can be read."""
    if connection.info.encoding == "ascii":
        raise StoreError("client_encoding is SQL_ASCII: connect with client_encoding=utf8")
    style = connection.info.parameter_status("DateStyle")
    if style is not None and not style.startswith("ISO"):  # None: a pooler may not tell
        raise StoreError(
            f"DateStyle is {style!r}: connect with PGDATESTYLE=ISO in the environment, or let the role have it: "
            "ALTER ROLE … SET datestyle = ISO"
        )


class _ConfigLoader(JsonbLoader):
    """psycopg's loader, for a connection whose client_encoding is not UTF-8 too, and faster by a third of a row's cost.

    json.loads, which psycopg's calls by default, takes all bytes for UTF-8, and looks for blanks around the text,
    which the server does not send. A function that the service has set with psycopg's set_json_loads is called as ever.
    What is nested deeper than may be stored is refused: code that walks it would run out of stack in Python.
    """

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        assert self.connection is not None  # the loader is registered on cursors alone
        self._encoding = self.connection.info.encoding

    def load(self, data: Buffer) -> Any:
        text = str(data, self._encoding)
        value = _decode(text)[0] if self.loads is json.loads else self.loads(text)
        # Each level takes a bracket and its end: most configs are too short to be too deep.
        if len(text) > 2 * MAX_DEPTH and _too_deep(value, text.count("{") + text.count("[")):
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        return value


_decode = json.JSONDecoder().raw_decode


CONTAINERS = frozenset([dict, list])


def _too_deep(value: Any, brackets: int) -> bool:
    level = [value]
    for depth in range(1, MAX_DEPTH + 1):
        brackets -= len(level)
        if depth + brackets <= MAX_DEPTH:  # too few are left, if each were in the one before
            return False
        nodes = [node.values() if isinstance(node, dict) else node for node in level]
        level = [item for node in nodes for item in node if item.__class__ in CONTAINERS]
    return bool(level)


# What is raised of a value that PostgreSQL can hold and Python cannot.
UNREADABLE = (ValueError, RecursionError, psycopg.DataError)


def refuse_rows(exc: Exception, cursor: psycopg.Cursor[Any], plugin_name: str | None = None) -> None:
    """Raise UnreadableRowsError, which names the plugins, if the exception comes from rows that cannot be read.

    ``plugin_name`` is for rows that do not begin with it.
    """
    if isinstance(exc, UnicodeEncodeError):
        raise StoreError(f"client_encoding has no {exc.object!r}: connect with client_encoding=utf8") from exc
    result = cursor.pgresult
    if result is None or (isinstance(exc, psycopg.Error) and exc.sqlstate is not None):  # there are no rows
        return
    unreadable: dict[str, Exception] = {}
    readable: list[PluginConfig] = []
    for number in range(result.ntuples):
        cursor.scroll(number, "absolute")
        try:
            readable.extend(PluginConfig(*row) for row in cursor.fetchmany(1))
        except UNREADABLE as of_this:
            name = result.get_value(number, 0) or b""
            unreadable[plugin_name or name.decode(cursor.connection.info.encoding, "replace")] = of_this
    if unreadable:
        names, reason = ", ".join(map(repr, unreadable)), next(iter(unreadable.values()))
        raise UnreadableRowsError(
            f"the row of plugin {names} cannot be read: {type(reason).__name__}: {reason}; delete it with "
            "`plugin-store delete NAME`, or correct it in psql",
            list(unreadable),
            readable,
        ) from exc
