"""The page of stats names every one that the code sets, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from scrapy_chunkdl.crawl import claimed

ROOT = Path(__file__).parent.parent
OF_ITEMS = "chunkdl/items/"
SETTERS = {"inc_value", "set_value", "max_value", "min_value"}


def in_the_code() -> Iterator[str]:
    names = []
    for path in (ROOT / "scrapy_chunkdl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SETTERS:
                names.append(_name(node.args[0]))
    yield from (name for name in names if name.startswith("chunkdl/"))  # others are Scrapy's own
    yield from (f"{OF_ITEMS}{row.stat}" for row in claimed.ROWS if row.stat is not None)


def _name(node: ast.expr) -> str:
    """Return a stat's name, with ``*`` for what is filled in when it runs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.JoinedStr), f"line {node.lineno}: not a literal, the page cannot be held to it"
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)


def on_the_page() -> set[str]:
    return set(re.findall(r"`(chunkdl/[^`]+)`", (ROOT / "docs" / "stats.md").read_text("utf-8")))


def test_every_stat_is_on_the_page() -> None:
    page = on_the_page()
    names = set(in_the_code()) - {f"{OF_ITEMS}*"}  # which are those of the table of a claimed item
    patterns = {name: re.compile(re.escape(name).replace(r"\*", "[^/]+") + "$") for name in names}

    assert {name for name, pattern in patterns.items() if not any(map(pattern.match, page))} == set()
    assert {name for name in page if not any(pattern.match(name) for pattern in patterns.values())} == set()


def test_what_is_filled_in_is_a_reason_or_a_status() -> None:
    assert {name.rpartition("*")[0] for name in in_the_code() if "*" in name} == {
        "chunkdl/failures/",
        "chunkdl/files/",
        "chunkdl/items/",
        "chunkdl/links/",
        "chunkdl/one_stream/",
        "chunkdl/postponed/",
        "chunkdl/retries/",
    }
