"""One file's transfer, from the first question to the finished name.

probe -> plan -> fetch by spans over several connections, or in one stream -> verify -> publish. Knows the other
modules of this folder and aiohttp's responses; nothing of items, queues or threads other than the loop it runs in.

Rules that keep wrong bytes out:

- A file is split only where parts can be told to be of one version (``Remote.can_be_split``); every part's answer must
  agree in total size and validators, and If-Range is sent. Else one response brings the whole file.
- On a 200 to a range with If-Range it is asked once without, and the 206's own validators decide: some CDNs honour
  If-Range only with a date, others give each backend its own ETag.
- A change of version starts the file afresh, once; when versions keep disagreeing, one stream brings it.
- Bytes are counted here. A body is complete when its count is, whatever the client library thinks
  (aiohttp #13348), and nothing is written past the end of a span.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import aiohttp

from scrapy_chunkdl.download.concurrency import QuickCalls, in_thread
from scrapy_chunkdl.download.disk import journal, platform, tidy
from scrapy_chunkdl.download.disk.checksum import hashing, parse_expected
from scrapy_chunkdl.download.disk.delivery import Delivery
from scrapy_chunkdl.download.disk.file_identity import FileIdentity
from scrapy_chunkdl.download.disk.partfile import (
    JOURNAL,
    PART,
    Busy,
    PartFile,
    Published,
    read_published,
    remove_leftovers,
)
from scrapy_chunkdl.download.disk.platform import DiskFault
from scrapy_chunkdl.download.errors import (
    DownloadError,
    Permanent,
    RangeIgnored,
    RangeMismatch,
    Remeasured,
    SourceChanged,
    Transient,
)
from scrapy_chunkdl.download.http import plausible
from scrapy_chunkdl.download.http.handed_on import Tried
from scrapy_chunkdl.download.http.headers import Validator, parse_date
from scrapy_chunkdl.download.http.known import By, Known, Match, compare
from scrapy_chunkdl.download.http.media_types import Kind, kind_of_name
from scrapy_chunkdl.download.http.names import name_of
from scrapy_chunkdl.download.http.remote import Remote
from scrapy_chunkdl.download.http.sources import Measured, Opening, Sources
from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.model import FileRequest, FileResult, Options, Progress
from scrapy_chunkdl.download.plan.ranged import RangedFetch
from scrapy_chunkdl.download.plan.retry import Backoff
from scrapy_chunkdl.download.plan.streamed import StreamedFetch
from scrapy_chunkdl.download.progress import Doing
from scrapy_chunkdl.text import naming
from scrapy_chunkdl.text.masking import shown_url

logger = logging.getLogger(__name__)

T = TypeVar("T")

_BUSY_LOOK = 0.5
_MOST_RESTARTS = 3
_MOST_NAMES = 8


class Transfer:
    """Fetches one file. Used once: :meth:`run`."""

    def __init__(
        self,
        request: FileRequest,
        options: Options,
        limits: Limits,
        session: aiohttp.ClientSession,
        progress: Progress,
        quick_calls: QuickCalls,
        tried: Tried | None = None,
    ) -> None:
        self._request = request
        self._options = options
        self._progress = progress
        self._quick_calls = quick_calls
        self._expected = parse_expected(request.checksum) if request.checksum else None
        self._began = time.monotonic()
        self._waited = False
        self._content_type: str | None = None
        self._got: Remote | None = None
        progress.asking_s = options.dns_timeout + options.connect_timeout + options.first_byte_timeout
        progress.receiving_s = options.stall_timeout
        self._identity = FileIdentity.of(request, options)
        self._sources = Sources(request, options, limits, session, progress, self._expected, tried)
        self._delivery = (
            Delivery(options.store, options.store_root, self._sources, progress) if options.store is not None else None
        )

    @property
    def requests(self) -> int:
        """HTTP requests sent so far, redirects included."""
        return self._sources.requests

    async def run(self) -> FileResult:
        """Fetch the file. Raises DownloadError; when cancelled, what is on disk is left resumable."""
        try:
            if self._options.expires and self._delivery is None and (young := await in_thread(self._find_young)):
                return self._result(*young, "uptodate")
            found = await in_thread(self._find_finished) if self._request.folder.is_dir() else None
            measured = await self._sources.measure(found[0] if found is not None else None)
            try:
                self._content_type = measured.remote.content_type
                if found is not None and (measured.is_unchanged or self._is_found(found[0], measured.remote)):
                    return self._result(*found, "uptodate")
                self._options.refuse_too_large(measured.remote.size)
                final = self._request.folder / self._name(measured.remote)
                return await (self._keep(measured, final) if self._delivery is None else self._store(measured, final))
            finally:
                await measured.close()
        finally:
            self._progress.requests = self.requests

    # --- names, and what is there already

    @property
    def _given_name(self) -> str | None:
        return naming.safe_name(self._request.name) if self._request.name else None

    def _name(self, remote: Remote) -> str:
        """Return the name the file gets, by what is known so far: what a HEAD leaves out a GET may tell."""
        disposition, led_to = self._sources.disposition or remote.disposition, self._sources.first.final_url
        return self._given_name or name_of(disposition, led_to, self._request.url, remote.content_type)

    def _place(self, final: Path) -> Path:
        """Return the name that the part file is called by while the file's own may still change."""
        if self._given_name:
            return final
        return final.with_name(naming.name_from_url(self._request.url) or naming.FALLBACK)

    def _is_found(self, there: Published, remote: Remote) -> bool:
        """Whether an earlier run's file, known by its record, is up to date. A given name is looked up by itself."""
        return self._given_name is None and self._is_up_to_date(there, remote)

    def _find_young(self) -> tuple[Published, Path] | None:
        """Return the file if it is there and came less than ``expires`` seconds ago.

        By ``st_ctime``: a file's ``st_mtime`` is that of its version on the server.
        """
        for there, path in self._finished():
            with suppress(OSError):  # gone
                if time.time() - path.stat().st_ctime < self._options.expires:
                    return there, path
        return None

    def _find_finished(self) -> tuple[Published, Path] | None:
        """Return the file as an earlier run left it, if that would do unless it has changed."""
        return next(iter(self._finished()), None) if self._delivery is None else None

    def _finished(self) -> Iterator[tuple[Published, Path]]:
        folder, name = self._request.folder, self._given_name
        names = [name, naming.distinct_name(name, self._identity.seed)] if name else _some_names(folder)
        for path in map(folder.joinpath, names):
            there = read_published(path)
            if there is None or there.url is None or self._is_anothers(there):
                continue
            if self._expected is not None and not there.has_checksum(":".join(self._expected)):
                continue
            if self._is_no_page(path, there, None):
                yield there, path

    async def _keep(self, measured: Measured, final: Path) -> FileResult:
        """Have the file on local disk. The result's ``path`` has the name it got.

        What passes (too many open files, a handle gone stale) is met by closing all and going on from what is safe.
        """
        backoff, failures = Backoff(self._options.backoff_base, self._options.backoff_max), 0
        while True:
            try:
                return await self._keep_once(measured, final)
            except DiskFault as fault:
                failures += 1
                if failures > self._options.retry_times:
                    raise
                self._progress.retries[fault.reason] = self._progress.retries.get(fault.reason, 0) + 1
                with self._progress.during(Doing.WAITING_FOR_A_DISK):
                    await asyncio.sleep(backoff.pause(failures))

    async def _keep_once(self, measured: Measured, final: Path) -> FileResult:
        final, there, part = await self._take_place(measured, final)
        remote = measured.remote
        if part is None:
            assert there is not None
            return self._result(there, final, "uptodate")
        try:
            if self._delivery is not None and self._waited:  # who held the part file until now may have delivered it
                there = await self._delivery.find(final)
                if there is not None and self._is_in_store(there, remote):
                    await in_thread(self._discard, part)
                    return replace(self._result(there, final, "uptodate"), uri=self._delivery.uri(final))
            resumed = part.done.total
            if part.fresh_reason:
                logger.info("%s", part.fresh_reason)
            record = await self._fill_and_verify(part, measured)
            if not self._may_publish():
                if part.is_resumable:
                    await in_thread(part.checkpoint, [(0, record.size)])
                raise _lease_lost()
            small = record.size <= self._options.chunk_size
            async with self._named(part, final):
                part.prepare(record)
                with self._progress.during(Doing.PUBLISHING):
                    await (self._quick_calls.call(part.publish) if small else in_thread(part.publish))
            return self._result(record, part.final, "downloaded", resumed)
        except DownloadError as error:
            error.bytes_done = part.done.total
            error.resumable = part.done.total > 0
            if not error.resumable:
                await in_thread(self._discard, part)
            raise
        except asyncio.CancelledError:
            if not (part.is_resumable and part.done.total):  # nobody could go on with it
                await in_thread(self._discard, part)
            raise
        finally:
            part.close()

    @asynccontextmanager
    async def _named(self, part: PartFile, final: Path) -> AsyncIterator[None]:
        """Hold the name that a whole file gets, as it is told by now, against downloads that would give it, too."""
        if self._given_name is None and self._got is not None:
            final = final.with_name(self._name(self._got))
        if self._place(final) == final:
            yield
            return
        opened: list[PartFile] = []

        def hold() -> None:
            url, validator = self._identity.recorded, Validator()
            opened.append(PartFile.open(final, url=url, size=None, validator=validator, journaled=False))

        await self._when_free(hold, opened)
        try:
            is_taken = self._is_anothers(read_published(final))
            name = naming.distinct_name(final.name, self._identity.seed) if is_taken else final.name
            part.final = final.with_name(name)
            yield
        finally:
            await in_thread(opened[-1].discard)

    async def _store(self, measured: Measured, final: Path) -> FileResult:
        """Have the file in the store. It goes there from local disk, where it may lie whole since an earlier run."""
        assert self._delivery is not None
        remote = measured.remote
        while True:
            there = await self._delivery.find(final)
            if self._is_anothers(there):
                final = final.with_name(naming.distinct_name(final.name, self._identity.seed))
                there = await self._delivery.find(final)
            if there is not None and self._is_in_store(there, remote):
                await in_thread(self._remove, final)  # left by a process that was killed right after the delivery
                return replace(self._result(there, final, "uptodate"), uri=self._delivery.uri(final))
            kept = await self._keep(measured, final)
            if kept.uri is not None:
                return kept
            await measured.close()
            if kept.path != final and (there := await self._delivery.find(kept.path)) is not None:
                if self._is_anothers(there):
                    moved = kept.path.with_name(naming.distinct_name(kept.path.name, self._identity.seed))
                    await in_thread(kept.path.rename, moved)
                    kept = replace(kept, path=moved)
                elif self._is_up_to_date(there, replace(remote, size=kept.size)):
                    await in_thread(self._remove, kept.path)
                    return replace(kept, status="uptodate", uri=self._delivery.uri(kept.path))
            if await self._deliver(self._delivery, remote, kept):
                resumed = kept.resumed if kept.status == "downloaded" else kept.size
                uri, elapsed = self._delivery.uri(kept.path), time.monotonic() - self._began
                return replace(kept, status="downloaded", resumed=resumed, uri=uri, elapsed=elapsed)

    def _is_in_store(self, there: Published, remote: Remote) -> bool:
        return not self._is_anothers(there) and self._is_up_to_date(there, remote)

    async def _deliver(self, delivery: Delivery, remote: Remote, kept: FileResult) -> bool:
        """Move a whole local file into the store. Others who want it wait meanwhile, as if it were being fetched.

        False if it is gone, or another: the download that had the place before has delivered or replaced it.
        """
        strong = kept.date_is_strong
        record = Published(
            self._identity.recorded, kept.size, kept.etag, kept.last_modified, kept.checksum, date_is_strong=strong
        )
        opened: list[PartFile] = []

        def lock() -> Published | None:
            opened.append(
                PartFile.open(kept.path, url=record.url or "", size=None, validator=remote.validator, journaled=False)
            )
            return read_published(kept.path)

        there = await self._when_free(lock, opened)
        try:
            # Where nothing could be recorded with the file, its size has to do.
            if there is None or self._is_anothers(there) or there.size != record.size:
                return False
            if there.url is not None:
                record = replace(record, more_checksums=there.more_checksums)
                if replace(there, url=record.url) != record:
                    return False
            if not self._may_publish():
                raise _lease_lost()
            await delivery.put(kept.path, record)
            await in_thread(self._remove, kept.path)
            return True
        except DownloadError as error:
            error.bytes_done, error.resumable = record.size, True
            raise
        finally:
            await in_thread(self._discard, opened[-1])

    def _discard(self, part: PartFile) -> None:
        """Remove a part file that nobody goes on with, and the folders that were made for it."""
        with suppress(Permanent, DiskFault):  # what went wrong first is what counts
            part.discard()
        tidy.remove_empty(part.final.parent, self._options.store_root)

    def _remove(self, final: Path) -> None:
        """Remove a file that has been delivered, with what may be left beside it; its part file is ours still."""
        remove_leftovers(final)
        final.unlink(missing_ok=True)
        platform.forget(final)

    def _may_publish(self) -> bool:
        return self._request.may_publish is None or self._request.may_publish()

    async def _take_place(self, measured: Measured, final: Path) -> tuple[Path, Published | None, PartFile | None]:
        """Return the name the file gets, with the finished file that is there unchanged, or a part file of ours."""
        remote = measured.remote
        small = remote.size is not None and remote.size <= self._options.chunk_size
        splits = remote.can_be_split and not small
        opened: list[PartFile] = []

        def take(final: Path) -> tuple[Path, Published | None, PartFile | None]:
            there = read_published(final)
            if self._is_anothers(there):
                final = final.with_name(naming.distinct_name(final.name, self._identity.seed))
                there = read_published(final)
            if there is not None and self._is_up_to_date(there, remote) and self._is_no_page(final, there, remote):
                remove_leftovers(final)
                return final, there, None
            url, validator, place = self._identity.recorded, remote.validator, self._place(final)
            journal_path = place.with_name(place.name + JOURNAL)
            # Parts of this version show that ranges were served, and its size, whatever the server says of them today.
            journaled = splits or (remote.could_be_split and journal_path.exists())
            size = self._size_of_parts(journal_path, remote) if journaled else remote.size
            if size != remote.size:
                measured.remote = replace(remote, size=size)
            keep = self._options.keep_free
            part = PartFile.open(place, url=url, size=size, validator=validator, journaled=journaled, keep=keep)
            self._progress.has_room = part.has_room
            opened.append(part)
            there = read_published(final)  # by whoever held the part file until now
            if self._is_anothers(there):
                part.discard()
                return take(final)
            if there is not None and self._is_up_to_date(there, remote) and self._is_no_page(final, there, remote):
                part.discard()
                return final, there, None
            return final, None, part

        # Opening a small file takes less than having a thread do it, which fights for the GIL at each call.
        return await self._when_free(lambda: take(final), opened, measured, at_once=small)

    def _size_of_parts(self, journal_path: Path, remote: Remote) -> int | None:
        """Return the size that a journal of this very version tells where HEAD tells another: ranges have shown it."""
        if remote.confirmed:
            return remote.size
        try:
            before, _ = journal.read(journal_path)
        except journal.JournalError:
            return remote.size
        known = Known(By.FINISHED, before.size, before.validator)
        return before.size if compare(known, remote.known) is Match.CONTRADICTION else remote.size

    async def _when_free(
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
                self._waited = True
                if measured is not None:
                    await measured.close()
                with self._progress.during(Doing.WAITING_FOR_A_DISK):
                    await asyncio.sleep(_BUSY_LOOK)

    def _is_anothers(self, there: Published | None) -> bool:
        """Whether the name is taken by another file, of another URL perhaps, which is never overwritten."""
        return there is not None and self._identity.is_anothers(there.url)

    def _is_up_to_date(self, there: Published, remote: Remote) -> bool:
        if remote.size is None or there.size != remote.size:
            return False
        if self._expected is not None and not there.has_checksum(":".join(self._expected)):
            return False
        if there.stored_at is not None:  # the rule of wget -N: as large, and not older
            stored, changed = parse_date(there.stored_at), parse_date(remote.validator.last_modified)
            return stored is not None and changed is not None and stored >= changed
        before = Known(By.FINISHED, there.size, there.validator)
        return compare(before, replace(remote.known, by=By.GET)) is Match.SAME

    def _result(self, record: Published, final: Path, status: str, resumed: int = 0) -> FileResult:
        return FileResult(
            url=self._request.url,
            final_url=self._sources.first.final_url,
            path=final,
            size=record.size,
            status=status,
            checksum=record.checksum,
            etag=record.etag,
            last_modified=record.last_modified,
            date_is_strong=record.date_is_strong,
            requests=self.requests,
            retries=self._progress.retries,
            fetched=self._progress.fetched,
            resumed=resumed,
            content_type=self._content_type,
            elapsed=time.monotonic() - self._began,
        )

    # --- whether it is the file at all

    def _is_no_page(self, final: Path, there: Published, remote: Remote | None) -> bool:
        """Whether what an earlier run left may be the file; one whose checksum was checked is."""
        if self._expected is not None:
            return True
        try:
            with final.open("rb") as file:
                first = file.read(plausible.FIRST_BYTES)
        except OSError:
            return True  # gone, or not to be read: what comes next tells
        return self._why_not(first, there.size, remote) is None

    def _why_not(self, first: bytes, size: int, remote: Remote | None) -> str | None:
        if not (self._options.check_type or self._request.accept):
            return None
        return plausible.why_not(
            self._called(remote),
            remote.content_type if remote is not None else None,
            size,
            first,
            told=self._sources.hinted_type,
            told_size=self._sources.hinted,
            accept=self._request.accept,
        )

    def _called(self, remote: Remote | None) -> str:
        """Return the name that promises most of what the file is: the item's, the server's or that of the URL."""
        given = remote and naming.name_from_content_disposition(remote.disposition)
        by_url = naming.name_from_url(self._request.url)
        names = [name for name in (self._request.name, given, by_url) if name]
        return next((name for name in names if kind_of_name(name) is not Kind.UNKNOWN), names[0] if names else "")

    # --- the bytes

    async def _fill_and_verify(self, part: PartFile, measured: Measured) -> Published:
        """Bring all bytes into the part file and check them; a wrong checksum makes them come again, once."""
        for last_try in (False, True):
            remote, size = await self._fill_with_the_file(part, measured)
            self._got, self._content_type = remote, remote.content_type
            wanted = dict(remote.digests)
            if self._expected is not None:
                wanted[self._expected[0]] = self._expected[1]
            to_compute = {*wanted, *([self._options.checksum] if self._options.checksum else [])}
            found = await self._digests(part, size, to_compute) if to_compute else {}
            wrong = [
                f"{name}: expected {wanted[name]}, got {found[name]}" for name in wanted if found[name] != wanted[name]
            ]
            if not wrong:
                reported = self._options.checksum or (self._expected[0] if self._expected else min(found, default=None))
                found = {name: f"{name}:{digest}" for name, digest in sorted(found.items())}
                checksum = found.pop(reported) if reported else None
                validator = remote.validator
                return Published(
                    self._identity.recorded,
                    size,
                    validator.etag,
                    validator.last_modified,
                    checksum,
                    date_is_strong=validator.date_is_strong,
                    more_checksums=" ".join(found.values()) or None,
                )
            if last_try:
                first = part.read(0, plausible.FIRST_BYTES)
                await in_thread(part.discard)
                undone = f", after its {remote.coding} form was undone" if remote.coding else ""
                instead = self._why_not(first, size, remote)
                raise Permanent(
                    f"wrong checksum, twice{undone}{f' ({instead})' if instead else ''}: {'; '.join(wrong)}",
                    reason="checksum",
                )
            self._progress.retries["checksum"] = self._progress.retries.get("checksum", 0) + 1
            self._sources.distrust()
            measured.remote = remote
            await self._reset(part, remote)
        raise AssertionError("unreachable")

    async def _digests(self, part: PartFile, size: int, algorithms: set[str]) -> dict[str, str]:
        """Hash what is in the part file, which may take an hour: it is all safe before that begins."""
        progress = self._progress
        with progress.during(Doing.CHECKING, lambda: max(progress.moved_at, hashing.moved_at)):
            if part.is_resumable:
                await in_thread(part.checkpoint, [(0, size)])
            return await hashing.digests(part.read, algorithms, progress.moved)

    async def _fill_with_the_file(self, part: PartFile, measured: Measured) -> tuple[Remote, int]:
        """Bring all bytes into the part file; what is a page in its place is asked for anew. Raises ``wrong_type``.

        Where the item gives a checksum, that decides.
        """
        while True:
            remote, size = await self._fill(part, measured)
            if self._expected is not None:
                return remote, size
            first = part.read(0, plausible.FIRST_BYTES)
            instead = self._why_not(first, size, remote)
            if instead is None:
                return remote, size
            text = f"{shown_url(self._sources.first.final_url)} brought {instead}"
            error = Permanent(f"{text}, which begins {plausible.shown(first)}" if first else text, reason="wrong_type")
            if not await self._sources.begin_anew(error):
                await in_thread(part.discard)
                raise error
            again = await self._sources.measure()
            measured.remote, measured.opening = remote, _ = again.remote, again.opening
            self._options.refuse_too_large(remote.size)
            await self._reset(part, remote)

    async def _fill(self, part: PartFile, measured: Measured) -> tuple[Remote, int]:
        """Bring all bytes into the part file, by ranges where that is safe; return what it turned out to be."""
        changes, by_ranges = 0, measured.remote.can_be_split or part.done.total > 0
        while True:
            remote = measured.remote
            opening, measured.opening = measured.opening, None  # whoever gets it ends it
            try:
                if by_ranges:
                    assert remote.size is not None
                    fetch = RangedFetch(self._sources, self._options, self._progress, part, remote)
                    measured.opening = await fetch.run(opening)
                    if measured.opening is None:
                        return remote, remote.size
                    by_ranges = changes == 0 and await self._may_split(measured, measured.opening, part)
                    changes += by_ranges
                    continue
                return await StreamedFetch(self._sources, self._options, self._progress, part, part.done).run(opening)
            except (RangeIgnored, RangeMismatch):
                by_ranges = False
                if part.done.total:
                    continue
            except Remeasured as error:
                changes += 1
                self._sources.forget()
                # Told less, there may be more: the whole answer decides. Told more, the parts will show it.
                ranges = remote.ranges and error.total > (remote.size or 0)
                measured.remote = remote = replace(remote, size=error.total, ranges=ranges, confirmed=True)
                self._options.refuse_too_large(remote.size)
                by_ranges = remote.can_be_split
            except SourceChanged:
                changes += 1
                self._sources.forget()
                again = await self._sources.measure(by_head=False)
                measured.remote, measured.opening = remote, _ = again.remote, again.opening
                self._options.refuse_too_large(remote.size)
                by_ranges = remote.can_be_split and changes == 1
                if not by_ranges and measured.opening is not None and measured.opening.response.status == 206:
                    await measured.close()
            if changes > _MOST_RESTARTS:
                raise Transient(f"{self._request.url} keeps changing", reason="source_changed")
            await self._reset(part, remote)

    async def _may_split(self, measured: Measured, opening: Opening, part: PartFile) -> bool:
        """Whether what a plain GET said the file is allows for ranges: then that answer brings the first of them."""
        told = Remote.of(opening.response)
        if not (opening.is_plain and told.can_be_split):
            return False
        self._options.refuse_too_large(told.size)
        measured.remote, self._sources.known = told, told.known
        await self._reset(part, told)
        return True

    async def _reset(self, part: PartFile, remote: Remote) -> None:
        self._progress.done = 0
        worth_it = remote.can_be_split and (remote.size or 0) > self._options.chunk_size
        url = self._identity.recorded if worth_it else None
        await in_thread(part.reset, remote.size, remote.validator, url)


def _lease_lost() -> Permanent:
    return Permanent("the lease was lost: another process finishes the file", reason="lease_lost")


def _some_names(folder: Path) -> list[str]:
    """Return names of files in a folder that is a file's own, as a rule: where it is not, no more than a few."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, _MOST_NAMES) if not entry.name.endswith((PART, JOURNAL))]
    except OSError:
        return []
