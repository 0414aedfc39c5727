"""Runs commands, and programs that a test has as text."""

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers import environment

# From CPython 3.12 on, fork() warns when there are threads.
PYTHON = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c"]


def completed(*command: str | Path, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. It may import plugin_store and what is in this folder."""
    env = environment(**variables)
    return subprocess.run(command, cwd=cwd, env=env, input="", capture_output=True, encoding="utf-8", timeout=250)


@contextmanager
def started(*command: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a session of its own, with its streams in pipes. It does not outlive the block."""
    with subprocess.Popen(
        command,
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def output_of(*parts: str, **variables: str) -> list[str]:
    """Run the parts as one program, and return the lines that it prints.

    It must end without an error and print nothing to stderr.
    """
    done = completed(*PYTHON, "\n".join(map(textwrap.dedent, parts)), **variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()
