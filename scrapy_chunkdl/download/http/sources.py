"""The URLs a file can be had from: asking them, learning what the file is, and leaving out those that are no good.

Knows requests, and carries out what the table of verdicts says of answers; nothing of what happens to the bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from types import TracebackType
from typing import TypeVar
from weakref import WeakKeyDictionary

import aiohttp

from scrapy_chunkdl.download.disk.partfile import Published
from scrapy_chunkdl.download.errors import (
    AskLess,
    Contradiction,
    DownloadError,
    Permanent,
    SourceChanged,
    Throttled,
    TooFast,
    Transient,
)
from scrapy_chunkdl.download.http.client import FileClient
from scrapy_chunkdl.download.http.handed_on import Tried
from scrapy_chunkdl.download.http.headers import (
    Validator,
    parse_content_range,
    parse_retry_after,
)
from scrapy_chunkdl.download.http.identity import host_of
from scrapy_chunkdl.download.http.known import By, Known, Match, compare
from scrapy_chunkdl.download.http.remote import Remote, covers_whole
from scrapy_chunkdl.download.http.verdict import DEAD_LINK, SLOW_DOWN, TOO_MANY, Asked, Came, Word, is_whole, verdict
from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.limits.rate import Pace
from scrapy_chunkdl.download.model import FileRequest, Options, Progress, Renewed
from scrapy_chunkdl.download.plan import retry
from scrapy_chunkdl.download.progress import Doing
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

T = TypeVar("T")

_UNSAID_PAUSE = 4
"""A 429 without Retry-After cools the host down as the fourth failure in a row would."""

_MOST_RENEWALS = 3
"""Fresh URLs one file may get. A link that is dead as soon as it is made will not live the fourth time."""

_SHORT_LIFE = 30.0
"""Seconds within which a link that has died was good for so many requests, not for so long: it is not shared then."""

_NOT_THE_SOURCES_FAULT = frozenset(
    {
        "disk_full",
        "read_only",
        "disk_error",
        "too_many_open_files",
        "lease_lost",
        "too_large",
        "bad_header",
        "bad_checksum",
        "remeasured",
    }
)


@dataclass(slots=True, eq=False)
class Source:
    """One URL the bytes can be had from. ``final_url`` is where a GET last led; ``conditional`` whether If-Range works,
    ``vouched`` whether a 206 came to one, ``brought`` how many bytes of the file it has brought.

    ``leads_on`` says that HEAD was redirected: one GET finds out where to, and the others follow. ``is_shared`` says
    whether what one request was led to is good for the next one, too. ``led_at`` is the monotonic time of the redirect.
    """

    url: str
    final_url: str
    conditional: bool = True
    vouched: bool = False
    used: bool = False
    brought: int = 0
    leads_on: bool = False
    is_shared: bool = True
    led_at: float = 0.0
    leading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def host(self) -> str:
        return host_of(self.final_url)


class HostSlot:
    """One of a host's connections, in ``async with``. It shows in the file's progress, and so does the wait for it.

    Whoever it is handed on to gives it back by :meth:`release`.
    """

    __slots__ = ("_host", "_is_held", "_limits", "_progress", "_slot")

    def __init__(self, limits: Limits, host: str, progress: Progress) -> None:
        self._limits = limits
        self._host = host
        self._slot = limits.slot(host)
        self._progress = progress
        self._is_held = False

    async def __aenter__(self) -> HostSlot:
        limits, host = self._limits, self._host
        with self._progress.during(Doing.WAITING_FOR_A_HOST, lambda: limits.moved_at(host)):
            await self._slot.__aenter__()
        limits.hold(host, self._progress)
        self._is_held = True
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._is_held:
            await self.release()

    def hand_on(self) -> None:
        """Leave it held when this block ends."""
        self._is_held = False

    async def release(self) -> None:
        """Give it back."""
        self._is_held = False
        self._limits.let_go(self._host, self._progress)
        await self._slot.__aexit__()


class Opening:
    """A GET that was answered and whose body is still to be read, with the slot it holds.

    It is used, or closed, by whoever has it, before he asks for another slot: a host may have no more than this one.
    ``asked_at`` is monotonic.
    """

    __slots__ = ("_slot", "asked_at", "response", "source")

    def __init__(self, response: aiohttp.ClientResponse, source: Source, slot: HostSlot, asked_at: float) -> None:
        self.response = response
        self.source = source
        self.asked_at = asked_at
        self._slot: HostSlot | None = slot

    @property
    def is_open(self) -> bool:
        """Whether it is still to be used."""
        return self._slot is not None

    @property
    def is_plain(self) -> bool:
        """Whether the whole file was asked for."""
        return "Range" not in self.response.request_info.headers

    async def __aenter__(self) -> Opening:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the answer and give the slot back. Once is enough."""
        if self._slot is not None:
            slot, self._slot = self._slot, None
            if self.response.content.at_eof():
                self.response.release()
            else:
                self.response.close()
            await slot.release()


@dataclass(slots=True)
class Measured:
    """What a file is, and the answer that said so, if its body can be used: ``opening`` is the caller's to close.

    ``is_unchanged`` says that the server itself called it unchanged (304).
    """

    remote: Remote
    opening: Opening | None = None
    is_unchanged: bool = False

    async def close(self) -> None:
        """Close the opening, if it is there and was not used."""
        if self.opening is not None:
            opening, self.opening = self.opening, None
            await opening.close()


class Sources:
    """The sources of one file. The first that answers is ``main``; the others have to bring the same bytes.

    ``known`` is what all its answers so far, and the record of an earlier run, say the file is. ``hinted`` is the size
    a HEAD told, which decides where nothing else does, ``hinted_type`` the Content-Type it told. ``keeps_coded`` is
    whether a Content-Encoding is left as it is, since the checksum is of that form. ``expected`` is a checksum the item
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
        tried: Tried | None = None,
    ) -> None:
        self._request = request
        self._options = options
        self._limits = limits
        self._progress = progress
        self._expected = expected
        self._client = FileClient(session, options, request, tried, progress.answered)
        self._given_at = tried.asked_at if tried is not None and tried.given is not None else 0.0
        self._all = [Source(url, url) for url in (request.url, *request.mirrors)]
        self._sources = self._all.copy()
        self._turn = 0
        self._backoff = retry.Backoff(options.backoff_base, options.backoff_max)
        self.main = self._own = self._sources[0]
        self._renewing = asyncio.Lock()
        self._renewals = self._renewed = 0
        self._refused_head = 0
        self._tries = 0
        self.known: Known | None = None
        self.hinted = 0
        self.hinted_type: str | None = None
        self.disposition: str | None = None
        self.keeps_coded = False
        self._began_anew = False
        self._asked_at: WeakKeyDictionary[aiohttp.ClientResponse, float] = WeakKeyDictionary()

    @property
    def requests(self) -> int:
        """HTTP requests sent so far, redirects included."""
        return self._client.requests

    @property
    def first(self) -> Source:
        """The source to be asked for the whole file."""
        return self._sources[0]

    @property
    def expected(self) -> tuple[str, str] | None:
        """The checksum that the item gives, as (algorithm, hex)."""
        return self._expected

    @property
    def is_checked(self) -> bool:
        """Whether a checksum of the item decides at the end."""
        return self._expected is not None

    def slot(self, source: Source) -> HostSlot:
        """Hold one of the connections the source's host gets."""
        return HostSlot(self._limits, source.host, self._progress)

    def pace(self, source: Source) -> Pace:
        """Return how fast a body may come from where the source last led."""
        return self._limits.pace(source.host)

    def queue(self) -> float:
        """Return the seconds for which a new reader of the main source would wait for its turn, under a limit."""
        return self._limits.pace(self.main.host).queue(time.monotonic())

    def give_way(self, host: str) -> bool:
        """Tell whether a request to ``host`` is to end early, for other processes that wait."""
        return self._limits.give_way(host)

    # --- what the file is

    async def measure(self, finished: Published | None = None, *, by_head: bool = True) -> Measured:
        """Learn size, ranges and validators, from the first source that answers.

        ``finished`` is the file as an earlier run brought it, if it would do: what is unchanged costs no body. Without
        ``by_head`` only GETs are asked, since HEAD has told something else than they did.
        """
        if self.known is None and finished is not None and finished.url is not None:
            self.known = Known(By.FINISHED, finished.size, finished.validator)
        while True:
            source = self.main = self._sources[0]
            self._tries = 0
            insist = self.retrying()(self._measure_at)
            try:
                measured = await insist(source, finished, by_head)
            except DownloadError as error:
                if not self.drop(source, error):
                    raise
                continue
            remote = measured.remote
            if not measured.is_unchanged:
                self.known = remote.known
            if self._expected is not None and not remote.coding:
                digests = {**remote.digests, self._expected[0]: self._expected[1]}
                measured.remote = replace(remote, digests=digests)
            return measured

    async def _measure_at(self, source: Source, finished: Published | None, by_head: bool) -> Measured:
        remote, self._tries = None, self._tries + 1
        if self._options.probe == "get":
            return await self._open_plainly(source, finished)
        asks_head = by_head and self._wants_head(source, finished)
        if asks_head:
            remote = await self._head(source)
            match = compare(self.known, remote.known) if self.known is not None and remote is not None else Match.UNTOLD
            if remote is not None and remote.size is not None and not remote.coding:
                told_all = remote.size > 0 and remote.ranges is not None and match is not Match.CONTRADICTION
                if told_all or (finished is not None and match is Match.SAME):
                    return Measured(remote)
            if match in (Match.OTHER, Match.CONTRADICTION):
                finished = None  # 304 may be said to any older date, or to an ETag that stays (Tornado)
            if remote is not None and match is not Match.SAME:
                self.known = remote.known
        measured = await self._open(source, remote, finished)
        if asks_head and source is self._own:
            self._limits.head_told(source.host, remote is not None)
        return measured

    def _wants_head(self, source: Source, finished: Published | None) -> bool:
        """Whether a HEAD is worth its time.

        Of a file that is there it tells more than a 304, which may leave out the date that gives away a lying ETag.
        """
        if (
            self._client.given is not None
            or self._options.probe == "range"
            or not self._limits.wants_heads(source.host)
        ):
            return False
        return self._options.probe == "head" or finished is not None or not self._limits.habits.are_small(source.host)

    def head_lied(self) -> None:
        """Note that GETs tell another size than HEAD did."""
        if self.hinted:
            self._limits.head_told(self._own.host, False)
        self.hinted = 0

    async def _head(self, source: Source) -> Remote | None:
        """Ask by HEAD. None when it is refused, hangs, fails, leads nowhere, or is not to be believed: a GET will tell.

        It always begins at the source's own URL, and where it leads to is not kept (RFC 9110 §9.3.2). Against the
        record of an earlier run it counts where it has validators and a size; the GET that follows has to agree.
        """
        patience = min(self._options.connect_timeout, self._options.stall_timeout) + 2 * self.queue()
        self._refused_head = 0
        async with self.slot(source):
            asked_at = self._progress.asked()
            try:
                response = await self._client.request("HEAD", source.url, {}, timeout=patience)
            except DownloadError as error:
                if error.reason == "connect_failed":
                    self._limits.refused(source.host, asked_at)
                return None
            finally:
                self._progress.requests = self.requests
            response.release()
            source.leads_on = str(response.url) != source.url
            came = self._came(response, Asked.HEAD)
            self._note_answer(source.host, came, asked_at)
        word = verdict(came, self._options.retry_codes)
        if word is Word.WAIT_HOST:
            self._cool_down(source.host, came.pause)
        if word is not Word.HINT:
            self._refused_head = response.status
            return None
        remote = Remote.of(response)
        if self.known is not None and compare(self.known, remote.known) is Match.CONTRADICTION:
            return None if remote.validator.is_empty or not remote.size else remote
        self.hinted, self.hinted_type = remote.size or 0, remote.content_type
        return remote

    async def _open(self, source: Source, hint: Remote | None, finished: Published | None) -> Measured:
        """Ask by a GET of the first chunk, or of the whole if that is no more, and keep the answer for its body."""
        chunk = self._options.chunk_size
        is_small = hint is not None and hint.size is not None and hint.size <= chunk and not hint.coding
        if (given := self._client.given) is not None:
            is_small = not given.ranged
        headers = {} if is_small else {"Range": f"bytes=0-{chunk - 1}"}
        headers.update(_conditions(finished))
        is_refused = False
        async with self.slot(source) as slot:
            while True:
                asked = Asked.FIRST if "Range" in headers else Asked.PLAIN
                asked_at = time.monotonic()
                response = await self.ask("GET", source, headers, asked, failures=self._tries - 1)
                opening = Opening(response, source, slot, asked_at)
                try:
                    if response.status == 304 and finished is not None and _conditions(finished):
                        response.release()
                        if finished.validator.same_version(Validator.of(response.headers)) is not False:
                            return Measured(_unchanged(finished), is_unchanged=True)
                        for name in _conditions(finished):  # an older version has come back
                            del headers[name]
                        finished = None
                        continue
                    measured = self._opened(opening, asked, hint)
                except AskLess as less:
                    response.close()
                    if "Range" not in headers:
                        raise less.refusal from less
                    del headers["Range"]
                    is_refused = True
                    continue
                except BaseException:
                    response.close()
                    raise
                if is_refused:
                    measured.remote = replace(measured.remote, ranges=False)
                if measured.opening is None:
                    response.close()
                else:
                    slot.hand_on()
                return measured

    async def _open_plainly(self, source: Source, finished: Published | None) -> Measured:
        """Ask by one plain GET, after which nothing else is asked for: what it brings, it brings in one stream."""
        measured = await self._open(source, Remote(0, False, Validator()), finished)
        measured.remote = replace(measured.remote, ranges=False)
        return measured

    def _opened(self, opening: Opening, asked: Asked, hint: Remote | None) -> Measured:
        response, source = opening.response, opening.source
        status = response.status
        part = parse_content_range(response.headers.get("Content-Range"))
        if status == 416 and part is not None and part.total == 0:
            validator = Validator.of(response.headers)
            if validator.is_empty and hint is not None:
                validator = hint.validator
            if validator.is_empty:  # the next run will want to know
                raise AskLess(Permanent(f"{response.url} has no bytes", reason="http_416", status=416))
            return Measured(Remote(0, False, validator, confirmed=True), opening)
        if status == 204 and hint is not None and hint.size == 0:
            return Measured(replace(hint, ranges=False, confirmed=True), opening)
        remote = Remote.of(response)
        if (error := self.refused(response, source, asked, remote=remote, failures=self._tries - 1)) is not None:
            raise error
        if status == 206 and not covers_whole(response):
            honest = part is not None and part.start == 0 and not remote.coding and remote.can_be_split
            if not honest:
                return Measured(replace(remote, ranges=False))  # one stream, asked for anew
        return Measured(remote, opening)

    def forget(self) -> None:
        """Forget what is known of the file: there is another version."""
        self.known = None
        self.hinted = 0
        for source in self._sources:
            source.conditional = True

    # --- requests

    async def ask(
        self, method: str, source: Source, headers: dict[str, str], asked: Asked, *, failures: int = 0
    ) -> aiohttp.ClientResponse:
        """Send a request to where the source last led.

        Raises Transient for a link that led there and is dead now, and for a request without an answer; AskLess where
        that may be about the range.
        """
        while True:
            renewed = self._renewed
            try:
                response = await self._ask_after_the_first(method, source, headers)
            except Transient as error:
                if error.reason in ("link_expired", "renewed"):
                    raise
                came = Came(asked, reason=error.reason, failures=failures, conditional="If-Range" in headers)
                if verdict(came, self._options.retry_codes) is Word.LESS:
                    raise AskLess(error) from error
                raise
            if response.status not in DEAD_LINK or self._request.renew is None:
                return response
            if asked is Asked.LATER and failures < 1:
                return response  # another connection may be one too many
            response.close()
            if not await self._renew(source, renewed):
                return response

    async def _ask_after_the_first(
        self, method: str, source: Source, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        """Send a request; where a redirect is expected, once the first one has found out where it leads."""
        if not (source.leads_on and source.is_shared and source.final_url == source.url):
            return await self._ask(method, source, headers)
        async with source.leading:
            if source.final_url == source.url:
                return await self._ask(method, source, headers)
        return await self._ask(method, source, headers)

    async def _ask(self, method: str, source: Source, headers: dict[str, str]) -> aiohttp.ClientResponse:
        asked_at = self._progress.asked()
        if not source.is_shared:
            source.final_url = source.url
        asked, host = source.final_url, source.host
        try:
            response = await self._client.request(method, asked, headers)
        except Transient as error:
            if error.reason == "connect_failed" or self._limits.is_serving(host):
                self._limits.refused(host, asked_at)
            raise
        self._asked_at[response], self._given_at = self._given_at or asked_at, 0.0
        self._progress.requests = self.requests
        if method == "GET" and 200 <= response.status < 300:
            self.disposition = response.headers.get("Content-Disposition") or self.disposition
        if response.status < 400:
            self._limits.answered(host)
            led_to = str(response.url)
            if led_to != source.final_url:
                source.final_url, source.led_at = led_to, asked_at
        elif response.status in TOO_MANY:
            self._limits.refused(host, asked_at)
        elif response.status in DEAD_LINK and asked != source.url:
            response.close()
            if source.final_url == asked:  # else another connection has resolved it again already
                source.final_url = source.url
                if asked_at - source.led_at < _SHORT_LIFE:
                    source.is_shared = False
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

    # --- what answers mean

    def refused(
        self,
        response: aiohttp.ClientResponse,
        source: Source,
        asked: Asked,
        *,
        remote: Remote | None = None,
        conditional: bool = False,
        failures: int = 0,
        is_served: bool = False,
    ) -> DownloadError | None:
        """Return what is wrong with an answer by the table of verdicts, or None for one whose bytes are to be used.

        The host's limits are told. AskLess, SourceChanged and Contradiction are among what is returned.
        """
        match, is_doubtful = Match.UNTOLD, False
        if remote is not None and is_whole(response.status):
            if self.known is not None:
                match = compare(self.known, remote.known)
            is_doubtful = asked is Asked.FIRST and self._is_doubtful(response, remote, match)
        host = source.host
        came = self._came(
            response,
            asked,
            match=match,
            is_doubtful=is_doubtful,
            conditional=conditional,
            failures=failures,
            is_served=is_served,
        )
        if came.status in SLOW_DOWN and came.pause is None and not is_served:
            came = replace(came, is_suspect=self._limits.too_fast(host, self._asked_at[response]))
        word = verdict(came, self._options.retry_codes)
        if word is Word.USE:
            return None
        text = f"{response.url} answered {came.status} {response.reason or ''}".rstrip()
        if word is Word.CROWD:
            self._limits.refused(host, time.monotonic())
        if word is Word.AFRESH:
            return SourceChanged(f"{response.url} is another version now", status=came.status)
        if word is Word.LESS:
            refusal = self._refusal(text, came)
            if not came.status or came.status != self._refused_head:
                return AskLess(refusal)
            if not came.is_suspect:
                return refusal
            word = Word.SLOWER
        if word is Word.WAIT_HOST:
            self._cool_down(host, came.pause)
            return Throttled(text, status=came.status, delay=came.pause)
        if word is Word.WAIT_FILE:
            delay = min(came.pause or 0.0, self._options.retry_after_max)
            return Throttled(text, status=came.status, delay=delay, of_host=False)
        if word is Word.SLOWER:
            return TooFast(text, reason=f"http_{came.status}", status=came.status)
        if match is Match.CONTRADICTION:
            return Contradiction(f"{response.url} answered with something else than the file", status=came.status)
        if word is Word.END:
            return Permanent(text, reason=f"http_{came.status}", status=came.status)
        reason = "range_ignored" if is_whole(came.status) else f"http_{came.status}"
        return Transient(text, reason=reason, status=came.status)

    def _refusal(self, text: str, came: Came) -> DownloadError:
        kind = Transient if came.status in self._options.retry_codes else Permanent
        return kind(text, reason=f"http_{came.status}", status=came.status)

    def _came(self, response: aiohttp.ClientResponse, asked: Asked, **more: object) -> Came:
        pause = None
        if "Retry-After" in response.headers:
            pause = parse_retry_after(response.headers["Retry-After"], datetime.now(timezone.utc))
        is_part = response.status == 206 and asked is Asked.PLAIN and not covers_whole(response)
        return Came(asked, response.status, pause=pause, is_part=is_part, **more)  # type: ignore[arg-type]

    def _is_doubtful(self, response: aiohttp.ClientResponse, remote: Remote, match: Match) -> bool:
        """Whether a 200 to the first range may be that range only: it names it, or is just as long as it."""
        if "Content-Range" in response.headers:
            return not covers_whole(response)
        if match is Match.OTHER and self.known is not None:
            return self.known.validator.same_version(remote.validator) is True
        is_known = self.known is not None and self.known.size is not None and match is Match.SAME
        return not is_known and remote.size == self._options.chunk_size

    def _note_answer(self, host: str, came: Came, asked_at: float) -> None:
        if came.status < 400:
            self._limits.answered(host)
        elif came.status in TOO_MANY:
            self._limits.refused(host, asked_at)
        if came.status in SLOW_DOWN and came.pause is None:
            self._limits.too_fast(host, asked_at)

    def _cool_down(self, host: str, pause: float | None) -> None:
        delay = self._backoff.pause(_UNSAID_PAUSE) if pause is None else pause
        self._limits.cool_down(host, min(delay, self._options.retry_after_max))

    # --- trying again, and leaving out

    def retrying(
        self,
        position: Callable[..., int] = lambda *_: 0,
        enough: Callable[..., int] = lambda *_: 1,
    ) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Awaitable[T]]]:
        return retry.retrying(
            self._options.retry_times, self._backoff, position=position, enough=enough, on_retry=self._note_retry
        )

    def retry(self, position: Callable[[], int], enough: Callable[[], int]) -> retry.Retry:
        """Return the count of one connection's failures."""
        return retry.Retry(
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
        self.forget()
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


def _conditions(finished: Published | None) -> dict[str, str]:
    """Return what has the server say 304 instead of sending an unchanged file again (RFC 9110 §13.1)."""
    if finished is None:
        return {}
    before = finished.validator
    if (etag := before.strong_etag) is not None and etag.startswith('"'):
        return {"If-None-Match": etag}
    return {"If-Modified-Since": before.last_modified} if before.last_modified and before.date_is_strong else {}


def _unchanged(finished: Published) -> Remote:
    return Remote(finished.size, False, finished.validator, confirmed=True)


def _url_of(fresh: str | Renewed) -> str:
    return fresh.url if isinstance(fresh, Renewed) else fresh
