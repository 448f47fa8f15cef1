"""A disk that loses what was not synced: what a process does to a folder, up to any step, and what is found afterwards.

Every call that changes the disk is a step. A :class:`FailingDisk` lets so many of them happen, then nothing any more,
as when the process is killed or the power fails. What a disk may hold then is up to it (POSIX promises no more):

- of a file, what was there at its last fsync or fdatasync; of what was written since, all, nothing, or any blocks;
- of the names in a folder, those at its last fsync, or the present ones.

Folders are flat. Only the calls of ``os`` that the part file makes are known.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scrapy_chunkdl.download.disk import platform

BLOCK = 512
STEPS = (
    "ftruncate",
    "pwrite",
    "write",
    "fdatasync",
    "fsync",
    "replace",
    "unlink",
    "setxattr",
    "utime",
)


class PowerLoss(BaseException):
    """The machine stopped. Not an Exception: nothing can be done about it."""


@dataclass
class Left:
    """What is on the disk when everything has stopped: files by inode, names by folder."""

    written: dict[int, bytes]
    synced: dict[int, bytes]
    names: dict[str, int]
    synced_names: dict[str, int]

    def put(self, folder: Path, *, keep: str, keep_names: bool, seed: int = 0) -> None:
        """Make ``folder`` what the disk may hold: of unsynced bytes ``all``, ``none`` or ``some`` blocks."""
        folder.mkdir(parents=True)
        chance = random.Random(seed)
        for name, inode in (self.names if keep_names else self.synced_names).items():
            written, synced = self.written[inode], self.synced.get(inode, b"")
            found = {"all": written, "none": synced, "some": some_blocks(synced, written, chance)}
            (folder / name).write_bytes(found[keep])


def some_blocks(synced: bytes, written: bytes, chance: random.Random) -> bytes:
    size = chance.randint(*sorted((len(synced), len(written))))
    blocks = []
    for start in range(0, size, BLOCK):
        source = chance.choice((synced, written))
        blocks.append(source[start : start + BLOCK].ljust(BLOCK, b"\0"))
    return b"".join(blocks)[:size]


@dataclass
class FailingDisk:
    """Watches one folder and stops at step ``stop_at`` (counted from 0), in the middle of it if it is a write."""

    folder: Path
    stop_at: int
    steps: list[str] = field(default_factory=list)
    left: Left | None = None
    _synced: dict[int, bytes] = field(default_factory=dict)
    _synced_names: dict[str, int] = field(default_factory=dict)
    _lost: list[int] = field(default_factory=list)
    _unlinked: dict[int, bytes] = field(default_factory=dict)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put every step under watch; what is in the folder now counts as synced."""
        for path in self.folder.iterdir():
            self._synced[path.stat().st_ino] = path.read_bytes()
        self._synced_names = self._names()
        for name in STEPS:
            patch.setattr(os, name, self._watched(name, getattr(os, name)))
        patch.setattr(platform, "_fallocate", self._watched("fallocate", platform._fallocate))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            if self.left is not None:
                raise PowerLoss
            if len(self.steps) == self.stop_at:
                if name == "pwrite":
                    call(args[0], args[1][: len(args[1]) // 2], *args[2:])
                elif name == "write":
                    call(args[0], args[1][: len(args[1]) // 2])
                self.stop()
                raise PowerLoss
            self.steps.append(name)
            if name in ("replace", "unlink"):
                self._keep_for_folder(Path(args[-1]))
            result = call(*args, **options)
            if name in ("fsync", "fdatasync"):
                self._note_synced(args[0])
            return result

        return step

    def _keep_for_folder(self, path: Path) -> None:
        """Remember a file that is about to lose its name: until the folder is synced, the name may come back."""
        if path.exists():
            self._unlinked[path.stat().st_ino] = path.read_bytes()
            self._lost.append(os.open(path, os.O_RDONLY))  # its inode number must not be given to another file

    def _note_synced(self, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        if inode == self.folder.stat().st_ino:
            self._synced_names = self._names()
        else:
            self._synced[inode] = Path(f"/proc/self/fd/{fd}").read_bytes()

    def _names(self) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in self.folder.iterdir()}

    def stop(self) -> None:
        """Stop here, if not before."""
        written = {path.stat().st_ino: path.read_bytes() for path in self.folder.iterdir()}
        self.left = Left(self._unlinked | written, self._synced, self._names(), self._synced_names)

    def close(self) -> None:
        """Let go of the files that lost their names."""
        while self._lost:
            os.close(self._lost.pop())
