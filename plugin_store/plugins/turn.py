"""Runs one change at a time, then dispatches its events. Safe with threads, forks and signal handlers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import wraps
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, TypeVar, cast

from plugin_store.errors import PluginStateError

from .events import Event

if TYPE_CHECKING:
    from .manager import PluginManager

Result = TypeVar("Result")
Method = TypeVar("Method", bound=Callable[..., Any])


class Turn:
    """The manager's lock, and its queue of events.

    After a fork, a thread that no longer exists may hold the lock. So each process has its own Turn.
    """

    def __init__(self) -> None:
        self.noted: deque[Event] = deque()  # events of the change that runs
        self.events: deque[Event] = deque()  # events of changes that have ended
        self._lock = RLock()
        self._owner = 0
        self._announcer: dict[str, object] = {}

    def run(self, change: Callable[[], Result], wait_seconds: float) -> Result:
        """Call ``change`` while no other thread runs a change.

        Raises PluginStateError if a hook calls it, or if another thread's change does not end in time.
        """
        me = get_ident()
        if self._owner == me:
            raise PluginStateError("a hook cannot change plugins: change them in a listener, or after the hook")
        try:
            if not self._lock.acquire(timeout=wait_seconds):
                raise PluginStateError(
                    f"the plugin manager is busy: another thread's change did not end within {wait_seconds:g} s; "
                    "look for a hook that hangs, then repeat the call"
                )
            self._owner = me
            try:
                return change()
            finally:
                while self.noted:
                    self.events.append(self.noted.popleft())
        finally:
            # A signal handler may raise after any call. So do not keep a flag that says who holds the lock, and call
            # nothing before release(). RLock.release() raises RuntimeError if this thread does not hold the lock.
            if self._owner == me:
                self._owner = 0
            try:  # noqa: SIM105
                self._lock.release()
            except RuntimeError:
                pass

    def announce(self, dispatch: Callable[[Event], object]) -> None:
        """Dispatch the events of ended changes in order. If a dispatch is already running, it dispatches them."""
        if self._owner == get_ident():  # a hook's call was refused, and its change still runs
            return
        me = object()
        while self.events:  # again: another thread may have queued events and returned
            try:
                if self._announcer.setdefault("is", me) is not me:  # atomic: only one thread is the announcer
                    return
                while self.events:
                    dispatch(self.events.popleft())
            finally:  # call nothing here, as in run()
                if "is" in self._announcer and self._announcer["is"] is me:
                    del self._announcer["is"]


def one_change(method: Method) -> Method:
    """Decorate a manager's method: run it as one change, then dispatch its events."""

    @wraps(method)
    def change(self: PluginManager, *args: Any, **kwargs: Any) -> Any:
        turn = self._turns.get()
        try:
            return turn.run(lambda: method(self, *args, **kwargs), self.wait_seconds)
        finally:
            turn.announce(self.event_dispatcher.dispatch)

    return cast(Method, change)
