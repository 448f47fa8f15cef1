"""Small file systems, mounted for a test: a full disk that is one. Skips where that is not allowed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KINDS = ("tmpfs", "ext4")


@contextmanager
def small_disk(folder: Path, kind: str, size: str) -> Iterator[Path]:
    """Mount a file system of a size such as ``4m`` at ``folder``, which is made; ``ext4`` is one in a file."""
    folder.mkdir()
    if kind == "tmpfs":
        commands = [["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]]
    else:
        image = str(folder) + ".img"
        commands = [
            ["truncate", "-s", size, image],
            ["mkfs.ext4", "-q", "-m", "0", image],
            ["mount", "-o", "loop", image, str(folder)],
        ]
    if os.geteuid() != 0 or not all(_works(command) for command in commands):
        pytest.skip(f"needs the right to mount a small {kind}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
