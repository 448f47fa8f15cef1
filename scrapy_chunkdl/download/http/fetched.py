"""Answers that somebody else fetches, each whole in memory, as a source: Scrapy's downloader, say.

A GET to http goes in ranges, with the validators, verdicts and retries of any other; what may not be sent twice, and
what no range can be asked of, in one answer. Knows answers as they are handed in; nothing of who fetches them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http.cookies import SimpleCookie
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from scrapy_chunkdl.download.errors import Permanent, Transient
from scrapy_chunkdl.download.http.allowed import refuse_host
from scrapy_chunkdl.download.http.answer import HttpFile
from scrapy_chunkdl.download.http.host_signs import note_answer
from scrapy_chunkdl.download.http.identity import host_of
from scrapy_chunkdl.download.http.judge import Judge
from scrapy_chunkdl.download.http.redirects import followed
from scrapy_chunkdl.download.http.requests import Link, Requests
from scrapy_chunkdl.download.http.source import HttpSource
from scrapy_chunkdl.download.http.urls import host_name, without_userinfo
from scrapy_chunkdl.download.source import FileContext, Source

MOST_AT_ONCE = 8 << 20
"""Bytes of one range, as all of them are in memory until they are written."""

_UNSENT = frozenset({"dns", "connect_failed", "connect_timeout"})
"""What goes wrong before anything was sent."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer: where it came from at last, its status (200 for what has none), its fields, and its whole body."""

    url: str
    status: int
    fields: list[tuple[str, str]]
    body: bytes = field(repr=False)


Send = Callable[[str, str, Mapping[str, str]], Awaitable[Fetched]]
"""Sends a request by method, URL and fields to be added. Raises DownloadError."""


@dataclass(frozen=True, slots=True)
class How:
    """How a file is asked for. ``is_whole``: by one answer. ``is_repeatable``: again, once an answer has come."""

    is_whole: bool = False
    is_repeatable: bool = True


def fetched_source(context: FileContext, url: str, send: Send, how: How) -> Source:
    """Return the source of one of the file's URLs, without a login."""
    if how.is_whole:
        context = replace(context, options=replace(context.options, probe="get"))
    requests = Requests(context, _Client(context, send, how))
    return HttpSource(
        HttpFile(context, requests, Judge(context), MOST_AT_ONCE), _AnyLink(url, url, is_own=url == context.request.url)
    )


class _AnyLink(Link):
    """A URL of any scheme: what has no host is counted by its scheme."""

    @property
    def host(self) -> str:
        try:
            return host_of(self.final_url)
        except Permanent:
            return f"{self.final_url.partition(':')[0][:20].lower()}:"


class _Client:
    """Sends the requests of one file through somebody else's hands."""

    given = None

    def __init__(self, context: FileContext, send: Send, how: How) -> None:
        self._options = context.options
        self._circuits = context.limits.circuits
        self._is_direct = context.request.proxy is None
        self._progress = context.progress
        self._send = send
        self._how = how
        self._renewed: dict[str, str] = {}
        self._is_answered = False

    def without_login(self, url: str) -> str:
        """Return a new URL of the file: its login is not for everybody's eyes."""
        return without_userinfo(url)

    def renew(self, url: str, headers: Mapping[str, str]) -> None:
        """Send ``headers`` with the requests from now on."""
        self._renewed.update(headers)

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], *, timeout: float | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request, and return its answer. Redirects have been followed, or are where hosts are to be checked."""
        if self._is_answered and not self._how.is_repeatable:
            text = f"{url} is not asked for a second time: it may be done twice by that"
            raise Permanent(text, reason="not_repeated")
        asked = {**self._renewed, **headers}

        async def send(target: str) -> aiohttp.ClientResponse:
            self._refuse(target)
            return cast(aiohttp.ClientResponse, _Response(method, await self._fetch(method, target, asked), asked))

        if not is_guarded(self._options):
            return await send(url)
        cookie = CIMultiDict(asked).get("Cookie", "")
        return await followed(url, send, lambda target: cookie, self._options.max_redirects)

    def _refuse(self, url: str) -> None:
        if url.lower().startswith(("http:", "https:")):
            refuse_host(host_name(url), self._options)
        elif is_guarded(self._options) and not url.lower().startswith("data:"):
            text = (
                "only http: and https: are asked where CHUNKDL_ALLOWED_HOSTS or CHUNKDL_BLOCK_PRIVATE_ADDRESSES is set"
            )
            raise Permanent(text, reason="host_not_allowed")

    async def _fetch(self, method: str, url: str, headers: Mapping[str, str]) -> Fetched:
        host = host_of(url) if url.lower().startswith(("http:", "https:")) else None
        if host is not None:
            self._circuits.ask(host)
        self._progress.requests += 1
        asked_at = self._progress.asked()
        try:
            fetched = await self._send(method, url, headers)
        except Transient as error:
            self._progress.answered(None, asked_at, method, url, error.reason)
            if host is not None and self._is_direct:
                is_bad = self._circuits.unanswered(host, id(self._progress), error.reason, asked_at)
                self._progress.blames = host if is_bad else None
            if not self._how.is_repeatable and error.reason not in _UNSENT:
                raise Permanent(f"{error}, and it is not sent again", reason=error.reason) from error
            raise
        self._is_answered = True
        self._progress.answered(fetched.status, asked_at, method, url)
        if host is not None:
            fields = CIMultiDict(fetched.fields)
            note_answer(self._circuits, self._progress, host, method, fetched.status, fields, asked_at)
        return fetched


def is_guarded(options: Any) -> bool:
    """Whether each host on the way has to be looked at: then redirects are followed here."""
    return bool(options.allowed_hosts or options.block_private_addresses)


class _Response:
    """As much of aiohttp's response as is read here, made of an answer that is whole in memory."""

    reason = None
    connection = None

    def __init__(self, method: str, fetched: Fetched, asked: Mapping[str, str]) -> None:
        self.method = method
        self.status = fetched.status
        self.url = URL(fetched.url, encoded=True) if "://" in fetched.url else _Name(fetched.url)
        self.headers: CIMultiDict[str] = CIMultiDict(fetched.fields)
        self.cookies = SimpleCookie()
        self.request_info = SimpleNamespace(headers=CIMultiDict(asked))
        if method != "HEAD":
            self.headers.popall("Transfer-Encoding", None)
            self.headers["Content-Length"] = str(len(fetched.body))
        self.content = _Content(fetched.body)

    def release(self) -> None:
        """Let go of the body."""
        self.content.data = b""

    close = release


class _Name(str):
    """A URL that has no host."""

    name = ""


class _Content:
    def __init__(self, data: bytes) -> None:
        self.data = data

    async def readany(self) -> bytes:
        data, self.data = self.data, b""
        return data

    def at_eof(self) -> bool:
        return not self.data
