"""Runs one command: reads the command line, writes the answer, and turns errors into messages and exit statuses."""

from __future__ import annotations

import sys
from contextlib import suppress

from plugin_store.errors import PluginStoreError, StoreUnavailableError
from plugin_store.stores.conninfo import masked

from .output import Answer, open_streams, printable, say, write
from .usage import parse


def run(argv: list[str] | None = None) -> int:
    """Run ``plugin-store`` and return its exit status, which ``plugin-store --help`` explains."""
    open_streams()
    answer, refused = Answer(), 1
    try:
        with suppress(BrokenPipeError):
            args = parse(sys.argv[1:] if argv is None else argv)
            refused = 2 if args.run == "diff" else 1  # as in diff(1), where 1 is a difference
            from . import commands  # here, so that --help and usage errors do not wait for psycopg

            answer = getattr(commands, f"do_{args.run.replace(' ', '_')}")(args)
            write(answer.text)
    except PluginStoreError as exc:
        say(printable(f"plugin-store: {masked(str(exc))}", keep="\n"))
        return 3 if isinstance(exc, StoreUnavailableError) else refused
    for note in answer.notes:
        say(printable(note))
    return answer.status
