"""The requests of one file: sent to where its URLs lead, by fresh links where these have died.

Tells the limits how a host bears it. Knows links, redirects and hosts; nothing of what an answer means for the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

import aiohttp

from scrapy_chunkdl.download.errors import AskLess, Permanent, Transient
from scrapy_chunkdl.download.http.handed_on import Tried
from scrapy_chunkdl.download.http.identity import host_of
from scrapy_chunkdl.download.http.verdict import DEAD_LINK, NOWHERE, TOO_MANY, Asked, Came, Word, verdict
from scrapy_chunkdl.download.model import Renewed
from scrapy_chunkdl.download.source import FileContext
from scrapy_chunkdl.services.patience import within
from scrapy_chunkdl.text.masking import masked

_MOST_RENEWALS = 3
"""Fresh URLs one file may get. A link that is dead as soon as it is made will not live the fourth time."""

_SHORT_LIFE = 30.0
"""Seconds within which a link that has died was good for so many requests, not for so long: it is not shared then."""


@dataclass(slots=True, eq=False)
class Link:
    """A URL, and what is known of the way from it to the bytes.

    ``final_url`` is where a GET last led. ``leads_on`` says that HEAD was redirected: one GET finds out where to, and
    the others follow. ``is_shared`` says whether what one request was led to is good for the next one, too. ``led_at``
    is the monotonic time of the redirect. ``is_own`` is the item's own URL, which alone can be renewed. ``conditional``
    says whether If-Range works there, ``vouched`` whether a 206 came to one.
    """

    url: str
    final_url: str
    is_own: bool = False
    conditional: bool = True
    vouched: bool = False
    leads_on: bool = False
    is_shared: bool = True
    led_at: float = 0.0
    leading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def host(self) -> str:
        return host_of(self.final_url)


class Client(Protocol):
    """Who sends the requests of one file: :class:`~scrapy_chunkdl.download.http.client.FileClient`, or another."""

    @property
    def given(self) -> Tried | None: ...

    def without_login(self, url: str) -> str: ...

    def renew(self, url: str, headers: Mapping[str, str]) -> None: ...

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], *, timeout: float | None = None
    ) -> aiohttp.ClientResponse: ...


class Requests:
    """Sends the requests of one file, over all of its links."""

    def __init__(self, context: FileContext, client: Client, tried: Tried | None = None) -> None:
        self._options = context.options
        self._limits = context.limits
        self._progress = context.progress
        self._evidence = context.evidence
        self._renew_link = context.request.renew
        self._client = client
        self._given_at = tried.asked_at if tried is not None and tried.given is not None else 0.0
        self._renewing = asyncio.Lock()
        self._renewals = self._renewed = 0
        self._asked_at: WeakKeyDictionary[aiohttp.ClientResponse, float] = WeakKeyDictionary()

    @property
    def given(self) -> Tried | None:
        """What was tried before, if the first GET has been sent and its answer waits to be read."""
        return self._client.given

    def asked_at(self, response: aiohttp.ClientResponse) -> float:
        """Return when the request of an answer went out, by the monotonic clock."""
        return self._asked_at[response]

    async def head(self, link: Link, timeout_s: float) -> aiohttp.ClientResponse:
        """Ask by HEAD, always at the link's own URL: where it leads to is not kept (RFC 9110 §9.3.2)."""
        response = await self._client.request("HEAD", link.url, {}, timeout=timeout_s)
        response.release()
        link.leads_on = str(response.url) != link.url
        return response

    async def get(
        self,
        link: Link,
        headers: dict[str, str],
        asked: Asked,
        *,
        failures: int = 0,
        patience_s: float | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a GET to where the link last led.

        Raises Transient for a link that led there and is dead now, and for a request without an answer; AskLess where
        that may be about the range, as when none has come in ``patience_s`` seconds.
        """
        while True:
            renewed = self._renewed
            try:
                response = await within(patience_s, self._get_after_the_first(link, headers))
            except asyncio.TimeoutError:
                self._limits.habits.ranges_fell_silent(link.host)
                raise AskLess(Transient(f"{link.url} sent no byte in time", reason="stalled")) from None
            except (Transient, Permanent) as error:
                is_end = isinstance(error, Permanent) and error.reason not in NOWHERE
                if is_end or error.reason in ("link_expired", "renewed"):
                    raise
                came = Came(asked, reason=error.reason, failures=failures, conditional="If-Range" in headers)
                if verdict(came, self._options.retry_codes) is Word.LESS:
                    raise AskLess(error) from error
                raise
            if not _is_dead(response.status, link.final_url) or self._renew_link is None:
                return response
            if asked is Asked.LATER and failures < 1:
                return response  # another connection may be one too many
            response.close()
            if not await self._renew(link, renewed):
                return response

    async def _get_after_the_first(self, link: Link, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """Send a request; where a redirect is expected, once the first one has found out where it leads."""
        if not (link.leads_on and link.is_shared and link.final_url == link.url):
            return await self._get(link, headers)
        async with link.leading:
            if link.final_url == link.url:
                return await self._get(link, headers)
        return await self._get(link, headers)

    async def _get(self, link: Link, headers: dict[str, str]) -> aiohttp.ClientResponse:
        asked_at = self._progress.asked()
        if not link.is_shared:
            link.final_url = link.url
        asked, host = link.final_url, link.host
        try:
            response = await self._client.request("GET", asked, headers)
        except Transient as error:
            if error.reason == "connect_failed" or self._limits.is_serving(host):
                self._limits.refused(host, asked_at)
            raise
        self._asked_at[response], self._given_at = self._given_at or asked_at, 0.0
        if 200 <= response.status < 300:
            self._evidence.disposition = response.headers.get("Content-Disposition") or self._evidence.disposition
        if response.status < 400:
            self._limits.answered(host)
            led_to = str(response.url)
            if led_to != link.final_url:
                link.final_url, link.led_at = led_to, asked_at
        elif response.status in TOO_MANY:
            self._limits.refused(host, asked_at)
        elif asked != link.url and _is_dead(response.status, asked):
            response.close()
            if link.final_url == asked:  # else another connection has resolved it again already
                link.final_url = link.url
                if asked_at - link.led_at < _SHORT_LIFE:
                    link.is_shared = False
            text = f"{asked} answered {response.status}: a link that expired"
            raise Transient(text, reason="link_expired", status=response.status)
        return response

    async def _renew(self, link: Link, renewed: int) -> bool:
        """Get a fresh URL for the item's own, which had been renewed so often when it was asked; False for none.

        Of several connections one asks for it.
        """
        async with self._renewing:
            if self._renewed != renewed:
                return True
            if not link.is_own or self._renewals >= _MOST_RENEWALS:
                return False
            assert self._renew_link is not None
            self._renewals += 1
            fresh = await self._renew_link()
            if isinstance(fresh, Renewed) and fresh.headers:  # the same URL may do: a token in a header ran out
                self._client.renew(self._client.without_login(fresh.url), fresh.headers)
            elif not fresh or _url_of(fresh) == link.url:
                self._renewals = _MOST_RENEWALS
                return False
            link.url = link.final_url = self._client.without_login(_url_of(fresh))
            self._renewed += 1
            self._progress.retried("link_expired")
            return True


def _url_of(fresh: str | Renewed) -> str:
    return fresh.url if isinstance(fresh, Renewed) else fresh


def _is_dead(status: int, url: str) -> bool:
    """Whether a status may say that a link has expired: S3 answers 400 (ExpiredToken) to one with an old signature."""
    return status in DEAD_LINK or (status == 400 and masked(url) != url)
