"""What is made before a fork works in parent and child, each on connections and threads of its own."""

import os

import pytest
from programs import output_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
# C code such as uWSGI's runs none of the hooks that Python has for a fork.
each_fork = pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"], ids=["Python", "C"])

PREAMBLE = """
import ctypes, logging, os, signal, sys, threading
import psycopg
from psycopg_pool import ConnectionPool
from recorder import Recorder, Service, started
from workers import wait_until
from plugin_store import InMemoryPluginConfigStore, PluginConfigRepository, PluginWatcher, StoreUnavailableError

url = os.environ["DATABASE_URL"]

def say(*what):
    "Print a line at once and whole: parent and child may print at the same time."
    sys.stdout.write(" ".join(map(str, what)) + "\\n")
    sys.stdout.flush()

def wait_for(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child failed"

def sessions():
    "Return the server's process ids of the repositories' sessions."
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'plugin_store' AND datname = current_database()"
    with psycopg.connect(url) as connection:
        return {pid for (pid,) in connection.execute(query)}

def error_of(function):
    try:
        function()
    except StoreUnavailableError as exc:
        return str(exc)
"""


def run(program: str, url: str, fork: str = "os.fork", before: str = "") -> list[str]:
    return output_of(PREAMBLE, f"fork = {fork}", before, program, DATABASE_URL=url)


# -- stores ---------------------------------------------------------------------------------------


@each_fork
@pytest.mark.parametrize("child", ["use()", "use(); sys.exit(0)", "use(); os._exit(0)", "del repository"])
def test_own_pool_connects_anew_in_child(database_url: str, fork: str, child: str) -> None:
    program = f"""
    def use():
        repository.save("child", "enabled")
        assert len(sessions() - mine) == 1
        if (grandchild := fork()) == 0:
            repository.get_all()
            assert len(sessions() - mine) == 2
            os._exit(threading.active_count() - 1)  # a server that forks in C may run no other thread
        wait_for(grandchild)

    repository = PluginConfigRepository.open(url, max_size=1)
    mine = sessions()
    if (child := fork()) == 0:
        {child}
    else:
        wait_for(child)
        repository.save("parent", "enabled")
        assert wait_until(lambda: sessions() == mine), "the child ended the parent's session"
        say(*[row.plugin_name for row in repository.get_all()])
    """
    assert run(program, database_url, fork) == ["child parent" if "use" in child else "parent"]


@each_fork
def test_own_pool_works_when_forked_during_call(database_url: str, fork: str) -> None:
    program = """
    def read(who):
        thread = threading.Thread(target=lambda: say(who, repository.get_by_name("a").plugin_name))
        thread.start()
        return thread

    def waiting():
        return watch.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()

    repository = PluginConfigRepository.open(url, max_size=1)
    repository.save("a", "enabled")
    watch, blocker = psycopg.connect(url, autocommit=True), psycopg.connect(url)
    blocker.execute("LOCK TABLE plugin_config")
    thread = read("parent")
    assert wait_until(lambda: waiting() == (1,))
    if (child := fork()) == 0:
        read("child").join(30)
        os._exit(0)
    assert wait_until(lambda: waiting() == (2,))
    blocker.rollback()
    wait_for(child)
    thread.join(30)
    watch.close()
    blocker.close()
    """
    assert sorted(run(program, database_url, fork)) == ["child a", "parent a"]


@each_fork
def test_child_cannot_leave_parents_transaction(database_url: str, fork: str) -> None:
    program = """
    def change():
        with repository.transaction() as inside:
            inside.save("a", "enabled")
            global child
            if (child := fork()) == 0:
                say(error_of(inside.get_all))

    repository = PluginConfigRepository.open(url, max_size=1)
    error = error_of(change)
    if child == 0:
        say(error)
        os._exit(0)
    wait_for(child)
    say(error, len(repository.get_all()))
    """
    connection, transaction, parent = run(program, database_url, fork)
    assert connection.startswith("this process is a fork, and the connection belongs to its parent")
    assert transaction.startswith("this process is a fork, and the transaction belongs to its parent")
    assert parent == "None 1"


@each_fork
@pytest.mark.parametrize(
    "made", ["ConnectionPool(url, min_size=1, open=True)", "ConnectionPool(url, open=False)", "psycopg.connect(url)"]
)
def test_given_pool_or_connection_is_refused_in_child(database_url: str, fork: str, made: str) -> None:
    program = f"""
    with {made} as given:
        repository = PluginConfigRepository(given)
        if (child := fork()) == 0:
            say(error_of(repository.get_all))
            os._exit(0)
        wait_for(child)
        say(repository.get_all())
    """
    refused, rows = run(program, database_url, fork)
    assert "and the repository after the fork" in refused
    assert rows == "[]"


@each_fork
def test_memory_store_works_in_child(database_url: str, fork: str) -> None:
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
    assert run(program, database_url, fork) == []


# -- managers -------------------------------------------------------------------------------------


@each_fork
@pytest.mark.parametrize(
    "waits", ['a.then["on_enable"] = wait', 'manager.event_dispatcher.add_listener("plugin.enabled", wait)']
)
def test_child_may_change_plugins(database_url: str, fork: str, waits: str) -> None:
    program = f"""
    def wait(*args):
        entered.set()
        assert goes_on.wait(30)

    entered, goes_on = threading.Event(), threading.Event()
    manager = started(None, a := Recorder("a"), Recorder("b"))
    {waits}
    thread = threading.Thread(target=manager.enable_plugin, args=["a"])
    thread.start()
    assert entered.wait(30)
    if (child := fork()) == 0:
        signal.alarm(20)  # a lock that is held for ever ends the child
        a.then.clear()
        manager.event_dispatcher.remove_listener("plugin.enabled", wait)
        manager.event_dispatcher.add_listener("plugin.enabled", lambda event: say(event.data["plugin_name"]))
        manager.enable_plugin("b")
        manager.disable_plugin("b")
        os._exit(0 if manager.store.get_by_name("b").status == "disabled" else 3)
    wait_for(child)
    goes_on.set()
    thread.join(30)
    say(manager.is_enabled("a"), manager.is_enabled("b"))
    """
    assert run(program, database_url, fork) == ["b", "True False"]


# -- watchers -------------------------------------------------------------------------------------

FOLLOW = """
def follows(name, who):
    "Say whether a change of the store reaches this process."
    say(who, name, wait_until(lambda: name in service.enabled))

def watchers():
    return sum(thread.name == "plugin-watcher" for thread in threading.enumerate())

def start():
    watcher.start()
    assert wait_until(lambda: watcher.healthy), watcher.problem

repository = PluginConfigRepository.open(url)
service = Service(repository, {"a": (), "b": (), "c": ()})
watcher = PluginWatcher(service.manager, url)
"""


@pytest.mark.parametrize("end", ["pass", "sys.exit(0)", "os._exit(0)"])
def test_watcher_runs_in_parent_and_child(database_url: str, end: str) -> None:
    program = f"""
    start()
    if (child := fork()) == 0:
        repository.save("a", "enabled")
        follows("a", "child")
        service.manager.enable_plugin("b")
        assert watchers() == 1
        {end}
    else:
        follows("a", "parent")
        follows("b", "parent")
        wait_for(child)
        repository.save("c", "enabled")
        follows("c", "parent")
    """
    lines = sorted(run(program, database_url, before=FOLLOW))
    assert lines == ["child a True", "parent a True", "parent b True", "parent c True"]


@pytest.mark.parametrize("before", ["start()", ""])
def test_child_may_stop_and_start_its_watcher(database_url: str, before: str) -> None:
    program = f"""
    {before}
    if (child := fork()) == 0:
        watcher.stop()
        say(watcher.healthy, watchers())
        watcher.start()
        repository.save("a", "enabled")
        follows("a", "child")
    else:
        wait_for(child)
        say(watchers())
        watcher.start()
        repository.save("b", "enabled")
        follows("b", "parent")
    """
    lines = run(program, database_url, before=FOLLOW)
    assert lines == ["False 0", "child a True", "1" if before else "0", "parent b True"]


def test_watcher_says_what_to_set_when_forked_in_c(database_url: str) -> None:
    program = """
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    start()
    if (child := fork()) == 0:
        say(watcher.healthy, watcher.healthy, "py-call-uwsgi-fork-hooks" in watcher.problem)
        watcher.stop()
        start()
        os._exit(0)
    wait_for(child)
    repository.save("a", "enabled")
    follows("a", "parent")
    """
    advice, *rest = run(program, database_url, "ctypes.PyDLL(None).fork", FOLLOW)
    assert "set lazy-apps or py-call-uwsgi-fork-hooks" in advice
    assert rest == ["False False True", "parent a True"]
