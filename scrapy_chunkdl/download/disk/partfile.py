"""The file on disk while it is incomplete, and the one moment it gets its name.

``<name>.part`` holds the bytes, each at its place; ``<name>.part.journal`` says which of them are safe. The finished
name appears only whole: size checked, fsync, rename, fsync of the folder. Everything here blocks, and all but
:meth:`PartFile.write` belongs into a thread. Knows the disk; nothing of HTTP or asyncio.

Killed at any point, this is what the next process finds: before the first checkpoint a part file without a journal, or
with one that claims nothing, which starts afresh; later a journal that claims only what was synced before it was
written; after the rename the whole file, with at most a journal left over (:func:`remove_leftovers`).
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path

from scrapy_chunkdl.download.disk import journal, platform
from scrapy_chunkdl.download.disk.room import NO_RESERVE, Reserve
from scrapy_chunkdl.download.errors import NoRoom, Permanent, Transient
from scrapy_chunkdl.download.http.headers import Validator, parse_date
from scrapy_chunkdl.download.http.known import By, Known, Match, compare
from scrapy_chunkdl.download.plan.ranges import Range, Ranges
from scrapy_chunkdl.text import naming

PART = ".part"
_JOURNAL = ".journal"
JOURNAL = PART + _JOURNAL
_MOST_OPENINGS = 100
_WORTH_RESERVING = 1 << 18
"""Bytes a connection buffers: no more come at once."""


class Busy(Transient):
    """Another live process, or another download of this one, holds the part file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is being written by another download", reason="busy")


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of a finished file.

    ``url`` is None where nothing was recorded with the file; ``last_modified`` then is its own time of modification.
    ``stored_at`` is an HTTP date too: when it came to a store that records nothing else. ``date_is_strong`` as in
    :class:`~scrapy_chunkdl.download.http.headers.Validator`; a time of modification is. ``checksum`` is the one that is
    reported, ``more_checksums`` are what else was computed, with blanks between.
    """

    url: str | None
    size: int
    etag: str | None = None
    last_modified: str | None = None
    checksum: str | None = None
    stored_at: str | None = None
    date_is_strong: bool = False
    more_checksums: str | None = None

    def has_checksum(self, checksum: str) -> bool:
        """Tell whether the file is known to have a checksum, ``algorithm:hex``."""
        return checksum == self.checksum or checksum in (self.more_checksums or "").split()

    @property
    def validator(self) -> Validator:
        """What tells its version."""
        return Validator(self.etag, self.last_modified, self.date_is_strong)


def with_kept_url(record: Published) -> Published:
    """Return a record as it is written down: of a URL that may hold a secret, only the digest."""
    kept = naming.kept_url(record.url) if record.url is not None else None
    return record if kept == record.url else replace(record, url=kept)


def read_published(path: Path) -> Published | None:
    """Return what is known of the finished file at ``path``, or None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    try:
        record: Published | None = Published(**json.loads(platform.recall(path) or b"{}"))
    except (TypeError, ValueError):
        record = None
    if record is None or record.size != status.st_size:
        modified = formatdate(status.st_mtime, usegmt=True)
        return Published(url=None, size=status.st_size, last_modified=modified, date_is_strong=True)
    return record


def remove_leftovers(final: Path) -> None:
    """Remove the journal of a process killed right after it gave the file its name."""
    if not final.with_name(final.name + PART).exists():
        with suppress(OSError):  # litter at worst, and none as a rule
            final.with_name(final.name + JOURNAL).unlink()


@contextmanager
def _disk_errors(path: Path, *, reading: bool = False) -> Iterator[None]:
    """Turn OSError into errors that say what to do. The bytes that are there stay, and are resumed from."""
    try:
        yield
    except OSError as error:
        raise platform.disk_error(error, path, reading=reading) from error


class PartFile:
    """One incomplete file, locked for this download. Made by :meth:`open`.

    ``has_room`` says that the disk has set all of its bytes aside.
    """

    def __init__(self, final: Path, path: Path, fd: int, keep: Reserve = NO_RESERVE) -> None:
        self.final = final
        self.path = path
        self.done = Ranges()
        self.fresh_reason: str | None = None
        self.has_room = False
        self._keep = keep
        self._journal_path = path.with_name(path.name + _JOURNAL)
        self._fd = fd
        self._identity: journal.Identity | None = None
        self._writer: journal.JournalWriter | None = None
        self._lost: OSError | None = None
        self._unsynced: list[Path] = []
        self._folders: list[int] = []

    @classmethod
    def open(
        cls,
        final: Path,
        *,
        url: str,
        size: int | None,
        validator: Validator,
        journaled: bool = True,
        keep: Reserve = NO_RESERVE,
    ) -> PartFile:
        """Open and lock ``<final>.part``, with what an earlier run left of this very version in ``done``.

        ``size`` is in bytes, None if unknown. Space for it is reserved, ``keep`` is left free of the disk. Without
        ``journaled`` (a file so small that it is not worth it) nothing is resumed and nothing recorded. Raises
        :class:`Busy`, NoRoom, or Permanent with reason ``disk_full``, ``read_only`` or ``disk_error``.
        """
        path = part_path(final)
        with _disk_errors(path):
            unsynced, path, fd = _open_in_folder(final)
            part = cls(final, path, fd, keep)
        try:
            with _disk_errors(path):
                if journaled:
                    for folder in unsynced:
                        platform.sync_folder(folder)
                else:
                    part._unsynced = unsynced
                part._begin(url, size, validator, journaled, is_first=bool(unsynced))
        except BaseException as problem:
            if isinstance(problem, NoRoom) and not problem.needs_bytes:
                problem.needs_bytes = size or 0
            if isinstance(problem, Permanent):
                problem.bytes_done, problem.resumable = part.done.total, part.done.total > 0
                if not problem.resumable:
                    with suppress(OSError):  # an empty file, on a disk that is in trouble already
                        os.unlink(path)
            part.close()
            raise
        return part

    @property
    def is_resumable(self) -> bool:
        """Whether there is a journal, so that a later run goes on from what is safe."""
        return self._writer is not None

    def _begin(self, url: str, size: int | None, validator: Validator, journaled: bool, *, is_first: bool) -> None:
        if is_first and not journaled and self.size == 0:  # in a folder just made: there is nothing to be rid of
            self._reserve(size)
            return
        if size is None or not journaled:
            self._start_afresh(size)
            return
        self._identity = journal.Identity(naming.kept_url(url), size, validator)
        if self.size > 0 or self._journal_path.exists():
            try:
                self.done = self._resumable(self._identity)
            except journal.JournalError as problem:
                self.fresh_reason = f"{self.path} starts afresh: {problem}"
        if self.done.total:
            self.has_room = getattr(os.fstat(self._fd), "st_blocks", 0) * 512 >= size
        else:
            self._start_afresh(size)
        self._writer = journal.JournalWriter(self._journal_path, self._identity, self.done)

    def _resumable(self, now: journal.Identity) -> Ranges:
        before, done = journal.read(self._journal_path)
        if naming.kept_url(before.url) != now.url:  # older journals have the whole URL
            raise journal.JournalError("it is of another URL")
        known, answer = Known(By.FINISHED, before.size, before.validator), Known(By.GET, now.size, now.validator)
        if compare(known, answer) is not Match.SAME:
            raise journal.JournalError("the file has changed at its source, or has no validator to tell")
        if self.size != now.size:
            raise journal.JournalError("it does not have the size it was left with")
        return done

    def _start_afresh(self, size: int | None) -> None:
        """Empty the file. The old journal goes first: its claims must not outlive the bytes they are about."""
        self._drop_journal()
        self.done = Ranges()
        os.ftruncate(self._fd, 0)
        self._reserve(size)

    def _reserve(self, size: int | None) -> None:
        """Find out before the first byte whether there is room; what is so small finds out by its one write as soon."""
        if size and (size > _WORTH_RESERVING or self._identity is not None):
            self.has_room = platform.reserve(self._fd, size, self.path.parent, self._keep)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data`` at ``offset``. Called on the event loop: into the page cache this is a copy."""
        try:
            written = platform.write_at(self._fd, data, offset)
            while written < len(data):
                written += platform.write_at(self._fd, memoryview(data)[written:], offset + written)
        except OSError:
            with _disk_errors(self.path):
                raise

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes that were written, fewer at the end of the file; on the event loop no more than a few KiB.

        By the part's own file: where locks are mandatory (SMB), no other can be had.
        """
        with _disk_errors(self.path, reading=True):
            return platform.read_at(self._fd, size, offset)

    def checkpoint(self, ranges: list[Range]) -> None:
        """Make the bytes of ``ranges`` safe, then claim them in the journal: in this order, both synced."""
        with _disk_errors(self.path):
            self._sync(platform.sync_data)
            for start, stop in ranges:
                self.done.add(start, stop)
            if self._writer is not None:
                self._writer.append(ranges, self.done)

    def reset(self, size: int | None, validator: Validator, url: str | None = None) -> None:
        """Start afresh, for another version of the file. With a ``url`` it is journaled from now on."""
        with _disk_errors(self.path):
            known = self._identity.url if self._writer is not None and self._identity is not None else None
            known = naming.kept_url(url) if url is not None else known
            self._start_afresh(size)
            if known is not None and size is not None:
                self._identity = journal.Identity(known, size, validator)
                self._writer = journal.JournalWriter(self._journal_path, self._identity, ())

    def prepare(self, record: Published) -> None:
        """Note with the whole file what it is. Raises Permanent, reason ``size_mismatch``, if it has another size."""
        with _disk_errors(self.path):
            if self.size != record.size:
                raise Permanent(f"{self.path} has {self.size} bytes, not {record.size}", reason="size_mismatch")
            remember(self._fd, self.final, record)
            for folder in (self.final.parent, *self._unsynced):
                self._folders.append(platform.open_folder(folder))

    def publish(self) -> None:
        """Give the file its name, once it is prepared. The only step that waits for the disk; :meth:`close` follows."""
        with _disk_errors(self.path):
            self._sync(platform.sync_file)
            if not platform.can_rename_open_files():
                os.close(self._fd)
                self._fd = -1
            platform.replace(self.path, self.final)
            for folder in self._folders:
                platform.sync_opened_folder(folder)
            self._drop_own_journal()

    def _drop_own_journal(self) -> None:
        """Remove the journal of a file that has its name. What stays of it is litter, and removed another time."""
        # The lock went with the name: another process may have begun anew, with a journal that is not ours.
        with suppress(OSError):
            if self._writer is not None and self._writer.is_in_place():
                os.unlink(self._journal_path)
                platform.sync_folder(self.final.parent)

    @property
    def size(self) -> int:
        """Bytes from its first to its last, those that are still to come included."""
        return os.fstat(self._fd).st_size

    def truncate(self, size: int) -> None:
        """Cut the file to the bytes it has, once a file of unknown size has ended."""
        with _disk_errors(self.path):
            os.ftruncate(self._fd, size)

    def close(self) -> None:
        """Unlock; what is on disk stays for the next run."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for fd in (self._fd, *self._folders):
            if fd >= 0:
                os.close(fd)
        self._fd = -1
        self._folders.clear()
        _let_go(self.path)

    def discard(self) -> None:
        """Remove the part file and its journal, then unlock."""
        with _disk_errors(self.path):
            self._drop_journal()
            with suppress(FileNotFoundError):
                os.unlink(self.path)
        self.done = Ranges()
        self.close()

    def _sync(self, sync: Callable[[int], None]) -> None:
        """Have the bytes on disk. Once this failed it fails for good.

        Linux tells of pages it could not write once, then counts them as clean: the next call would succeed, and the
        journal claim bytes that are not there ("fsyncgate"; PostgreSQL stops for the same reason).
        """
        if self._lost is not None:
            raise self._lost
        try:
            sync(self._fd)
        except OSError as error:
            self._lost = error
            raise

    def _drop_journal(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        with suppress(FileNotFoundError):
            os.unlink(self._journal_path)
            platform.sync_folder(self.final.parent)
        with suppress(FileNotFoundError):
            os.unlink(f"{self._journal_path}{journal.TEMPORARY}")


def _open_in_folder(final: Path) -> tuple[list[Path], Path, int]:
    """Open the part file of ``final``, in a folder made for it: others may remove it again while it is empty."""
    unsynced: list[Path] = []
    for _ in range(_MOST_OPENINGS):
        unsynced = make_folder(final.parent) or unsynced
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
        _let_go(path)
        raise


_held: set[Path] = set()
"""Part files of this process that no lock protects from its other downloads."""

_held_lock = threading.Lock()


def _let_go(path: Path) -> None:
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
            os.rename(other + _JOURNAL, f"{path}{_JOURNAL}")
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


def remember(fd: int, final: Path, record: Published) -> None:
    """Keep the record with the file, and the time of its version as its own, as curl -R and wget do."""
    if (modified := parse_date(record.last_modified)) is not None:
        with suppress(OSError, OverflowError):  # not every file system takes every time
            os.utime(fd, (modified.timestamp(), modified.timestamp()))
    kept = with_kept_url(record)
    fields = {name: getattr(kept, name) for name in Published.__slots__}  # asdict takes 50 µs
    platform.remember(fd, final, json.dumps(fields).encode())


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; return the ones whose names for them are not on disk yet."""
    try:
        folder.mkdir()
    except FileExistsError:
        return []
    except FileNotFoundError:
        above = make_folder(folder.parent)
        return [*make_folder(folder), *above]
    return [folder.parent]
