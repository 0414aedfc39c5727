"""One change at a time: other threads wait, and exceptions of signal handlers leave the manager free."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from threading import Event as Flag
from types import FrameType

import pytest
from recorder import Recorder, events_of, restored, started, stored

from plugin_store import PluginManager, PluginStateError


class TimeLimitError(Exception):
    """What a signal handler raises."""


def test_change_waits_for_another_but_not_too_long() -> None:
    manager = started(None, slow := Recorder("slow"), mail := Recorder("mail"))
    manager.wait_seconds = 0.05
    entered, goes_on = Flag(), Flag()
    slow.then["on_enable"] = lambda: (entered.set(), goes_on.wait(30))
    with ThreadPoolExecutor(2) as threads:
        enabling = threads.submit(manager.enable_plugin, "slow")
        assert entered.wait(30)
        with pytest.raises(PluginStateError, match=r"the plugin manager is busy: another thread's change .* 0\.05 s"):
            manager.enable_plugin("mail")
        assert not manager.is_enabled("slow") and manager.get_enabled_plugins() == []  # reading does not wait
        manager.wait_seconds = 30
        waiting = threads.submit(manager.enable_plugin, "mail")
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        assert mail.hooks == []
        goes_on.set()
        enabling.result(30)
        waiting.result(30)
    assert manager.is_enabled("slow") and manager.is_enabled("mail")


def interrupt_at(step: int, call: Callable[[], object]) -> bool:
    """Raise TimeLimitError at this step of the call. Return whether the call ended before.

    The steps are the moments at which CPython may run a signal handler: the begin of a function, the end of a C call.
    """
    left = step

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal left
        if event in ("call", "c_return"):
            left -= 1
            if left == 0:
                raise TimeLimitError

    sys.setprofile(count)
    try:
        call()
    except Exception:  # TimeLimitError, or what it becomes as the failure of a hook
        pass
    finally:
        sys.setprofile(None)
    return left > 0


def service(action: str) -> tuple[PluginManager, Callable[[], object]]:
    """Return a manager with the plugins base and mail, and a change of it."""
    manager = restored(stored(base="enabled", mail="disabled"), Recorder("base"), Recorder("mail", "base"))
    if action == "disable":
        manager.enable_plugin("mail")
    elif action == "sync":
        manager.store.save("base", "disabled")
    calls: dict[str, Callable[[], object]] = {
        "enable": lambda: manager.enable_plugin("mail"),
        "disable": lambda: manager.disable_plugin("mail"),
        "configure": lambda: manager.update_config("base", {"n": 1}),
        "sync": manager.sync,
    }
    return manager, calls[action]


def switch(manager: PluginManager) -> None:
    manager.enable_plugin("base")
    manager.enable_plugin("mail")
    manager.disable_plugin("mail")


# Python cannot pass on what is raised while it closes a generator.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("action", ["enable", "disable", "sync", "configure"])
def test_manager_recovers_from_exception_at_any_step(action: str) -> None:
    ended, step = False, 0
    with ThreadPoolExecutor(1) as threads:
        while not ended:
            step += 1
            manager, call = service(action)
            ended = interrupt_at(step, call)
            events = events_of(manager)
            manager.wait_seconds = 1
            threads.submit(switch, manager).result(30)
            assert events[-1] == ("disabled", "mail"), step
            assert manager.is_enabled("base") and not manager.is_enabled("mail"), step
    assert step > 100
