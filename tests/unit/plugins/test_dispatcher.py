"""The dispatcher by itself. test_events.py has what a manager announces."""

import logging
from collections.abc import Callable

import pytest
from recorder import raising

from plugin_store import Event, EventDispatcher
from plugin_store.plugins.events import EventPriority


class Dispatcher(EventDispatcher):
    """Adds the names of the listeners that it calls to ``called``."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    def add(self, name: str, priority: EventPriority = EventPriority.NORMAL) -> Callable[[Event], object]:
        """Add a listener of this name to the event ``e``, and return it."""

        def listener(event: Event) -> None:
            self.called.append(name)

        self.add_listener("e", listener, priority)
        return listener


def test_dispatch_calls_listeners_and_returns_event() -> None:
    dispatcher, seen = EventDispatcher(), list[Event]()
    dispatcher.add_listener("plugin.enabled", seen.append)
    dispatcher.add_listener("plugin.disabled", pytest.fail)
    event = Event("plugin.enabled", {"plugin_name": "analytics"})
    assert dispatcher.dispatch(event) is event
    assert seen == [event]
    dispatcher.remove_listener("plugin.enabled", seen.append)
    assert not dispatcher.has_listeners("plugin.enabled")
    assert dispatcher.dispatch(other := Event(name="other")) is other
    assert (other.data, other.data is Event().data) == ({}, False)


def test_listeners_are_called_by_priority_then_age() -> None:
    dispatcher = Dispatcher()
    dispatcher.add("by default")
    for name in ("LOWEST", "NORMAL", "HIGHEST", "LOW", "HIGH"):
        dispatcher.add(name, EventPriority[name])
    dispatcher.dispatch(Event("e"))
    assert dispatcher.called == ["HIGHEST", "HIGH", "by default", "NORMAL", "LOW", "LOWEST"]


def test_stop_propagation_skips_later_listeners() -> None:
    dispatcher = Dispatcher()
    dispatcher.add("last", EventPriority.LOW)
    dispatcher.add_listener("e", lambda event: event.stop_propagation())
    dispatcher.add("first", EventPriority.HIGH)
    event = dispatcher.dispatch(Event("e"))
    dispatcher.dispatch(event)
    assert (dispatcher.called, event.propagation_stopped) == (["first"], True)


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, GeneratorExit])
def test_dispatch_logs_listener_that_raises_and_continues(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = Dispatcher()
    dispatcher.add_listener("e", raising(error("broken listener")))
    dispatcher.add("last")
    dispatcher.dispatch(Event("e"))
    assert dispatcher.called == ["last"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and "'e'" in record.getMessage() and "broken listener" in caplog.text


def test_remove_listener_affects_that_event_only() -> None:
    dispatcher = Dispatcher()
    one = dispatcher.add("one", EventPriority.HIGH)
    dispatcher.add("other")
    for name in ("e", "f"):
        dispatcher.add_listener(name, one, EventPriority.LOW)
    dispatcher.remove_listener("e", one)
    dispatcher.remove_listener("e", print)  # it is not there
    dispatcher.remove_listener("unknown", one)
    dispatcher.dispatch(Event("e"))
    dispatcher.dispatch(Event("f"))
    assert dispatcher.called == ["other", "one"]


def test_has_listeners_and_get_listeners_agree() -> None:
    dispatcher = EventDispatcher()
    dispatcher.add_listener("e", print, EventPriority.LOW)
    dispatcher.add_listener("e", repr)
    found = [(each.callback, each.priority) for each in dispatcher.get_listeners("e")]
    assert found == [(repr, EventPriority.NORMAL), (print, EventPriority.LOW)]
    dispatcher.get_listeners("e").clear()
    assert dispatcher.has_listeners("e") and not dispatcher.has_listeners("f")
    dispatcher.remove_listener("e", print)
    dispatcher.remove_listener("e", repr)
    assert not dispatcher.has_listeners("e")


def test_listener_may_add_remove_and_dispatch() -> None:
    dispatcher = Dispatcher()

    def change(event: Event) -> None:
        dispatcher.remove_listener("e", last)
        dispatcher.add("new")
        dispatcher.dispatch(Event("inner"))

    dispatcher.add_listener("inner", lambda event: dispatcher.called.append("inner"))
    dispatcher.add_listener("e", change)
    last = dispatcher.add("last")
    dispatcher.dispatch(Event("e"))
    assert dispatcher.called == ["inner", "last"]
    dispatcher.dispatch(Event("e"))
    assert dispatcher.called == ["inner", "last", "inner", "new"]


async def awaited(event: Event) -> None: ...


def test_add_listener_refuses_async_function() -> None:
    dispatcher = EventDispatcher()
    with pytest.raises(TypeError, match="the listener of 'e' must be a plain function"):
        dispatcher.add_listener("e", awaited)
    assert not dispatcher.has_listeners("e")


def test_add_listener_takes_object_that_wraps_async_function() -> None:
    class Runner:
        func = staticmethod(awaited)

        def __call__(self, event: Event) -> None: ...

    dispatcher = EventDispatcher()
    dispatcher.add_listener("e", Runner())
    assert dispatcher.has_listeners("e")
