"""Finds the package's SQL files and migrations.

In the source tree, the package has symbolic links to the two folders. A wheel has the folders themselves. This module
uses plain paths, because importing importlib.resources takes longer than the rest of the package.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from plugin_store.errors import InstallationError

if TYPE_CHECKING:
    from typing_extensions import LiteralString


def folder(name: str) -> str:
    """Return the path of the package's folder ``sql`` or ``migrations``. Raises InstallationError if it is missing."""
    path = os.path.join(os.path.dirname(os.path.dirname(__file__)), name)
    if not os.path.isdir(path):
        raise InstallationError(
            f"the folder {path} is missing, because this checkout has no symbolic links: run "
            "`git config core.symlinks true && git checkout .`, or install the wheel"
        )
    return path


def migration_names() -> list[str]:
    """Return the names of the migrations in order. Raises InstallationError if there are none."""
    files = sorted(os.listdir(folder("migrations")))
    names = [name.removesuffix(".sql") for name in files if name.endswith(".sql") and ".rollback." not in name]
    if not names:  # yoyo would silently apply nothing
        raise InstallationError(f"no migrations in {folder('migrations')}: install plugin_store again")
    return names


def load_statement(name: str) -> LiteralString:
    """Return the SQL of ``sql/NAME.sql``.

    psycopg takes only a LiteralString, as a guard against SQL injection. These files are fixed, so the cast is safe.
    """
    with open(os.path.join(folder("sql"), f"{name}.sql"), encoding="utf-8") as file:
        return cast("LiteralString", file.read())  # type: ignore[redundant-cast]  # mypy knows it as str
