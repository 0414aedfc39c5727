"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from example_plugins import started

from plugin_store import InvalidConfigError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def session(block: str, folder: Path) -> tuple[str, str]:
    """Run the commands of a block as one does who has installed the package; return what is printed, and shown."""
    shown = re.fullmatch(r"\$ plugin-store sandbox -- sh -c '(.*?)'\n(.*)", block, flags=re.DOTALL)
    assert shown is not None
    commands, printed = shown.groups()
    # The commands as a virtual environment has them.
    for name, arguments in (("python", ""), ("plugin-store", " -m plugin_store")):
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        command.chmod(0o755)
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        ["plugin-store", "sandbox", "--", "sh", "-c", commands],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return undated(run.stdout), undated(printed)


def undated(text: str) -> str:
    return re.sub(r"since \S+ \S+", "since …", text)


def test_the_first_program_prints_what_the_readme_says(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(blocks("python")[0], encoding="utf-8")
    printed, shown = session(blocks("console")[0], tmp_path)
    assert printed == shown


def test_plugins_move_as_the_readme_says(tmp_path: Path) -> None:
    (block,) = (block for block in blocks("console") if "plugin-store export" in block)
    printed, shown = session(block, tmp_path)
    assert printed == shown


def test_the_recipes_for_validation_refuse_what_they_should() -> None:
    (recipes,) = (block for block in blocks("python") if "jsonschema" in block)
    names: dict[str, Any] = {"__name__": "recipes"}
    exec(recipes, names)
    for plugin, problem in ((names["Mailer"](), r"\$\.port: 'x' is not of type"), (names["Chat"](), "port\n.*integer")):
        manager = started(None, plugin, port=25)
        name = plugin.metadata.name
        with pytest.raises(InvalidConfigError, match=problem):
            manager.save_config(name, {"port": "x"})
        manager.save_config(name, {"port": 26})
        manager.enable_plugin(name)


def test_every_file_and_name_that_the_readme_points_to_exists() -> None:
    for path in re.findall(r"`((?:plugin_store|sql|migrations)/[\w./]*)`", README):
        assert (ROOT / path).exists(), path


def test_every_promise_names_a_test_that_exists() -> None:
    promises = re.findall(r"\| `(tests/\w+/\w+\.py)::(\w+)` \|$", README, flags=re.MULTILINE)
    assert len(promises) == README.count(".py::")
    for path, name in promises:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), name
