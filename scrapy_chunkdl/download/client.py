"""One thread's HTTP client: requests, redirects followed hop by hop, and aiohttp's errors told in our own.

Each hop is checked (scheme, allowed hosts, addresses, robots.txt) and gets the headers and the proxy that are for it.
Knows HTTP; nothing of files, chunks or plans.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from scrapy_chunkdl.download import proxies, retry
from scrapy_chunkdl.download.decoding import Decoder
from scrapy_chunkdl.download.errors import DownloadError, Permanent, Transient
from scrapy_chunkdl.download.http.coding import meaning_of_coding
from scrapy_chunkdl.download.identity import Identity, without_userinfo
from scrapy_chunkdl.download.model import FileRequest, Options
from scrapy_chunkdl.download.paced import PacedConnector
from scrapy_chunkdl.download.rate import Rates
from scrapy_chunkdl.download.robots import BYTES_READ
from scrapy_chunkdl.download.tls import tls_context

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNSAFE_IN_URL = re.compile(r"[\r\n\0]")
_READ_BUFFER = 1 << 18
_DNS_TTL = 60
_NO_ADDRESS: type[Exception] | tuple[()] = getattr(aiohttp, "ClientConnectorDNSError", ())
"""aiohttp 3.10.0 has no such error yet, and tells by the error of the system."""

_ROBOTS_RETRIES = 2
"""As many as Scrapy's own RETRY_TIMES."""


def new_session(options: Options, rates: Rates) -> aiohttp.ClientSession:
    """Open the session of a download thread; called inside its loop, closed by the caller.

    Connections are limited by :class:`~scrapy_chunkdl.download.limits.Limits`, not by the connector. aiohttp's own
    total time-out of 300 s would end big files; stalls are what is timed.
    """
    trusted = {proxy.host for proxy in options.proxies.values()}
    connector = PacedConnector(
        rates,
        limit=0,
        use_dns_cache=options.dns_cache,
        ttl_dns_cache=_DNS_TTL,
        resolver=_GuardedResolver(trusted) if options.block_private_addresses else None,
        ssl=tls_context(options),
        local_addr=(options.bind_address, 0) if options.bind_address else None,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=_READ_BUFFER,
        timeout=_timeout(options, total=None),
        skip_auto_headers=(hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT),
    )


def _timeout(options: Options, *, total: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=total,
        connect=options.dns_timeout + options.connect_timeout,  # the name, and what a proxy takes, included
        sock_connect=options.connect_timeout,
        sock_read=options.stall_timeout,
    )


class FileClient:
    """Sends the requests of one file: with its headers, cookies and proxy, along its redirects."""

    def __init__(self, session: aiohttp.ClientSession, options: Options, request: FileRequest) -> None:
        self._session = session
        self._options = options
        self._request = request
        self._identity = Identity(request, options)
        self.requests = 0

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
        seen = {url}
        while True:
            response = await self._send(method, url, headers, timeout)
            location = response.headers.get(hdrs.LOCATION)
            if response.status not in _REDIRECTS or location is None:
                return response
            response.release()
            # Credentials that a server puts into a Location are not ours to send (RFC 9110 §4.2.4).
            status, url = response.status, without_userinfo(urljoin(str(response.url), location))
            if url in seen:
                raise Permanent(f"redirect loop at {url}", reason="redirect_loop", status=status)
            if len(seen) > self._options.max_redirects:
                raise Permanent(
                    f"more than {self._options.max_redirects} redirects", reason="too_many_redirects", status=status
                )
            seen.add(url)

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], timeout: float | None
    ) -> aiohttp.ClientResponse:
        target = self._checked_url(url)
        if self._options.robots is not None:
            await self._options.robots.check(url, self._identity.user_agent, self._fetch_robots)
        sent = self._identity.headers_for(url)
        sent.update(headers)
        sent[hdrs.ACCEPT_ENCODING] = "identity"
        proxy, to_proxy = proxies.proxy_for(url, self._request.proxy, self._options.proxies), None
        if proxy is not None and proxy.authorization:
            if target.scheme == "https":  # for CONNECT; the server behind the tunnel must not see it
                to_proxy = CIMultiDict({hdrs.PROXY_AUTHORIZATION: proxy.authorization})
            else:
                sent[hdrs.PROXY_AUTHORIZATION] = proxy.authorization
        self.requests += 1
        try:
            response = await self._session.request(
                method,
                target,
                headers=sent,
                allow_redirects=False,
                timeout=self._session.timeout if timeout is None else _timeout(self._options, total=timeout),
                proxy=URL(proxy.url) if proxy is not None else None,
                proxy_headers=to_proxy,
            )
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            raise explain(error, url) from error
        if response.cookies:
            self._identity.note_cookies(response.cookies, response.url)
        return response

    def _checked_url(self, url: str) -> URL:
        try:
            parts = urlsplit(url)
            host = parts.hostname
            target = URL(url, encoded=_is_encoded(url))
        except ValueError as error:
            raise Permanent(f"{url!r} is not a URL: {error}", reason="bad_url") from error
        if parts.scheme not in ("http", "https"):
            whole = "is not http or https" if parts.scheme else "is not a whole URL: use response.urljoin(...)"
            raise Permanent(f"{url!r} {whole}", reason="bad_url")
        if not host or _UNSAFE_IN_URL.search(url):
            raise Permanent(f"{url!r} has no host", reason="bad_url")
        allowed = self._options.allowed_hosts
        if allowed and not any(host == name or host.endswith("." + name) for name in allowed):
            raise Permanent(f"{host} is not in CHUNKDL_ALLOWED_HOSTS", reason="host_not_allowed")
        if self._options.block_private_addresses:
            _refuse_private(host, host)
        return target

    async def _fetch_robots(self, url: str) -> bytes:
        """Get a robots.txt the way this file is got, but for what is the item's own."""
        request = FileRequest(url, Path(), proxy=self._request.proxy)
        client = FileClient(self._session, replace(self._options, robots=None), request)
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


def explain(error: BaseException, url: str) -> DownloadError:
    """Tell an error of aiohttp or the system in our own words."""
    if isinstance(error, DownloadError):
        return error
    text = f"{url}: {error or type(error).__name__}"
    if isinstance(error, aiohttp.InvalidURL):
        return Permanent(f"{url!r} is not a URL", reason="bad_url")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        text = f"the proxy answered {error.status} to a tunnel for {url}"
        reason = f"proxy_{error.status}"
        return Transient(text, reason=reason) if error.status >= 500 else Permanent(text, reason=reason)
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError)):
        return Permanent(f"TLS failed at {text} (CHUNKDL_VERIFY_TLS, CHUNKDL_CA_FILE)", reason="tls")
    if isinstance(error, _NO_ADDRESS) or isinstance(getattr(error, "os_error", None), socket.gaierror):
        return Transient(f"no address for {text}", reason="dns")
    if isinstance(error, (aiohttp.ConnectionTimeoutError,)):
        return Transient(f"no connection in time: {text}", reason="connect_timeout")
    if isinstance(error, (aiohttp.ServerTimeoutError, asyncio.TimeoutError)):
        return Transient(f"no byte in time: {text}", reason="stalled")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Transient(f"no connection: {text}", reason="connect_failed")
    if isinstance(error, aiohttp.ClientResponseError):
        return Transient(f"broken response: {text}", reason="bad_response")
    if isinstance(error, ValueError):
        return Permanent(f"the request cannot be made: {text}", reason="bad_url")
    return Transient(f"connection lost: {text}", reason="connection_lost")


def _is_encoded(url: str) -> bool:
    """Whether a URL is percent-encoded already: then it must go out as it is, or its signature breaks."""
    return "%" in url and url.isascii() and " " not in url


def _refuse_private(address: str, host: str) -> None:
    try:
        ip = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return  # a name: its addresses are checked when it is resolved
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    if not mapped.is_global or mapped.is_multicast:
        raise Permanent(
            f"{host} is at the private address {address} (CHUNKDL_BLOCK_PRIVATE_ADDRESSES)", reason="private_address"
        )


class _GuardedResolver(AbstractResolver):
    """Checks the addresses that are really connected to, so that a name cannot turn private after it was looked at.

    ``trusted`` are the proxies' names: they may be inside.
    """

    def __init__(self, trusted: Collection[str]) -> None:
        self._trusted = trusted
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        for result in results if host not in self._trusted else ():
            _refuse_private(result["host"], host)
        return results

    async def close(self) -> None:
        await self._resolver.close()
