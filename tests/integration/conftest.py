"""What several tests with one server need."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from servers import Server


@pytest.fixture(scope="session")
def role(server: Server) -> Iterator[str]:
    """A role with the password ``test``. It may do what everyone may: a database with grants is not used again."""
    name = f"role_{uuid4().hex}"
    with psycopg.connect(server.url(server.maintenance_dbname), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'test'".encode())
        yield name
        connection.execute(f"DROP ROLE {name}".encode())
