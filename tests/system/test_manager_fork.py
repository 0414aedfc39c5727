"""A manager after a fork, while another thread of the parent uses it."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, os, signal, sys, threading
from recorder import Recorder, started

manager = started(None, a := Recorder("a"), Recorder("b"))
entered, goes_on = threading.Event(), threading.Event()

def wait(*args):
    entered.set()
    assert goes_on.wait(30)

{wait}
thread = threading.Thread(target=manager.enable_plugin, args=["a"])
thread.start()
assert entered.wait(30)
if (child := {fork}()) == 0:
    signal.alarm(20)  # a lock that is held for ever ends the child
    a.then.clear()
    dispatcher = manager.event_dispatcher
    dispatcher.remove_listener("plugin.enabled", wait)
    dispatcher.add_listener("plugin.enabled", lambda event: os.write(1, event.data["plugin_name"].encode()))
    manager.enable_plugin("b")
    manager.disable_plugin("b")
    os._exit(0 if manager.store.get_by_name("b").status == "disabled" else 3)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
goes_on.set()
thread.join(30)
assert manager.is_enabled("a") and not manager.is_enabled("b")
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
@pytest.mark.parametrize(
    "wait", ['a.then["on_enable"] = wait', 'manager.event_dispatcher.add_listener("plugin.enabled", wait)']
)
def test_forked_child_may_change_plugins(fork: str, wait: str) -> None:
    program = PROGRAM.format(fork=fork, wait=wait)
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "b"), done.stderr
