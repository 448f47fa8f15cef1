"""The pieces of a whole part file that are wrong by hashes of their own: found, and fetched again, each alone.

A piece is asked of one source after the other, of those that had no part in it first. Knows
sources by their protocol and the part file; nothing of documents that have such hashes, nor of checksums of the whole.
"""

from __future__ import annotations

from collections import defaultdict

from scrapy_chunkdl.download.concurrency import in_thread
from scrapy_chunkdl.download.disk.checksum import hashing
from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.disk.sums import PieceSums
from scrapy_chunkdl.download.errors import (
    DownloadError,
    Permanent,
    RangeIgnored,
    RangeMismatch,
    Remeasured,
    SourceChanged,
)
from scrapy_chunkdl.download.model import Options, Pieces, Progress
from scrapy_chunkdl.download.plan.ranged import RangedFetch
from scrapy_chunkdl.download.plan.ranges import Range
from scrapy_chunkdl.download.progress import Doing
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import Source
from scrapy_chunkdl.download.sources import Sources


class NotInParts(Exception):
    """Pieces cannot be had alone: the file has to come again as a whole."""


class Mending:
    """Has all pieces of one file be right."""

    def __init__(self, sources: Sources, options: Options, progress: Progress, part: PartFile, pieces: Pieces) -> None:
        self._sources = sources
        self._options = options
        self._progress = progress
        self._part = part
        self._pieces = pieces

    async def run(self, remote: Remote, size: int, sums: PieceSums) -> None:
        """Return once all pieces are right. ``sums`` are those of them that were seen as they came.

        Raises Permanent, reason ``checksum``, for one that is wrong wherever it comes from, the right ones stay; or
        :class:`NotInParts`.
        """
        asked: dict[int, set[Source]] = defaultdict(set)
        while wrong := await self._wrong(size, sums):
            by_source: dict[Source, list[Range]] = {}
            for number in wrong:
                span = self._pieces.range_of(number, size)
                source = self._next_for(span, asked[number])
                if source is None:
                    raise await self._given_up(wrong, size)
                asked[number].add(source)
                by_source.setdefault(source, []).append(span)
            for source, ranges in by_source.items():
                self._progress.retried("checksum")
                await self._fetch(remote, ranges, source, size)

    def _next_for(self, span: Range, asked: set[Source]) -> Source | None:
        """Return whom to ask for a piece next: first those who had no part in it."""
        left, suspects = [one for one in self._sources.left if one not in asked], self._sources.who_brought(*span)
        return min(left, key=lambda one: one in suspects, default=None)

    async def _fetch(self, remote: Remote, ranges: list[Range], source: Source, size: int) -> None:
        """Bring these bytes again from one source; one that cannot is passed over, if it is not the only."""
        if remote.ranges is False and self._sources.is_main(source):
            raise NotInParts
        is_only = len(self._sources.left) == 1
        await in_thread(self._part.undo, ranges, size)
        with self._sources.only(source):
            fetch = RangedFetch(self._sources, self._options, self._progress, self._part, remote, compares=False)
            try:
                whole = await fetch.run()
            except (RangeIgnored, RangeMismatch, Remeasured, SourceChanged) as error:
                if is_only:
                    raise NotInParts from error
            except DownloadError as error:
                if is_only or not self._sources.is_to_blame(error):
                    raise
            else:
                if whole is not None:
                    await whole.close()
                    raise NotInParts
        await in_thread(self._part.undo, [], size)

    async def _given_up(self, wrong: list[int], size: int) -> Permanent:
        """Have the right pieces count alone, for a later run, and return what is wrong."""
        ranges = [self._pieces.range_of(number, size) for number in wrong]
        await in_thread(self._part.undo, ranges, size)
        start, stop = ranges[0]
        text = (
            f"{len(wrong)} of {len(self._pieces.digests)} pieces are wrong each time, the first is {start}-{stop - 1}"
        )
        return Permanent(text, reason="checksum")

    async def _wrong(self, size: int, sums: PieceSums) -> list[int]:
        """Return the numbers of the pieces that are wrong. Those that are not known to be right are read."""
        sums.ended(size)
        progress = self._progress
        if unsure := sums.not_right():
            ranges = (self._pieces.range_of(number, size) for number in unsure)
            with progress.during(Doing.CHECKING, lambda: max(progress.moved_at, hashing.moved_at)):
                if self._part.is_resumable:
                    await in_thread(self._part.checkpoint, [(0, size)])
                await hashing.feed(
                    self._part.read, ranges, lambda at, block: sums.take(at, memoryview(block)), progress.moved
                )
            sums.ended(size)
        return sums.not_right()
