"""What must be renewed in a child process: locks, threads and connections do not survive fork()."""

from __future__ import annotations

import logging  # noqa: F401  (these two, so that their own renewal runs before ours)
import os
import threading  # noqa: F401
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """What has state that a forked child must not use."""

    def _after_fork(self) -> None:
        """Replace what belongs to the parent process; called in the child, before anything else runs."""


_renewables: WeakSet[Renewable] = WeakSet()
_starters: WeakSet[Renewable] = WeakSet()


def renew_after_fork(renewable: Renewable, *, starts_thread: bool = False) -> None:
    """Have ``renewable._after_fork()`` called in each child that this process forks.

    One that starts a thread there comes after all others: the thread is to find them renewed.
    """
    (_starters if starts_thread else _renewables).add(renewable)


def _renew() -> None:
    for renewable in [*_renewables, *_starters]:
        renewable._after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch  (Windows has no fork)
    os.register_at_fork(after_in_child=_renew)
