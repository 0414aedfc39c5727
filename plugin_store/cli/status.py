"""``plugin-store status``: what a health check and a person want to know of the table."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter

from plugin_store.stores.postgres import PluginConfigRepository
from plugin_store.stores.schema import inspect_schema

from .database import transaction
from .migrate import pending
from .output import Answer, as_json, as_table
from .verbs import read_all


def status(args: Namespace) -> Answer:
    """Return the state of server, table, triggers, migrations and rows; exit status 1 if something needs a hand."""
    with transaction(args) as connection:
        state, info = inspect_schema(connection), connection.info
        server, database = f"{info.host}:{info.port}", info.dbname
        missing = pending(connection, state)
        readable = state.schema is not None and not state.foreign and not state.row_security
        rows, unreadable = read_all(PluginConfigRepository(connection)) if readable else ([], "")
    problems = state.problems() + ([unreadable] if unreadable else [])
    if missing and not state.foreign:
        problems.append(f"migrations are pending, {', '.join(missing)}: run `plugin-store migrate`")
    values = {
        "server": server,
        "database": database,
        "version": f"{state.server_version // 10_000}.{state.server_version % 10_000}",
        "schema": state.schema,
        "idle_triggers": state.idle_triggers,
        "pending_migrations": missing,
        "rows": dict(Counter(row.status for row in rows)),
        "problems": problems,
    }
    if args.json:
        return Answer(as_json(values), status=int(bool(problems)))
    counts = ", ".join(f"{count} {status}" for status, count in sorted(Counter(row.status for row in rows).items()))
    cells = [
        ("server", f"PostgreSQL {values['version']} at {server}, database {database}"),
        ("table", f"plugin_config in schema {state.schema}" if state.schema else "-"),
        ("triggers", "missing or disabled" if state.idle_triggers else "enabled"),
        ("migrations", "this role may not read them" if missing is None else ", ".join(missing) or "all applied"),
        ("rows", counts or "none"),
        *(("problem", problem) for problem in problems),
    ]
    return Answer(as_table(cells), status=int(bool(problems)))
