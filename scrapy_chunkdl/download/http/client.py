"""One thread's HTTP client: requests, redirects followed hop by hop, and aiohttp's errors told in our own.

Each hop is checked (scheme, allowed hosts, addresses, robots.txt) and gets the headers and the proxy that are for it.
Knows HTTP; nothing of files, chunks or plans.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from scrapy_chunkdl.download.errors import DownloadError, Permanent, Transient
from scrapy_chunkdl.download.host_rules import VIA_SCRAPY
from scrapy_chunkdl.download.http import addresses, proxies, tls
from scrapy_chunkdl.download.http.allowed import refuse_host
from scrapy_chunkdl.download.http.coding import meaning_of_coding
from scrapy_chunkdl.download.http.decoding import Decoder
from scrapy_chunkdl.download.http.handed_on import Tried, given_answer
from scrapy_chunkdl.download.http.handler import waiting
from scrapy_chunkdl.download.http.heads import LONGEST_HEAD
from scrapy_chunkdl.download.http.host_signs import note_answer
from scrapy_chunkdl.download.http.identity import Identity, host_of, no_url
from scrapy_chunkdl.download.http.paced import PacedConnector
from scrapy_chunkdl.download.http.redirects import followed
from scrapy_chunkdl.download.http.robots import BYTES_READ
from scrapy_chunkdl.download.http.sending_again import only_if
from scrapy_chunkdl.download.http.urls import NoUrl, host_name, wire_url, without_userinfo
from scrapy_chunkdl.download.limits.circuits import Circuits
from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.limits.rate import Rates
from scrapy_chunkdl.download.model import FileRequest, Options, Progress
from scrapy_chunkdl.download.plan import retry
from scrapy_chunkdl.download.progress import Doing
from scrapy_chunkdl.text.masking import cut, shown_url

_MOST_CHALLENGES = 3
"""Requests for one answer: one without a nonce, one with a nonce that has just become stale, one more."""

_READ_BUFFER = 1 << 18
_HEAD_LIMITS: dict[str, Any] = {
    name: limit
    for name, limit in {"max_line_size": LONGEST_HEAD, "max_field_size": LONGEST_HEAD, "max_headers": 10_000}.items()
    if name in inspect.signature(aiohttp.ClientSession.__init__).parameters  # before 3.14 there is no limit to lift
}
_DNS_TTL = 60
_NO_ADDRESS: type[Exception] | tuple[()] = getattr(aiohttp, "ClientConnectorDNSError", ())
"""aiohttp 3.10.0 has no such error yet, and tells by the error of the system."""

_LONGEST_CAUSE = 100
"""Characters of somebody else's message, which may hold a body."""

_MOST_UNREADABLE = 3
"""Answers in a row that cannot be read, after which a file is given up: such a fault is the same the next time."""

_ROBOTS_RETRIES = 2
"""As many as Scrapy's own RETRY_TIMES."""


def new_session(options: Options, rates: Rates, context: ssl.SSLContext) -> aiohttp.ClientSession:
    """Open the session of a download thread; called inside its loop, closed by the caller.

    Connections are limited by :class:`~scrapy_chunkdl.download.limits.hosts.Limits`, not by the connector.
    aiohttp's own total time-out of 300 s would end big files; stalls are what is timed.
    """
    connector = PacedConnector(
        rates,
        stall_timeout=options.stall_timeout,
        limit=0,
        use_dns_cache=options.dns_cache,
        ttl_dns_cache=_DNS_TTL,
        is_guarded=options.block_private_addresses,
        ssl=context,
        local_addr=(options.bind_address, 0) if options.bind_address else None,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=_READ_BUFFER,
        timeout=_timeout(options, total=None),
        skip_auto_headers=(hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT),
        **_HEAD_LIMITS,
    )


def _timeout(options: Options, *, total: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=total,
        connect=options.dns_timeout + options.connect_timeout,  # the name, and what a proxy takes, included
        sock_connect=options.connect_timeout,
        sock_read=options.first_byte_timeout,  # behind it the stall time-out holds, see http/handler.py
    )


class FileClient:
    """Sends the requests of one file, counted in its progress: with its headers, cookies, proxy, along redirects."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        options: Options,
        request: FileRequest,
        progress: Progress,
        tried: Tried | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._session = session
        self._options = options
        self._request = request
        self._identity = Identity(request, options)
        self._has_stalled = False
        self._unreadable = 0
        self._progress = progress
        self._tried = tried or Tried()
        self._limits = limits
        self._circuits = limits.circuits if limits is not None else Circuits()

    @property
    def given(self) -> Tried | None:
        """What was tried before, if the first GET has been sent and its answer waits to be read."""
        return self._tried if self._tried.given is not None else None

    def without_login(self, url: str) -> str:
        """Return a new URL of the file without its ``user:password@``, which goes with requests to its origin."""
        return self._identity.without_login(url)

    def renew(self, url: str, headers: Mapping[str, str]) -> None:
        """Send ``headers`` with the requests from now on. Raises Permanent for those that cannot be sent."""
        self._identity.renew(url, headers)

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], *, timeout: float | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request, follow its redirects, and return the last response, its body unread.

        ``timeout`` is in seconds, for each hop as a whole; None leaves it to the session's, which know only stalls.
        Raises Permanent for refused or broken URLs, TLS failures and redirect loops, Transient for what the network
        does.
        """
        try:
            url = wire_url(without_userinfo(url))
        except NoUrl as error:
            raise no_url(url, error) from None
        return await followed(
            url,
            lambda target: self._send_with_login(method, target, headers, timeout),
            self._identity.cookies_for,
            self._options.max_redirects,
        )

    async def _send_with_login(
        self, method: str, url: str, headers: Mapping[str, str], timeout: float | None
    ) -> aiohttp.ClientResponse:
        """Send a request, and again with what a 401 asks for, if there is a login for its host."""
        for _ in range(_MOST_CHALLENGES):
            response = await self._send(method, url, headers, timeout)
            if response.status != 401:
                break
            from scrapy_chunkdl.download.http.digest import challenge_of  # a 401 is rare

            challenge = challenge_of(response.headers.getall(hdrs.WWW_AUTHENTICATE, ()))
            sent = response.request_info.headers.get(hdrs.AUTHORIZATION, "")
            if challenge is None or not self._identity.takes_up(challenge, url, sent):
                break
            response.release()
        return response

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], timeout: float | None
    ) -> aiohttp.ClientResponse:
        target = self._checked(url)
        robots = self._options.robots
        if robots is not None:
            asks_for_delay = await robots.check(url, self._identity.user_agent, self._fetch_robots)
            if asks_for_delay and self._limits is not None:  # it was not known when the slot was got
                with self._progress.during(Doing.WAITING_FOR_A_HOST, time.monotonic):
                    await self._limits.wait_for_pace(host_of(url))
        sent = self._identity.headers_for(url, method)
        sent.update(headers)
        sent[hdrs.ACCEPT_ENCODING] = "identity"
        (proxy, is_trusted), to_proxy = self._proxy_for(url), None
        if proxy is not None and proxy.authorization:
            if target.scheme == "https":  # for CONNECT; the server behind the tunnel must not see it
                to_proxy = CIMultiDict({hdrs.PROXY_AUTHORIZATION: proxy.authorization})
            else:
                sent[hdrs.PROXY_AUTHORIZATION] = proxy.authorization
        host = host_of(url)
        if method == hdrs.METH_GET and (given := self._tried.take()) is not None:
            given_answer.set(given)
        else:
            self._circuits.ask(host)
            self._progress.requests += 1
        if self._has_stalled and isinstance(connector := self._session.connector, PacedConnector):
            connector.drop_idle(target.host or "", target.port or 0)
        asked_at = time.monotonic()
        try:
            with (
                addresses.connecting(may_be_inside=is_trusted),
                waiting(patiently=self._has_stalled),
                only_if(lambda: self._circuits.may_send_again(host)),
            ):
                response = await self._session.request(
                    method,
                    target,
                    headers=sent,
                    allow_redirects=False,
                    timeout=self._session.timeout if timeout is None else _timeout(self._options, total=timeout),
                    proxy=URL(proxy.connected_to) if proxy is not None else None,
                    proxy_headers=to_proxy,
                )
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            offered = tls.explain(error) is not None and self._forget_session(host_name(url))
            problem = explain(error, url, offered=offered)
            self._progress.answered(None, asked_at, method, url, problem.reason)
            if proxy is None and self._circuits.unanswered(host, id(self._progress), problem.reason, asked_at):
                self._progress.blames = host
            self._has_stalled |= problem.reason == "stalled" and method == "GET"
            if problem.reason == "bad_response" and method == "GET":
                self._unreadable += 1
                if self._unreadable >= _MOST_UNREADABLE:
                    problem = Permanent(str(problem), reason="bad_response")
            raise problem from error
        finally:
            given_answer.set(None)
        self._progress.answered(response.status, asked_at, method, url)
        note_answer(self._circuits, self._progress, host, method, response.status, response.headers, asked_at)
        self._unreadable = 0
        if response.cookies:
            self._identity.note_cookies(response.cookies, response.url)
        return response

    def _forget_session(self, host: str) -> bool:
        connector = self._session.connector
        return isinstance(connector, PacedConnector) and connector.forget_session(host)

    def _checked(self, url: str) -> URL:
        """Return the URL of a request, once it may be sent there. Raises Permanent."""
        refuse_host(host_name(url), self._options)
        if not url.endswith("?"):
            return URL(url, encoded=True)
        scheme, _, rest = url.partition("://")  # yarl has no query that is empty
        authority, _, target = rest.partition("/")
        return URL.build(scheme=scheme, authority=authority, path=f"/{target}", encoded=True)

    def _proxy_for(self, url: str) -> tuple[proxies.Proxy | None, bool]:
        """Return the proxy for a request, and whether it is one of the operator's, which may be inside.

        What an item names is held to the same rules as its URL.
        """
        via = self._options.host_rules.of(host_of(url)).via if not self._request.proxy else None
        if via is not None and via != VIA_SCRAPY:
            return proxies.proxy_for(url, via, {}), True
        proxy = proxies.proxy_for(url, self._request.proxy, self._options.proxies)
        if proxy is None:
            return None, False
        if any(proxy.url == known.url for known in self._options.proxies.values()):
            return proxy, True
        refuse_host(proxy.host, self._options)
        return proxy, False

    async def _fetch_robots(self, url: str) -> bytes:
        """Get a robots.txt the way this file is got, but for what is the item's own."""
        request = FileRequest(url, Path(), proxy=self._request.proxy)
        client = FileClient(self._session, replace(self._options, robots=None), request, Progress())
        backoff = retry.Backoff(self._options.backoff_base, self._options.backoff_max)
        insist = retry.retrying(
            _ROBOTS_RETRIES, backoff, position=lambda *_: 0, enough=lambda *_: 1, on_retry=lambda *_: None
        )
        return await insist(client.get_small)(url, BYTES_READ)

    async def get_small(self, url: str, most: int) -> bytes:
        """Return the first ``most`` bytes of a body. Raises DownloadError for any other status than 200."""
        patience = self._options.connect_timeout + self._options.stall_timeout
        response = await self.request("GET", url, {}, timeout=patience)
        try:
            if response.status != 200:
                kind = Transient if response.status >= 500 else Permanent
                raise kind(f"{url} answered {response.status}", reason=f"http_{response.status}")
            coding = meaning_of_coding(response.headers.getall(hdrs.CONTENT_ENCODING, ()), "", "text/plain")
            decoder = Decoder(coding) if coding else None
            body = bytearray()
            while len(body) < most and (data := await response.content.readany()):
                for piece in decoder.decode(data) if decoder is not None else (data,):
                    body += piece
                    if len(body) >= most:
                        break
            return bytes(body[:most])
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise explain(error, url) from error
        finally:
            response.close()


def explain(error: BaseException, url: str, *, offered: bool = False) -> DownloadError:
    """Tell an error of aiohttp or the system in our own words: one sentence, without what either makes up.

    ``offered``: whether a TLS session was, to this host, see :func:`tls.explain`.
    """
    if isinstance(error, DownloadError):
        return error
    at, why = shown_url(url), _cause(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        text, reason = f"the proxy answered {error.status} to a tunnel for {at}", f"proxy_{error.status}"
        return Transient(text, reason=reason) if error.status >= 500 else Permanent(text, reason=reason)
    if (problem := tls.explain(error, offered=offered)) is not None:
        kind, text = (Permanent, problem.text) if problem.is_permanent else (Transient, problem.text)
        return kind(f"TLS with {at} failed: {text}", reason="tls")
    if isinstance(error, _NO_ADDRESS) or isinstance(getattr(error, "os_error", None), socket.gaierror):
        return Transient(f"no address for the host of {at}: {why}", reason="dns")
    if isinstance(error, (aiohttp.ConnectionTimeoutError,)):
        return Transient(f"{at}: no connection in time", reason="connect_timeout")
    if isinstance(error, (aiohttp.ServerTimeoutError, asyncio.TimeoutError)):
        return Transient(f"{at} sent no byte in time", reason="stalled")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Transient(f"{at}: no connection to {error.host}:{error.port}: {why}", reason="connect_failed")
    if isinstance(error, aiohttp.ClientResponseError):  # its status is one that aiohttp makes up
        return Transient(f"the answer of {at} cannot be read: {why}", reason="bad_response")
    if isinstance(error, ValueError):
        return Permanent(f"{at} cannot be asked for: {why}", reason="bad_url")
    return Transient(f"{at}: the connection was lost: {why}", reason="connection_lost")


def _cause(error: BaseException) -> str:
    """Return what an error itself says, in a few words of one line."""
    if isinstance(error, aiohttp.ClientResponseError):
        text = error.message
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        text = "closed without an answer"
    elif isinstance(error, aiohttp.ClientPayloadError):  # it tells what its parser waited for
        text = "the body broke off"
    else:
        inner = getattr(error, "os_error", None) or error
        text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return cut(" ".join(text.split()), _LONGEST_CAUSE)
