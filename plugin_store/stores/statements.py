"""Where the SQL files and the migrations of this package are.

Both folders stand at the top of the source tree and are linked into the package; a wheel holds
them in place of the links. Found by plain paths, as importlib.resources costs an importer of
this package more than all the rest of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from plugin_store.errors import InstallationError

if TYPE_CHECKING:
    from typing_extensions import LiteralString


def folder(name: str) -> str:
    """Return the path of the package's folder ``sql`` or ``migrations``; InstallationError if it is not there."""
    path = os.path.join(os.path.dirname(os.path.dirname(__file__)), name)
    if not os.path.isdir(path):
        raise InstallationError(
            f"the folder {path} is missing: plugin_store/{name} is a symbolic link to ../{name}, and this copy of the "
            "sources did not keep it; run `git config core.symlinks true && git checkout .`, or install the wheel"
        )
    return path


def load_statement(name: str) -> LiteralString:
    """Return the SQL of ``sql/NAME.sql``.

    psycopg wants literals, as a guard against SQL put together from input. The files of this package are
    as fixed as its code: this is the one place that says so.
    """
    with open(os.path.join(folder("sql"), f"{name}.sql"), encoding="utf-8") as file:
        return cast("LiteralString", file.read())  # type: ignore[redundant-cast]  # mypy knows it as str
