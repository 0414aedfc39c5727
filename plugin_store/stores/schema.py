"""Inspects and repairs the table that the search_path finds."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import psycopg

from .connections import new_cursor
from .driver_errors import translated_errors
from .statements import folder, load_statement, migration_names

INSPECT_SCHEMA = load_statement("inspect_schema")
OLDEST_SERVER = 140000


@dataclass(frozen=True)
class SchemaState:
    """The tables plugin_config that a session sees. The fields after ``schemas`` are about the first one."""

    server_version: int  # 140005 is 14.5
    creates_in: str | None  # the schema in which CREATE TABLE would make a table
    role: str
    may_create: bool  # the role may create tables in the schema of the table, or else in creates_in
    read_only: bool  # the session may not write, as on a standby
    schemas: list[str]  # the schemas with such a table, in the order of the search_path
    differences: list[str]  # from plugin_store's table, in its kind and the types of its columns
    missing_constraints: list[str]  # or defaults
    idle_triggers: list[str]  # missing or disabled
    row_security: bool  # row-level security applies to this role
    replication_role: str  # triggers do not fire in a session that has "replica"

    @property
    def schema(self) -> str | None:
        """The schema of the table in use, or None if there is no table."""
        return self.schemas[0] if self.schemas else None

    @property
    def foreign(self) -> bool:
        """Whether the table is not plugin_store's. Additional columns are allowed."""
        return bool(self.schemas and self.differences)

    @property
    def damaged(self) -> bool:
        """Whether the table is plugin_store's and repair_schema can repair it."""
        return bool(self.schemas and not self.foreign and (self.missing_constraints or self.idle_triggers))

    def problems(self) -> list[str]:
        """Return each problem with its cure."""
        table = f"the table plugin_config in schema {self.schema!r}"
        if self.server_version < OLDEST_SERVER:
            version = f"{self.server_version // 10_000}.{self.server_version % 10_000}"
            return [f"the server is PostgreSQL {version}: plugin_store needs PostgreSQL 14 or later"]
        if not self.schemas:
            return ["there is no table plugin_config in the search_path: run `plugin-store migrate`"]
        if self.foreign:
            return [
                f"{table} is not plugin_store's, because {', '.join(self.differences)}: set the search_path, in the "
                "URL or for the role, to another schema"
            ]
        found = []
        if hidden := self.schemas[1:]:
            found.append(
                f"{table} hides the one in {', '.join(map(repr, hidden))}: set search_path to the schema that is in "
                "use, or drop the unused table"
            )
        if self.missing_constraints:
            found.append(f"{table} lacks {', '.join(self.missing_constraints)}: run `plugin-store migrate`")
        if self.idle_triggers:
            triggers = ", ".join(self.idle_triggers)
            found.append(f"{table} has triggers missing or disabled, {triggers}: run `plugin-store migrate`")
        if self.row_security:
            found.append(f"row-level security on {table} applies to this role: give the role BYPASSRLS, or disable it")
        if self.replication_role == "replica":
            found.append("session_replication_role is 'replica' in this session, so no trigger stamps a row: reset it")
        return found


def inspect_schema(connection: psycopg.Connection[Any]) -> SchemaState:
    """Return the state of the table as this session sees it. Runs one statement, which changes nothing."""
    with translated_errors():
        ((state,),) = new_cursor(connection).execute(INSPECT_SCHEMA)
    return SchemaState(**json.loads(state))


def repair_schema(connection: psycopg.Connection[Any]) -> None:
    """Run all migrations again, in one transaction. They restore defaults, constraints and triggers.

    The role must own the table. The table's schema must be the first of the search_path.
    """
    with translated_errors(), connection.transaction():
        for name in migration_names():
            with open(os.path.join(folder("migrations"), f"{name}.sql"), "rb") as file:
                connection.execute(file.read())
