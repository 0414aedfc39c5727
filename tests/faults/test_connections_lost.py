"""Connections are lost: a read is repeated once, a write never."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from databases import Connection
from methods import METHODS
from relay import Relay
from watching import sessions
from workers import wait_until

from plugin_store import PluginConfigRepository, StoreUnavailableError

READS = {name: call for name, call in METHODS.items() if name.startswith("get")}
END_WAITING = """SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'"""
WRITES = {name: call for name, call in METHODS.items() if name not in READS}


def test_callers_connection_is_unavailable_after_timeout(database_url: str, connection: Connection) -> None:
    with psycopg.connect(database_url, application_name="idle") as own:
        own.execute("SET idle_in_transaction_session_timeout = 500")
        store = PluginConfigRepository(own)
        version = store.save("analytics", "enabled").updated_at
        assert wait_until(lambda: sessions(connection, "idle") == [])
        for call in METHODS.values():
            with pytest.raises(StoreUnavailableError):
                call(store, version)
    assert PluginConfigRepository(connection).get_all() == []


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_read_is_repeated_once(database_url: str, connection: Connection, read: Callable[..., object]) -> None:
    with PluginConfigRepository.open(database_url) as store:
        expected = read(store, None)
        for times in (1, 2):
            with ThreadPoolExecutor(1) as thread, psycopg.connect(database_url) as blocker:
                blocker.execute("LOCK TABLE plugin_config")
                reading = thread.submit(read, store, None)
                for _ in range(times):
                    assert wait_until(lambda: connection.execute(END_WAITING).fetchall())
                if times == 2:
                    with pytest.raises(StoreUnavailableError, match="closed the connection"):
                        reading.result(timeout=20)
                blocker.rollback()
                if times == 1:
                    assert reading.result(timeout=20) == expected


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_write_is_not_repeated_when_answer_is_lost(
    database_url: str, connection: Connection, write: Callable[..., object]
) -> None:
    cut = threading.Event()

    def to_client(data: bytes) -> bytes:
        if cut.is_set() and b"C\0\0\0" in data:  # CommandComplete
            cut.clear()
            raise ConnectionResetError
        return data

    version = PluginConfigRepository(connection).save("analytics", "disabled").updated_at
    connection.execute("""
        CREATE TABLE writes (transaction xid8);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO writes VALUES (pg_current_xact_id()); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON plugin_config EXECUTE FUNCTION note()""")
    with Relay(database_url, to_client=to_client) as relay, PluginConfigRepository.open(relay.url) as store:
        cut.set()
        with pytest.raises(StoreUnavailableError):
            write(store, version)
        assert not cut.is_set()
    assert connection.execute("SELECT count(DISTINCT transaction) FROM writes").fetchone() == (1,)
