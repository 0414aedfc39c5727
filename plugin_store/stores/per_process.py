"""One object for each process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Makes an object when a process first asks for it. A forked child gets its own, not the parent's.

    It compares process ids, so this holds for forks in C too. It takes no lock, which a fork could leave held.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """Return this process's object."""
        pid = os.getpid()
        if pid not in self._made:
            self._made.setdefault(pid, self._make())  # atomic: threads get the same one
        return self._made[pid]
