"""Applying the migrations from Python, with yoyo as a library.

``yoyo apply`` applies the same migrations. This module also repairs the table, and reports errors that yoyo hides.
"""

from __future__ import annotations

import getpass
import glob
import os
from typing import Any

import psycopg

from plugin_store.errors import InstallationError, MigrationError, StoreError
from plugin_store.stores.connections import Cursor, connect, new_cursor
from plugin_store.stores.conninfo import checked_conninfo
from plugin_store.stores.driver_errors import translated_errors
from plugin_store.stores.schema import OLDEST_SERVER, SchemaState, inspect_schema, repair_schema
from plugin_store.stores.statements import folder, load_statement, migration_names

USE_SCHEMA = load_statement("use_schema")
APPLIED_MIGRATIONS = load_statement("applied_migrations")
LIMIT_WAITING = load_statement("limit_waiting")


def migrate(conninfo: str = "", *, wait_seconds: float = 0.0, check: bool = False) -> list[str]:
    """Apply the missing migrations and repair the table. Return the names of the migrations and repairs, in order.

    ``check`` changes nothing, and returns the names that are pending. ``conninfo`` is a libpq
    connection string or URL. The search_path decides which table is migrated.
    Processes that migrate at once wait for each other, for a limited time. Raises InstallationError
    without yoyo; StoreUnavailableError if the database cannot be reached in ``wait_seconds``; MigrationError if the
    server is too old, the table is another's, the role may not create tables or another migration holds the lock.
    """
    conninfo = checked_conninfo(conninfo)
    with translated_errors(), connect(conninfo, wait_seconds=wait_seconds) as connection:
        connection.prepare_threshold = None  # a pooler shares its server sessions, so statements must not be prepared
        state = inspect_schema(connection)
        if state.server_version < OLDEST_SERVER or state.foreign:
            raise MigrationError(state.problems()[0])
        missing = pending(connection, state)
        if missing is None:
            raise MigrationError("this role may not read which migrations are applied: migrate as the table's owner")
        todo = missing or _repairs(state)
        if check or not todo:
            return todo
        _check_role(state)
        try:
            with translated_errors():
                return _apply(conninfo, connection, state)
        except StoreError as exc:
            if not isinstance(exc.__cause__, psycopg.ProgrammingError):
                raise
            reason = exc.__cause__.diag.message_primary
            raise MigrationError(f"the database refused: {reason}; migrate as the owner of the table") from exc


def pending(connection: psycopg.Connection[Any], state: SchemaState) -> list[str] | None:
    """Return the names of the migrations that are not applied, in order; None if the role may not read them."""
    names = migration_names()
    try:
        with connection.transaction():
            cursor = new_cursor(connection)
            cursor.execute(USE_SCHEMA, {"schema": state.schema or state.creates_in})
            applied = {name for (name,) in cursor.execute(APPLIED_MIGRATIONS)}
    except psycopg.errors.UndefinedTable:
        return names
    except psycopg.errors.InsufficientPrivilege:
        return None
    return [name for name in names if name not in applied]


def _repairs(state: SchemaState) -> list[str]:
    """Return what is to be repaired although all migrations are applied."""
    if state.schema is None:
        return ["repair of plugin_config"]  # somebody dropped the table
    return [f"repair of {name}" for name in state.missing_constraints + state.idle_triggers] if state.damaged else []


def _check_role(state: SchemaState) -> None:
    """Raise MigrationError if yoyo could not create its tables: yoyo would wait 10 seconds and blame a lock."""
    schema = state.schema or state.creates_in
    if schema is None:
        raise MigrationError("no schema in the search_path exists: CREATE SCHEMA first, or correct the search_path")
    if state.read_only:
        raise MigrationError("the database takes no writes here: migrate on the primary, in a session that may write")
    if not state.may_create:
        cure = f'migrate as the owner of the schema, or run GRANT CREATE ON SCHEMA "{schema}" TO "{state.role}"'
        raise MigrationError(f"the role {state.role!r} may not create tables in the schema {schema!r}: {cure}")


def _apply(conninfo: str, connection: psycopg.Connection[Any], state: SchemaState) -> list[str]:
    """Apply and repair under yoyo's lock, and return what was done."""
    try:
        from yoyo import default_migration_table, exceptions, read_migrations
        from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
        from yoyo.connections import DatabaseURI
    except ImportError:
        raise InstallationError("yoyo-migrations is not installed: pip install yoyo-migrations") from None

    schema = str(state.schema or state.creates_in)

    class Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo ships no types
        def connect(self, dburi: object) -> psycopg.Connection[Any]:
            """Connect as the library does: with time limits, and with a conninfo that yoyo's URLs cannot express."""
            if schema != state.creates_in:  # behind a pooler, the next client could get the search_path that yoyo sets
                self.schema = '"{}"'.format(schema.replace('"', '""'))
            connection = connect(conninfo)
            connection.prepare_threshold = None
            return connection

        def cursor(self) -> Cursor:
            return new_cursor(self.connection)

        def begin(self) -> None:
            super().begin()
            self.execute(LIMIT_WAITING)

    _name_user()
    migrations = read_migrations(glob.escape(folder("migrations")))
    uri = DatabaseURI("postgresql+psycopg", None, None, None, None, None, {})
    try:
        with Backend(uri, default_migration_table) as backend:
            backend.init_database()
            with backend.lock():
                missing = backend.to_apply(migrations)
                backend.apply_migrations(missing)
                return [migration.id for migration in missing] + _repair(connection, schema)
    except exceptions.LockTimeout as exc:
        cure = "if none is running, a killed one left it: run `yoyo break-lock -d postgresql+psycopg://…`"
        raise MigrationError(f"another migration holds yoyo's lock: {exc}; {cure}") from exc


def _repair(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    with connection.transaction():
        connection.execute(LIMIT_WAITING)
        new_cursor(connection).execute(USE_SCHEMA, {"schema": schema})
        repairs = _repairs(inspect_schema(connection))
        if repairs:
            repair_schema(connection)
    return repairs


def _name_user() -> None:
    """Set LOGNAME to the user's number if the user has no name, as in some containers. yoyo logs it."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())
