"""What README.md promises is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_the_table_of_settings_is_the_one_of_the_code() -> None:
    code = "import sys; sys.path.insert(0, 'docs'); import settings_table; print(settings_table.table(), end='')"

    table = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "CHUNKDL_STORE" in table
    assert table in README


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"\bmake ([\w-]+)", README)) <= targets


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_its_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text("utf-8")):
        assert (ROOT / link.partition("#")[0]).exists(), link


def test_the_chinese_one_has_the_same_commands_names_and_pages() -> None:
    english = README.partition("<!-- settings:")[0]  # the table is in the English one alone, and linked to
    chinese = (ROOT / "README.zh-CN.md").read_text("utf-8")

    assert told_by(chinese) == told_by(english)


def told_by(readme: str) -> dict[str, object]:
    """Return what must be the same in any language."""
    blocks = re.findall(r"^```(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    commands = [re.sub(r"#.*", "#", block) for block in blocks if "title" not in block]
    code = re.sub(r"^```.*?^```", "", readme, flags=re.MULTILINE | re.DOTALL)
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", readme)}
    return {
        "commands": commands,
        "names": set(re.findall(r"`([^`\n]+)`", code)),
        "links": links - {"README.md", "README.zh-CN.md"},
        "sections": len(re.findall(r"^## ", readme, re.MULTILINE)),
        "rows": len(re.findall(r"^\| ", readme, re.MULTILINE)),
    }


def test_every_reason_in_the_code_is_explained() -> None:
    explained = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "failures.md").read_text("utf-8")))
    internal = {"range_ignored", "remeasured"}  # never the reason a file is given up for

    code = "".join(path.read_text("utf-8") for path in (ROOT / "scrapy_chunkdl").rglob("*.py"))
    used = set(re.findall(r"reason\"?[=:] ?\"(\w+)\"", code))

    assert len(used) > 20
    assert used - internal <= explained
