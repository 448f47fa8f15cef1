"""A file of known size fetched by ranges, over several connections at once.

Every answer has to show that its bytes are of the version, and of the file, that the transfer began with. Validators
may lie, so a request begins a little earlier where bytes are in place already, and what comes is compared with those
first. Knows sources by their protocol, the plan and the part file; nothing of requests, names, checksums or of what to
do when this way does not work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from scrapy_chunkdl.download.concurrency import in_thread, outlast, until
from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.disk.platform import DiskFault
from scrapy_chunkdl.download.errors import (
    AskLess,
    DownloadError,
    RangeIgnored,
    RangeMismatch,
    Remeasured,
    SourceChanged,
    Transient,
)
from scrapy_chunkdl.download.known import By
from scrapy_chunkdl.download.limits.slot import HostSlot
from scrapy_chunkdl.download.model import Options, Progress
from scrapy_chunkdl.download.plan.comparing import compare_again
from scrapy_chunkdl.download.plan.plain import Silence, served_half
from scrapy_chunkdl.download.plan.plan import Plan, Span
from scrapy_chunkdl.download.plan.ranges import Range, Ranges
from scrapy_chunkdl.download.plan.retry import Retry
from scrapy_chunkdl.download.plan.watch import Look, Slowing
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import Answer, Line, Opening, Seen, Source, Wanted
from scrapy_chunkdl.download.sources import Sources

logger = logging.getLogger(__name__)

_IDLE_LOOK = 0.025
_CHECKPOINT_EVERY = 1.0
_ENOUGH_PROGRESS = 1 << 16
_LOOK_BACK = 4096
"""Bytes in place that a request asks for once more, to compare them."""

_MOST_UNJOINED = 64
"""Beginnings of answers that are looked at in the end: a server that answers so does it each time."""


class RangedFetch:
    """One go at fetching by ranges. Raises Remeasured, SourceChanged, RangeIgnored or RangeMismatch if it cannot be.

    ``is_silent`` says that none of its ranges brought a byte any more, when the file as a whole was answered,
    ``is_refused`` that the plain answer it began with brought all, as a range was refused meanwhile.
    """

    def __init__(
        self,
        sources: Sources,
        options: Options,
        progress: Progress,
        part: PartFile,
        remote: Remote,
        *,
        compares: bool = True,
    ) -> None:
        """``compares``: what an earlier run left is compared with what is sent now, where a request adjoins it."""
        assert remote.size is not None
        self._sources = sources
        self._options = options
        self._progress = progress
        self._part = part
        self._evidence = sources.evidence
        self._plan = Plan(remote.size, options.chunk_size, part.done)
        self._seen = Seen(remote.size, remote, is_served=part.done.total > 0, is_checked=sources.evidence.is_checked)
        self._left = Ranges(part.done if compares else ())  # by an earlier run
        self._is_compared = False  # whether some of that is known to be the same today
        self._oldest: Range | None = None  # what came first in this run
        self._has_failed = False  # whether anything was asked for again in this run
        self._lines: set[Line] = set()  # that brought bytes
        self._unjoined: list[int] = []  # where answers began that nothing in place was compared with
        self._begun: set[Span] | None = None  # spans that had bytes when a connection was lost first
        self._brought: Counter[Source] = Counter()  # bytes, over all connections
        self._whole: Opening | None = None  # an answer that has all of the file, until run() hands it on
        self.is_silent = self.is_refused = False
        self._is_scouted = asyncio.Event()
        self._connections = 1
        self._over = False
        self._checkpoint_after = options.chunk_size
        self._unsaved = 0
        self._checkpoint_due = asyncio.Event()
        self._reading: dict[Span, Answer] = {}
        self._slowing = Slowing()
        progress.size, progress.done, progress.plan = remote.size, self._plan.done.total, self._plan

    async def run(self, opening: Opening | None = None) -> Opening | None:
        """Bring all missing bytes into the part file. When it ends early, what has come is safe and can be resumed.

        ``opening`` is the answer to the first question; it is used, or closed, before anything else is asked. Where
        ranges are ignored and nothing is there yet, the answer that has all of the file is returned instead of dropped:
        the caller uses or closes it.
        """
        plan, part = self._plan, self._part
        self._connections = connections = plan.connections_worth(self._options.chunks_per_file)
        scouts = opening is not None and opening.answer.is_plain and not self._seen.is_served and connections > 1
        first = plan.take(whole=scouts)
        if opening is not None and (first is None or first.start > 0):
            await opening.close()
            opening = None
        try:
            if connections == 1 and not part.is_resumable:  # as most files are: spare the tasks
                await self._connection(first, opening)
            else:
                await self._run_all(first, opening, scouts=scouts)
            if self._whole is None:
                await self._compare_apart()
                await self._compare_repeats()
        except BaseException:
            if self._whole is not None:
                await self._whole.close()
            raise
        finally:
            if opening is not None:
                await opening.close()
        return self._whole

    async def _run_all(self, first: Span | None, opening: Opening | None, *, scouts: bool) -> None:
        plan, part, connections = self._plan, self._part, self._connections
        self._checkpoint_after = max(1, connections // 2) * self._options.chunk_size
        jobs: list[Coroutine[Any, Any, None]] = [self._connection(first, opening)]
        if scouts and first is not None:
            jobs.append(self._scout(first))
            jobs += [self._connection_after_scout() for _ in range(connections - 2)]
        else:
            jobs += [self._connection() for _ in range(connections - 1)]
        jobs.append(self._ask_plainly_in_silence())
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

    async def _scout(self, plain: Span) -> None:
        """Cut the second half off what a plain answer brings, once a range of that is had; else that goes on alone."""
        half = self._plan.half_of(plain)
        if half is None:
            return
        try:
            opening = await served_half(self._sources, self._plan, self._seen, plain, self._wanted(half, 0, 0))
        except DownloadError as error:
            logger.debug("one stream: %s", error)
            self.is_refused = True
            return
        if opening is not None:
            self._is_scouted.set()
            await self._connection(half, opening)

    async def _connection_after_scout(self) -> None:
        await self._is_scouted.wait()
        await self._connection()

    async def _ask_plainly_in_silence(self) -> None:
        silence = Silence(self._sources, self._plan, self._seen, self._options)
        whole = await silence.broken_by_the_whole(lambda: self._whole is not None)
        if whole is not None:
            self._whole, self.is_silent = whole, True

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
        return isinstance(error, Remeasured) or (own and self._sources.is_main(source))

    def _is_refusal(self, error: Transient) -> bool:
        """Whether ranges may be what is refused. Where all were asking, each took its own for that of a crowd."""
        is_final = error.status is not None and error.status >= 400 and error.status not in self._options.retry_codes
        return isinstance(error.__cause__, AskLess) or (is_final and error.reason == f"http_{error.status}")

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
                if (error.status or 200) < 300:  # else it is an answer, if an unwelcome one
                    self._note_loss()
                if retry is None:
                    retry = self._sources.retry(lambda: self._brought[source], lambda: self._enough(span))
                try:
                    await retry.failed(error)
                except Transient:
                    refused = not self._seen.is_served and self._is_refusal(error)
                    if refused or error.reason in ("range_ignored", "range_mismatch", "contradiction"):
                        raise RangeIgnored(str(error), status=error.status or (0 if refused else 200)) from error
                    raise

    async def _fetch(self, span: Span, source: Source, opening: Opening | None, failures: int) -> None:
        """Fetch the rest of a span. Called again, it goes on from the byte it reached."""
        seen = self._seen
        if opening is not None and opening.is_open and span.position == span.start:
            async with opening:
                span.asked(opening.asked_at)
                seen.asking += 1
                try:
                    got = opening.answer.bytes_for(self._wanted(span, 0, failures))
                    if got is None:
                        raise RangeIgnored(f"{opening.answer.url} ignores ranges")
                    await self._read(opening.answer, span, got, opening.source, 0)
                finally:
                    seen.asking -= 1
        while span.remaining > 0 and self._whole is None:
            async with self._sources.slot(source) as slot:
                if span.remaining <= 0 or self._whole is not None:
                    return
                before, enough = span.position, self._enough(span)
                seen.asking += 1
                try:
                    await self._ask_for(span, source, slot, failures)
                finally:
                    seen.asking -= 1
                if self._whole is None and span.remaining > 0 and span.position - before < enough:
                    # A server may bring less than asked (RFC 9110 §15.3.7), but not a byte at a time.
                    raise RangeMismatch(f"{source.url} answers {span.position - before} bytes at a time")

    async def _ask_for(self, span: Span, source: Source, slot: HostSlot, failures: int) -> None:
        """Ask for the rest of a span, and read what comes."""
        self._note_lost_lines()
        look, begin = self._look_back(span, failures), span.position
        wanted = self._wanted(span, look, failures)
        answer = await source.read(wanted)
        self._note_lost_lines()
        try:
            got = answer.bytes_for(wanted)
            if got is not None:
                await self._read(answer, span, got, source, look)
                self._is_compared |= look > 0 and self._is_oldest_before(span, begin)
            elif self._whole is None:
                slot.hand_on()
                self._whole = Opening(answer, source, slot, span.asked_at)
        finally:
            if self._whole is None or self._whole.answer is not answer:
                answer.close()

    def _wanted(self, span: Span, look: int, failures: int) -> Wanted:
        return Wanted(span, self._seen, look, failures, lambda: span.asked(time.monotonic()))

    def _look_back(self, span: Span, failures: int) -> int:
        """Return how many bytes before a span to compare: where an earlier run left off, and after a failure."""
        if span.position > span.start:
            return min(_LOOK_BACK, span.position - span.start) if failures or self._begun is not None else 0
        # Once a connection was lost the file may have been replaced: then what came in this run is compared, too.
        there = self._plan.in_place() if self._has_failed else self._left
        return min(_LOOK_BACK, span.position - there.begin_before(span.position))

    def _is_oldest_before(self, span: Span, position: int) -> bool:
        """Whether what a span has before a position is of what came first, so that comparing it decides for all."""
        if self._left.total:
            return self._left.begin_before(position) < position
        return self._begun is not None and span in self._begun

    def _note_lost_lines(self) -> None:
        """Note connections lost between two answers: aiohttp asks over another one then, without a word."""
        lost = {line for line in self._lines if line.was_lost}
        if lost:
            self._lines -= lost
            self._note_loss()

    def _note_loss(self) -> None:
        """Note that a connection was lost: what comes over others may be of another version than what came."""
        has_come = self._oldest is not None or any(span.position > span.start for span in self._plan.running)
        if not has_come and not self._seen.asking:
            return
        self._has_failed, self._is_compared = True, False
        if self._begun is None:
            self._begun = {span for span in self._plan.running if span.position > span.start}

    async def _compare_apart(self) -> None:
        """Compare what an earlier run left by a request of its own, where no other one adjoined any of it.

        That is so where the beginning alone was missing: an answer can begin with bytes that are in place before it,
        and there are none. So it is where a connection was lost, and all others began at chunks of their own: what
        adjoins these may be new as well, so what came first is compared. A checksum that is known decides by itself.
        """
        left = next(iter(self._left), None) or (self._oldest if self._begun is not None else None)
        if left is None or self._is_compared or self._seen.is_checked or not self._brought.total():
            return
        span = Span(left[0], min(left[1], left[0] + _LOOK_BACK))
        await self._sources.retrying()(self._compare)(span)

    async def _compare_repeats(self) -> None:
        """Ask once more for what is around the beginning of an answer that begins as the file does.

        There are servers that say 206, with the range that was asked for, and send the file from its first byte on.
        """
        for begin in () if self._seen.is_checked else self._unjoined:
            size = min(_LOOK_BACK, begin, self._plan.size - begin)
            if self._part.read(begin, size) == self._part.read(0, size):
                await self._sources.retrying()(self._compare)(Span(begin - size, begin + size))
                return

    async def _compare(self, span: Span) -> None:
        await compare_again(self._sources, self._part, self._seen, self._progress, span)

    async def _read(self, answer: Answer, span: Span, got: Range, source: Source, look: int) -> None:
        if answer.is_part:
            self._note_part(source)
        self._reading[span], begin = answer, span.position
        if begin and not look and len(self._unjoined) < _MOST_UNJOINED:
            self._unjoined.append(begin)
        try:
            await self._take_body(answer, span, got, source, look)
        except DiskFault:
            raise
        except Transient:
            if span.remaining > 0:
                raise
        finally:
            self._seen.moved_at = time.monotonic()
            self._sources.brought(source, begin, span.position)
            if span.position > begin:
                self._oldest = self._oldest or (begin, span.position)
                if answer.line is not None:
                    self._lines.add(answer.line)
            self._reading.pop(span, None)

    def _note_part(self, source: Source) -> None:
        """Note that a part was had, of the size that was planned for."""
        self._seen.is_confirmed = self._seen.is_served = True
        self._sources.used(source)
        known = self._evidence.known or self._seen.remote.known
        if known.by < By.PARTS and self._sources.is_main(source):
            self._evidence.known = known._replace(by=By.PARTS, size=self._plan.size)

    async def _take_body(self, answer: Answer, span: Span, got: Range, source: Source, look: int) -> None:
        """Write the body to its place as it arrives; what is in place already has to be the same."""
        start, stop = got
        write, progress, clock, brought = self._part.write, self._progress, time.monotonic, self._brought
        give_way, host = self._sources.give_way, source.host
        skip, promised = span.position - start, stop - start
        began, least, slowing = clock(), promised - self._options.chunk_size, self._slowing
        looked = Look(self._part, span.position, min(look, skip), answer.url) if look else None

        def take(data: bytes | memoryview) -> bool:
            """This is where the time goes; keep it small."""
            nonlocal skip, promised
            size = len(data)
            if size > promised:
                if answer.length is None:  # it may be all of the file that comes here (else it is cut, and compared)
                    raise RangeIgnored(f"{answer.url} brings more than the range that it names", status=206)
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
            brought[source] += size
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

        await answer.read(take)
        if span.remaining > 0 and promised > 0:
            raise Transient(f"{answer.url} ended {promised} bytes early", reason="short_body", status=206)

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
