"""``plugin-store status``: the state of server, table, migrations and rows, for health checks and people."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from typing import Any

from plugin_store.stores.postgres import PluginConfigRepository
from plugin_store.stores.schema import inspect_schema

from .database import transaction
from .migrate import pending
from .output import Answer, as_json, as_table
from .verbs import read_all


def status(args: Namespace) -> Answer:
    """Return the state of server, table, triggers, migrations and rows; exit status 1 if there is a problem."""
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
        "table": f"{state.schema}.plugin_config" if state.schema else "missing",
        "idle_triggers": state.idle_triggers,
        "pending_migrations": missing,
        "rows": dict(Counter(row.status for row in rows)),
    }
    cells = [*((name, _words(value)) for name, value in values.items()), *(("problem", each) for each in problems)]
    text = as_json(values | {"problems": problems}) if args.json else as_table(cells)
    return Answer(text, status=int(bool(problems)))


def _words(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{count} {status}" for status, count in sorted(value.items())]
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "this role may not read them" if value is None else str(value)
