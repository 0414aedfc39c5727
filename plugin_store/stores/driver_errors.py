"""Translates psycopg's errors into plugin_store's."""

from __future__ import annotations

import psycopg

from plugin_store.errors import SchemaError, StoreError, StoreUnavailableError

from .conninfo import masked


class translated_errors:  # noqa: N801  (used like a function, as contextlib's are)
    """A context manager that translates psycopg's errors, and chains them."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, psycopg.Error):
            raise translate(exc) from exc


# SQLSTATEs with which the server ends or refuses a connection.
_UNAVAILABLE = ("08", "57P", "53300", "25P03", "25P04")

_PREPARED = (
    StoreError,
    "the connection does not keep its prepared statements",
    "if a connection pooler is in between, prepare nothing: ConnectionPool(…, kwargs={'prepare_threshold': None})",
)
_LOCKED = (
    StoreError,
    "the statement took too long",
    "usually another transaction holds a lock: end that one (see pg_stat_activity), then repeat the call",
)
# Maps SQLSTATE prefixes (PostgreSQL manual, appendix A) to error, event and cure. The first match counts.
_ADVICE: dict[str, tuple[type[StoreError], str, str]] = {
    "42P05": _PREPARED,
    "26000": _PREPARED,
    "55P03": _LOCKED,
    "57014": _LOCKED,
    "40": (StoreError, "the database refused", "nothing was changed, so repeat the call"),
    "0A000": (StoreError, "the database refused", "if the table was altered just now, repeat the call"),
    "25006": (
        StoreError,
        "the database takes no writes here",
        "connect to the primary, for example with target_session_attrs=read-write",
    ),
    "42501": (
        StoreError,
        "the database role may not do this",
        "reading needs SELECT on all columns of plugin_config; writing also needs INSERT, UPDATE and DELETE: see "
        "sql/recipes/grants.sql",
    ),
    # Our statements set every column without a default.
    "23502": (
        SchemaError,
        "a column of plugin_config lost its default, or is newer than this plugin_store",
        "run `plugin-store migrate`, or update plugin_store",
    ),
    "42": (
        SchemaError,
        "the table plugin_config is out of date, or missing from the search_path, or the role may not use its schema",
        "run `plugin-store migrate` or `yoyo apply -d postgresql+psycopg://… package:plugin_store:migrations`",
    ),
}
_ROW_SECURITY = (
    "row-level security on plugin_config applies to this role, and hidden rows would look deleted: disable it for the "
    "table, or give the role BYPASSRLS; keep tenants apart by schemas"
)


def connection_lost(exc: psycopg.Error) -> bool:
    """Return whether the connection failed, not the statement."""
    if exc.sqlstate is None:
        return isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError))
    return exc.sqlstate.startswith(_UNAVAILABLE)


def translate(exc: psycopg.Error) -> StoreError:
    """Return plugin_store's error for psycopg's. Its message says what to do."""
    state = exc.sqlstate or ""
    reason = masked(_reason(exc))
    if connection_lost(exc):
        happened = "refused or closed the connection" if state else "cannot be reached"
        return StoreUnavailableError(f"the database {happened}: {reason}")
    # Our statements divide by zero if row-level security applies. The same error in a function has a context.
    if (state == "22012" and exc.diag.context is None) or (state == "42501" and "row-level security" in reason):
        return StoreError(_ROW_SECURITY)
    for prefix, (error, happened, cure) in _ADVICE.items():
        if state.startswith(prefix):
            return error(f"{happened}: {reason}; {cure}")
    if not state and isinstance(exc, psycopg.DataError):
        return StoreError(f"Python cannot read a row of plugin_config: {reason}; `plugin-store migrate` names the rows")
    return StoreError(f"the database refused: {reason}")


def _reason(exc: psycopg.Error) -> str:
    """Return the server's message and hint, but not its detail, which may show the whole row."""
    told = (exc.diag.message_primary, exc.diag.message_hint) if exc.sqlstate else (str(exc).strip(),)
    return "; ".join(filter(None, told)) or type(exc).__name__
