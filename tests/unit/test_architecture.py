"""What is public, how long modules are, and that each statement file has a user."""

import ast
from pathlib import Path

import pytest

import plugin_store

PACKAGE = Path(plugin_store.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_public_names_are_few_and_there() -> None:
    assert len(plugin_store.__all__) <= 25
    for name in plugin_store.__all__:
        assert getattr(plugin_store, name).__module__.startswith("plugin_store.")
    assert set(plugin_store.__all__) <= set(dir(plugin_store))
    with pytest.raises(AttributeError, match="module 'plugin_store' has no attribute 'PluginManger'"):
        plugin_store.PluginManger  # noqa: B018  # pyright: ignore


def test_each_statement_file_is_loaded() -> None:
    loaded = {
        ast.literal_eval(node.args[0])
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "load_statement"
    }
    assert loaded == {path.stem for path in (PACKAGE / "sql").glob("*.sql")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_short_and_documented(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 250 and ast.get_docstring(tree)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if (node.end_lineno or 0) - node.lineno > 40] == []
    definitions = [node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    public = [node for node in definitions if not node.name.startswith(("_", "do_"))]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
