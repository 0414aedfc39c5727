"""The command ``plugin-store``: the table from a shell."""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Run ``plugin-store`` with these arguments, by default those of the process, and return its exit status.

    Help and usage errors raise SystemExit, as argparse does.
    """
    try:
        from .run import run  # here, so that ^C during these imports is caught too

        return run(argv)
    except KeyboardInterrupt:
        return 130
