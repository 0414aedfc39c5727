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
    if not isinstance(conninfo, str):
        raise InvalidDatabaseURLError(
            f"the database URL must be a str, not {type(conninfo).__name__}: is its environment variable set?"
        )
    conninfo = conninfo.strip("\ufeff \t\r\n")  # a file's byte order mark and line end
    conninfo = re.sub(r"^postgres(ql)?\+psycopg://", "postgresql://", conninfo)
    if not _is_readable(conninfo):
        raise InvalidDatabaseURLError(
            "the database URL cannot be read, and is not shown because it may hold a password: it should look like "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with @ : / ? # % in user and password percent-encoded"
        )
    return conninfo


def _is_readable(conninfo: str) -> bool:
    """Return whether libpq can read the conninfo, and no error would show a password as host, port or database."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    scheme, separator, rest = conninfo.partition("://")
    if separator and scheme in ("postgresql", "postgres"):
        authority, *path = re.split(r"[/?]", rest, maxsplit=1)
        if authority.count("@") > 1 or "@" in "".join(path).partition("?")[0]:
            return False
    elif separator and "=" not in scheme:
        return False
    try:
        values = conninfo_to_dict(conninfo)
    except (ProgrammingError, UnicodeError):
        return False
    dbname, host, port = (
        str(values.get(key, default)) for key, default in (("dbname", ""), ("host", ""), ("port", "0"))
    )
    is_shown = masked(dbname) != dbname or masked(host) != host
    # An @ at the beginning of a host marks an abstract socket.
    return not is_shown and "@" not in host[1:] and port.replace(",", "0").isdecimal()


def masked(text: str) -> str:
    """Return the text with ``***`` for the user and password of URLs, and for the value of ``password=``."""
    return _IN_KEYWORDS.sub(r"\1***", _IN_URL.sub(r"\1***@", text))
