"""What takes long says so at a terminal, and only there."""

import io
import sys
import time

import pytest

from plugin_store.cli import output
from plugin_store.cli.output import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, seconds: float) -> str:
    """Return what appears on stderr during and after a block that takes so long."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(output, "PATIENCE_SECONDS", 0.5)
    with progress("working"):
        time.sleep(seconds)
    time.sleep(0.8)
    return stream.getvalue()


def test_progress_is_shown_when_work_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Terminal(), 1) == "working ...\n"


def test_progress_is_silent_when_work_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Terminal(), 0) == ""


def test_progress_is_silent_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO(), 0.7) == ""
