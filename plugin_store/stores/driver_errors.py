"""The driver's errors as ours."""

from __future__ import annotations

import psycopg

from plugin_store.errors import SchemaError, StoreError, StoreUnavailableError


class translated_errors:  # noqa: N801  (used like a function, as contextlib's are)
    """A context manager that raises the driver's errors as ours, chained.

    A class, as it is entered on every call: a generator costs several times as much.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, psycopg.Error):
            raise _translate(exc) from exc


# SQLSTATEs (PostgreSQL manual, appendix A) with which the server ends or refuses a connection.
_UNAVAILABLE = ("08", "57P", "53300", "25P03", "25P04")


def connection_lost(exc: psycopg.Error) -> bool:
    """Return whether the error is one of reaching the server, not of what it was asked to do."""
    if exc.sqlstate is None:
        return isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError))
    return exc.sqlstate.startswith(_UNAVAILABLE)


def _translate(exc: psycopg.Error) -> StoreError:
    reason = str(exc).strip() or type(exc).__name__
    state = exc.sqlstate
    if state is not None and state.startswith("23"):  # a constraint: the detail would show the whole row
        reason = "; ".join(filter(None, (exc.diag.message_primary, exc.diag.message_hint))) or reason
    if connection_lost(exc):
        happened = "cannot be reached" if exc.sqlstate is None else "closed the connection"
        return StoreUnavailableError(f"the database {happened}: {reason}")
    if isinstance(exc, (psycopg.errors.DuplicatePreparedStatement, psycopg.errors.InvalidSqlStatementName)):
        return StoreError(
            f"the connection does not keep what is prepared on it: {reason}; if there is a connection pooler before "
            "the server, have psycopg prepare nothing: ConnectionPool(…, kwargs={'prepare_threshold': None})"
        )
    if isinstance(exc, psycopg.errors.FeatureNotSupported):
        return StoreError(f"the database refused: {reason}; if the table was altered just now, repeat it")
    if isinstance(exc, psycopg.errors.SerializationFailure):
        return StoreError(
            f"the database refused: {reason}; nothing was changed, so repeat it; with default_transaction_isolation = "
            "'read committed' writers wait for each other instead"
        )
    if isinstance(exc, psycopg.errors.InsufficientPrivilege):
        return StoreError(
            f"the database role may not do this: {reason}; to read it needs SELECT on all columns of plugin_config, to "
            "write INSERT, UPDATE and DELETE too: see sql/recipes/grants.sql, and the README on roles and grants"
        )
    if isinstance(exc, psycopg.errors.NotNullViolation):  # ours are all given, or have a default
        return SchemaError(f"the table plugin_config is newer than this plugin_store: {reason}; update plugin_store")
    if state is not None and state.startswith("42"):
        return SchemaError(
            "the table plugin_config is missing from the search_path (or the role may not use its schema), or out of "
            f"date: {reason}; run `plugin-store migrate` or "
            "`yoyo apply -d postgresql+psycopg://… package:plugin_store:migrations`"
        )
    return StoreError(f"the database refused: {reason}")
