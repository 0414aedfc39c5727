"""Checks connection strings, and hides the passwords in them."""

from __future__ import annotations

import re

from plugin_store.errors import InvalidDatabaseURLError

# Greedy, because a password may hold an unescaped @, a quote or a blank. The example URL of our error is not masked.
_IN_URL = re.compile(r"(://)(?!USER:PASSWORD@).*@")
_IN_KEYWORDS = re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|(?:[^\s&\\]|\\.)+)", re.IGNORECASE)


def checked_conninfo(conninfo: str) -> str:
    """Return the conninfo in libpq's form. Raises InvalidDatabaseURLError, which does not show it.

    ``postgresql+psycopg://``, the form of yoyo and SQLAlchemy, becomes ``postgresql://``. Blanks, line ends and a
    byte order mark around it are dropped. A password with an unescaped @ or / is refused: libpq could
    take a part of it for the host, and show it in an error.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    if not isinstance(conninfo, str):
        raise InvalidDatabaseURLError(
            f"the database URL must be a str, not {type(conninfo).__name__}: is its environment variable set?"
        )
    conninfo = conninfo.strip("\ufeff \t\r\n")  # a file's byte order mark and line end
    conninfo = re.sub(r"^postgres(ql)?\+psycopg://", "postgresql://", conninfo)
    scheme, separator, rest = conninfo.partition("://")
    if separator and scheme in ("postgresql", "postgres"):
        authority, *path = re.split(r"[/?]", rest, maxsplit=1)
        if authority.count("@") > 1 or any("@" in part.partition("?")[0] for part in path):
            raise _unreadable()
    elif separator and "=" not in scheme:
        raise _unreadable()
    try:
        values = conninfo_to_dict(conninfo)
    except (ProgrammingError, UnicodeError):
        raise _unreadable() from None
    # A server's error would repeat a URL that is given as the database's name.
    if any(masked(str(values.get(keyword, ""))) != str(values.get(keyword, "")) for keyword in ("dbname", "host")):
        raise _unreadable()
    if "@" in str(values.get("host", ""))[1:]:  # at the beginning it marks an abstract socket
        raise _unreadable()
    if not str(values.get("port", "5432")).replace(",", "0").isdecimal():
        raise _unreadable()
    return conninfo


def masked(text: str) -> str:
    """Return the text with ``***`` for the user and password of URLs, and for the value of ``password=``."""
    return _IN_KEYWORDS.sub(r"\1***", _IN_URL.sub(r"\1***@", text))


def _unreadable() -> InvalidDatabaseURLError:
    return InvalidDatabaseURLError(
        "the database URL cannot be read (it is not shown, as it may hold a password): it should look like "
        "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with @ : / ? # % in user and password percent-encoded"
    )
