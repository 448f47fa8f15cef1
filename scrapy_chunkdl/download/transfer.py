"""One file's transfer, from the first question to the finished name.

measure -> place -> fill (by ranges, or in one stream) -> verify -> publish -> deliver. Knows the steps and their order,
and sources by their protocol (:mod:`scrapy_chunkdl.download.source`); nothing of any one protocol, of items, queues or
threads other than the loop it runs in. Called by the downloader.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path

from scrapy_chunkdl.download.concurrency import QuickCalls, in_thread
from scrapy_chunkdl.download.disk.delivery import Delivery
from scrapy_chunkdl.download.disk.file_identity import FileIdentity
from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.disk.platform import DiskFault
from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.errors import DownloadError
from scrapy_chunkdl.download.filling import Filling
from scrapy_chunkdl.download.model import FileResult
from scrapy_chunkdl.download.place import Place
from scrapy_chunkdl.download.plan.retry import Backoff
from scrapy_chunkdl.download.plausibility import Plausibility
from scrapy_chunkdl.download.progress import Doing
from scrapy_chunkdl.download.remote import ONE_STREAM
from scrapy_chunkdl.download.source import FileContext, Measured, Source
from scrapy_chunkdl.download.sources import Sources
from scrapy_chunkdl.download.storing import Storing, discard, lease_lost, may_publish
from scrapy_chunkdl.text.masking import shown_url

logger = logging.getLogger(__name__)


class Transfer:
    """Fetches one file from ``sources``, the first of which is the item's own. Used once: :meth:`run`."""

    def __init__(self, context: FileContext, sources: list[Source], quick_calls: QuickCalls) -> None:
        self._request = context.request
        self._options = options = context.options
        self._progress = progress = context.progress
        self._quick_calls = quick_calls
        self._began = time.monotonic()
        self._content_type: str | None = None
        self._one_stream = ""
        progress.asking_s = options.dns_timeout + options.connect_timeout + options.first_byte_timeout
        progress.receiving_s = options.stall_timeout
        identity, plausibility = FileIdentity.of(self._request, options), Plausibility(context)
        self._sources = Sources(context, sources)
        self._place = Place(context, identity, plausibility)
        self._filling = Filling(context, self._sources, identity, plausibility)
        self._storing: Storing | None = None
        if options.store is not None:
            delivery = Delivery(options.store, options.store_root, self._sources.retrying(), progress)
            self._storing = Storing(self._request, identity, self._place, delivery)

    async def run(self) -> FileResult:
        """Fetch the file. Raises DownloadError; when cancelled, what is on disk is left resumable."""
        place = self._place
        try:
            found = None
            if self._storing is None:
                if self._options.expires and (young := await in_thread(place.find_young)):
                    return self._result(*young, "uptodate")
                found = await in_thread(place.find_finished) if place.may_be_there() else None
            measured = await self._sources.measure(found[0] if found is not None else None)
            try:
                self._content_type = measured.remote.content_type
                if found is not None and (measured.is_unchanged or self._is_found(found[0], measured)):
                    return self._result(*found, "uptodate")
                self._options.refuse_too_large(measured.remote.size)
                final = self._request.folder / place.name(measured.remote, self._sources.first.led_to)
                if self._storing is None:
                    return await self._keep(measured, final)
                return await self._storing.run(measured, final, self._keep, self._up_to_date)
            finally:
                await measured.close()
        finally:
            await self._sources.close()

    def _is_found(self, there: Published, measured: Measured) -> bool:
        """Whether an earlier run's file, known by its record, is up to date. A given name is looked up by itself."""
        return self._place.given_name is None and self._place.is_up_to_date(there, measured.remote)

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
                self._progress.retried(fault.reason)
                with self._progress.during(Doing.WAITING_FOR_A_DISK):
                    await asyncio.sleep(backoff.pause(failures))

    async def _keep_once(self, measured: Measured, final: Path) -> FileResult:
        final, there, part = await self._place.take(measured, final)
        if part is None:
            assert there is not None
            return self._up_to_date(there, final)
        try:
            if (stored := await self._find_delivered(final, measured)) is not None:
                await self._discard(part)
                return stored
            resumed = part.done.total
            if part.fresh_reason:
                logger.info("%s", part.fresh_reason)
            record = await self._filling.run(part, measured)
            self._tell_of_one_stream(record.size)
            await self._publish(part, record, final)
            return self._result(record, part.final, "downloaded", resumed)
        except DownloadError as error:
            error.bytes_done = part.done.total
            error.resumable = part.done.total > 0
            if not error.resumable:
                await self._discard(part)
            raise
        except asyncio.CancelledError:
            if not (part.is_resumable and part.done.total):  # nobody could go on with it
                await self._discard(part)
            raise
        finally:
            part.close()

    def _tell_of_one_stream(self, size_bytes: int) -> None:
        self._one_stream = "small" if size_bytes <= self._options.chunk_size else self._filling.one_stream
        if self._one_stream not in ("", "small"):
            logger.debug("%s came in one stream: %s", shown_url(self._request.url), ONE_STREAM[self._one_stream])

    async def _find_delivered(self, final: Path, measured: Measured) -> FileResult | None:
        """Return what whoever held the part file until now may have delivered."""
        if self._storing is None or not self._place.was_waited_for:
            return None
        if (stored := await self._storing.find(final, measured.remote)) is None:
            return None
        return replace(self._up_to_date(stored[0], final), uri=stored[1])

    async def _publish(self, part: PartFile, record: Published, final: Path) -> None:
        """Give a whole file its name, unless its lease was lost."""
        if not may_publish(self._request):
            if part.is_resumable:
                await in_thread(part.checkpoint, [(0, record.size)])
            raise lease_lost()
        got, small = self._filling.got, record.size <= self._options.chunk_size
        assert got is not None
        self._content_type = got.content_type
        async with self._place.named(part, final, got, self._sources.first.led_to):
            part.prepare(record)
            with self._progress.during(Doing.PUBLISHING):
                await (self._quick_calls.call(part.publish) if small else in_thread(part.publish))

    async def _discard(self, part: PartFile) -> None:
        await in_thread(discard, part, self._options.store_root)

    def _up_to_date(self, there: Published, final: Path) -> FileResult:
        return self._result(there, final, "uptodate")

    def _result(self, record: Published, final: Path, status: str, resumed: int = 0) -> FileResult:
        return FileResult(
            url=self._request.url,
            final_url=self._sources.first.led_to,
            path=final,
            size=record.size,
            status=status,
            checksum=record.checksum,
            etag=record.etag,
            last_modified=record.last_modified,
            date_is_strong=record.date_is_strong,
            requests=self._progress.requests,
            retries=self._progress.retries,
            fetched=self._progress.fetched,
            resumed=resumed,
            content_type=self._content_type,
            one_stream=self._one_stream,
            elapsed=time.monotonic() - self._began,
        )
