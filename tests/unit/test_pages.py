"""What the pages name exists. tests/system/test_pages.py runs what they show."""

import re

import pytest
from pages import ROOT, blocks, recipe_blocks, text_of

FOLDERS = (ROOT, *(ROOT / name for name in ("plugin_store", "sql", "migrations", "tests", "tests/benchmarks")))
PAGES = [str(page.relative_to(ROOT)) for folder in FOLDERS for page in sorted(folder.glob("*.md"))]
RECIPES = [path.read_text(encoding="utf-8") for path in (ROOT / "tests/system/recipes").rglob("*.py")]


def test_ci_runs_test_command_of_readme() -> None:
    (command,) = (block for block in blocks(text_of("README.md"), "sh") if "tox" in block)
    assert command in text_of(".ci/run")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        file, _, anchor = target.partition("#")
        if not file.startswith("https:"):
            linked = (ROOT / page).parent / file if file else ROOT / page
            assert linked.exists(), target
            if anchor:
                headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), flags=re.MULTILINE)
                assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", PAGES)
def test_files_and_tests_that_page_names_exist(page: str) -> None:
    for path, name in re.findall(r"`((?:plugin_store|sql|migrations|tests)/[\w./-]*)(?:::(\w+))?`", text_of(page)):
        assert (ROOT / path).exists(), path
        assert not name or f"def {name}(" in text_of(path), name


def test_readme_is_short() -> None:
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 160
    assert not [line for line in lines if len(line) > 100 and not line.startswith("|")]


def test_guide_recipes_are_parts_of_tested_programs() -> None:
    for block in recipe_blocks():
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        assert any(is_excerpt(lines, recipe) for recipe in RECIPES), block


def is_excerpt(lines: list[str], program: str) -> bool:
    """Return whether the program has these lines in this order. In the excerpt, ``...`` stands for more."""
    rest = iter(line.strip() for line in program.splitlines())
    return all(any(line.startswith(wanted.removesuffix("...").strip()) for line in rest) for wanted in lines)
