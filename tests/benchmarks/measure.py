"""Measuring things in turn, so that what disturbs the machine disturbs all, and comparing turn by turn."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple


class Times(NamedTuple):
    """Seconds per call in each turn: on the wall's clock, and of this process's CPU."""

    wall: list[float]
    cpu: list[float]


def in_turns(calls: Mapping[str, Callable[[], object]], *, seconds: float, turns: int) -> dict[str, Times]:
    """Call each for so many turns (A B C, A B C, …), repeating it in a turn until the turn takes ``seconds``."""
    repeats = {}
    for name, call in calls.items():
        call()  # prepared, cached, loaded
        began = time.perf_counter()
        call()
        repeats[name] = max(1, round(seconds / (time.perf_counter() - began)))
    taken = {name: Times([], []) for name in calls}
    order = list(calls.items())
    for _ in range(turns):
        random.shuffle(order)  # so that none always follows the same one, and finds the memory as that left it
        for name, call in order:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats[name]):
                call()
            taken[name].cpu.append((time.process_time() - cpu) / repeats[name])
            taken[name].wall.append((time.perf_counter() - wall) / repeats[name])
    return taken


def programs_in_turns(programs: Mapping[str, Sequence[str]], *, turns: int) -> dict[str, list[float]]:
    """Run each in a fresh interpreter so many times, and return the seconds from start to end.

    A program is what follows ``python`` on a command line.
    """
    for program in programs.values():
        run(program)  # compiled, and in the disk's cache
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(turns):
        for name, program in programs.items():
            began = time.perf_counter()
            run(program)
            taken[name].append(time.perf_counter() - began)
    return taken


def run(program: Sequence[str]) -> str:
    """Run a program in a fresh interpreter, and return what it prints."""
    done = subprocess.run([sys.executable, *program], stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    return done.stdout


def ratio(ones: list[float], others: list[float]) -> float:
    """Return the median of the ratios of each turn."""
    return median(one / other for one, other in zip(ones, others, strict=True))
