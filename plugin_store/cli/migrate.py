"""Applying the migrations from Python, with yoyo as a library.

``yoyo apply`` does the same; this looks first for what yoyo reports badly or not at all.
"""

from __future__ import annotations

import glob

from psycopg.conninfo import conninfo_to_dict

from plugin_store.errors import InstallationError, MigrationError
from plugin_store.stores.connections import connect
from plugin_store.stores.conninfo import checked_conninfo
from plugin_store.stores.cursors import check_session
from plugin_store.stores.driver_errors import translated_errors
from plugin_store.stores.statements import folder, load_statement

MAY_MIGRATE = load_statement("may_migrate")


def migrate(conninfo: str = "", *, wait_seconds: float = 0.0) -> list[str]:
    """Apply the migrations that the database does not have yet, and return their names in order.

    ``conninfo`` is a libpq connection string or URL. Several processes may migrate at once: they wait for
    each other, up to 10 seconds. Raises InstallationError without yoyo; StoreUnavailableError if the
    database cannot be reached, at once or after trying again for ``wait_seconds``; MigrationError if the
    role may not create tables or another migration holds yoyo's lock; StoreError for what else the database refuses.
    """
    try:
        from yoyo import default_migration_table, exceptions, read_migrations
        from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
        from yoyo.connections import DatabaseURI
    except ImportError:
        raise InstallationError("yoyo-migrations is not installed: pip install 'plugin-store[migrate]'") from None

    migrations = read_migrations(glob.escape(folder("migrations")))
    if not migrations:  # yoyo would go on, and apply nothing
        raise InstallationError(f"no migrations in {folder('migrations')}: install plugin_store again")
    conninfo = checked_conninfo(conninfo)
    _check_role(conninfo, wait_seconds)

    # Not yoyo's own reading of URLs: it knows neither socket folders in place of a host, nor several
    # hosts, nor libpq's other forms.
    values = {key: str(value) for key, value in conninfo_to_dict(conninfo).items() if value is not None}
    values["client_encoding"] = "utf8"
    uri = DatabaseURI("postgresql+psycopg", None, None, None, None, values.pop("dbname", None), values)
    try:
        with translated_errors(), PostgresqlPsycopgBackend(uri, default_migration_table) as backend:
            backend.connection.prepare_threshold = None  # what it prepared would stay behind in a pooler's session
            backend.init_database()
            with backend.lock():
                missing = backend.to_apply(migrations)
                backend.apply_migrations(missing)
                return [migration.id for migration in missing]
    except exceptions.LockTimeout as exc:
        raise MigrationError(
            f"another migration holds yoyo's lock: {exc}. If none is running, a killed one left it: remove it with "
            "`yoyo break-lock -d postgresql+psycopg://…`, then migrate again"
        ) from exc


def _check_role(conninfo: str, wait_seconds: float) -> None:
    """Raise MigrationError if yoyo could not make its tables: it would wait 10 seconds and blame a lock."""
    with translated_errors(), connect(conninfo, wait_seconds=wait_seconds) as connection:
        check_session(connection)
        row = connection.execute(MAY_MIGRATE).fetchone()
    assert row is not None
    role, schema, allowed = row
    if schema is None:
        raise MigrationError("no schema in the search_path exists: CREATE SCHEMA first, or correct the search_path")
    if not allowed:
        raise MigrationError(
            f"the role {role!r} may not create tables in the schema {schema!r}: migrate as the owner of the schema, "
            f'or let it: GRANT CREATE ON SCHEMA "{schema}" TO "{role}"'
        )
