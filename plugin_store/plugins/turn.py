"""One change at a time, whatever threads, forks and signal handlers do; then its events, in order."""

from __future__ import annotations

import os
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
    """Which thread of this process changes plugins, and the events that are not dispatched yet.

    Locks and threads do not survive a fork, so a manager makes a new Turn when the process id differs.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.events: deque[Event] = deque()
        self._lock = RLock()
        self._owner = 0
        self._announcer: dict[str, object] = {}

    def run(self, change: Callable[[], Result], wait_seconds: float) -> Result:
        """Call ``change`` while no other thread is in here.

        Raises PluginStateError in a hook of a change, and if another thread does not end its change in time.
        """
        me = get_ident()
        if self._owner == me:
            raise PluginStateError("a hook cannot change plugins: change them in a listener, or after the hook")
        try:
            if not self._lock.acquire(timeout=wait_seconds):
                raise PluginStateError(
                    f"the plugin manager is busy: another thread has not ended its change in {wait_seconds:g} s; "
                    "look for a hook that hangs, then repeat the call"
                )
            self._owner = me
            return change()
        finally:
            # A signal handler can raise at the end of each call. So no flag tells whether this thread has the lock, and
            # nothing is called before release(). An RLock's release() raises if the thread does not have it.
            if self._owner == me:
                self._owner = 0
            try:  # noqa: SIM105
                self._lock.release()
            except RuntimeError:
                pass

    def announce(self, dispatch: Callable[[Event], object]) -> None:
        """Dispatch the events in order, unless a dispatch is under way: that one goes on with them."""
        me = object()
        while self.events:
            try:
                if self._announcer.setdefault("is", me) is not me:
                    return
                while self.events:
                    dispatch(self.events.popleft())
            finally:  # nothing is called here, as in run()
                if "is" in self._announcer and self._announcer["is"] is me:
                    del self._announcer["is"]


def one_change(method: Method) -> Method:
    """Have a method of the manager run as one change, and its events dispatched when it has ended."""

    @wraps(method)
    def change(self: PluginManager, *args: Any, **kwargs: Any) -> Any:
        if self._turn.pid != os.getpid():
            self._turn = Turn()
        turn = self._turn
        try:
            return turn.run(lambda: method(self, *args, **kwargs), self.wait_seconds)
        finally:
            turn.announce(self.event_dispatcher.dispatch)

    return cast(Method, change)
