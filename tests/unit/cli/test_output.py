"""What the commands print, and how."""

import io
import sys
import time

import pytest

from plugin_store.cli import output


def test_hidden_keeps_keys_null_and_references() -> None:
    reference = {"$env": "NAME"}
    value = {"a": 1, "b": [True, None, reference], "c": {"d": "x", "$env": "NAME"}, "e": {}}
    shown = {"a": "***", "b": ["***", None, reference], "c": {"d": "***", "$env": "***"}, "e": {}}
    assert output.hidden(value) == shown


def test_output_goes_to_stream_without_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", shown := io.StringIO())
    output.open_streams()
    output.write("é\n")
    assert shown.getvalue() == "é\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "seconds", "said"), [(Terminal, 0.3, "working ...\n"), (Terminal, 0, ""), (io.StringIO, 0.3, "")]
)
def test_progress_is_shown_after_a_while_at_terminal(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], seconds: float, said: str
) -> None:
    monkeypatch.setattr(sys, "stderr", shown := stream())
    monkeypatch.setattr(output, "PATIENCE_SECONDS", 0.1)
    with output.progress("working"):
        time.sleep(seconds)
    time.sleep(0.2)
    assert shown.getvalue() == said
