"""Events, and the dispatcher that announces them to listeners in the same process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from threading import Lock
from typing import Any

from ._fork import renew_after_fork

logger = logging.getLogger(__name__)


class EventPriority(Enum):
    """When a listener is called, among those of one event: HIGHEST first."""

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
        """Keep the event from the listeners that have not been called yet."""
        self.propagation_stopped = True


@dataclass(frozen=True)
class EventListener:
    """A callback and its priority, as get_listeners returns them."""

    callback: Callable[[Event], object]
    priority: EventPriority = EventPriority.NORMAL


class EventDispatcher:
    """Calls the listeners of an event, by priority and then in the order in which they were added.

    Thread-safe: listeners may be added and removed from any thread, and from a listener; the dispatch under
    way goes on with the listeners that it started with.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        renew_after_fork(self)
        # The tuples are replaced, never changed, so that dispatch needs no lock.
        self._listeners: dict[str, tuple[EventListener, ...]] = {}

    def _after_fork(self) -> None:
        self._lock = Lock()  # it may be held by a thread that is not in this process

    def add_listener(
        self, name: str, callback: Callable[[Event], object], priority: EventPriority = EventPriority.NORMAL
    ) -> None:
        """Have ``callback(event)`` called for each event of this name. Added twice, it is called twice."""
        with self._lock:
            listeners = (*self._listeners.get(name, ()), EventListener(callback, priority))
            self._listeners[name] = tuple(sorted(listeners, key=lambda listener: listener.priority.value))

    def remove_listener(self, name: str, callback: Callable[[Event], object]) -> None:
        """Remove the callback from this event, wherever it was added; do nothing if it was not."""
        with self._lock:
            self._listeners[name] = tuple(
                listener for listener in self._listeners.get(name, ()) if listener.callback != callback
            )

    def has_listeners(self, name: str) -> bool:
        """Return whether anyone listens to events of this name."""
        return bool(self._listeners.get(name))

    def get_listeners(self, name: str) -> list[EventListener]:
        """Return the listeners of this event in the order in which they are called."""
        return list(self._listeners.get(name, ()))

    def dispatch(self, event: Event) -> Event:
        """Call the event's listeners until one stops it, and return the event.

        A listener that raises an Exception is logged and does not stop the others.
        """
        for listener in self._listeners.get(event.name, ()):
            if event.propagation_stopped:
                break
            try:
                listener.callback(event)
            except Exception:
                logger.exception("listener %r of %r raised", listener.callback, event.name)
        return event
