"""What importing costs."""

import pytest
from programs import output_of


def loaded_by(program: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after the program."""
    return set(output_of(program, "import sys; print(*sys.modules)")[-1].split())


def test_import_loads_one_module() -> None:
    loaded = {name for name in loaded_by("import plugin_store") if name.startswith("plugin_store")}
    assert loaded == {"plugin_store"}


def test_help_loads_no_driver() -> None:
    loaded = loaded_by("from plugin_store.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass")
    assert not loaded & {"psycopg", "yoyo", "flask", "difflib"}


@pytest.mark.parametrize("name", ["PluginManager", "InMemoryPluginConfigStore", "EventDispatcher", "StoreError"])
def test_public_name_loads_nothing_slow(name: str) -> None:
    loaded = loaded_by(f"from plugin_store import {name}; {name}()")
    assert not loaded & {"psycopg", "psycopg_pool", "yoyo", "flask", "importlib.metadata"}
