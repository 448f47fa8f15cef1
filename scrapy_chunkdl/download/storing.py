"""A file's way into a store: from local disk, where it may lie whole since an earlier run.

Knows the store's side of one file and its place on disk; nothing of requests or of how bytes come.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from scrapy_chunkdl.download.concurrency import in_thread
from scrapy_chunkdl.download.disk import platform, tidy
from scrapy_chunkdl.download.disk.delivery import Delivery
from scrapy_chunkdl.download.disk.file_identity import FileIdentity
from scrapy_chunkdl.download.disk.part_lock import remove_leftovers
from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.disk.platform import DiskFault
from scrapy_chunkdl.download.disk.record import Published, read_published
from scrapy_chunkdl.download.errors import DownloadError, Permanent
from scrapy_chunkdl.download.model import FileRequest, FileResult
from scrapy_chunkdl.download.place import Place
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import Measured

logger = logging.getLogger(__name__)

Keep = Callable[[Measured, Path], Awaitable[FileResult]]
"""Has the file whole on local disk."""

UpToDate = Callable[[Published, Path], FileResult]
"""Makes the result of a file that is there already."""


class Storing:
    """Has one file in the store."""

    def __init__(self, request: FileRequest, identity: FileIdentity, place: Place, delivery: Delivery) -> None:
        self._request = request
        self._identity = identity
        self._place = place
        self._delivery = delivery
        self._began = time.monotonic()

    async def run(self, measured: Measured, final: Path, keep: Keep, up_to_date: UpToDate) -> FileResult:
        """Return the file's result once the store has it. Raises DownloadError."""
        remote = measured.remote
        while True:
            there = await self._delivery.find(final)
            if self._place.is_anothers(there):
                final = self._place.distinct(final)
                there = await self._delivery.find(final)
            if there is not None and self._has(there, remote):
                await in_thread(_remove, final)  # left by a process that was killed right after the delivery
                return replace(up_to_date(there, final), uri=self._delivery.uri(final))
            kept = await keep(measured, final)
            if kept.uri is not None:
                return kept
            await measured.close()
            if kept.path != final and (there := await self._delivery.find(kept.path)) is not None:
                if self._place.is_anothers(there):
                    moved = self._place.distinct(kept.path)
                    with platform.disk_errors(moved):
                        await in_thread(kept.path.rename, moved)
                    kept = replace(kept, path=moved)
                elif self._place.is_up_to_date(there, remote._replace(size=kept.size)):
                    await in_thread(_remove, kept.path)
                    return replace(kept, status="uptodate", uri=self._delivery.uri(kept.path))
            if await self._deliver(remote, kept):
                resumed = kept.resumed if kept.status == "downloaded" else kept.size
                uri, elapsed = self._delivery.uri(kept.path), time.monotonic() - self._began
                return replace(kept, status="downloaded", resumed=resumed, uri=uri, elapsed=elapsed)

    async def find(self, final: Path, remote: Remote) -> tuple[Published, str] | None:
        """Return what the store has under the file's name, and where, if that is this version of it."""
        there = await self._delivery.find(final)
        return (there, self._delivery.uri(final)) if there is not None and self._has(there, remote) else None

    def _has(self, there: Published, remote: Remote) -> bool:
        return not self._place.is_anothers(there) and self._place.is_up_to_date(there, remote)

    async def _deliver(self, remote: Remote, kept: FileResult) -> bool:
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

        there = await self._place.when_free(lock, opened)
        try:
            # Where nothing could be recorded with the file, its size has to do.
            if there is None or self._place.is_anothers(there) or there.size != record.size:
                return False
            if there.url is not None:
                record = replace(record, more_checksums=there.more_checksums)
                if replace(there, url=record.url) != record:
                    return False
            if not may_publish(self._request):
                raise lease_lost()
            await self._delivery.put(kept.path, record)
            await in_thread(_remove, kept.path)
            return True
        except DownloadError as error:
            error.bytes_done, error.resumable = record.size, True
            raise
        finally:
            await in_thread(discard, opened[-1], self._delivery.root)


def may_publish(request: FileRequest) -> bool:
    """Whether the file may still get its name here: its lease holds."""
    return request.may_publish is None or request.may_publish()


def lease_lost() -> Permanent:
    """Return the error of a file that may not."""
    return Permanent("the lease was lost: another process finishes the file", reason="lease_lost")


def discard(part: PartFile, root: Path) -> None:
    """Remove a part file that nobody goes on with, and the folders below ``root`` that were made for it."""
    with suppress(Permanent, DiskFault):  # what went wrong first is what counts
        part.discard()
    tidy.remove_empty(part.final.parent, root)


def _remove(final: Path) -> None:
    """Remove a file that has been delivered, with what may be left beside it; its part file is ours still."""
    remove_leftovers(final)
    try:
        final.unlink(missing_ok=True)
    except OSError as error:  # the store has it: that is what counts
        logger.warning("%s has been delivered, but cannot be removed here: %s", final, error.strerror)
        return
    platform.forget(final)
