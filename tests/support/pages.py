"""The pages of the project, and the programs and commands that they show."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks in this language, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def recipe_blocks() -> list[str]:
    section = text_of("plugin_store/README.md").split("## Recipes")[1].split("\n## ")[0]
    return blocks(section, "python")
