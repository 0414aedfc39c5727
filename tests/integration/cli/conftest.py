"""Commands of ``plugin-store``, run in this process."""

import io
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from plugin_store.cli import main


class Done(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command on the test's database; ``stdin`` is what it reads."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    def run(*args: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return Done(main(list(args)), *capsys.readouterr())

    return run
