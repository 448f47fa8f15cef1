"""Where a file goes: the name it gets, what an earlier run left there, and the part file it grows in.

Knows the folder, records and locks; nothing of requests, nothing of how bytes come.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from scrapy_chunkdl.download.concurrency import in_thread
from scrapy_chunkdl.download.disk import journal
from scrapy_chunkdl.download.disk.file_identity import FileIdentity
from scrapy_chunkdl.download.disk.part_lock import JOURNAL, PART, Busy, journal_of, remove_leftovers
from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.disk.platform import disk_errors
from scrapy_chunkdl.download.disk.record import Published, read_published
from scrapy_chunkdl.download.errors import DownloadError
from scrapy_chunkdl.download.http.headers import Validator, parse_date
from scrapy_chunkdl.download.http.names import name_of
from scrapy_chunkdl.download.known import By, Known, Match, compare
from scrapy_chunkdl.download.plausibility import Plausibility
from scrapy_chunkdl.download.progress import Doing
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import FileContext, Measured
from scrapy_chunkdl.text import naming

T = TypeVar("T")

_BUSY_LOOK = 0.5
_MOST_NAMES = 8


class Place:
    """The place of one file. ``was_waited_for`` says that another download had its part file meanwhile."""

    def __init__(self, context: FileContext, identity: FileIdentity, plausibility: Plausibility) -> None:
        self._request = context.request
        self._options = context.options
        self._progress = context.progress
        self._evidence = context.evidence
        self._identity = identity
        self._plausibility = plausibility
        self.was_waited_for = False

    @property
    def given_name(self) -> str | None:
        """The name that the item gives."""
        return naming.safe_name(self._request.name) if self._request.name else None

    def name(self, remote: Remote, led_to: str) -> str:
        """Return the name the file gets, by what is known so far: what a HEAD leaves out a GET may tell."""
        disposition = self._evidence.disposition or remote.disposition
        return self.given_name or name_of(disposition, led_to, self._request.url, remote.content_type)

    def distinct(self, final: Path) -> Path:
        """Return the name the file gets where another one has ``final``."""
        return final.with_name(naming.distinct_name(final.name, self._identity.seed))

    def is_anothers(self, there: Published | None) -> bool:
        """Whether the name is taken by another file, of another URL perhaps, which is never overwritten."""
        return there is not None and self._identity.is_anothers(there.url)

    def is_up_to_date(self, there: Published, remote: Remote) -> bool:
        """Whether what is there is the version that the source has."""
        expected = self._evidence.expected
        if remote.size is None or there.size != remote.size:
            return False
        if expected is not None and not there.has_checksum(":".join(expected)):
            return False
        if there.stored_at is not None:  # the rule of wget -N: as large, and not older
            stored, changed = parse_date(there.stored_at), parse_date(remote.validator.last_modified)
            return stored is not None and changed is not None and stored >= changed
        before = Known(By.FINISHED, there.size, there.validator)
        return compare(before, remote.known._replace(by=By.GET)) is Match.SAME

    # --- what is there already

    def find_young(self) -> tuple[Published, Path] | None:
        """Return the file if it is there and came less than ``expires`` seconds ago.

        By ``st_ctime``: a file's ``st_mtime`` is that of its version on the server.
        """
        for there, path in self._finished():
            with suppress(OSError):  # gone
                if time.time() - path.stat().st_ctime < self._options.expires:
                    return there, path
        return None

    def may_be_there(self) -> bool:
        """Whether there may be such a file at all: asking that takes less than having a thread look for one."""
        if name := self.given_name:
            names = name, naming.distinct_name(name, self._identity.seed)
            return any(os.path.lexists(self._request.folder / one) for one in names)
        return os.path.isdir(self._request.folder)

    def find_finished(self) -> tuple[Published, Path] | None:
        """Return the file as an earlier run left it, if that would do unless it has changed."""
        return next(iter(self._finished()), None)

    def _finished(self) -> Iterator[tuple[Published, Path]]:
        folder, name, expected = self._request.folder, self.given_name, self._evidence.expected
        names = [name, naming.distinct_name(name, self._identity.seed)] if name else _some_names(folder)
        for path in map(folder.joinpath, names):
            there = read_published(path)
            if there is None or there.url is None or self.is_anothers(there):
                continue
            if expected is not None and not there.has_checksum(":".join(expected)):
                continue
            if self._plausibility.is_no_page(path, there, None):
                yield there, path

    # --- the part file

    async def take(self, measured: Measured, final: Path) -> tuple[Path, Published | None, PartFile | None]:
        """Return the name the file gets, with the finished file that is there unchanged, or a part file of ours."""
        remote = measured.remote
        small = remote.size is not None and remote.size <= self._options.chunk_size
        splits = remote.can_be_split and not small
        opened: list[PartFile] = []

        def is_done(final: Path, there: Published | None) -> bool:
            is_it = there is not None and self.is_up_to_date(there, remote)
            return is_it and there is not None and self._plausibility.is_no_page(final, there, remote)

        @disk_errors(final)
        def take(final: Path) -> tuple[Path, Published | None, PartFile | None]:
            there = read_published(final)
            if self.is_anothers(there):
                final = self.distinct(final)
                there = read_published(final)
            if is_done(final, there):
                remove_leftovers(final)
                return final, there, None
            url, validator, meanwhile = self._identity.recorded, remote.validator, self._meanwhile(final)
            journal_path = journal_of(meanwhile)
            # Parts of this version show that ranges were served, and its size, whatever the server says of them today.
            journaled = splits or (remote.could_be_split and journal_path.exists())
            size = _size_of_parts(journal_path, remote) if journaled else remote.size
            if size != remote.size:
                measured.remote = remote._replace(size=size)
            keep = self._options.keep_free
            part = PartFile.open(meanwhile, url=url, size=size, validator=validator, journaled=journaled, keep=keep)
            self._progress.has_room = part.has_room
            opened.append(part)
            there = read_published(final)  # by whoever held the part file until now
            if self.is_anothers(there):
                part.discard()
                return take(final)
            if is_done(final, there):
                part.discard()
                return final, there, None
            return final, None, part

        # Opening a small file takes less than having a thread do it, which fights for the GIL at each call.
        return await self.when_free(lambda: take(final), opened, measured, at_once=small)

    def _meanwhile(self, final: Path) -> Path:
        """Return the name that the part file is called by while the file's own may still change."""
        if self.given_name:
            return final
        return final.with_name(naming.name_from_url(self._request.url) or naming.FALLBACK)

    async def when_free(
        self, take: Callable[[], T], opened: list[PartFile], measured: Measured | None = None, *, at_once: bool = False
    ) -> T:
        """Call ``take``, which opens part files, again and again while another download holds one."""
        while True:
            try:
                return take() if at_once else await in_thread(take)
            except asyncio.CancelledError:
                for part in opened:  # its lock would stay for as long as this process lives
                    part.close()
                raise
            except Busy:
                self.was_waited_for = True
                if measured is not None:
                    await measured.close()
                with self._progress.during(Doing.WAITING_FOR_A_DISK):
                    await asyncio.sleep(_BUSY_LOOK)

    @asynccontextmanager
    async def named(self, part: PartFile, final: Path, got: Remote, led_to: str) -> AsyncIterator[None]:
        """Hold the name that a whole file gets, as ``got`` tells it, against downloads that would give it, too."""
        if self.given_name is None:
            final = final.with_name(self.name(got, led_to))
        if self._meanwhile(final) == final:
            yield
            return
        opened: list[PartFile] = []

        def hold() -> None:
            url, validator = self._identity.recorded, Validator()
            opened.append(PartFile.open(final, url=url, size=None, validator=validator, journaled=False))

        await self.when_free(hold, opened)
        try:
            part.final = self.distinct(final) if self.is_anothers(read_published(final)) else final
            yield
        finally:
            with suppress(DownloadError):  # litter at worst: what became of the file is what counts
                await in_thread(opened[-1].discard)


def _size_of_parts(journal_path: Path, remote: Remote) -> int | None:
    """Return the size that a journal of this very version tells where HEAD tells another: ranges have shown it."""
    if remote.confirmed:
        return remote.size
    try:
        before, _ = journal.read(journal_path)
    except journal.JournalError:
        return remote.size
    known = Known(By.FINISHED, before.size, before.validator)
    return before.size if compare(known, remote.known) is Match.CONTRADICTION else remote.size


def _some_names(folder: Path) -> list[str]:
    """Return names of files in a folder that is a file's own, as a rule: where it is not, no more than a few."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, _MOST_NAMES) if not entry.name.endswith((PART, JOURNAL))]
    except OSError:
        return []
