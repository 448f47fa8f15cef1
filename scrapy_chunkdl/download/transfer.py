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
import time
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from scrapy_chunkdl import naming
from scrapy_chunkdl.download.checksum import hash_file, parse_expected
from scrapy_chunkdl.download.client import FileClient, explain, host_of
from scrapy_chunkdl.download.errors import (
    DownloadError,
    Permanent,
    RangeIgnored,
    RangeMismatch,
    Remeasured,
    SourceChanged,
    Throttled,
    Transient,
)
from scrapy_chunkdl.download.headers import (
    ContentRange,
    Validator,
    parse_content_length,
    parse_content_range,
    parse_date,
    parse_digests,
)
from scrapy_chunkdl.download.limits import Limits
from scrapy_chunkdl.download.model import FileRequest, FileResult, Options, Progress
from scrapy_chunkdl.download.partfile import Busy, PartFile, Published, read_published
from scrapy_chunkdl.download.plan import Plan, Span
from scrapy_chunkdl.download.probe import DEAD_LINK, Remote, refusal
from scrapy_chunkdl.download.retry import Backoff, retrying

logger = logging.getLogger(__name__)

T = TypeVar("T")

_IDLE_LOOK = 0.025
_CHECKPOINT_EVERY = 1.0
_BUSY_LOOK = 0.5
_MOST_RESTARTS = 3
_ENOUGH_PROGRESS = 1 << 16


@dataclass(slots=True, eq=False)
class _Source:
    """One URL the bytes can be had from. ``final_url`` is where it last led; ``conditional`` whether If-Range works."""

    url: str
    final_url: str
    conditional: bool = True
    used: bool = False

    @property
    def host(self) -> str:
        return host_of(self.final_url)


@dataclass(slots=True)
class _Opening:
    """A GET that answered the first question and whose body is still to be read; ``stack`` holds its slot."""

    response: aiohttp.ClientResponse
    source: _Source
    stack: AsyncExitStack


class Transfer:
    """Fetches one file. Used once: :meth:`run`."""

    def __init__(
        self,
        request: FileRequest,
        options: Options,
        limits: Limits,
        session: aiohttp.ClientSession,
        progress: Progress,
    ) -> None:
        self._request = request
        self._options = options
        self._limits = limits
        self._progress = progress
        self._client = FileClient(session, options, request.headers)
        self._sources = [_Source(url, url) for url in (request.url, *request.mirrors)]
        self._main = self._sources[0]  # the one that was measured; the others must bring the same
        self._turn = 0
        self._expected = parse_expected(request.checksum) if request.checksum else None
        self._opening: _Opening | None = None
        self._hinted = 0
        self._unsaved = 0
        self._checkpoint_due = asyncio.Event()
        self._reading: dict[Span, aiohttp.ClientResponse] = {}
        self._backoff = Backoff(options.backoff_base, options.backoff_max)

    @property
    def requests(self) -> int:
        """HTTP requests sent so far, redirects included."""
        return self._client.requests

    async def run(self) -> FileResult:
        """Fetch the file. Raises DownloadError; when cancelled, what is on disk is left resumable."""
        began = time.monotonic()
        try:
            remote = await self._measure()
            self._refuse_too_large(remote.size)
            final = self._request.folder / self._name(remote)
            return replace(await self._store(remote, final), elapsed=time.monotonic() - began)
        finally:
            await self._close_opening()
            self._progress.requests = self.requests

    # --- the first question

    async def _measure(self) -> Remote:
        """Learn size, ranges and validators, from the first source that answers."""
        while True:
            source = self._main = self._sources[0]
            insist = self._retrying()(self._measure_at)
            try:
                remote = await insist(source)
            except DownloadError as error:
                if not self._drop(source, error):
                    raise
                continue
            if self._expected is not None and not remote.coding:
                remote = replace(remote, digests={**remote.digests, self._expected[0]: self._expected[1]})
            return remote

    async def _measure_at(self, source: _Source) -> Remote:
        if self._options.probe == "head":
            remote = await self._head(source)
            if remote is not None and remote.size and not remote.coding and remote.ranges is not None:
                return remote
        return await self._open(source)

    async def _head(self, source: _Source) -> Remote | None:
        """Ask by HEAD. None when it is refused, hangs or fails: a GET will tell."""
        patience = min(self._options.connect_timeout, self._options.stall_timeout)
        try:
            async with self._limits.slot(source.host):
                response = await self._ask("HEAD", source, {}, timeout=patience)
        except Transient:
            return None
        response.release()
        if response.status != 200:
            return None
        remote = Remote.of(response)
        self._hinted = remote.size or 0
        return remote

    async def _open(self, source: _Source) -> Remote:
        """Ask by a GET of the first chunk, and keep the answer: its body is used."""
        stack = AsyncExitStack()
        try:
            await stack.enter_async_context(self._limits.slot(source.host))
            response = await self._ask("GET", source, {"Range": f"bytes=0-{self._options.chunk_size - 1}"})
            stack.callback(response.close)
            if response.status == 416:
                span = parse_content_range(response.headers.get("Content-Range"))
                response.close()
                if not (span and span.total == 0):  # refused though there is a first byte: ask for the whole
                    response = await self._ask("GET", source, {})
                    stack.callback(response.close)
            if response.status not in (200, 206, 416):
                raise self._refused(response, source)
            remote = Remote.of(response)
            first = parse_content_range(response.headers.get("Content-Range"))
            honest = response.status == 206 and not remote.coding and first is not None and first.start == 0
            if response.status == 416:
                remote = replace(remote, size=0, ranges=False)
            elif response.status == 206 and not (honest and remote.can_be_split):
                remote = replace(remote, ranges=False)  # one stream, asked for anew
            else:
                self._opening = _Opening(response, source, stack.pop_all())
            return remote
        finally:
            await stack.aclose()

    async def _close_opening(self) -> None:
        if self._opening is not None:
            opening, self._opening = self._opening, None
            await opening.stack.aclose()

    # --- requests

    async def _ask(
        self, method: str, source: _Source, headers: dict[str, str], *, timeout: float | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request to where the source last led. Raises Transient for a link that led there and is dead now."""
        self._progress.moved_at = time.monotonic()
        asked = source.final_url
        response = await self._client.request(method, asked, headers, origin=self._request.url, timeout=timeout)
        self._progress.requests = self.requests
        if response.status < 400:
            source.final_url = str(response.url)
        elif response.status in DEAD_LINK and asked != source.url:
            response.close()
            if source.final_url == asked:  # else another connection has resolved it again already
                source.final_url = source.url
            text = f"{asked} answered {response.status}: a link that expired"
            raise Transient(text, reason="link_expired", status=response.status)
        return response

    def _refused(self, response: aiohttp.ClientResponse, source: _Source) -> DownloadError:
        error = refusal(response, self._options)
        if isinstance(error, Throttled):
            delay = self._backoff.longest if error.delay is None else error.delay
            if error.delay is None:
                delay = self._backoff.pause(4)
            self._limits.cool_down(source.host, min(delay, self._options.retry_after_max))
        return error

    def _retrying(
        self,
        position: Callable[..., int] = lambda *_: 0,
        enough: Callable[..., int] = lambda *_: 1,
    ) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Awaitable[T]]]:
        return retrying(
            self._options.retry_times, self._backoff, position=position, enough=enough, on_retry=self._note_retry
        )

    def _note_retry(self, error: Transient, pause: float) -> None:
        self._progress.retries[error.reason] = self._progress.retries.get(error.reason, 0) + 1
        cooling = max(self._limits.cooling(source.host) for source in self._sources)
        self._progress.moved_at = time.monotonic() + max(pause, cooling)  # a pause on purpose is no stall

    def _drop(self, source: _Source, error: DownloadError) -> bool:
        """Go on without a mirror that is dead or different; False when it is the last one."""
        if source not in self._sources:
            return True
        if len(self._sources) == 1 or error.reason in _NOT_THE_SOURCES_FAULT:
            return False
        self._sources.remove(source)
        logger.warning("Left out %s as a source of %s: %s", source.url, self._request.url, error)
        return True

    def _distrust_sources(self) -> None:
        """After a wrong checksum, settle on one source: the item's own, or the next one if it was that one alone."""
        suspects = [source for source in self._sources if source.used]
        if len(suspects) > 1:
            self._sources = suspects[:1]
        else:
            self._sources = [source for source in self._sources if source not in suspects][:1] or suspects

    # --- names, and what is there already

    def _name(self, remote: Remote) -> str:
        return (
            (naming.safe_name(self._request.name) if self._request.name else None)
            or naming.name_from_content_disposition(remote.disposition)
            or naming.name_from_url(self._request.url)
            or naming.FALLBACK
        )

    def _refuse_too_large(self, size: int | None) -> None:
        limit = self._options.max_file_size
        if limit and size is not None and size > limit:
            raise Permanent(f"{size} bytes are more than CHUNKDL_MAX_FILE_SIZE = {limit}", reason="too_large")

    async def _store(self, remote: Remote, final: Path) -> FileResult:
        there = await _in_thread(read_published, final)
        if self._is_anothers(there):
            final = final.with_name(naming.distinct_name(final.name, self._request.url))
            there = await _in_thread(read_published, final)
        if there is not None and self._is_up_to_date(there, remote):
            return self._result(there, final, "uptodate")
        part = await self._open_part(final, remote)
        try:
            there = await _in_thread(read_published, final)  # by the download we may have waited for
            if self._is_anothers(there):
                await _in_thread(part.discard)
                return await self._store(remote, final)
            if there is not None and self._is_up_to_date(there, remote):
                await _in_thread(part.discard)
                return self._result(there, final, "uptodate")
            resumed = part.done.total
            if part.fresh_reason:
                logger.info("%s", part.fresh_reason)
            record = await self._fill_and_verify(part, remote)
            if self._request.may_publish is not None and not self._request.may_publish():
                if part.is_resumable:
                    await _in_thread(part.checkpoint, [(0, record.size)])
                raise Permanent("the lease was lost: another process finishes the file", reason="lease_lost")
            await _in_thread(part.publish, record)
            return self._result(record, final, "downloaded", resumed)
        except DownloadError as error:
            error.bytes_done = part.done.total
            error.resumable = part.done.total > 0
            if not error.resumable:
                await _in_thread(part.discard)
            raise
        finally:
            await _in_thread(part.close)

    async def _open_part(self, final: Path, remote: Remote) -> PartFile:
        journaled = bool(remote.can_be_split and remote.size and remote.size > self._options.chunk_size)
        opened: list[PartFile] = []

        def open_part() -> None:
            url, size, validator = self._request.url, remote.size, remote.validator
            opened.append(PartFile.open(final, url=url, size=size, validator=validator, journaled=journaled))

        while True:
            try:
                await _in_thread(open_part)
                return opened[0]
            except asyncio.CancelledError:
                for part in opened:  # its lock would stay for as long as this process lives
                    part.close()
                raise
            except Busy:
                self._progress.moved_at = time.monotonic() + _BUSY_LOOK
                await self._close_opening()
                await asyncio.sleep(_BUSY_LOOK)

    def _is_anothers(self, there: Published | None) -> bool:
        """Whether the name is taken by the file of another URL, which is never overwritten."""
        return there is not None and there.url not in (None, self._request.url)

    def _is_up_to_date(self, there: Published, remote: Remote) -> bool:
        if remote.size is None or there.size != remote.size:
            return False
        if self._expected is not None and there.checksum != ":".join(self._expected):
            return False
        now, before = remote.validator, Validator(there.etag, there.last_modified)
        if now.strong_etag and before.strong_etag == now.strong_etag:
            return True
        return bool(now.last_modified) and parse_date(before.last_modified) == parse_date(now.last_modified)

    def _result(self, record: Published, final: Path, status: str, resumed: int = 0) -> FileResult:
        return FileResult(
            url=self._request.url,
            final_url=self._sources[0].final_url,
            path=final,
            size=record.size,
            status=status,
            checksum=record.checksum,
            etag=record.etag,
            last_modified=record.last_modified,
            requests=self.requests,
            retries=self._progress.retries,
            fetched=self._progress.fetched,
            resumed=resumed,
        )

    # --- the bytes

    async def _fill_and_verify(self, part: PartFile, remote: Remote) -> Published:
        """Bring all bytes into the part file and check them; a wrong checksum makes them come again, once."""
        for last_try in (False, True):
            remote, size = await self._fill(part, remote)
            wanted = dict(remote.digests)
            if self._expected is not None:
                wanted[self._expected[0]] = self._expected[1]
            to_compute = {*wanted, *([self._options.checksum] if self._options.checksum else [])}
            # Not _in_thread: it only reads, and may take minutes that a cancellation need not wait for.
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(None, hash_file, part.path, to_compute) if to_compute else {}
            wrong = [
                f"{name}: expected {wanted[name]}, got {found[name]}" for name in wanted if found[name] != wanted[name]
            ]
            if not wrong:
                reported = self._options.checksum or (self._expected[0] if self._expected else None)
                reported = reported or next(iter(sorted(found)), None)
                checksum = f"{reported}:{found[reported]}" if reported else None
                if self._expected and not self._options.checksum:
                    checksum = ":".join(self._expected)
                return Published(
                    self._request.url, size, remote.validator.etag, remote.validator.last_modified, checksum
                )
            if last_try:
                await _in_thread(part.discard)
                raise Permanent(f"wrong checksum, twice: {'; '.join(wrong)}", reason="checksum")
            self._progress.retries["checksum"] = self._progress.retries.get("checksum", 0) + 1
            self._distrust_sources()
            await self._reset(part, remote)
        raise AssertionError("unreachable")

    async def _fill(self, part: PartFile, remote: Remote) -> tuple[Remote, int]:
        """Bring all bytes into the part file, by ranges where that is safe; return what it turned out to be."""
        changes = 0
        while True:
            try:
                if remote.can_be_split:
                    assert remote.size is not None
                    await self._by_ranges(part, remote, remote.size)
                    return remote, remote.size
                return await self._in_one_stream(part)
            except Remeasured as error:
                changes += 1
                self._hinted = 0
                # Told less, there may be more: the whole answer decides. Told more, the parts will show it.
                ranges = remote.ranges and error.total > (remote.size or 0)
                remote = replace(remote, size=error.total, ranges=ranges, confirmed=True)
                self._refuse_too_large(remote.size)
            except SourceChanged:
                changes += 1
                await self._close_opening()
                remote = await self._measure()
                self._refuse_too_large(remote.size)
                if changes > 1:
                    remote = replace(remote, ranges=False)
            except (RangeIgnored, RangeMismatch):
                remote = replace(remote, ranges=False)
            if changes > _MOST_RESTARTS:
                raise Transient(f"{self._request.url} keeps changing", reason="source_changed")
            if not remote.can_be_split and not (self._opening and self._opening.response.status == 200):
                await self._close_opening()
            await self._reset(part, remote)

    async def _reset(self, part: PartFile, remote: Remote) -> None:
        self._progress.done = 0
        await _in_thread(part.reset, remote.size, remote.validator)

    # by ranges

    async def _by_ranges(self, part: PartFile, remote: Remote, size: int) -> None:
        plan = Plan(size, self._options.chunk_size, part.done)
        self._progress.size, self._progress.done = size, plan.done.total
        state = _Ranged(plan, part, remote)
        connections = plan.connections_worth(self._options.chunks_per_file)
        if self._opening is not None:
            connections = max(connections, 1)
        self._checkpoint_after = max(1, connections // 2) * self._options.chunk_size
        jobs: list[Coroutine[Any, Any, None]] = [self._connection(state) for _ in range(connections)]
        checkpoints = asyncio.ensure_future(self._checkpoints(state)) if part.is_resumable else None
        try:
            await _until(jobs, lambda: plan.is_complete, checkpoints)
        finally:
            if checkpoints is not None:
                state.over = True
                self._checkpoint_due.set()
                await _outlast(asyncio.gather(checkpoints, return_exceptions=True))
                if not plan.is_complete:
                    with suppress(DownloadError):  # what ended the transfer is what counts
                        await _in_thread(part.checkpoint, plan.newly_in_place())
        if checkpoints is not None:
            checkpoints.result()

    async def _connection(self, state: _Ranged) -> None:
        """Take spans until nothing is left to take, as one connection of the file."""
        plan = state.plan
        fetch = self._retrying(lambda span, *_: span.position, self._enough)(self._fetch)
        while not plan.is_complete:
            span = plan.take()
            if span is None:
                span = self._take_over(plan)
            if span is None:
                if not plan.running:
                    return
                await asyncio.sleep(_IDLE_LOOK)
                continue
            source = self._next_source()
            try:
                await fetch(span, source, state)
            except DownloadError as error:
                if isinstance(error, Remeasured) or not self._drop(source, error):
                    raise
            finally:
                plan.settle(span)

    def _enough(self, span: Span, *_: object) -> int:
        """Return how many bytes make a retry worth not counting: a good part of a chunk, or half of what is missing."""
        return max(1, min(_ENOUGH_PROGRESS, self._options.chunk_size // 4, span.remaining // 2))

    def _take_over(self, plan: Plan) -> Span | None:
        taken = plan.take_over(time.monotonic())
        if taken is None:
            return None
        span, victim = taken
        if victim.remaining <= 0 and victim in self._reading:
            self._reading[victim].close()  # it waits for a byte that need not come any more
        return span

    def _next_source(self) -> _Source:
        self._turn = (self._turn + 1) % len(self._sources)
        return self._sources[self._turn - 1]

    async def _fetch(self, span: Span, source: _Source, state: _Ranged) -> None:
        """Fetch the rest of a span. Called again, it goes on from the byte it reached."""
        while span.remaining > 0:
            opening = self._opening
            if opening is not None and span.position == 0:
                self._opening = None
                async with opening.stack:
                    await self._fetch_answered(span, opening.source, state, opening.response)
                continue
            async with self._limits.slot(source.host):
                if span.remaining <= 0:
                    return
                before, enough = span.position, self._enough(span)
                await self._fetch_answered(span, source, state, await self._ask_for(span, source, state))
                if span.remaining > 0 and span.position - before < enough:
                    # A server may bring less than asked (RFC 9110 §15.3.7), but not a byte at a time.
                    raise RangeMismatch(f"{source.url} answers {span.position - before} bytes at a time")

    async def _ask_for(self, span: Span, source: _Source, state: _Ranged) -> aiohttp.ClientResponse:
        headers = {"Range": f"bytes={span.position}-{span.stop - 1}"}
        validator = state.remote.validator.if_range()
        if validator and source.conditional and source is self._main:
            headers["If-Range"] = validator
        span.asked(time.monotonic())
        response = await self._ask("GET", source, headers)
        if response.status == 200 and "If-Range" in headers:
            self._refuse_other_version(response, state)
            response.close()
            source.conditional = False
            del headers["If-Range"]
            response = await self._ask("GET", source, headers)
        return response

    async def _fetch_answered(
        self, span: Span, source: _Source, state: _Ranged, response: aiohttp.ClientResponse
    ) -> None:
        try:
            got = self._checked_part(response, span, source, state)
            self._reading[span] = response
            await self._read(response, span, got, state)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            if span.remaining > 0:
                raise explain(error, str(response.url)) from error
        finally:
            self._reading.pop(span, None)
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    def _checked_part(
        self, response: aiohttp.ClientResponse, span: Span, source: _Source, state: _Ranged
    ) -> ContentRange:
        """Return the range that the answer brings, once it is sure to be of the right version and usable."""
        headers, size = response.headers, state.plan.size
        if response.status == 416:
            told = parse_content_range(headers.get("Content-Range"))
            if told is not None and told.total is not None and told.total != size:
                raise self._other_size(told.total, state, source, 416)
            raise RangeMismatch(f"{response.url} refused bytes {span.position}-{span.stop - 1} of {size}", status=416)
        if response.status == 200:
            self._refuse_other_version(response, state)
            raise RangeIgnored(f"{response.url} ignores ranges")
        if response.status != 206:
            raise self._refused(response, source)
        got = parse_content_range(headers.get("Content-Range"))
        if got is None or got.start is None or got.stop is None:
            raise RangeMismatch(f"{response.url} answered 206 without a valid Content-Range")
        if headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
            raise RangeIgnored(f"{response.url} answered with a slice of an encoded form", status=206)
        if got.total is not None and got.total != size:
            raise self._other_size(got.total, state, source, 206)
        self._refuse_other_file(response, source, state.remote)
        if not got.start <= span.position < got.stop:
            raise RangeMismatch(f"{response.url} answered bytes {got.start}-{got.stop - 1}, not {span.position}-")
        state.confirmed = source.used = True
        return got

    def _refuse_other_file(self, response: aiohttp.ClientResponse, source: _Source, remote: Remote) -> None:
        """Raise unless a part is sure to be of the version, or file, that the transfer began with.

        If-Range alone does not show it, for there are servers that do ranges and ignore it; a 206 has to carry the
        validators (RFC 9110 §15.3.7). Only where a digest of the whole decides at the end need it not.
        """
        same = remote.validator.same_version(Validator.of(response.headers))
        if source is self._main:
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

    def _other_size(self, total: int, state: _Ranged, source: _Source, status: int) -> DownloadError:
        text = f"{source.url} has {total} bytes, not {state.plan.size}"
        if source is not self._main:
            return Permanent(text, reason="other_size", status=status)
        if not state.confirmed and not state.remote.confirmed:
            return Remeasured(text, total=total, status=status)
        return SourceChanged(text, status=status)

    def _refuse_other_version(self, response: aiohttp.ClientResponse, state: _Ranged) -> None:
        """A 200 to a range is of another version, or the server does not do ranges (now). Raise in the first case."""
        length = None
        if "Content-Encoding" not in response.headers:
            length = parse_content_length(response.headers.get("Content-Length"))
        other_size = length is not None and length != state.plan.size
        sized = state.confirmed or state.remote.confirmed
        if state.remote.validator.same_version(Validator.of(response.headers)) is False or (other_size and sized):
            response.close()
            raise SourceChanged(f"{response.url} is another version now", status=200)

    async def _read(self, response: aiohttp.ClientResponse, span: Span, got: ContentRange, state: _Ranged) -> None:
        """Write the body to its place as it arrives. This loop is where the time goes; keep it small."""
        assert got.start is not None
        assert got.stop is not None
        read, write, progress, clock = response.content.readany, state.part.write, self._progress, time.monotonic
        skip, promised = span.position - got.start, got.stop - got.start
        while span.position < span.stop:
            data = await read()
            if not data:
                break
            size = len(data)
            progress.fetched += size
            promised -= size
            if skip:
                if size <= skip:
                    skip -= size
                    continue
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
        if span.remaining > 0 and promised > 0:
            raise Transient(f"{response.url} ended {promised} bytes early", reason="short_body", status=206)

    async def _checkpoints(self, state: _Ranged) -> None:
        """Keep the journal near what has arrived: one checkpoint at a time, each takes all that came meanwhile.

        Ended by ``state.over``, never by a cancellation, which would cut a checkpoint off in the middle.
        """
        loop = asyncio.get_running_loop()
        while not state.over:
            timer = loop.call_later(_CHECKPOINT_EVERY, self._checkpoint_due.set)
            await self._checkpoint_due.wait()
            timer.cancel()
            self._checkpoint_due.clear()
            self._unsaved = 0
            if not state.plan.is_complete and (fresh := state.plan.newly_in_place()):
                await _in_thread(state.part.checkpoint, fresh)

    # in one stream

    async def _in_one_stream(self, part: PartFile) -> tuple[Remote, int]:
        """Fetch the whole file by one request, from its first byte; return what that answer said it is."""
        while True:
            source = self._sources[0]
            stream = self._retrying()(self._stream)
            try:
                return await stream(part, source)
            except DownloadError as error:
                if not self._drop(source, error):
                    raise

    async def _stream(self, part: PartFile, source: _Source) -> tuple[Remote, int]:
        async with AsyncExitStack() as stack:
            if self._opening is not None and self._opening.response.status == 200:
                opening, self._opening = self._opening, None
                await stack.enter_async_context(opening.stack)
                response = opening.response
            else:
                await self._close_opening()
                await stack.enter_async_context(self._limits.slot(source.host))
                response = await self._ask("GET", source, {})
                stack.callback(response.close)
            if response.status != 200:
                raise self._refused(response, source)
            remote = Remote.of(response)
            self._refuse_too_large(remote.size)
            source.used = True
            self._progress.size, self._progress.done = remote.size, 0
            try:
                size = await self._read_whole(response, part, remote)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                raise explain(error, str(response.url)) from error
            # A body that ends with its connection cannot be told from one cut short (RFC 9112 §8), but by HEAD's size.
            unframed = not {"Content-Length", "Transfer-Encoding"}.intersection(response.headers)
            if unframed and not remote.coding and size < self._hinted:
                text = f"{response.url} ended at {size} bytes of {self._hinted}"
                raise Transient(text, reason="short_body", status=200)
            if response.content.at_eof():
                response.release()
        await _in_thread(part.truncate, size)
        return remote, size

    async def _read_whole(self, response: aiohttp.ClientResponse, part: PartFile, remote: Remote) -> int:
        decoder = _Decoder(remote.coding) if remote.coding else None
        progress, position = self._progress, 0
        while remote.size is None or position < remote.size:
            data = await response.content.readany()
            if not data:
                break
            progress.fetched += len(data)
            if decoder is not None:
                data = decoder.decode(data)
            elif remote.size is not None:
                data = data[: remote.size - position]
            part.write(position, data)
            position += len(data)
            progress.done = position
            progress.moved_at = time.monotonic()
            self._refuse_too_large(position)
        if decoder is not None and not decoder.is_complete:
            raise Transient(f"{response.url} ended in the middle of its {remote.coding} form", reason="short_body")
        if remote.size is not None and position < remote.size:
            raise Transient(f"{response.url} ended {remote.size - position} bytes early", reason="short_body")
        return position


_NOT_THE_SOURCES_FAULT = frozenset(
    {"disk_full", "read_only", "disk_error", "lease_lost", "too_large", "bad_header", "bad_checksum", "remeasured"}
)


@dataclass(slots=True, eq=False)
class _Ranged:
    """What the connections of one ranged transfer share. ``confirmed``: a 206 agreed with the size planned for."""

    plan: Plan
    part: PartFile
    remote: Remote
    confirmed: bool = False
    over: bool = False


class _Decoder:
    """Undoes a Content-Encoding the server insists on: the file is what it encodes (RFC 9110 §8.4)."""

    def __init__(self, coding: str) -> None:
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise Permanent(f"the server sends it in Content-Encoding {coding}, unasked", reason="encoded")
        self._gzip = coding != "deflate"
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16 if self._gzip else zlib.MAX_WBITS)
        self._fresh = True

    @property
    def is_complete(self) -> bool:
        return self._zlib.eof

    def decode(self, data: bytes) -> bytes:
        try:
            return self._decode(data)
        except zlib.error as error:
            raise Transient(f"the encoded body is broken: {error}", reason="bad_encoding") from error

    def _decode(self, data: bytes) -> bytes:
        if self._fresh and not self._gzip and data[0] & 0x0F != 8:
            self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)  # "deflate" without its zlib wrapper is common
        self._fresh = False
        plain = self._zlib.decompress(data)
        while self._gzip and self._zlib.eof and (rest := self._zlib.unused_data):
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16)
            plain += self._zlib.decompress(rest)
        return plain


async def _in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run blocking work on a part file in a thread, and wait for its end also when cancelled meanwhile.

    A checkpoint left behind would go on to claim bytes in the journal of a part file started afresh by then.
    """
    return await _outlast(asyncio.get_running_loop().run_in_executor(None, function, *args))


async def _outlast(work: asyncio.Future[T]) -> T:
    """Wait for the end of ``work``; a cancellation that comes meanwhile is raised after that."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # what it met, the next run meets again
        raise cancelled
    return work.result()


async def _until(
    jobs: list[Coroutine[Any, Any, None]], done: Callable[[], bool], watched: asyncio.Future[None] | None
) -> None:
    """Run coroutines side by side until all returned, or ``done``; the first error cancels the others and is raised.

    So is an error of ``watched``, which is not waited for otherwise.
    """
    tasks = {asyncio.ensure_future(job) for job in jobs}
    try:
        pending: set[asyncio.Future[None]] = {*tasks, *([watched] if watched is not None else [])}
        while not pending.isdisjoint(tasks) and not done():
            finished, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
