"""The client the behaviour tests fetch with, and file systems as small as a test wants them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fetching import Client
from lacking import take_away
from origin import Origin


@pytest.fixture(autouse=True)
def _lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run under what CHUNKDL_TEST_LACKS names: see lacking.py, and ``make test-lacking``."""
    if lacks := os.environ.get("CHUNKDL_TEST_LACKS"):
        take_away(monkeypatch, *lacks.split(","))


@pytest.fixture
def client(origin: Origin, tmp_path: Path) -> Client:
    return Client(tmp_path / "store", origin)


@pytest.fixture
def new_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system of a size such as ``256k``. Skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("needs the right to mount a small tmpfs")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
