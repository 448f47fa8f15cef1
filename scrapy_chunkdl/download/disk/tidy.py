"""What is left over in a folder of downloads: empty folders, and parts nobody will go on with. Blocking.

Knows names and locks; nothing of transfers.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from scrapy_chunkdl.download.disk import platform
from scrapy_chunkdl.download.disk.part_lock import JOURNAL, PART
from scrapy_chunkdl.services.thread import ServiceThread

logger = logging.getLogger(__name__)

ABANDONED_AFTER_S = 7 * 86400.0
"""Seconds after which a part nobody has locked is not gone on with any more."""

_MOST_ENTRIES = 200_000
"""Names looked at in one sweep: some seconds. Another sweep begins elsewhere."""

_COMPANIONS = (PART, JOURNAL, f"{JOURNAL}~")


def remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder below ``root`` in which nothing is left, and the one it is in."""
    for one in (folder, folder.parent):
        if one == root or not one.is_relative_to(root):
            return
        try:
            os.rmdir(one)
        except OSError:  # not empty, or gone
            return


def sweep(root: Path, stopped: Callable[[], bool] = lambda: False, now: float | None = None) -> int:
    """Remove parts and journals that were abandoned, with the folders that are empty then; return how many files.

    It looks at a bounded number of names, in a random order of folders, so that many starts get round a large store.
    """
    before = (time.time() if now is None else now) - ABANDONED_AFTER_S
    removed, looked, folders = 0, 0, [os.fspath(root)]
    while folders and looked < _MOST_ENTRIES and not stopped():
        folder = folders.pop()
        below, old = [], []
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                looked += 1
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                elif entry.name.endswith((*_COMPANIONS, platform.RECORD)):
                    old.append(Path(entry.path))
        random.shuffle(below)
        folders += below
        gone = sum(_remove_if_abandoned(path, before) for path in old)
        if gone or not (below or old):
            remove_empty(Path(folder), root)
        removed += gone
    return removed


class Sweep(ServiceThread):
    """Sweeps ``root`` once, in the background."""

    ends_within_s = 1.0
    """A folder of a network file system may take longer to list: it is left to that."""

    def __init__(self, root: Path) -> None:
        super().__init__("chunkdl-sweep")
        self._root = root

    def run(self) -> None:
        """Sweep, until it is done or stopped."""
        if removed := sweep(self._root, self.stopping.is_set):
            logger.info("Removed %d parts of files that nobody went on with for a week.", removed)


def _remove_if_abandoned(path: Path, before: float) -> bool:
    """Remove one file, if it is old and nobody's."""
    try:
        if path.stat().st_mtime > before:
            return False
        if path.name.endswith(platform.RECORD):
            if path.with_name(path.name[1:].removesuffix(platform.RECORD)).exists():
                return False
        elif not _is_free(path.with_name(path.name.partition(PART)[0] + PART)):
            return False
        path.unlink()
    except OSError:
        return False
    return True


def _is_free(part: Path) -> bool:
    """Tell whether nobody holds the part file; where there are no locks, its age has to do."""
    try:
        fd = os.open(part, os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return True
    try:
        platform.lock(fd)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
