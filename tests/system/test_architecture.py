"""What each module may import, what an import costs, and that what is public is described."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import plugin_store

PACKAGE = Path(plugin_store.__file__).parent

# Each module and those of this package that it may import. Nothing imports upwards: a store never sees a
# plugin, the manager never sees psycopg, and only the last part knows both.
CONTRACT = {
    "errors": "",
    "_fork": "",
    "stores": "errors _fork",
    "embedded": "errors",
    "events": "_fork",
    "listen": "errors stores",
    "testing": "errors stores",
    "decision": "stores",
    "references": "errors stores",
    "plugin": "errors stores references",
    "discovery": "plugin",
    "managed": "errors events plugin references stores decision",
    "restore": "errors events plugin stores decision managed",
    "manager": "errors _fork events plugin stores decision managed restore discovery",
    "sync": "errors _fork stores listen manager",
    "cli": "errors stores listen",
    "flask": "errors stores plugin manager sync cli",
    "sandbox": "errors embedded cli",
    "demo": "errors embedded flask cli",
}

# What may be imported from the package itself: within it, each name is imported from where it is. The demo is an
# example, and does as its reader will.
FROM_THE_PACKAGE = {"cli": {"__version__"}, "demo": set(plugin_store.__all__)}

# The other packages, and the modules that may import them.
OTHERS = {
    "psycopg": "stores listen cli sandbox demo",
    "psycopg_pool": "stores",
    "yoyo": "cli demo",
    "flask": "flask demo",
    "gunicorn": "demo",
    "click": "flask",
    "werkzeug": "flask",
    "pytest": "testing",
}

# Imports that wait until a function needs them, each with its reason.
LATE = {
    ("stores", "psycopg"): "masking a password needs no driver",
    ("stores", "psycopg_pool"): "the caller may bring a pool or a connection",
    ("cli", "yoyo"): "an extra",
    ("manager", "discovery"): "importlib.metadata, which it needs, is costly",
    ("references", "json"): "costly, and only needed when a config is refused",
    ("embedded", "pwd"): "not on Windows",
    ("cli", "stores"): "--help and wrong usage answer at once",
    ("cli", "sandbox"): "the same",
    ("cli", "demo"): "an extra",
    ("demo", "flask"): "asks whether the extra is there",
    ("demo", "psycopg"): "the same",
    ("demo", "gunicorn"): "the same",
    ("demo", "yoyo"): "the same",
}


class Import(NamedTuple):
    """An import statement: where it stands, what it imports, and when."""

    module: str
    target: str
    of_this_package: bool
    late: bool
    for_types_only: bool


def module_of(path: Path) -> str:
    """The module's name below plugin_store; all of a subpackage is one."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[Import]:
    module, depth = module_of(path), len(path.relative_to(PACKAGE).parts)

    def walk(node: ast.AST, late: bool, for_types_only: bool) -> Iterator[Import]:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = "" if node.level == 0 else "plugin_store" if node.level == depth else f"plugin_store.{module}"
            base = ".".join(filter(None, [start, node.module]))
            # `from . import x`: x is what is imported
            names = [f"{base}.{alias.name}" if base == "plugin_store" else base for alias in node.names]
        for name in names:
            top, _, rest = name.partition(".")
            ours = top == "plugin_store"
            yield Import(module, rest.partition(".")[0] if ours else top, ours, late, for_types_only)
        late = late or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        only_for_types = node.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" else []
        for child in ast.iter_child_nodes(node):
            yield from walk(child, late, for_types_only or child in only_for_types)

    return walk(ast.parse(path.read_bytes()), False, False)


MODULES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = [found for path in MODULES if module_of(path) != "__init__" for found in imports(path)]


def test_every_module_is_in_the_contract() -> None:
    assert {module_of(path) for path in MODULES} - {"__init__", "__main__"} <= set(CONTRACT)


def test_the_contract_has_no_cycle() -> None:
    above: set[str] = set()
    for module, allowed in reversed(CONTRACT.items()):
        above.add(module)
        assert not above & set(allowed.split()), module


def test_no_module_imports_what_the_contract_does_not_allow() -> None:
    allowed = {module: {module, *names.split()} for module, names in CONTRACT.items()} | {"__main__": {"cli"}}
    wrong = [
        f"{found.module} imports {found.target}"
        for found in IMPORTS
        if found.of_this_package
        and found.target not in allowed[found.module]
        and found.target not in FROM_THE_PACKAGE.get(found.module, ())
        and (found.module, found.target) not in LATE
    ]
    assert wrong == []


def test_only_these_modules_import_other_packages() -> None:
    wrong = [
        f"{found.module} imports {found.target}"
        for found in IMPORTS
        if not found.of_this_package
        and not found.for_types_only
        and found.target not in sys.stdlib_module_names
        and found.module not in OTHERS.get(found.target, "").split()
    ]
    assert wrong == []


def test_imports_inside_functions_are_those_that_have_a_reason() -> None:
    late = {(found.module, found.target) for found in IMPORTS if found.late and found.module != found.target}
    assert late == set(LATE)


def loaded_by(program: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after the program."""
    # not what coverage loads into each subprocess
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"],
        env=environment | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_else() -> None:
    assert loaded_by("import plugin_store") - loaded_by("pass") == {"plugin_store"}


def test_a_first_manager_loads_these_modules_and_no_driver() -> None:
    ours = (
        "_fork decision errors events managed manager plugin references restore stores stores.model stores.validation"
    )
    others = "contextlib dataclasses enum errno functools heapq importlib logging math os threading typing weakref"
    loaded = loaded_by("from plugin_store import PluginManager; PluginManager()")
    without = loaded_by(f"import __future__, {', '.join(others.split())}")
    assert loaded - without == {"plugin_store", *(f"plugin_store.{name}" for name in ours.split())}


def test_a_store_in_memory_loads_no_plugin_and_no_driver() -> None:
    loaded = loaded_by("from plugin_store import InMemoryPluginConfigStore")
    assert {name.partition(".")[2] for name in loaded if name.startswith("plugin_store.")} == {
        "_fork",
        "errors",
        "stores",
        "stores.memory",
        "stores.model",
        "stores.validation",
    }


def test_a_repository_loads_no_plugin() -> None:
    loaded = loaded_by("from plugin_store import PluginConfigRepository")
    assert "psycopg" in loaded
    assert {name for name in loaded if name.startswith(("plugin_store.plugin", "plugin_store.manage"))} == set()


def test_the_public_names_are_sorted_and_all_are_there() -> None:
    assert plugin_store.__all__ == sorted(plugin_store.__all__)
    assert set(plugin_store.__all__) <= set(dir(plugin_store))
    for name in plugin_store.__all__:
        public = getattr(plugin_store, name)
        assert public.__name__ == name
        assert public.__module__.startswith("plugin_store.")


def test_dir_lists_public_names_that_are_not_loaded_yet() -> None:
    program = "import plugin_store; assert set(plugin_store.__all__) < set(dir(plugin_store))"
    assert "plugin_store.manager" not in loaded_by(program)


def test_a_type_checker_sees_the_names_that_are_loaded_late() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_bytes())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(set(names) - {"annotations", "import_module", "TYPE_CHECKING"}) == plugin_store.__all__


def test_every_error_is_public() -> None:
    tree = ast.parse((PACKAGE / "errors.py").read_bytes())
    assert {node.name for node in tree.body if isinstance(node, ast.ClassDef)} <= set(plugin_store.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'plugin_store' has no attribute 'PluginManger'"):
        plugin_store.PluginManger  # noqa: B018  (a misspelling, on purpose)


def test_each_statement_file_is_loaded_and_each_loaded_statement_is_a_file() -> None:
    loaded = [
        ast.literal_eval(node.args[0])
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "load_statement"
    ]
    assert sorted(loaded) == sorted(path.stem for path in (PACKAGE / "sql").glob("*.sql"))


def undocumented(path: Path) -> Iterator[str]:
    """The public definitions without a docstring; a method may inherit one, and a test is its name."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    tree = ast.parse(path.read_bytes())
    if not ast.get_docstring(tree):
        yield name
    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in tree.body:
        if isinstance(node, definitions) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield f"{name}.{node.name}"
            for child in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(child, definitions) and not child.name.startswith(("_", "test_")):
                    owner = getattr(importlib.import_module(name), node.name)
                    if not inspect.getdoc(getattr(owner, child.name)):
                        yield f"{name}.{node.name}.{child.name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_all_that_is_public_has_a_docstring(path: Path) -> None:
    assert list(undocumented(path)) == []
