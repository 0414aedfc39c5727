"""Runs programs that a test has as text."""

import subprocess
import sys
import textwrap

from workers import environment

# From CPython 3.12 on, fork() warns when there are threads.
PYTHON = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c"]


def output_of(*parts: str, **variables: str) -> list[str]:
    """Run the parts as one program, which may import what is in this folder. Return the lines that it prints.

    It must end without an error and print nothing to stderr.
    """
    program = "\n".join(map(textwrap.dedent, parts))
    done = subprocess.run([*PYTHON, program], env=environment(**variables), capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()
