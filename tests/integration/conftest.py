"""What several tests with one server need."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from databases import Connection
from servers import Server
from workers import wait_until


@pytest.fixture(scope="session")
def role(server: Server) -> Iterator[str]:
    """A role with the password ``test``. It may do what everyone may: a database with grants is not used again."""
    name = f"role_{uuid4().hex}"
    with psycopg.connect(server.url(server.maintenance_dbname), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'test'".encode())
        yield name
        connection.execute(f"DROP ROLE {name}".encode())


@pytest.fixture
def until_waiting(connection: Connection) -> Callable[[int], None]:
    """A function that returns when so many sessions of the test's database wait for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def until_waiting(count: int) -> None:
        assert wait_until(lambda: connection.execute(query).fetchone() == (count,))

    return until_waiting
