"""The dispatcher by itself. test_events.py has what a manager announces."""

import logging
from threading import Barrier, Thread
from typing import Any

import pytest

from plugin_store import Event, EventDispatcher
from plugin_store.plugins.events import EventPriority


def adding(called: list[str], name: str) -> Any:
    return lambda event: called.append(name)


def test_dispatch_calls_listeners_and_returns_event() -> None:
    dispatcher, seen = EventDispatcher(), []
    dispatcher.add_listener("plugin.enabled", seen.append)
    dispatcher.add_listener("plugin.disabled", pytest.fail)
    event = Event("plugin.enabled", {"plugin_name": "analytics"})
    assert dispatcher.dispatch(event) is event
    assert seen == [event]


def test_dispatch_returns_event_without_listeners() -> None:
    event = Event(name="plugin.enabled")
    assert EventDispatcher().dispatch(event) is event
    assert event.data == {}


def test_event_has_data_of_its_own() -> None:
    Event("one").data["key"] = "value"
    assert Event("other").data == {}


def test_listeners_are_called_by_priority_then_age() -> None:
    dispatcher, called = EventDispatcher(), []
    for name in ("LOWEST", "NORMAL", "HIGHEST", "LOW", "HIGH"):
        for turn in ("1", "2"):
            dispatcher.add_listener("e", adding(called, name + turn), EventPriority[name])
    dispatcher.dispatch(Event("e"))
    assert called == [name + turn for name in ("HIGHEST", "HIGH", "NORMAL", "LOW", "LOWEST") for turn in ("1", "2")]


def test_priority_is_normal_by_default() -> None:
    dispatcher, called = EventDispatcher(), []
    dispatcher.add_listener("e", adding(called, "low"), EventPriority.LOW)
    dispatcher.add_listener("e", adding(called, "default"))
    dispatcher.add_listener("e", adding(called, "normal"), priority=EventPriority.NORMAL)
    dispatcher.add_listener("e", adding(called, "high"), EventPriority.HIGH)
    dispatcher.dispatch(Event("e"))
    assert called == ["high", "default", "normal", "low"]


def test_stop_propagation_skips_later_listeners() -> None:
    dispatcher, called = EventDispatcher(), []
    dispatcher.add_listener("e", adding(called, "first"), EventPriority.HIGH)
    dispatcher.add_listener("e", lambda event: event.stop_propagation())
    dispatcher.add_listener("e", adding(called, "last"))
    event = dispatcher.dispatch(Event("e"))
    assert called == ["first"]
    assert event.propagation_stopped
    dispatcher.dispatch(event)
    assert called == ["first"]


def test_dispatch_logs_listener_that_raises_and_continues(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher, called = EventDispatcher(), []

    def broken(event: Event) -> None:
        raise RuntimeError("broken listener")

    dispatcher.add_listener("e", broken)
    dispatcher.add_listener("e", adding(called, "last"))
    dispatcher.dispatch(Event("e"))
    assert called == ["last"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and "'e'" in record.getMessage() and "broken listener" in caplog.text


def test_dispatch_passes_interrupt_on() -> None:
    dispatcher = EventDispatcher()

    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    dispatcher.add_listener("e", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dispatcher.dispatch(Event("e"))


def test_remove_listener_affects_that_event_only() -> None:
    dispatcher, called = EventDispatcher(), []
    one, other = adding(called, "one"), adding(called, "other")
    dispatcher.add_listener("e", one, EventPriority.HIGH)
    dispatcher.add_listener("e", other)
    dispatcher.add_listener("e", one, EventPriority.LOW)
    dispatcher.add_listener("f", one)
    dispatcher.remove_listener("e", one)
    dispatcher.dispatch(Event("e"))
    dispatcher.dispatch(Event("f"))
    assert called == ["other", "one"]


def test_remove_listener_takes_bound_method() -> None:
    dispatcher, seen = EventDispatcher(), []
    dispatcher.add_listener("e", seen.append)
    dispatcher.remove_listener("e", seen.append)
    dispatcher.dispatch(Event("e"))
    assert seen == []


def test_remove_listener_ignores_unknown_callback() -> None:
    dispatcher = EventDispatcher()
    dispatcher.remove_listener("e", print)
    dispatcher.add_listener("e", print)
    dispatcher.remove_listener("e", repr)
    assert dispatcher.has_listeners("e")


def test_listener_added_twice_is_called_twice() -> None:
    dispatcher, seen = EventDispatcher(), []
    dispatcher.add_listener("e", seen.append)
    dispatcher.add_listener("e", seen.append)
    dispatcher.dispatch(Event("e"))
    assert len(seen) == 2


def test_has_listeners_and_get_listeners_agree() -> None:
    dispatcher = EventDispatcher()
    assert not dispatcher.has_listeners("e")
    assert dispatcher.get_listeners("e") == []
    dispatcher.add_listener("e", print, EventPriority.LOW)
    dispatcher.add_listener("e", repr)
    assert dispatcher.has_listeners("e") and not dispatcher.has_listeners("f")
    assert [(each.callback, each.priority) for each in dispatcher.get_listeners("e")] == [
        (repr, EventPriority.NORMAL),
        (print, EventPriority.LOW),
    ]
    dispatcher.get_listeners("e").clear()
    assert dispatcher.has_listeners("e")
    dispatcher.remove_listener("e", print)
    dispatcher.remove_listener("e", repr)
    assert not dispatcher.has_listeners("e")


def test_dispatch_keeps_listeners_that_it_began_with() -> None:
    dispatcher, called = EventDispatcher(), []

    def change(event: Event) -> None:
        dispatcher.remove_listener("e", last)
        dispatcher.add_listener("e", adding(called, "new"))

    last = adding(called, "last")
    dispatcher.add_listener("e", change)
    dispatcher.add_listener("e", last)
    dispatcher.dispatch(Event("e"))
    assert called == ["last"]
    dispatcher.dispatch(Event("e"))
    assert called == ["last", "new"]


def test_listener_may_dispatch() -> None:
    dispatcher, called = EventDispatcher(), []
    dispatcher.add_listener("outer", lambda event: dispatcher.dispatch(Event("inner")))
    dispatcher.add_listener("outer", adding(called, "outer"))
    dispatcher.add_listener("inner", adding(called, "inner"))
    dispatcher.dispatch(Event("outer"))
    assert called == ["inner", "outer"]


def test_threads_may_add_and_remove_listeners() -> None:
    dispatcher, together = EventDispatcher(), Barrier(8)

    def work(thread: int) -> None:
        kept, removed = [adding([], "")] * 50, adding([], "")
        together.wait(timeout=60)
        for callback in kept:
            dispatcher.add_listener("e", removed)
            dispatcher.add_listener("e", callback, EventPriority.LOW)
            dispatcher.dispatch(Event("e"))
            dispatcher.remove_listener("e", removed)

    threads = [Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [each.priority for each in dispatcher.get_listeners("e")] == [EventPriority.LOW] * 400


async def awaited(event: Event) -> None: ...


def test_add_listener_refuses_async_function() -> None:
    dispatcher = EventDispatcher()
    with pytest.raises(TypeError, match="the listener of 'e' must be a plain function"):
        dispatcher.add_listener("e", awaited)
    assert not dispatcher.has_listeners("e")
