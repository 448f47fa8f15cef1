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
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"\bmake (\w+)", README)) <= targets


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_its_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text("utf-8")):
        assert (ROOT / link.partition("#")[0]).exists(), link


def test_every_reason_in_the_code_is_explained() -> None:
    explained = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "failures.md").read_text("utf-8")))
    internal = {"range_ignored", "remeasured"}  # never the reason a file is given up for

    code = "".join(path.read_text("utf-8") for path in (ROOT / "scrapy_chunkdl").rglob("*.py"))
    used = set(re.findall(r"reason\"?[=:] ?\"(\w+)\"", code))

    assert len(used) > 20
    assert used - internal <= explained
