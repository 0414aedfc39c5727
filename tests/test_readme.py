"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_first_program_prints_what_the_readme_says(tmp_path: Path) -> None:
    program, session = blocks("python")[0], blocks("console")[0]
    shown = re.fullmatch(r"\$ plugin-store sandbox -- sh -c '(.*?)'\n(.*)", session, flags=re.DOTALL)
    assert shown is not None
    commands, printed = shown.groups()
    (tmp_path / "app.py").write_text(program, encoding="utf-8")
    # The commands as a virtual environment has them.
    for name, arguments in (("python", ""), ("plugin-store", " -m plugin_store")):
        command = tmp_path / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        command.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        ["plugin-store", "sandbox", "--", "sh", "-c", commands],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stderr == ""

    def undated(text: str) -> str:
        return re.sub(r"since \S+ \S+", "since …", text)

    assert undated(run.stdout) == undated(printed)


def test_every_file_and_name_that_the_readme_points_to_exists() -> None:
    for path in re.findall(r"`((?:plugin_store|sql|migrations)/[\w./]*)`", README):
        assert (ROOT / path).exists(), path
