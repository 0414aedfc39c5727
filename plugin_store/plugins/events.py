"""Events, and the dispatcher that announces them to listeners in the same process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any

logger = logging.getLogger(__name__)


class EventPriority(Enum):
    """The order in which an event's listeners are called: HIGHEST first."""

    HIGHEST = 1
    HIGH = 2
    NORMAL = 3
    LOW = 4
    LOWEST = 5


@dataclass
class Event:
    """Something that happened: a name such as ``plugin.enabled``, and data about it."""

    name: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    propagation_stopped: bool = False

    def stop_propagation(self) -> None:
        """Call none of the remaining listeners."""
        self.propagation_stopped = True


@dataclass(frozen=True)
class EventListener:
    """A callback and its priority, as get_listeners returns them."""

    callback: Callable[[Event], object]
    priority: EventPriority = EventPriority.NORMAL


class EventDispatcher:
    """Calls the listeners of an event by priority. Within a priority, the first added is called first.

    Threads and listeners may add and remove listeners at any time. A dispatch calls the listeners that were present
    when it began. Each list changes by atomic steps. So the dispatcher needs no lock, which a fork could leave held.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, list[EventListener]] = {}

    def add_listener(
        self, name: str, callback: Callable[[Event], object], priority: EventPriority = EventPriority.NORMAL
    ) -> None:
        """Call ``callback(event)`` for each event of this name. A callback added twice is called twice.

        Raises TypeError for an ``async def`` function, because nothing would await it.
        """
        refuse_async(callback, f"the listener of {name!r}")
        self._listeners.setdefault(name, []).append(EventListener(callback, priority))

    def remove_listener(self, name: str, callback: Callable[[Event], object]) -> None:
        """Remove the callback from this event, if it is there."""
        listeners = self._listeners.get(name, [])
        for listener in list(listeners):
            if listener.callback == callback:
                with suppress(ValueError):  # another thread has removed it
                    listeners.remove(listener)

    def has_listeners(self, name: str) -> bool:
        """Return whether the event has a listener."""
        return bool(self._listeners.get(name))

    def get_listeners(self, name: str) -> list[EventListener]:
        """Return the listeners of this event in the order in which they are called."""
        return sorted(self._listeners.get(name, ()), key=lambda listener: listener.priority.value)

    def dispatch(self, event: Event) -> Event:
        """Call the event's listeners until one stops it, and return the event.

        If a listener raises, the error is logged and the others are called. KeyboardInterrupt is passed on at once.
        """
        for listener in self.get_listeners(event.name):
            if event.propagation_stopped:
                break
            try:
                listener.callback(event)
            except KeyboardInterrupt:
                raise
            except BaseException:
                logger.exception("listener %r of %r raised", listener.callback, event.name)
        return event


def refuse_async(function: Callable[..., object], what: str) -> None:
    """Raise TypeError if the function, or the ``__call__`` of the object, is an ``async def`` function."""
    called = function.func if isinstance(function, partial) else function
    for each in (called, type(called).__call__):
        if iscoroutinefunction(each) or isasyncgenfunction(each):
            raise TypeError(f"{what} must be a plain function, not `async def`: nothing would await it")
