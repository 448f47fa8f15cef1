"""A file fetched whole by one request, from its first byte: where ranges cannot be had, or not safely.

One answer is of one version. Where ranges of that version came before, its body fills the gaps that it passes, and what
is there is compared with it. Knows that answer and the part file; nothing of names, checksums or plans.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

from scrapy_chunkdl.download.concurrency import in_thread
from scrapy_chunkdl.download.disk.checksum import new_hash
from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.errors import Contradiction, DownloadError, Permanent, SourceChanged, Transient
from scrapy_chunkdl.download.http.coding import KEEP
from scrapy_chunkdl.download.http.decoding import Decoder
from scrapy_chunkdl.download.known import By, Match, compare
from scrapy_chunkdl.download.model import Options, Progress
from scrapy_chunkdl.download.plan.ranges import Ranges
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import Answer, End, Opening, Source
from scrapy_chunkdl.download.sources import Sources
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)


class StreamedFetch:
    """One go at fetching in one stream. ``kept`` are bytes of this very version that are in place.

    Raises SourceChanged where an answer is not of the version that the bytes in place are of.
    """

    def __init__(self, sources: Sources, options: Options, progress: Progress, part: PartFile, kept: Ranges) -> None:
        self._sources = sources
        self._evidence = sources.evidence
        self._options = options
        self._progress = progress
        self._part = part
        self._kept = kept
        self._ended_short_at: int | None = None

    async def run(self, opening: Opening | None = None) -> tuple[Remote, int]:
        """Fetch the whole file by one request, from its first byte; return what that answer said it is.

        ``opening`` is an answer that has all of it; it is used, or closed.
        """
        while True:
            source = self._sources.first
            stream = self._sources.retrying()(self._stream)
            given: list[Opening] = [opening] if opening is not None else []
            opening = None
            try:
                return await stream(source, given)
            except DownloadError as error:
                if isinstance(error, SourceChanged) or not self._sources.drop(source, error):
                    raise
            finally:
                for left in given:
                    await left.close()

    async def _stream(self, source: Source, given: list[Opening]) -> tuple[Remote, int]:
        async with AsyncExitStack() as stack:
            if given:
                opening = await stack.enter_async_context(given.pop())
                answer = opening.answer
            else:
                await stack.enter_async_context(self._sources.slot(source))
                answer = await source.read_whole()
                stack.callback(answer.close)
            remote = self._checked(answer, source)
            if remote.coding and self._evidence.keeps_coded:
                remote = remote._replace(size=remote.coding.coded_size, coding=KEEP)
                self._evidence.hinted = remote.size or 0  # HEAD may have told the size of the other form
            self._options.refuse_too_large(remote.size)
            if self._part.sums is not None:
                self._part.sums.want(remote.digests)
            self._sources.used(source)
            self._progress.size, self._progress.done = remote.size, self._kept.total
            size = await self._read_whole(answer, remote)
            self._sources.brought(source, 0, size)
        if self._part.size != size:
            await in_thread(self._part.truncate, size)
        return remote, size

    def _checked(self, answer: Answer, source: Source) -> Remote:
        """Return what the answer says the file is, once it may be the file."""
        known = self._evidence.known
        if answer.says_empty:  # and so does more than this
            return Remote(0, False, known.validator if known is not None else answer.told.validator)
        answer.check_whole()
        remote = answer.told
        match = compare(known, remote.known) if known is not None else Match.UNTOLD
        if not self._sources.is_main(source):
            self._refuse_other_file(remote, source, match)
        elif self._kept.total and match is not Match.SAME:
            raise SourceChanged(f"{answer.url} is another version now", status=answer.status)
        elif match is not Match.SAME or remote.known.by > (known.by if known is not None else 0):
            self._evidence.known = remote.known
        return remote

    def _refuse_other_file(self, remote: Remote, source: Source, match: Match) -> None:
        """Raise unless a mirror has what the main source told of, as for ranges; a checksum decides at the end."""
        known = self._evidence.known
        if known is None or self._evidence.is_checked:
            return
        if known.size is not None and remote.size is not None and known.size != remote.size:
            text = f"{source.url} has {remote.size} bytes, not {known.size}"
            raise Permanent(text, reason="other_size", status=200)
        if match is not Match.SAME:
            text = f"{source.url} cannot be told to be the same file: no checksum, other validators"
            raise Permanent(text, reason="other_version", status=200)

    async def _read_whole(self, answer: Answer, remote: Remote) -> int:
        decoder = Decoder(remote.coding) if remote.coding else None
        progress, position = self._progress, 0
        expected = self._evidence.expected
        as_sent = new_hash(expected[0]) if decoder is not None and expected is not None else None

        def take(data: bytes | memoryview) -> bool:
            nonlocal position
            progress.fetched += len(data)
            if as_sent is not None:
                as_sent.update(data)
            if decoder is None and remote.size is not None:
                data = data[: remote.size - position]
            for piece in decoder.decode(data) if decoder is not None else (data,):
                self._place(position, piece, answer)
                position += len(piece)
                self._options.refuse_too_large(position)
            progress.done = max(position, self._kept.total)
            progress.moved()
            return remote.size is None or position < remote.size

        end = await answer.read(take)
        if decoder is not None and not decoder.is_complete:
            raise Transient(f"{answer.url} ended in the middle of its {remote.coding} form", reason="short_body")
        if as_sent is not None and expected is not None and as_sent.hexdigest() == expected[1]:
            self._evidence.keeps_coded = True
            text = f"the checksum is of the {remote.coding} form of {answer.url}: it is fetched as it is sent"
            raise Transient(text, reason="checksum")
        if end is not End.STOPPED:
            self._refuse_short(answer, remote, position, end, is_counted=answer.length is not None)
        return position

    def _place(self, position: int, piece: bytes | memoryview, answer: Answer) -> None:
        """Write a piece where nothing is yet, and compare the rest."""
        if not self._kept.total:
            self._part.write(position, piece)
            return
        stop, at = position + len(piece), position
        view = memoryview(piece)
        for start, end in [*self._kept.missing(position, stop), (stop, stop)]:
            there = view[at - position : start - position]
            if there and self._part.read(at, len(there)) != there:
                raise SourceChanged(f"{answer.url} sends other bytes under the same validators", status=200)
            if start < end:
                self._part.write(start, view[start - position : end - position])
            at = end

    def _is_hinted_longer(self, remote: Remote, position: int) -> bool:
        """Whether HEAD told more bytes of the very version that has just ended, for the first time there."""
        evidence = self._evidence
        is_same = evidence.hinted_validator.same_version(remote.validator) is True
        return is_same and position < evidence.hinted and position != self._ended_short_at

    def _refuse_short(self, answer: Answer, remote: Remote, position: int, end: End, *, is_counted: bool) -> None:
        """Raise unless a body that has ended is all of the file, by its own count and by what is known.

        A body that ends with its connection cannot be told from one cut short (RFC 9112 §8), but by HEAD's size.
        """
        missing = remote.size - position if remote.size is not None else 0
        if missing > 0 or (is_counted and end is End.CLOSED):
            if not self._options.fail_on_dataloss and position == self._ended_short_at:
                logger.warning("%s", printable(f"{answer.url} ends {missing} bytes early each time: taken as it is"))
                return
            self._ended_short_at = position
            raise Transient(f"{answer.url} ended {missing or 'some'} bytes early", reason="short_body")
        if end is End.CLOSED and not is_counted and not remote.coding and position < self._evidence.hinted:
            text = f"{answer.url} ended at {position} bytes of {self._evidence.hinted}"
            raise Transient(text, reason="short_body", status=200)
        if end is End.CHUNKED and not remote.coding and self._is_hinted_longer(remote, position):
            self._ended_short_at = position  # a proxy may end what its origin broke off; a HEAD may lie, if it does
            text = f"{answer.url} ended at {position} bytes of {self._evidence.hinted}"
            raise Transient(text, reason="short_body", status=200)
        known = self._evidence.known
        if known is None or remote.size is not None or remote.coding or known.by is By.BARE_GET:
            return
        if compare(known, remote.known._replace(size=position)) is Match.CONTRADICTION:
            raise Contradiction(f"{answer.url} has {position} bytes, not {known.size}")
