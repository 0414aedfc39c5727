"""The unit tests use no server and no database."""

import pytest


@pytest.fixture(scope="session")
def server() -> None:
    """Fail the test that asks for a server: it belongs to tests/integration."""
    pytest.fail("a unit test has no server: move the test to tests/integration")
