"""The examples in plugin_store.testing run: the fixtures for services, and the contract for a store."""

import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import psycopg
import pytest
from programs import completed

import plugin_store.testing
import plugin_store.testing.fixtures

VARIABLE = "PLUGIN_STORE_TEST_DATABASE_URL"


def example(documented: object) -> str:
    """Return the program that a docstring shows, indented."""
    text = inspect.getdoc(documented) or ""
    return textwrap.dedent("".join(re.findall(r"^(?: {4}.*)?\n", text, re.M)))


def run_pytest(folder: Path, program: str, *arguments: str, **variables: str) -> str:
    (folder / "test_example.py").write_text(program)
    command = (sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_example.py")
    done = completed(*command, *arguments, cwd=folder, **{VARIABLE: ""} | variables)
    return done.stdout.splitlines()[-1] if done.returncode == 0 else done.stdout


def test_fixtures_run_on_an_embedded_server(tmp_path: Path) -> None:
    env = {"PGPASSWORD": "of another server", "PGPORT": "1"}
    assert "2 passed" in run_pytest(tmp_path, example(plugin_store.testing.fixtures), **env)


# The fixtures read the URL as services do.
@pytest.mark.parametrize(("arguments", "scheme"), [([], "postgresql"), (["-n", "2"], "\ufeffpostgresql+psycopg")])
def test_fixtures_run_on_a_given_server(server: Any, tmp_path: Path, arguments: list[str], scheme: str) -> None:
    program = example(plugin_store.testing.fixtures)
    again = """
def test_rows_of_the_last_test_are_gone(plugin_store_url):
    with PluginConfigRepository.open(plugin_store_url) as store:
        assert store.get_all() == []
"""
    url = server.url(server.maintenance_dbname)
    given = url.replace("postgresql", scheme, 1) + "\n"
    assert "3 passed" in run_pytest(tmp_path, program + again, *arguments, **{VARIABLE: given})
    with psycopg.connect(url) as connection:
        left = "SELECT datname FROM pg_database WHERE datname LIKE 'plugin\\_store\\_test\\_%'"
        assert connection.execute(left).fetchall() == []


def test_contract_runs_on_a_store_of_your_own(tmp_path: Path) -> None:
    program = "import pytest\nfrom plugin_store import InMemoryPluginConfigStore as MyStore\n"
    assert re.search(r"^\d\d+ passed", run_pytest(tmp_path, program + example(plugin_store.testing)))
    wrong = "class MyStore(MyStore):\n    def delete(self, plugin_name):\n        return 'perhaps'\n"
    failed = run_pytest(tmp_path, program + wrong + example(plugin_store.testing))
    assert "assert 'perhaps' is True" in failed  # pytest shows the values, as in tests of one's own
