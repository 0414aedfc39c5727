"""Runs one command: reads the command line, writes the answer, and turns errors into messages and exit statuses."""

from __future__ import annotations

import sys

from plugin_store.errors import PluginStoreError, StoreUnavailableError
from plugin_store.stores.conninfo import masked

from .output import Answer, drop, open_streams, printable, say
from .usage import parse

REFUSED, DATABASE_AWAY = 1, 3
DIFF_REFUSED = 2  # as in diff(1), where 1 is a difference


def run(argv: list[str] | None = None) -> int:
    """Run ``plugin-store`` and return its exit status, which ``plugin-store --help`` explains."""
    open_streams()
    args = parse(sys.argv[1:] if argv is None else argv)
    from . import commands  # here, so that --help and usage errors do not wait for psycopg

    refused = DIFF_REFUSED if args.run == "diff" else REFUSED
    answer = Answer()
    try:
        answer = getattr(commands, f"do_{args.run.replace(' ', '_')}")(args)
        print(answer.text, end="", flush=True)
    except PluginStoreError as exc:
        say(f"plugin-store: {masked(str(exc))}")
        return DATABASE_AWAY if isinstance(exc, StoreUnavailableError) else refused
    except OSError as exc:
        drop(sys.stdout)
        if not isinstance(exc, BrokenPipeError):  # the reader closed the pipe: not an error
            say(f"plugin-store: cannot write the output: {exc.strerror}; the command itself succeeded")
            return refused
    for note in answer.notes:
        say(printable(note))
    return answer.status
