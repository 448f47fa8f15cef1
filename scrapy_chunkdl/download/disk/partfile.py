"""The file on disk while it is incomplete, and the one moment it gets its name.

``<name>.part`` holds the bytes, each at its place; ``<name>.part.journal`` says which of them are safe. The finished
name appears only whole: size checked, fsync, rename, fsync of the folder. Everything here blocks, and all but
:meth:`PartFile.write` belongs into a thread. Knows the disk; nothing of HTTP or asyncio.

Killed at any point, this is what the next process finds: before the first checkpoint a part file without a journal, or
with one that claims nothing, which starts afresh; later a journal that claims only what was synced before it was
written; after the rename the whole file, with at most a journal left over (``part_lock.remove_leftovers``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from scrapy_chunkdl.download.disk import journal, platform
from scrapy_chunkdl.download.disk.part_lock import JOURNAL_OF_PART, let_go, open_in_folder, part_path
from scrapy_chunkdl.download.disk.platform import disk_errors
from scrapy_chunkdl.download.disk.record import Published, remember
from scrapy_chunkdl.download.disk.room import NO_RESERVE, Reserve
from scrapy_chunkdl.download.disk.sums import Sums
from scrapy_chunkdl.download.errors import NoRoom, Permanent
from scrapy_chunkdl.download.http.headers import Validator
from scrapy_chunkdl.download.known import By, Known, Match, compare
from scrapy_chunkdl.download.plan.ranges import Range, Ranges
from scrapy_chunkdl.text import naming

_WORTH_RESERVING = 1 << 18
"""Bytes a connection buffers: no more come at once."""


class PartFile:
    """One incomplete file, locked for this download. Made by :meth:`open`.

    ``has_room`` says that the disk has set all of its bytes aside. ``sums`` see all that is written.
    """

    def __init__(self, final: Path, path: Path, fd: int, keep: Reserve = NO_RESERVE) -> None:
        self.final = final
        self.path = path
        self.done = Ranges()
        self.fresh_reason: str | None = None
        self.has_room = False
        self.sums: Sums | None = None
        self._keep = keep
        self._journal_path = path.with_name(path.name + JOURNAL_OF_PART)
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
        ``part_lock.Busy``, NoRoom, or Permanent with reason ``disk_full``, ``read_only`` or ``disk_error``.
        """
        path = part_path(final)
        with disk_errors(path):
            unsynced, path, fd = open_in_folder(final)
            part = cls(final, path, fd, keep)
        try:
            with disk_errors(path):
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
        if self.sums is not None:
            self.sums.forget()
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
            with disk_errors(self.path):
                raise
        if self.sums is not None:
            self.sums.wrote(offset, data)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes that were written, fewer at the end of the file; on the event loop no more than a few KiB.

        By the part's own file: where locks are mandatory (SMB), no other can be had.
        """
        with disk_errors(self.path, reading=True):
            return platform.read_at(self._fd, size, offset)

    def checkpoint(self, ranges: list[Range]) -> None:
        """Make the bytes of ``ranges`` safe, then claim them in the journal: in this order, both synced."""
        with disk_errors(self.path):
            self._sync(platform.sync_data)
            for start, stop in ranges:
                self.done.add(start, stop)
            if self._writer is not None:
                self._writer.append(ranges, self.done)

    def undo(self, ranges: list[Range], size: int) -> None:
        """Have all bytes of a file of ``size`` count as done but those of ``ranges``, which were wrong."""
        with disk_errors(self.path):
            self.done = Ranges(Ranges(ranges).missing(0, size))
            if self._writer is not None:
                self._writer.rewrite(self.done)

    def reset(self, size: int | None, validator: Validator, url: str | None = None) -> None:
        """Start afresh, for another version of the file. With a ``url`` it is journaled from now on."""
        with disk_errors(self.path):
            known = self._identity.url if self._writer is not None and self._identity is not None else None
            known = naming.kept_url(url) if url is not None else known
            self._start_afresh(size)
            if known is not None and size is not None:
                self._identity = journal.Identity(known, size, validator)
                self._writer = journal.JournalWriter(self._journal_path, self._identity, ())

    def prepare(self, record: Published) -> None:
        """Note with the whole file what it is. Raises Permanent, reason ``size_mismatch``, if it has another size."""
        with disk_errors(self.path):
            if self.size != record.size:
                raise Permanent(f"{self.path} has {self.size} bytes, not {record.size}", reason="size_mismatch")
            self._refuse_if_replaced()
            remember(self._fd, self.final, record)
            for folder in (self.final.parent, *self._unsynced):
                self._folders.append(platform.open_folder(folder))

    def publish(self) -> None:
        """Give the file its name, once it is prepared. The only step that waits for the disk; :meth:`close` follows."""
        with disk_errors(self.path):
            self._sync(platform.sync_file)
            self._refuse_if_replaced()
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
        with disk_errors(self.path):
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
        let_go(self.path)

    def discard(self) -> None:
        """Remove the part file and its journal, and unlock, whatever the disk says: nobody else could go on."""
        try:
            with disk_errors(self.path):
                self._drop_journal()
                if self._is_in_place():
                    os.unlink(self.path)
        finally:
            self.done = Ranges()
            self.close()

    def _is_in_place(self) -> bool:
        """Whether the name still leads to this file: who removes parts lets another process begin one of that name."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _refuse_if_replaced(self) -> None:
        if not self._is_in_place():
            raise platform.DiskFault(f"{self.path} was removed, or replaced, by somebody else", reason="disk_error")

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
