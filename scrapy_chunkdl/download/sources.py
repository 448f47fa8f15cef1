"""The URLs a file can be had from: asking them, learning what the file is, and leaving out those that are no good.

Knows requests and what their answers mean for a source; nothing of what happens to the bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

import aiohttp

from scrapy_chunkdl.download import retry
from scrapy_chunkdl.download.client import FileClient
from scrapy_chunkdl.download.errors import DownloadError, Throttled, Transient
from scrapy_chunkdl.download.headers import parse_content_range
from scrapy_chunkdl.download.identity import host_of
from scrapy_chunkdl.download.limits import Limits
from scrapy_chunkdl.download.model import FileRequest, Options, Progress, Renewed
from scrapy_chunkdl.download.probe import DEAD_LINK, Remote, refusal
from scrapy_chunkdl.download.progress import Doing
from scrapy_chunkdl.download.rate import Pace
from scrapy_chunkdl.masking import printable

logger = logging.getLogger(__name__)

T = TypeVar("T")

_UNSAID_PAUSE = 4
"""A 429 without Retry-After cools the host down as the fourth failure in a row would."""

_TOO_MANY = frozenset({429, 503})
"""What servers answer that are asked for too much at once."""

_MOST_RENEWALS = 3
"""Fresh URLs one file may get. A link that is dead as soon as it is made will not live the fourth time."""

_NOT_THE_SOURCES_FAULT = frozenset(
    {"disk_full", "read_only", "disk_error", "lease_lost", "too_large", "bad_header", "bad_checksum", "remeasured"}
)


@dataclass(slots=True, eq=False)
class Source:
    """One URL the bytes can be had from. ``final_url`` is where it last led; ``conditional`` whether If-Range works."""

    url: str
    final_url: str
    conditional: bool = True
    used: bool = False

    @property
    def host(self) -> str:
        return host_of(self.final_url)


@dataclass(slots=True)
class Opening:
    """A GET that answered the first question and whose body is still to be read; ``stack`` holds its slot."""

    response: aiohttp.ClientResponse
    source: Source
    stack: AsyncExitStack


class _QueuedSlot:
    """A slot that shows in the file's progress, and so does the wait for it."""

    __slots__ = ("_host", "_limits", "_progress", "_slot")

    def __init__(self, limits: Limits, host: str, progress: Progress) -> None:
        self._limits = limits
        self._host = host
        self._slot = limits.slot(host)
        self._progress = progress

    async def __aenter__(self) -> None:
        limits, host = self._limits, self._host
        with self._progress.during(Doing.WAITING_FOR_A_HOST, lambda: limits.moved_at(host)):
            await self._slot.__aenter__()
        limits.hold(host, self._progress)

    async def __aexit__(self, *error: object) -> None:
        self._limits.let_go(self._host, self._progress)
        await self._slot.__aexit__()


class Sources:
    """The sources of one file. The first that answers is ``main``; the others have to bring the same bytes.

    ``opening`` is a GET that answered the first question, until its body is used. ``hinted`` is the size a HEAD told,
    which decides where nothing else does, ``hinted_type`` the Content-Type it told. ``expected`` is a checksum the item
    gives, as (algorithm, hex).
    """

    def __init__(
        self,
        request: FileRequest,
        options: Options,
        limits: Limits,
        session: aiohttp.ClientSession,
        progress: Progress,
        expected: tuple[str, str] | None,
    ) -> None:
        self._request = request
        self._options = options
        self._limits = limits
        self._progress = progress
        self._expected = expected
        self._client = FileClient(session, options, request)
        self._all = [Source(url, url) for url in (request.url, *request.mirrors)]
        self._sources = self._all.copy()
        self._turn = 0
        self._backoff = retry.Backoff(options.backoff_base, options.backoff_max)
        self.main = self._own = self._sources[0]
        self._renewing = asyncio.Lock()
        self._renewals = self._renewed = 0
        self.opening: Opening | None = None
        self.hinted = 0
        self.hinted_type: str | None = None
        self._began_anew = False

    @property
    def requests(self) -> int:
        """HTTP requests sent so far, redirects included."""
        return self._client.requests

    @property
    def first(self) -> Source:
        """The source to be asked for the whole file."""
        return self._sources[0]

    def slot(self, source: Source) -> _QueuedSlot:
        """Hold one of the connections the source's host gets."""
        return _QueuedSlot(self._limits, source.host, self._progress)

    def pace(self, source: Source) -> Pace:
        """Return how fast a body may come from where the source last led."""
        return self._limits.pace(source.host)

    def queue(self) -> float:
        """Return the seconds for which a new reader of the main source would wait for its turn, under a limit."""
        return self._limits.pace(self.main.host).queue(time.monotonic())

    def give_way(self, host: str) -> bool:
        """Tell whether a request to ``host`` is to end early, for other processes that wait."""
        return self._limits.give_way(host)

    async def measure(self) -> Remote:
        """Learn size, ranges and validators, from the first source that answers."""
        while True:
            source = self.main = self._sources[0]
            insist = self.retrying()(self._measure_at)
            try:
                remote = await insist(source)
            except DownloadError as error:
                if not self.drop(source, error):
                    raise
                continue
            if self._expected is not None and not remote.coding:
                remote = replace(remote, digests={**remote.digests, self._expected[0]: self._expected[1]})
            return remote

    async def _measure_at(self, source: Source) -> Remote:
        if self._options.probe == "head":
            remote = await self._head(source)
            if remote is not None and remote.size and not remote.coding and remote.ranges is not None:
                return remote
        return await self._open(source)

    async def _head(self, source: Source) -> Remote | None:
        """Ask by HEAD. None when it is refused, hangs or fails: a GET will tell."""
        patience = min(self._options.connect_timeout, self._options.stall_timeout) + 2 * self.queue()
        try:
            async with self.slot(source):
                response = await self.ask("HEAD", source, {}, timeout=patience)
        except Transient:
            return None
        response.release()
        if response.status != 200:
            return None
        remote = Remote.of(response)
        self.hinted, self.hinted_type = remote.size or 0, remote.content_type
        return remote

    async def _open(self, source: Source) -> Remote:
        """Ask by a GET of the first chunk, and keep the answer: its body is used."""
        stack = AsyncExitStack()
        try:
            await stack.enter_async_context(self.slot(source))
            response = await self.ask("GET", source, {"Range": f"bytes=0-{self._options.chunk_size - 1}"})
            stack.callback(response.close)
            if response.status == 416:
                span = parse_content_range(response.headers.get("Content-Range"))
                response.close()
                if not (span and span.total == 0):  # refused though there is a first byte: ask for the whole
                    response = await self.ask("GET", source, {})
                    stack.callback(response.close)
            if response.status not in (200, 206, 416):
                raise self.refused(response, source)
            remote = Remote.of(response)
            first = parse_content_range(response.headers.get("Content-Range"))
            honest = response.status == 206 and not remote.coding and first is not None and first.start == 0
            if response.status == 416:
                remote = replace(remote, size=0, ranges=False)
            elif response.status == 206 and not (honest and remote.can_be_split):
                remote = replace(remote, ranges=False)  # one stream, asked for anew
            else:
                self.opening = Opening(response, source, stack.pop_all())
            return remote
        finally:
            await stack.aclose()

    async def close_opening(self) -> None:
        if self.opening is not None:
            opening, self.opening = self.opening, None
            await opening.stack.aclose()

    async def ask(
        self, method: str, source: Source, headers: dict[str, str], *, timeout: float | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request to where the source last led. Raises Transient for a link that led there and is dead now."""
        while True:
            renewed = self._renewed
            response = await self._ask(method, source, headers, timeout)
            if response.status not in DEAD_LINK or method == "HEAD" or self._request.renew is None:
                return response  # a HEAD proves nothing: signatures are for one method
            response.close()
            if not await self._renew(source, renewed):
                return response

    async def _ask(
        self, method: str, source: Source, headers: dict[str, str], timeout: float | None
    ) -> aiohttp.ClientResponse:
        asked_at = self._progress.asked()
        asked, host = source.final_url, source.host
        try:
            response = await self._client.request(method, asked, headers, timeout=timeout)
        except Transient as error:
            if error.reason == "connect_failed":
                self._limits.refused(host, asked_at)
            raise
        self._progress.requests = self.requests
        if response.status in _TOO_MANY:
            self._limits.refused(host, asked_at)
        else:
            self._limits.answered(host)
        if response.status < 400:
            source.final_url = str(response.url)
        elif response.status in DEAD_LINK and asked != source.url:
            response.close()
            if source.final_url == asked:  # else another connection has resolved it again already
                source.final_url = source.url
            text = f"{asked} answered {response.status}: a link that expired"
            raise Transient(text, reason="link_expired", status=response.status)
        return response

    async def _renew(self, source: Source, renewed: int) -> bool:
        """Get a fresh URL for the item's own, which had been renewed so often when it was asked; False for none.

        Of several connections one asks for it.
        """
        async with self._renewing:
            if self._renewed != renewed:
                return True
            if source is not self._own or self._renewals >= _MOST_RENEWALS:
                return False
            assert self._request.renew is not None
            self._renewals += 1
            fresh = await self._request.renew()
            if isinstance(fresh, Renewed) and fresh.headers:  # the same URL may do: a token in a header ran out
                self._client.renew(self._client.without_login(fresh.url), fresh.headers)
            elif not fresh or _url_of(fresh) == source.url:
                self._renewals = _MOST_RENEWALS
                return False
            source.url = source.final_url = self._client.without_login(_url_of(fresh))
            self._renewed += 1
            self._count_retry("link_expired")
            return True

    def refused(self, response: aiohttp.ClientResponse, source: Source) -> DownloadError:
        error = refusal(response, self._options)
        if isinstance(error, Throttled):
            delay = self._backoff.pause(_UNSAID_PAUSE) if error.delay is None else error.delay
            self._limits.cool_down(source.host, min(delay, self._options.retry_after_max))
        return error

    def retrying(
        self,
        position: Callable[..., int] = lambda *_: 0,
        enough: Callable[..., int] = lambda *_: 1,
    ) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Awaitable[T]]]:
        return retry.retrying(
            self._options.retry_times, self._backoff, position=position, enough=enough, on_retry=self._note_retry
        )

    def _count_retry(self, reason: str) -> None:
        self._progress.retries[reason] = self._progress.retries.get(reason, 0) + 1

    def _note_retry(self, error: Transient, pause: float) -> None:
        self._count_retry(error.reason)
        cooling = max(self._limits.cooling(source.host) for source in self._sources)
        self._progress.paused_for(max(pause, cooling))

    def drop(self, source: Source, error: DownloadError) -> bool:
        """Go on without a mirror that is dead or different; False when it is the last one."""
        if source not in self._sources:
            return True
        if len(self._sources) == 1 or error.reason in _NOT_THE_SOURCES_FAULT:
            return False
        self._sources.remove(source)
        text = f"Left out {source.url} as a source of {self._request.url}: {error}"
        logger.warning("%s", printable(text))
        return True

    async def begin_anew(self, error: DownloadError) -> bool:
        """Go back to the items' own URLs after an answer that was not the file, once: a session or a throttle may pass.

        After that what brought it is left out as a source, and those that were left out for not agreeing with it are
        asked again. False when it was the last one.
        """
        await self.close_opening()
        if self._began_anew:
            if len(self._all) == 1:
                return False
            logger.warning("%s", printable(f"Left out {self.first.url} as a source of {self._request.url}: {error}"))
            self._all.remove(self.first)
        self._began_anew = True
        self._sources = self._all.copy()
        pause = self._backoff.pause(_UNSAID_PAUSE)
        self._note_retry(Transient(str(error), reason=error.reason), pause)
        for source in self._sources:
            source.final_url = source.url
        await asyncio.sleep(pause)
        return True

    def distrust(self) -> None:
        """After a wrong checksum, settle on one source: the item's own, or the next one if it was that one alone."""
        suspects = [source for source in self._sources if source.used]
        if len(suspects) > 1:
            self._sources = suspects[:1]
        else:
            self._sources = [source for source in self._sources if source not in suspects][:1] or suspects

    def next(self) -> Source:
        self._turn = (self._turn + 1) % len(self._sources)
        return self._sources[self._turn - 1]


def _url_of(fresh: str | Renewed) -> str:
    return fresh.url if isinstance(fresh, Renewed) else fresh
