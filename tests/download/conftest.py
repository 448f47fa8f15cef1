"""The client the behaviour tests fetch with, and file systems as small as a test wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fetching import Client
from lacking import take_away, taken_away
from origin import Origin
from small_disks import small_disk


@pytest.fixture(autouse=True)
def _lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run under what CHUNKDL_TEST_LACKS names: see lacking.py, and ``make test-lacking``."""
    take_away(monkeypatch, *taken_away())


@pytest.fixture
def client(origin: Origin, tmp_path: Path) -> Client:
    return Client(tmp_path / "store", origin)


@pytest.fixture
def new_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system of a size such as ``256k``. Skips where that is not allowed."""
    with ExitStack() as stack:
        yield lambda size: stack.enter_context(small_disk(tmp_path / "disk", "tmpfs", size))
