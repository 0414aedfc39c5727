"""A store in processes that were forked: by Python, by C code, within calls of other threads, and more than once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import ctypes, os, sys, threading
from psycopg_pool import ConnectionPool
import psycopg
from plugin_store import InMemoryPluginConfigStore, PluginConfigRepository, StoreUnavailableError

url = sys.argv[1]
fork = ctypes.PyDLL(None).fork if sys.argv[2] == "C" else os.fork

def session(repository):
    "The process id of the server process that the repository uses."
    with repository.transaction() as inside, inside._connections.cursor() as cursor:
        return cursor.connection.info.backend_pid

def wait_for(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child failed"

def error_of(function):
    try:
        function()
    except StoreUnavailableError as exc:
        return str(exc)
"""
each_fork = pytest.mark.parametrize("how", ["Python", "C"])


def run(program: str, url: str, how: str) -> list[str]:
    """Run a program in a fresh interpreter, in which nothing may be printed to stderr; return its lines."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + textwrap.dedent(program), url, how],
        env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


@each_fork
@pytest.mark.parametrize("end", ["pass", "sys.exit(0)", "os._exit(0)"])
def test_own_pool_connects_anew_in_child(database_url: str, how: str, end: str) -> None:
    program = f"""
    with PluginConfigRepository.open(url, max_size=1) as repository:
        mine = session(repository)
        if (child := fork()) == 0:
            repository.save("child", "enabled")
            assert session(repository) != mine
            {end}
        else:
            wait_for(child)
            repository.save("parent", "enabled")
            assert session(repository) == mine, "the child ended the parent's session"
            print(*[row.plugin_name for row in repository.get_all()])
    """
    assert run(program, database_url, how) == ["child parent"]


@each_fork
def test_unused_repository_in_child_leaves_parents_session(database_url: str, how: str) -> None:
    program = """
    repository = PluginConfigRepository.open(url, max_size=1)
    mine = session(repository)
    if (child := fork()) == 0:
        del repository
    else:
        wait_for(child)
        assert session(repository) == mine
    """
    assert run(program, database_url, how) == []


@each_fork
def test_each_generation_has_sessions_of_its_own(database_url: str, how: str) -> None:
    program = """
    repository = PluginConfigRepository.open(url, max_size=1)
    seen = []

    def generation(number):
        mine = session(repository)
        assert mine not in seen, "an ancestor's session"
        seen.append(mine)
        if number < 4:
            if (child := fork()) == 0:
                return generation(number + 1)
            wait_for(child)
            assert session(repository) == mine
        print(number, flush=True)

    generation(1)
    """
    assert run(program, database_url, how) == ["4", "3", "2", "1"]


@each_fork
def test_fork_during_another_threads_call(database_url: str, how: str) -> None:
    program = """
    import time
    repository = PluginConfigRepository.open(url, max_size=1)
    repository.save("a", "enabled")
    blocker = psycopg.connect(url)
    blocker.execute("LOCK TABLE plugin_config")
    thread = threading.Thread(target=lambda: print("parent", repository.get_by_name("a").plugin_name))
    thread.start()
    watch = psycopg.connect(url, autocommit=True)
    while not watch.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
        time.sleep(0.01)
    if (child := fork()) == 0:
        blocked = threading.Thread(target=lambda: print("child", repository.get_by_name("a").plugin_name, flush=True))
        blocked.start()
        blocked.join(30)
        os._exit(0)
    while watch.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (2,):
        time.sleep(0.01)
    blocker.rollback()
    wait_for(child)
    thread.join(30)
    """
    assert sorted(run(program, database_url, how)) == ["child a", "parent a"]


@each_fork
def test_child_cannot_leave_parents_transaction(database_url: str, how: str) -> None:
    program = """
    repository = PluginConfigRepository.open(url, max_size=1)
    child = None
    try:
        with repository.transaction() as inside:
            inside.save("a", "enabled")
            if (child := fork()) == 0:
                print(error_of(inside.get_all), flush=True)
    except StoreUnavailableError as exc:
        print(exc, flush=True)
    if child == 0:
        os._exit(0)
    wait_for(child)
    print(len(repository.get_all()))
    """
    connection, transaction, rows = run(program, database_url, how)
    assert connection.startswith("the connection belongs to the process that this one was forked from")
    assert transaction.startswith("the transaction belongs to the process that this one was forked from")
    assert rows == "1"


@each_fork
@pytest.mark.parametrize(
    "made", ["ConnectionPool(url, min_size=1, open=True)", "ConnectionPool(url, open=False)", "psycopg.connect(url)"]
)
def test_given_pool_or_connection_is_refused_in_child(database_url: str, how: str, made: str) -> None:
    program = f"""
    with {made} as given:
        repository = PluginConfigRepository(given)
        if (child := fork()) == 0:
            print(error_of(repository.get_all), flush=True)
            os._exit(0)
        wait_for(child)
        print(repository.get_all())
    """
    refused, rows = run(program, database_url, how)
    assert "make the pool and the repository after the fork" in refused.replace("connection and", "pool and")
    assert rows == "[]"


@each_fork
def test_memory_store_works_in_child(database_url: str, how: str) -> None:
    program = """
    class Name(str):
        def __hash__(self):
            held.set()
            asked.wait(30)
            return super().__hash__()

    held, asked = threading.Event(), threading.Event()
    store = InMemoryPluginConfigStore()
    thread = threading.Thread(target=store.save, args=[Name("a"), "enabled"])
    thread.start()
    held.wait(30)  # the thread holds the store's lock
    if (child := fork()) == 0:
        store.save("b", "enabled")
        os._exit(0)
    asked.set()
    wait_for(child)
    thread.join(30)
    """
    assert run(program, database_url, how) == []


def test_open_repository_is_closed_at_exit(database_url: str) -> None:
    program = """
    import atexit
    repository = PluginConfigRepository.open(url)
    atexit.register(lambda: print(repository.get_all()))  # runs before the repository is closed
    """
    assert run(program, database_url, "Python") == ["[]"]


def test_child_of_c_fork_starts_no_thread(database_url: str) -> None:
    program = """
    with PluginConfigRepository.open(url) as repository:
        repository.save("parent", "enabled")
        before = threading.active_count()
        if (child := fork()) == 0:
            repository.save("child", "enabled")
            os._exit(len(os.listdir("/proc/self/task")) - 1)
        wait_for(child)
        print(before > 1)
    """
    assert run(program, database_url, "C") == ["True"]  # a thread limits the parent's calls
