"""A file of known size fetched by ranges, over several connections at once.

Every answer has to show that its bytes are of the version, and of the file, that the transfer began with. Validators
may lie, so a request begins a little earlier where bytes are in place already, and what comes is compared with those
first. Knows answers to range requests, the plan and the part file; nothing of names, checksums or of what to do when
this way does not work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

import aiohttp

from scrapy_chunkdl.download.concurrency import in_thread, outlast, until
from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.errors import (
    AskLess,
    DownloadError,
    Permanent,
    RangeIgnored,
    RangeMismatch,
    Remeasured,
    SourceChanged,
    Transient,
)
from scrapy_chunkdl.download.http import body
from scrapy_chunkdl.download.http.client import explain
from scrapy_chunkdl.download.http.headers import (
    ContentRange,
    Validator,
    parse_content_length,
    parse_content_range,
    parse_digests,
)
from scrapy_chunkdl.download.http.known import By, Known, Match, compare
from scrapy_chunkdl.download.http.remote import Remote, coding_of
from scrapy_chunkdl.download.http.sources import HostSlot, Opening, Source, Sources
from scrapy_chunkdl.download.http.verdict import Asked, is_whole
from scrapy_chunkdl.download.model import Options, Progress
from scrapy_chunkdl.download.plan.plan import Plan, Span
from scrapy_chunkdl.download.plan.ranges import Ranges
from scrapy_chunkdl.download.plan.retry import Retry

_IDLE_LOOK = 0.025
_CHECKPOINT_EVERY = 1.0
_ENOUGH_PROGRESS = 1 << 16
_JUST_NOW = 1.0
_WINDOW = 0.25
_SLOWER = 8.0
_FASTER = 4.0
_TRIAL = 2.0
_MOST_IN_VAIN = 2
_LOOK_BACK = 4096
"""Bytes in place that a request asks for once more, to compare them."""


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
        self._left = Ranges(part.done)  # by an earlier run
        self._has_failed = False  # whether a connection was lost in this run
        self._served = part.done.total > 0  # whether ranges of this version were ever served
        self._moved_at = float("-inf")  # when a body ended last
        self._asking = 0  # requests that wait for their answer, or whose body is read
        self._whole: Opening | None = None  # an answer that has all of the file, until run() hands it on
        self._connections = 1
        self._over = False
        self._checkpoint_after = options.chunk_size
        self._unsaved = 0
        self._checkpoint_due = asyncio.Event()
        self._reading: dict[Span, aiohttp.ClientResponse] = {}
        self._slowing = _Slowing()
        progress.size, progress.done, progress.plan = remote.size, self._plan.done.total, self._plan

    async def run(self, opening: Opening | None = None) -> Opening | None:
        """Bring all missing bytes into the part file. When it ends early, what has come is safe and can be resumed.

        ``opening`` is the answer to the first question; it is used, or closed, before anything else is asked. Where
        ranges are ignored and nothing is there yet, the answer that has all of the file is returned instead of dropped:
        the caller uses or closes it.
        """
        plan, part = self._plan, self._part
        self._connections = connections = plan.connections_worth(self._options.chunks_per_file)
        first = plan.take()
        if opening is not None and (first is None or first.start > 0):
            await opening.close()
            opening = None
        try:
            if connections == 1 and not part.is_resumable:  # as most files are: spare the tasks
                await self._connection(first, opening)
            else:
                await self._run_all(first, opening)
        except BaseException:
            if self._whole is not None:
                await self._whole.close()
            raise
        finally:
            if opening is not None:
                await opening.close()
        return self._whole

    async def _run_all(self, first: Span | None, opening: Opening | None) -> None:
        plan, part, connections = self._plan, self._part, self._connections
        self._checkpoint_after = max(1, connections // 2) * self._options.chunk_size
        jobs: list[Coroutine[Any, Any, None]] = [self._connection(first, opening)]
        jobs += [self._connection() for _ in range(connections - 1)]
        checkpoints = asyncio.ensure_future(self._checkpoints()) if part.is_resumable else None
        try:
            await until(jobs, lambda: plan.is_complete or self._whole is not None, checkpoints)
        finally:
            if checkpoints is not None:
                self._over = True
                self._checkpoint_due.set()
                await outlast(asyncio.gather(checkpoints, return_exceptions=True))
                with suppress(DownloadError):  # what ended the transfer is what counts
                    if fresh := plan.newly_in_place():
                        await in_thread(part.checkpoint, fresh)
        if checkpoints is not None:
            checkpoints.result()

    async def _connection(self, span: Span | None = None, opening: Opening | None = None) -> None:
        """Take spans until nothing is left to take, as one connection of the file; ``span`` is its first."""
        plan = self._plan
        while not plan.is_complete and self._whole is None:
            span = span or plan.take() or self._take_over(plan)
            if span is None:
                if not plan.running:
                    return
                await asyncio.sleep(_IDLE_LOOK)
                continue
            source = self._sources.next() if opening is None else opening.source
            try:
                await self._insist(span, source, opening)
            except DownloadError as error:
                if self._is_of_the_file(error, source) or not self._sources.drop(source, error):
                    raise
            finally:
                plan.settle(span)
                span = opening = None

    def _is_of_the_file(self, error: DownloadError, source: Source) -> bool:
        """Whether an error is about the file, and no mirror can mend it: the main source tells what that is."""
        own = isinstance(error, (SourceChanged, RangeIgnored, RangeMismatch))
        return isinstance(error, Remeasured) or (own and source is self._sources.main)

    def _enough(self, span: Span) -> int:
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

    async def _insist(self, span: Span, source: Source, opening: Opening | None) -> None:
        """Fetch a span, again after failures. What its source brings, on any connection, has them count anew."""
        retry: Retry | None = None
        while True:
            try:
                return await self._fetch(span, source, opening, retry.failures if retry is not None else 0)
            except Transient as error:
                self._has_failed = True
                if retry is None:
                    retry = self._sources.retry(lambda: source.brought, lambda: self._enough(span))
                try:
                    await retry.failed(error)
                except Transient:
                    refused = not self._served and isinstance(error.__cause__, AskLess)
                    if refused or error.reason in ("range_ignored", "range_mismatch", "contradiction"):
                        raise RangeIgnored(str(error), status=error.status or 200) from error
                    raise

    async def _fetch(self, span: Span, source: Source, opening: Opening | None, failures: int) -> None:
        """Fetch the rest of a span. Called again, it goes on from the byte it reached."""
        if opening is not None and opening.is_open and span.position == 0:
            async with opening:
                span.asked(opening.asked_at)
                self._asking += 1
                try:
                    headers: dict[str, str] | None = {} if opening.is_plain else None
                    await self._fetch_answered(span, opening.source, opening.response, 0, failures, headers)
                finally:
                    self._asking -= 1
        while span.remaining > 0 and self._whole is None:
            async with self._sources.slot(source) as slot:
                if span.remaining <= 0 or self._whole is not None:
                    return
                before, enough = span.position, self._enough(span)
                self._asking += 1
                try:
                    await self._ask_for(span, source, slot, failures)
                finally:
                    self._asking -= 1
                if self._whole is None and span.remaining > 0 and span.position - before < enough:
                    # A server may bring less than asked (RFC 9110 §15.3.7), but not a byte at a time.
                    raise RangeMismatch(f"{source.url} answers {span.position - before} bytes at a time")

    async def _ask_for(self, span: Span, source: Source, slot: HostSlot, failures: int) -> None:
        """Ask for the rest of a span, and read what comes."""
        look = self._look_back(span, failures)
        headers = {}
        if span.position > 0 or span.stop < self._plan.size:  # all of the file is a plain GET
            headers["Range"] = f"bytes={span.position - look}-{span.stop - 1}"
            validator = self._remote.validator.if_range()
            if validator and source.conditional and source is self._sources.main:
                headers["If-Range"] = validator
        while True:
            span.asked(time.monotonic())
            asked = self._asked(headers)
            try:
                response = await self._sources.ask("GET", source, headers, asked, failures=failures)
                if response.status == 200 and "If-Range" in headers and self._may_ignore_if_range(response):
                    response.close()
                    raise AskLess(RangeIgnored(f"{response.url} ignores ranges"))
                await self._fetch_answered(span, source, response, look, failures, headers, slot)
            except AskLess as less:
                if "If-Range" in headers and (less.status == 200 or not self._others_are_asking()):
                    source.conditional = False
                    del headers["If-Range"]
                    continue
                raise self._less(less) from less
            return

    def _asked(self, headers: dict[str, str]) -> Asked:
        return Asked.PLAIN if "Range" not in headers else Asked.LATER if self._served else Asked.FIRST

    def _others_are_asking(self) -> bool:
        return self._asking > 1

    def _less(self, less: AskLess) -> DownloadError:
        """Return what to do where ranges seem to be refused: hear what the other connections get, then do without."""
        refusal = less.refusal
        if self._served or self._others_are_asking():
            return Transient(str(refusal), reason=refusal.reason, status=refusal.status)
        return RangeIgnored(f"ranges are refused: {refusal}", status=refusal.status or 0)

    def _look_back(self, span: Span, failures: int) -> int:
        """Return how many bytes before a span to compare: where an earlier run left off, and after a failure."""
        if span.position > span.start:
            return min(_LOOK_BACK, span.position - span.start) if failures else 0
        # Once a connection was lost the file may have been replaced: then what came in this run is compared, too.
        there = self._plan.in_place() if self._has_failed else self._left
        return min(_LOOK_BACK, span.position - there.begin_before(span.position))

    def _may_ignore_if_range(self, response: aiohttp.ClientResponse) -> bool:
        """Whether a 200 to If-Range can be of the same version: some CDNs honour it only with a date."""
        return compare(self._known(), Remote.of(response).known) in (Match.SAME, Match.UNTOLD)

    def _known(self) -> Known:
        return self._sources.known or self._remote.known

    async def _fetch_answered(
        self,
        span: Span,
        source: Source,
        response: aiohttp.ClientResponse,
        look: int,
        failures: int,
        headers: dict[str, str] | None = None,
        slot: HostSlot | None = None,
    ) -> None:
        try:
            got = self._checked(response, span, source, failures, headers)
            if got is None and slot is not None:
                if self._whole is None:
                    slot.hand_on()
                    self._whole = Opening(response, source, slot, span.asked_at)
                return
            if got is None:
                raise RangeIgnored(f"{response.url} ignores ranges")
            self._reading[span] = response
            try:
                await self._read(response, span, got, source, look)
            finally:
                self._moved_at = time.monotonic()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            if span.remaining > 0:
                raise explain(error, str(response.url)) from error
        finally:
            self._reading.pop(span, None)
            if self._whole is None or self._whole.response is not response:
                if response.content.at_eof():
                    response.release()
                else:
                    response.close()

    def _checked(
        self,
        response: aiohttp.ClientResponse,
        span: Span,
        source: Source,
        failures: int,
        headers: dict[str, str] | None,
    ) -> ContentRange | None:
        """Return the range that the answer brings, once it is sure to be of the right version and usable.

        None for all of the file, where nothing of it is there yet, and it is not just what was asked for.
        """
        size, status = self._plan.size, response.status
        asked = self._asked(headers) if headers is not None else Asked.FIRST
        told = parse_content_range(response.headers.get("Content-Range")) if status in (206, 416) else None
        if status == 206 and coding_of(response):
            raise RangeIgnored(f"{response.url} answered with a slice of an encoded form", status=206)
        other_size = told is not None and told.total is not None and told.total != size
        if other_size:
            assert told is not None
            assert told.total is not None
            raise self._other_size(told.total, source, status)
        remote = Remote.of(response) if is_whole(status) else None
        if remote is not None and source is not self._sources.main:
            raise RangeIgnored(f"{response.url} ignores ranges")
        error = self._sources.refused(
            response,
            source,
            asked,
            remote=remote,
            conditional=headers is not None and "If-Range" in headers and not source.vouched,
            failures=failures,
            is_served=self._others_are_asking() or time.monotonic() - self._moved_at < _JUST_NOW,
        )
        unsure = not self._confirmed and not self._remote.confirmed
        if isinstance(error, SourceChanged) and unsure and remote is not None and remote.size not in (None, size):
            raise self._other_size(remote.size or 0, source, status)
        if error is not None:
            if status == 416 and not isinstance(error, AskLess):
                raise RangeMismatch(f"{response.url} refused bytes {span.position}-{span.stop - 1}", status=416)
            raise error
        if remote is not None:
            told_same = not remote.coding and remote.size == size
            if asked is not Asked.PLAIN or not told_same or compare(self._known(), remote.known) is not Match.SAME:
                return None  # what it says of itself is recorded with its bytes
            return ContentRange(0, size, size)
        return self._checked_part(response, span, source, told, "If-Range" in (headers or ()))

    def _checked_part(
        self,
        response: aiohttp.ClientResponse,
        span: Span,
        source: Source,
        got: ContentRange | None,
        is_conditional: bool,
    ) -> ContentRange:
        if got is None or got.start is None or got.stop is None:
            raise RangeMismatch(f"{response.url} answered 206 without a valid Content-Range")
        self._refuse_other_file(response, source, self._remote)
        if not got.start <= span.position < got.stop:
            raise RangeMismatch(f"{response.url} answered bytes {got.start}-{got.stop - 1}, not {span.position}-")
        length = None
        if "Transfer-Encoding" not in response.headers:
            length = parse_content_length(response.headers.get("Content-Length"))
        if length is not None and length > got.stop - got.start:
            raise RangeMismatch(f"{response.url} brings {length} bytes as {got.start}-{got.stop - 1}")
        self._confirmed = self._served = source.used = True
        source.vouched |= is_conditional
        known = self._known()
        if known.by < By.PARTS and source is self._sources.main:
            self._sources.known = replace(known, by=By.PARTS, size=self._plan.size)
        return got

    def _refuse_other_file(self, response: aiohttp.ClientResponse, source: Source, remote: Remote) -> None:
        """Raise unless a part is sure to be of the version, or file, that the transfer began with.

        If-Range alone does not show it, for there are servers that do ranges and ignore it; a 206 has to carry the
        validators (RFC 9110 §15.3.7). Only where a digest of the whole decides at the end need it not.
        """
        answer = Known(By.PARTS, self._plan.size, Validator.of(response.headers))
        match = compare(Known(By.PARTS, self._plan.size, remote.validator), answer)
        if source is self._sources.main:
            if match is Match.OTHER:
                raise SourceChanged(f"{response.url} is another version now", status=206)
            if match is not Match.SAME and not remote.digests:
                raise RangeIgnored(f"{response.url} does not say of which version its part is", status=206)
            return
        theirs = parse_digests(response.headers, whole=False)
        if any(theirs.get(name, digest) != digest for name, digest in remote.digests.items()):
            raise Permanent(f"{source.url} is another file by its digest", reason="other_digest", status=206)
        if not remote.digests and match is not Match.SAME:
            text = f"{source.url} cannot be told to be the same file: no checksum, other validators"
            raise Permanent(text, reason="other_version", status=206)

    def _other_size(self, total: int, source: Source, status: int) -> DownloadError:
        text = f"{source.url} has {total} bytes, not {self._plan.size}"
        if source is not self._sources.main:
            return Permanent(text, reason="other_size", status=status)
        if not self._confirmed and not self._remote.confirmed:
            return Remeasured(text, total=total, status=status)
        return SourceChanged(text, status=status)

    async def _read(
        self, response: aiohttp.ClientResponse, span: Span, got: ContentRange, source: Source, look: int
    ) -> None:
        """Write the body to its place as it arrives; what is in place already has to be the same."""
        assert got.start is not None
        assert got.stop is not None
        write, progress, clock = self._part.write, self._progress, time.monotonic
        give_way, host = self._sources.give_way, source.host
        skip, promised = span.position - got.start, got.stop - got.start
        began, least, slowing = clock(), promised - self._options.chunk_size, self._slowing
        looked = _Look(self._part, span.position, min(look, skip), str(response.url)) if look else None

        def take(data: bytes | memoryview) -> bool:
            """This is where the time goes; keep it small."""
            nonlocal skip, promised
            size = len(data)
            if size > promised:
                data, size = data[:promised], promised
            promised -= size
            if skip:
                if looked is not None:
                    looked.compare(data, skip)
                else:
                    progress.fetched += min(size, skip)
                if size <= skip:
                    skip -= size
                    return promised > 0
                data = data[skip:]
                size -= skip
                skip = 0
            progress.fetched += size
            if size > span.stop - span.position:
                size = max(0, span.stop - span.position)
                data = data[:size]
            write(span.position, data)
            now = clock()
            span.arrived(size, now)
            progress.done += size
            source.brought += size
            progress.moved_at = now
            self._unsaved += size
            if self._unsaved >= self._checkpoint_after:
                self._checkpoint_due.set()
            if now >= slowing.due:
                slowing.measure(progress.done, now)
            if slowing.found_at > began and promised <= least:
                self._plan.give_up_rest(span)
            if give_way(host):
                self._plan.cut(span)
            return span.position < span.stop and promised > 0

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


class _Look:
    """The bytes in place before a span, which an answer begins with once more: they have to be the same.

    It finds a server that goes on sending the old ETag and date with new bytes (Tomcat for 5 s, Tornado for its life).
    """

    def __init__(self, part: PartFile, position: int, size: int, url: str) -> None:
        self._bytes = part.read(position - size, size)
        self._url = url

    def compare(self, data: bytes | memoryview, before: int) -> None:
        """Raise SourceChanged unless ``data``, which begins ``before`` bytes before the span, is what is in place."""
        have = self._bytes
        at = len(have) - before  # of the first byte of data within what is in place
        theirs = data[: max(0, before)]
        if at < 0:
            theirs, at = theirs[-at:], 0
        if bytes(theirs) != have[at : at + len(theirs)]:
            raise SourceChanged(f"{self._url} sends other bytes under the same validators", status=206)


class _Slowing:
    """Whether the whole file has become much slower than it was, and answers asked for anew are fast again.

    Some servers send the first megabyte of each answer at full speed and the rest at the speed of a film. A line that
    all connections share is as fast together as one was alone, so it is the sum that is measured. New requests are a
    trial: where the sum did not become much faster by two of these, there are no more. Times are monotonic.
    """

    def __init__(self) -> None:
        self.due = 0.0
        self.found_at = float("-inf")
        self._from = 0
        self._at = 0.0
        self._best = 0.0
        self._slow: float | None = None
        self._in_vain = 0

    def measure(self, done: int, now: float) -> None:
        """Note how many bytes are in place, each quarter of a second at least."""
        rate = (done - self._from) / (now - self._at) if self._at else 0.0
        self._from, self._at, self.due = done, now, now + _WINDOW
        self._best = max(self._best, rate)
        if self._in_vain >= _MOST_IN_VAIN or not rate:
            return
        if self._slow is not None and rate > _FASTER * self._slow:
            self._slow, self._in_vain = None, 0
        elif self._slow is not None and now - self.found_at > _TRIAL:
            self._slow, self._in_vain = None, self._in_vain + 1
        elif self._slow is None and rate < self._best / _SLOWER:
            self._slow, self.found_at = rate, now
