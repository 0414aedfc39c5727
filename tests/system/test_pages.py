"""What the pages show is what happens: programs and commands run."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from databases import Connection
from pages import ROOT, blocks, recipe_blocks, text_of
from programs import completed


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, str]:
    """An environment in which python, plugin-store, yoyo and psql are the ones that the tests use."""
    modules = {"python": "", "plugin-store": "-m plugin_store", "yoyo": "-m yoyo", "flask": "-m flask"}
    for name, arguments in modules.items():
        (tmp_path / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (tmp_path / name).chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def run(command: str, folder: Path, env: dict[str, str]) -> str:
    done = completed("sh", "-ec", command, cwd=folder, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_first_program_prints_what_readme_shows(commands: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(blocks(text_of("README.md"), "python")[0], encoding="utf-8")
    session = re.fullmatch(
        r"\$ (\S+ sandbox -- sh -c '.+?')\n(.*)", blocks(text_of("README.md"), "console")[0], re.DOTALL
    )
    assert session is not None
    shown, printed = (
        re.sub(r"since \S+ \S+", "since …", text) for text in (session[2], run(session[1], tmp_path, commands))
    )
    assert printed == shown


@pytest.fixture
def database(database_url: str, connection: Connection) -> Iterator[tuple[str, str]]:
    """The URL of a migrated database with the rows that the pages name, and a prefix for roles, which are dropped."""
    connection.execute("INSERT INTO plugin_config (plugin_name) VALUES ('greeter'), ('analytics')")
    prefix = f"pages_{uuid4().hex[:8]}"
    yield database_url, prefix
    for role in ("owner", "service", "reader"):
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [f"{prefix}_{role}"]).fetchone():
            connection.execute(f"DROP OWNED BY {prefix}_{role} CASCADE".encode())
            connection.execute(f"DROP ROLE {prefix}_{role}".encode())


@pytest.mark.parametrize("page", ["README.md", "sql/README.md", "migrations/README.md"])
def test_commands_run(
    page: str, database: tuple[str, str], commands: dict[str, str], psql_folder: str, tmp_path: Path
) -> None:
    url, prefix = database
    commands |= {"DATABASE_URL": url, "PATH": f"{commands['PATH']}:{psql_folder}"}
    ran = 0
    for block in blocks(text_of(page), "sh"):
        if re.match("plugin-store|psql|yoyo", block):
            block = block.replace("plugins_", f"{prefix}_").replace("> plugins.json", f"> {tmp_path}/plugins.json")
            block = re.sub(r"postgresql(\S*)://owner@host/db", lambda m: f"'{url.replace(':', m[1] + ':', 1)}'", block)
            run(block, ROOT, commands)
            ran += 1
    assert ran


def test_guide_programs_run(database_url: str, commands: dict[str, str], tmp_path: Path) -> None:
    recipes = recipe_blocks()
    programs = [program for program in blocks(text_of("plugin_store/README.md"), "python") if program not in recipes]
    assert programs
    start = "import os\nfrom plugin_store import PluginManager\nmanager = PluginManager()\n"
    (tmp_path / "guide.py").write_text("\n".join([start, *programs]), encoding="utf-8")
    run("python guide.py", tmp_path, commands | {"DATABASE_URL": database_url})
