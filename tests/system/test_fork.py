"""What is made before fork() works in parent and child, each on connections and threads of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psycopg
import pytest
import workers
from workers import environment, wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")

# From CPython 3.12 on, fork() warns when there are threads, as there are in all of these.
PYTHON = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
PREAMBLE = """
    import os, sys, threading, time
    from recorder import Service
    from workers import wait_until
    from plugin_store import InMemoryPluginConfigStore, PluginConfigRepository, PluginManager, PluginWatcher

    url = os.environ["DATABASE_URL"]

    def names():
        return [row.plugin_name for row in repository.get_all()]

    def wait_for(child):
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print("child ended with", status, flush=True)
"""


def run(program: str, url: str, *arguments: str) -> list[str]:
    """Run a program, whose end without an error is part of what is tested, and return what it prints."""
    code = textwrap.dedent(PREAMBLE) + textwrap.dedent(program)
    env = environment(DATABASE_URL=url)
    env["PYTHONPATH"] += os.pathsep + str(Path(workers.__file__).parent)
    done = subprocess.run([*PYTHON, "-c", code, *arguments], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


ENDS = {"falls through": "pass", "sys.exit": "sys.exit(0)", "os._exit": "os._exit(0)"}
FOLLOW = """
    def follows(name, child):
        "Whether a change of the store reaches this process."
        wait_until(lambda: name in service.enabled)
        # Whole, for parent and child may do it at once: print() may write word by word.
        sys.stdout.write(f"{'child' if child else 'parent'} {name} {name in service.enabled}\\n")
        sys.stdout.flush()

    def work_in_child():
        follows("a", True)
        service.manager.enable_plugin("b")
        return sum(thread.name == "plugin-watcher" for thread in threading.enumerate())

    repository = PluginConfigRepository.open(url)
    service = Service(repository, {"a": (), "b": (), "c": ()})
    watcher = PluginWatcher(service.manager, url)
"""


@pytest.mark.parametrize("how", ENDS)
def test_a_watcher_goes_on_in_parent_and_child(database_url: str, how: str) -> None:
    program = f"""
    with watcher:
        wait_until(lambda: watcher.healthy)
        if (child := os.fork()) == 0:
            repository.save("a", "enabled")
            assert work_in_child() == 1
            {ENDS[how]}
        else:
            follows("a", False)
            follows("b", False)
            wait_for(child)
            repository.save("c", "enabled")
            follows("c", False)
    """
    lines = run(FOLLOW + program, database_url)
    assert sorted(lines) == ["child a True", "child ended with 0", "parent a True", "parent b True", "parent c True"]


def test_it_works_with_multiprocessing(database_url: str) -> None:
    program = """
    import multiprocessing

    with watcher:
        wait_until(lambda: watcher.healthy)
        child = multiprocessing.get_context("fork").Process(target=work_in_child)
        child.start()
        repository.save("a", "enabled")
        follows("b", False)
        child.join()
        print("child ended with", child.exitcode)
        repository.save("c", "enabled")
        follows("c", False)
    """
    assert run(FOLLOW + program, database_url) == [
        "child a True",
        "parent b True",
        "child ended with 0",
        "parent c True",
    ]


def test_a_child_that_stops_its_watcher_does_not_stop_that_of_the_parent(database_url: str) -> None:
    program = """
    with watcher:
        wait_until(lambda: watcher.healthy)
        if (child := os.fork()) == 0:
            watcher.stop()
            print(watcher.healthy, threading.active_count(), flush=True)
            watcher.start()
            repository.save("a", "enabled")
            follows("a", True)
        else:
            wait_for(child)
            repository.save("b", "enabled")
            follows("b", False)
    """
    stopped, *rest = run(FOLLOW + program, database_url)
    assert stopped.startswith("False")
    assert rest == ["child a True", "child ended with 0", "parent b True"]


def test_a_watcher_that_does_not_run_is_not_started_in_the_child(database_url: str) -> None:
    program = """
    if (child := os.fork()) == 0:
        print([thread.name for thread in threading.enumerate()], flush=True)
        with watcher:
            repository.save("a", "enabled")
            follows("a", True)
    else:
        wait_for(child)
    """
    assert run(FOLLOW + program, database_url) == ["['MainThread']", "child a True", "child ended with 0"]


def test_fork_while_another_thread_syncs(database_url: str) -> None:
    # The thread that holds the manager's lock, and is in a hook, is not in the child.
    program = """
    entered, goes_on = threading.Event(), threading.Event()
    service["a"].then["on_enable"] = lambda: (entered.set(), goes_on.wait(30))
    with watcher:
        wait_until(lambda: watcher.healthy)
        repository.save("a", "enabled")
        assert entered.wait(10)
        if (child := os.fork()) == 0:
            service["a"].then.clear()
            assert work_in_child() == 1
            service.manager.disable_plugin("b")
        else:
            wait_for(child)
            goes_on.set()
            follows("a", False)
            repository.save("c", "enabled")
            follows("c", False)
    """
    lines = run(FOLLOW + program, database_url)
    assert lines == ["child a True", "child ended with 0", "parent a True", "parent c True"]


def test_a_hook_may_fork(database_url: str) -> None:
    program = """
    def fork():
        global child
        child = os.fork()

    service["a"].then["on_enable"] = fork
    service.manager.enable_plugin("a")
    service.manager.disable_plugin("a")
    if child:
        wait_for(child)
    print(*names(), repository.get_by_name("a").status, flush=True)
    """
    assert run(FOLLOW + program, database_url) == ["a disabled", "child ended with 0", "a disabled"]


# -- gunicorn -------------------------------------------------------------------------------------


class Gunicorn:
    """A service of three workers, and requests to them."""

    def __init__(self, port: int) -> None:
        self._port = port

    def request(self, method: str = "GET", path: str = "/", **headers: str) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def ask(self, pid: int, method: str = "GET", path: str = "/") -> Any:
        """Return what the worker of that pid answers: requests to others do nothing, and are repeated."""
        answers: list[Any] = []

        def answered() -> bool:
            status, body = self.request(method, path, **{"X-Pid": str(pid)})
            if status != 421:
                assert (status, body["pid"]) == (200, pid)
                answers.append(body)
            return bool(answers)

        assert wait_until(answered, 30), f"the worker {pid} never answers"
        return answers[0]

    def workers(self) -> list[int]:
        seen: set[int] = set()
        assert wait_until(lambda: seen.add(self.request()[1]["pid"]) or len(seen) == 3, 30), seen
        return sorted(seen)


@contextmanager
def gunicorn(url: str, *options: str) -> Iterator[Gunicorn]:
    command = [sys.executable, "-m", "gunicorn", "--bind=127.0.0.1:0", "--workers=3", "--log-level=info"]
    env = environment(DATABASE_URL=url)
    here = Path(workers.__file__).parent
    process = subprocess.Popen(
        [*command, f"--chdir={here}", *options], env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    log: list[str] = []
    try:
        for line in process.stderr:
            log.append(line)
            if "Listening at: http://127.0.0.1:" in line:
                break
        else:
            pytest.fail("".join(log))
        yield Gunicorn(int(line.rpartition(":")[2].split()[0].rstrip("/")))
        process.terminate()
        _, rest = process.communicate(timeout=30)
        assert process.returncode == 0, rest
        assert "Traceback" not in rest, rest
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "no-preload"])
@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_gunicorn_workers_agree(database_url: str, kind: str, preload: bool) -> None:
    options = ["--preload"] if preload else []
    threads = ["--threads=2"] if kind == "gthread" else []  # with threads, "sync" is made "gthread"
    app = "wsgi_app:create_app()"
    with gunicorn(database_url, f"--worker-class={kind}", *threads, *options, app) as service:
        one, two, three = service.workers()
        assert "analytics" in service.ask(one, "POST", "/enable/analytics")["enabled"]
        # The old failure: the next request reached another worker, and failed.
        assert service.ask(two, "POST", "/enable/report")["enabled"] == ["analytics", "report"]
        assert wait_until(lambda: service.ask(three)["enabled"] == ["analytics", "report"])
        assert service.ask(three, "POST", "/disable/report")["enabled"] == ["analytics"]
        assert service.ask(two, "POST", "/disable/analytics")["enabled"] == []
        for pid in (one, two, three):
            assert wait_until(lambda: service.ask(pid)["enabled"] == [])  # noqa: B023
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("UPDATE plugin_config SET status = 'enabled'")
        for pid in (one, two, three):
            assert wait_until(lambda: service.ask(pid)["enabled"] == ["analytics", "report"])  # noqa: B023
