"""Who writes to a part file: its name, its folder, and the lock that keeps other downloads and processes away from it.

Blocks, and belongs into a thread. Knows names and locks; nothing of what is written.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

from scrapy_chunkdl.download.disk import platform
from scrapy_chunkdl.download.errors import Transient
from scrapy_chunkdl.text import naming

PART = ".part"
JOURNAL_OF_PART = ".journal"
JOURNAL = PART + JOURNAL_OF_PART
_MOST_OPENINGS = 100


class Busy(Transient):
    """Another live process, or another download of this one, holds the part file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is being written by another download", reason="busy")


def remove_leftovers(final: Path) -> None:
    """Remove the journal of a process killed right after it gave the file its name."""
    if not final.with_name(final.name + PART).exists():
        with suppress(OSError):  # litter at worst, and none as a rule
            final.with_name(final.name + JOURNAL).unlink()


def open_in_folder(final: Path) -> tuple[list[Path], Path, int]:
    """Open the part file of ``final``, in a folder made for it: others may remove it again while it is empty."""
    unsynced: list[Path] = []
    for _ in range(_MOST_OPENINGS):
        unsynced = list(map(Path, make_folder(os.fspath(final.parent)))) or unsynced
        if not unsynced and final.is_dir():  # now, not after the last byte
            raise IsADirectoryError(errno.EISDIR, f"{final.name} is a folder")
        with suppress(FileNotFoundError):
            return unsynced, *_take_part(final)
    raise FileNotFoundError(errno.ENOENT, f"the folder of {final.name} goes again and again")


def part_path(final: Path, piece: str = "") -> Path:
    """Return where the bytes of ``final`` are meanwhile; ``piece`` makes it one machine's or process's alone."""
    if not piece:
        return final.with_name(final.name + PART)
    name = final.name
    if len(f"{name}.{piece}".encode()) > naming.MOST_BYTES:
        name = naming.url_digest(name).partition(":")[2]
    return final.with_name(f"{name}.{piece}{PART}")


def journal_of(final: Path) -> Path:
    """Return the journal that goes on being written for ``final``: of the name that all share, or of this process's."""
    machine = platform.machine()
    found = (part_path(final, piece) for piece in ("", machine, f"{machine}-{os.getpid()}"))
    journals = [path.with_name(path.name + JOURNAL_OF_PART) for path in found]
    return next((journal for journal in journals if journal.exists()), journals[0])


def _take_part(final: Path) -> tuple[Path, int]:
    """Open the part file and see to it that nobody else writes to it.

    By a lock, where locks keep everybody away. Where they stay on this machine, others have files of their own; where
    there are none, each process has, and goes on with what a dead one of this machine left. Raises :class:`Busy`.
    """
    machine = platform.machine()
    reach = platform.locks_reach_everybody(final.parent.stat().st_dev)
    path = part_path(final, "" if reach else machine)
    fd, is_locked = _open_locked(path)
    if is_locked:
        return path, fd
    is_empty = os.fstat(fd).st_size == 0
    os.close(fd)
    if is_empty:
        with suppress(FileNotFoundError):
            os.unlink(path)
    path = part_path(final, f"{machine}-{os.getpid()}")
    with _held_lock:
        if path in _held:
            raise Busy(path)
        _held.add(path)
    try:
        if not path.exists():
            _adopt(final, machine, path)
        return path, platform.open_file(path)
    except BaseException:
        let_go(path)
        raise


_held: set[Path] = set()
"""Part files of this process that no lock protects from its other downloads."""

_held_lock = threading.Lock()


def let_go(path: Path) -> None:
    with _held_lock:
        _held.discard(path)


def _adopt(final: Path, machine: str, path: Path) -> None:
    """Take over what a process of this machine left that is no more. The rename decides who gets it."""
    begin = os.fspath(part_path(final, f"{machine}-")).removesuffix(PART)
    with os.scandir(final.parent) as entries:
        found = [entry.path for entry in entries if entry.path.startswith(begin) and entry.path.endswith(PART)]
    for other in found:
        pid = other.removeprefix(begin).removesuffix(PART)
        if not pid.isdigit() or platform.is_running(int(pid)):
            continue
        with suppress(FileNotFoundError):  # somebody was quicker; or there was no journal
            os.rename(other, path)
            os.rename(other + JOURNAL_OF_PART, f"{path}{JOURNAL_OF_PART}")
            return


def _open_locked(path: Path) -> tuple[int, bool]:
    """Open and lock; the lock goes with the process. Between opening and locking the file may have been published.

    Whether it is locked is told, too: there may be no locks. Raises :class:`Busy`, also where the name leads to another
    file each time: some network file systems give a file a new number whenever it is opened.
    """
    for _ in range(_MOST_OPENINGS):
        fd = platform.open_file(path)
        try:
            is_locked = platform.lock(fd)
            if not is_locked or os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd, is_locked
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(fd)
            raise Busy(path) from None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise Busy(path)


def make_folder(folder: str) -> list[str]:
    """Make a folder and those above it; return the ones whose names for them are not on disk yet."""
    above = os.path.dirname(folder) or os.curdir
    try:
        os.mkdir(folder)
    except FileExistsError:
        if os.path.islink(folder) and not os.path.exists(folder):  # a volume that is not mounted, say
            raise FileNotFoundError(errno.ENOENT, f"{folder} is a link that leads nowhere") from None
        return []
    except FileNotFoundError:
        if above == folder:  # this process stands in a folder that was removed
            raise
        made = make_folder(above)
        return [*make_folder(folder), *made]
    return [above]
