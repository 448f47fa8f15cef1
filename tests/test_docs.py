"""The examples in the docs run, their settings are accepted, and the messages they explain exist."""

from __future__ import annotations

import ast
import doctest
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from scrapy_chunkdl.settings.config import Config

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")])

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def python_in(page: Path) -> list[str]:
    """Return the blocks of Python of a page, but for those that are a dialogue."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in blocks if ">>>" not in block]


def settings_in(block: str) -> dict[str, Any]:
    """Return what a block assigns to names in capitals."""
    found = {}
    for node in ast.parse(block).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


@each_page
def test_its_python_is_python_and_its_settings_are_accepted(page: Path) -> None:
    for block in python_in(page):
        Config.read(settings_in(block))


@each_page
def test_its_dialogues_go_as_shown(page: Path) -> None:
    failed, _ = doctest.testfile(str(page), module_relative=False, encoding="utf-8")

    assert failed == 0


def test_some_settings_and_dialogues_are_checked() -> None:
    assert sum(bool(settings_in(block)) for page in PAGES for block in python_in(page)) > 10
    assert any(">>>" in page.read_text("utf-8") for page in PAGES)


def test_every_message_that_is_explained_is_in_the_code() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "scrapy_chunkdl").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a message over several lines
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    lines = re.findall(r"^`(.*)`\n: ", page, re.MULTILINE)
    messages = [message for line in lines for message in line.split("`, `")]

    assert len(messages) > 20
    assert [message for message in messages if message not in code] == []
