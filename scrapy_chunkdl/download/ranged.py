"""A file of known size fetched by ranges, over several connections at once.

Every answer has to show that its bytes are of the version, and of the file, that the transfer began with. Knows
answers to range requests, the plan and the part file; nothing of names, checksums or of what to do when this way does
not work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import aiohttp

from scrapy_chunkdl.download import body
from scrapy_chunkdl.download.client import explain
from scrapy_chunkdl.download.concurrency import in_thread, outlast, until
from scrapy_chunkdl.download.errors import (
    DownloadError,
    Permanent,
    RangeIgnored,
    RangeMismatch,
    Remeasured,
    SourceChanged,
    Transient,
)
from scrapy_chunkdl.download.headers import (
    ContentRange,
    Validator,
    parse_content_length,
    parse_content_range,
    parse_digests,
)
from scrapy_chunkdl.download.model import Options, Progress
from scrapy_chunkdl.download.partfile import PartFile
from scrapy_chunkdl.download.plan import Plan, Span
from scrapy_chunkdl.download.probe import Remote, coding_of
from scrapy_chunkdl.download.sources import Source, Sources

_IDLE_LOOK = 0.025
_CHECKPOINT_EVERY = 1.0
_ENOUGH_PROGRESS = 1 << 16


class RangedFetch:
    """One go at fetching by ranges. Raises Remeasured, SourceChanged, RangeIgnored or RangeMismatch if it cannot be."""

    def __init__(self, sources: Sources, options: Options, progress: Progress, part: PartFile, remote: Remote) -> None:
        assert remote.size is not None
        self._sources = sources
        self._options = options
        self._progress = progress
        self._part = part
        self._remote = remote
        self._plan = Plan(remote.size, options.chunk_size, part.done)
        self._confirmed = False  # whether a 206 agreed with the size planned for
        self._connections = 1
        self._over = False
        self._checkpoint_after = options.chunk_size
        self._unsaved = 0
        self._checkpoint_due = asyncio.Event()
        self._reading: dict[Span, aiohttp.ClientResponse] = {}
        progress.size, progress.done, progress.plan = remote.size, self._plan.done.total, self._plan

    async def run(self) -> None:
        """Bring all missing bytes into the part file. When it ends early, what has come is safe and can be resumed."""
        plan, part = self._plan, self._part
        self._connections = connections = plan.connections_worth(self._options.chunks_per_file)
        if connections == 1 and not part.is_resumable:  # as most files are: spare the tasks
            await self._connection()
            return
        self._checkpoint_after = max(1, connections // 2) * self._options.chunk_size
        jobs: list[Coroutine[Any, Any, None]] = [self._connection() for _ in range(connections)]
        checkpoints = asyncio.ensure_future(self._checkpoints()) if part.is_resumable else None
        try:
            await until(jobs, lambda: plan.is_complete, checkpoints)
        finally:
            if checkpoints is not None:
                self._over = True
                self._checkpoint_due.set()
                await outlast(asyncio.gather(checkpoints, return_exceptions=True))
                if not plan.is_complete:
                    with suppress(DownloadError):  # what ended the transfer is what counts
                        await in_thread(part.checkpoint, plan.newly_in_place())
        if checkpoints is not None:
            checkpoints.result()

    async def _connection(self) -> None:
        """Take spans until nothing is left to take, as one connection of the file."""
        plan = self._plan
        fetch = self._sources.retrying(lambda span, *_: span.position, self._enough)(self._fetch)
        while not plan.is_complete:
            span = plan.take()
            if span is None:
                span = self._take_over(plan)
            if span is None:
                if not plan.running:
                    return
                await asyncio.sleep(_IDLE_LOOK)
                continue
            source = self._sources.next()
            try:
                await fetch(span, source)
            except DownloadError as error:
                if isinstance(error, Remeasured) or not self._sources.drop(source, error):
                    raise
            finally:
                plan.settle(span)

    def _enough(self, span: Span, *_: object) -> int:
        """Return how many bytes make a retry worth not counting: a good part of a chunk, or half of what is missing."""
        return max(1, min(_ENOUGH_PROGRESS, self._options.chunk_size // 4, span.remaining // 2))

    def _take_over(self, plan: Plan) -> Span | None:
        idle = self._connections - len(plan.running)
        taken = plan.take_over(time.monotonic(), idle, self._sources.queue())
        if taken is None:
            return None
        span, victim = taken
        if victim.remaining <= 0 and victim in self._reading:
            self._reading[victim].close()  # it waits for a byte that need not come any more
        return span

    async def _fetch(self, span: Span, source: Source) -> None:
        """Fetch the rest of a span. Called again, it goes on from the byte it reached."""
        while span.remaining > 0:
            opening = self._sources.opening
            if opening is not None and span.position == 0:
                self._sources.opening = None
                async with opening.stack:
                    await self._fetch_answered(span, opening.source, opening.response)
                continue
            async with self._sources.slot(source):
                if span.remaining <= 0:
                    return
                before, enough = span.position, self._enough(span)
                await self._fetch_answered(span, source, await self._ask_for(span, source))
                if span.remaining > 0 and span.position - before < enough:
                    # A server may bring less than asked (RFC 9110 §15.3.7), but not a byte at a time.
                    raise RangeMismatch(f"{source.url} answers {span.position - before} bytes at a time")

    async def _ask_for(self, span: Span, source: Source) -> aiohttp.ClientResponse:
        headers = {"Range": f"bytes={span.position}-{span.stop - 1}"}
        validator = self._remote.validator.if_range()
        if validator and source.conditional and source is self._sources.main:
            headers["If-Range"] = validator
        span.asked(time.monotonic())
        response = await self._sources.ask("GET", source, headers)
        if response.status == 200 and "If-Range" in headers:
            self._refuse_other_version(response)
            response.close()
            source.conditional = False
            del headers["If-Range"]
            response = await self._sources.ask("GET", source, headers)
        return response

    async def _fetch_answered(self, span: Span, source: Source, response: aiohttp.ClientResponse) -> None:
        try:
            got = self._checked_part(response, span, source)
            self._reading[span] = response
            await self._read(response, span, got, source)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            if span.remaining > 0:
                raise explain(error, str(response.url)) from error
        finally:
            self._reading.pop(span, None)
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    def _checked_part(self, response: aiohttp.ClientResponse, span: Span, source: Source) -> ContentRange:
        """Return the range that the answer brings, once it is sure to be of the right version and usable."""
        headers, size = response.headers, self._plan.size
        if response.status == 416:
            told = parse_content_range(headers.get("Content-Range"))
            if told is not None and told.total is not None and told.total != size:
                raise self._other_size(told.total, source, 416)
            raise RangeMismatch(f"{response.url} refused bytes {span.position}-{span.stop - 1} of {size}", status=416)
        if response.status == 200:
            self._refuse_other_version(response)
            raise RangeIgnored(f"{response.url} ignores ranges")
        if response.status != 206:
            raise self._sources.refused(response, source)
        got = parse_content_range(headers.get("Content-Range"))
        if got is None or got.start is None or got.stop is None:
            raise RangeMismatch(f"{response.url} answered 206 without a valid Content-Range")
        if coding_of(response):
            raise RangeIgnored(f"{response.url} answered with a slice of an encoded form", status=206)
        if got.total is not None and got.total != size:
            raise self._other_size(got.total, source, 206)
        self._refuse_other_file(response, source, self._remote)
        if not got.start <= span.position < got.stop:
            raise RangeMismatch(f"{response.url} answered bytes {got.start}-{got.stop - 1}, not {span.position}-")
        self._confirmed = source.used = True
        return got

    def _refuse_other_file(self, response: aiohttp.ClientResponse, source: Source, remote: Remote) -> None:
        """Raise unless a part is sure to be of the version, or file, that the transfer began with.

        If-Range alone does not show it, for there are servers that do ranges and ignore it; a 206 has to carry the
        validators (RFC 9110 §15.3.7). Only where a digest of the whole decides at the end need it not.
        """
        same = remote.validator.same_version(Validator.of(response.headers))
        if source is self._sources.main:
            if same is False:
                raise SourceChanged(f"{response.url} is another version now", status=206)
            if same is None and not remote.digests:
                raise RangeIgnored(f"{response.url} does not say of which version its part is", status=206)
            return
        theirs = parse_digests(response.headers, whole=False)
        if any(theirs.get(name, digest) != digest for name, digest in remote.digests.items()):
            raise Permanent(f"{source.url} is another file by its digest", reason="other_digest", status=206)
        if not remote.digests and not same:
            text = f"{source.url} cannot be told to be the same file: no checksum, other validators"
            raise Permanent(text, reason="other_version", status=206)

    def _other_size(self, total: int, source: Source, status: int) -> DownloadError:
        text = f"{source.url} has {total} bytes, not {self._plan.size}"
        if source is not self._sources.main:
            return Permanent(text, reason="other_size", status=status)
        if not self._confirmed and not self._remote.confirmed:
            return Remeasured(text, total=total, status=status)
        return SourceChanged(text, status=status)

    def _refuse_other_version(self, response: aiohttp.ClientResponse) -> None:
        """A 200 to a range is of another version, or the server does not do ranges (now). Raise in the first case."""
        length = None
        if not coding_of(response):
            length = parse_content_length(response.headers.get("Content-Length"))
        other_size = length is not None and length != self._plan.size
        sized = self._confirmed or self._remote.confirmed
        if self._remote.validator.same_version(Validator.of(response.headers)) is False or (other_size and sized):
            response.close()
            raise SourceChanged(f"{response.url} is another version now", status=200)

    async def _read(self, response: aiohttp.ClientResponse, span: Span, got: ContentRange, source: Source) -> None:
        """Write the body to its place as it arrives."""
        assert got.start is not None
        assert got.stop is not None
        write, progress, clock = self._part.write, self._progress, time.monotonic
        give_way, host = self._sources.give_way, source.host
        skip, promised = span.position - got.start, got.stop - got.start

        def take(data: bytes | memoryview) -> bool:
            """This is where the time goes; keep it small."""
            nonlocal skip, promised
            size = len(data)
            progress.fetched += size
            promised -= size
            if skip:
                if size <= skip:
                    skip -= size
                    return True
                data = data[skip:]
                size -= skip
                skip = 0
            if size > span.stop - span.position:
                size = max(0, span.stop - span.position)
                data = data[:size]
            write(span.position, data)
            now = clock()
            span.arrived(size, now)
            progress.done += size
            progress.moved_at = now
            self._unsaved += size
            if self._unsaved >= self._checkpoint_after:
                self._checkpoint_due.set()
            if give_way(host):
                self._plan.cut(span)
            return span.position < span.stop

        length = parse_content_length(response.headers.get("Content-Length"))
        pace = self._sources.pace(source)
        await body.receive(response, length, take, stall_timeout=self._options.stall_timeout, pace=pace)
        if span.remaining > 0 and promised > 0:
            raise Transient(f"{response.url} ended {promised} bytes early", reason="short_body", status=206)

    async def _checkpoints(self) -> None:
        """Keep the journal near what has arrived: one checkpoint at a time, each takes all that came meanwhile.

        Ended by ``self._over``, never by a cancellation, which would cut a checkpoint off in the middle.
        """
        loop = asyncio.get_running_loop()
        while not self._over:
            timer = loop.call_later(_CHECKPOINT_EVERY, self._checkpoint_due.set)
            await self._checkpoint_due.wait()
            timer.cancel()
            self._checkpoint_due.clear()
            self._unsaved = 0
            if not self._plan.is_complete and (fresh := self._plan.newly_in_place()):
                await in_thread(self._part.checkpoint, fresh)
