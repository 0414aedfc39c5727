"""What the pages show is what happens: programs and commands run, and links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT, *(ROOT / name for name in ("plugin_store", "sql", "migrations", "tests", "tests/benchmarks")))
PAGES = [str(page.relative_to(ROOT)) for folder in FOLDERS for page in sorted(folder.glob("*.md"))]
RECIPES = [path.read_text(encoding="utf-8") for path in (ROOT / "tests/system/recipes").rglob("*.py")]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks in this language, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, str]:
    """An environment in which python, plugin-store, yoyo and psql are the ones that the tests use."""
    modules = {"python": "", "plugin-store": "-m plugin_store", "yoyo": "-m yoyo", "flask": "-m flask"}
    for name, arguments in modules.items():
        (tmp_path / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (tmp_path / name).chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def run(command: str, folder: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
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


def test_ci_runs_test_command_of_readme() -> None:
    (command,) = (block for block in blocks(text_of("README.md"), "sh") if "tox" in block)
    assert command in text_of(".ci/run")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        file, _, anchor = target.partition("#")
        if not file.startswith("https:"):
            linked = (ROOT / page).parent / file if file else ROOT / page
            assert linked.exists(), target
            if anchor:
                headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), flags=re.MULTILINE)
                assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", PAGES)
def test_files_and_tests_that_page_names_exist(page: str) -> None:
    for path, name in re.findall(r"`((?:plugin_store|sql|migrations|tests)/[\w./-]*)(?:::(\w+))?`", text_of(page)):
        assert (ROOT / path).exists(), path
        assert not name or f"def {name}(" in text_of(path), name


def test_readme_is_short() -> None:
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 160
    assert not [line for line in lines if len(line) > 100 and not line.startswith("|")]


@pytest.fixture
def database(database_url: str, connection: psycopg.Connection[Any]) -> Iterator[tuple[str, str]]:
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


def test_guide_recipes_are_parts_of_tested_programs() -> None:
    for block in recipe_blocks():
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        assert any(is_excerpt(lines, recipe) for recipe in RECIPES), block


def recipe_blocks() -> list[str]:
    section = text_of("plugin_store/README.md").split("## Recipes")[1].split("\n## ")[0]
    return blocks(section, "python")


def is_excerpt(lines: list[str], program: str) -> bool:
    """Return whether the program has these lines in this order. In the excerpt, ``...`` stands for more."""
    rest = iter(line.strip() for line in program.splitlines())
    return all(any(line.startswith(wanted.removesuffix("...").strip()) for line in rest) for wanted in lines)
