"""One thread's HTTP client: requests, redirects followed hop by hop, and aiohttp's errors told in our own.

Each hop is checked (scheme, allowed hosts, addresses), cookies set on the way are kept for that file alone, and
credentials of an item go to the origin they were meant for only. Knows HTTP; nothing of files, chunks or plans.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractCookieJar, AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from scrapy_chunkdl.download.errors import DownloadError, Permanent, Transient
from scrapy_chunkdl.download.model import Options

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})
_OURS = frozenset({"range", "if-range", "accept-encoding"}) | {
    f"if-{condition}" for condition in ("match", "none-match", "modified-since", "unmodified-since")
}
_UNSAFE_IN_HEADER = re.compile(r"[\r\n\0]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_READ_BUFFER = 1 << 18
_DNS_TTL = 60


def new_session(options: Options) -> aiohttp.ClientSession:
    """Open the session of a download thread; called inside its loop, closed by the caller.

    Connections are limited by :class:`~scrapy_chunkdl.download.limits.Limits`, not by the connector. aiohttp's own
    total time-out of 300 s would end big files; stalls are what is timed.
    """
    connector = aiohttp.TCPConnector(
        limit=0,
        ttl_dns_cache=_DNS_TTL,
        resolver=_GuardedResolver() if options.block_private_addresses else None,
        ssl=bool(options.verify_tls),
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=_READ_BUFFER,
        timeout=_timeout(options, total=None),
        headers={hdrs.USER_AGENT: options.user_agent, **options.headers},
        skip_auto_headers=(hdrs.ACCEPT_ENCODING,),
    )


def _timeout(options: Options, *, total: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total, sock_connect=options.connect_timeout, sock_read=options.stall_timeout)


def host_of(url: str) -> str:
    """Return ``host:port``, the key of per-host limits. Raises Permanent for what is no URL."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    except ValueError as error:
        raise Permanent(f"{url!r} is not a URL: {error}", reason="bad_url") from error


class FileClient:
    """Sends the requests of one file: its headers, its cookies, its redirects."""

    def __init__(self, session: aiohttp.ClientSession, options: Options, headers: Mapping[str, str]) -> None:
        self._session = session
        self._options = options
        self._headers = _checked_headers(headers)
        self._cookies: AbstractCookieJar | None = None
        self.requests = 0

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        origin: str | None = None,
        timeout: float | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request, follow its redirects, and return the last response, its body unread.

        ``origin`` is the URL the item named, when ``url`` is where that led to. ``timeout`` is in seconds, for each hop
        as a whole; None leaves it to the session's, which know only stalls. Raises Permanent for refused or broken
        URLs, TLS failures and redirect loops, Transient for what the network does.
        """
        origin = origin or url
        seen = {url}
        while True:
            response = await self._send(method, url, headers, origin, timeout)
            location = response.headers.get(hdrs.LOCATION)
            if response.status not in _REDIRECTS or location is None:
                return response
            response.release()
            status, url = response.status, urljoin(str(response.url), location)
            if url in seen:
                raise Permanent(f"redirect loop at {url}", reason="redirect_loop", status=status)
            if len(seen) > self._options.max_redirects:
                raise Permanent(
                    f"more than {self._options.max_redirects} redirects", reason="too_many_redirects", status=status
                )
            seen.add(url)

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], origin: str, timeout: float | None
    ) -> aiohttp.ClientResponse:
        target = self._checked_url(url)
        own = self._headers if _same_origin(url, origin) else _without_credentials(self._headers)
        sent = CIMultiDict(own)
        sent.update(headers)
        sent[hdrs.ACCEPT_ENCODING] = "identity"
        if self._cookies is not None and (cookies := self._cookies.filter_cookies(target)):
            jar = "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())
            sent[hdrs.COOKIE] = "; ".join(filter(None, [sent.get(hdrs.COOKIE), jar]))
        self.requests += 1
        try:
            response = await self._session.request(
                method, target, headers=sent, allow_redirects=False, timeout=_timeout(self._options, total=timeout)
            )
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            raise explain(error, url) from error
        if response.cookies:
            if self._cookies is None:
                self._cookies = aiohttp.CookieJar(unsafe=True)
            self._cookies.update_cookies(response.cookies, response.url)
        return response

    def _checked_url(self, url: str) -> URL:
        try:
            parts = urlsplit(url)
            host = parts.hostname
            target = URL(url, encoded=_is_encoded(url))
        except ValueError as error:
            raise Permanent(f"{url!r} is not a URL: {error}", reason="bad_url") from error
        if parts.scheme not in ("http", "https"):
            raise Permanent(f"{url!r} is not http or https", reason="bad_url")
        if not host or _UNSAFE_IN_HEADER.search(url):
            raise Permanent(f"{url!r} has no host", reason="bad_url")
        allowed = self._options.allowed_hosts
        if allowed and not any(host == name or host.endswith("." + name) for name in allowed):
            raise Permanent(f"{host} is not in CHUNKDL_ALLOWED_HOSTS", reason="host_not_allowed")
        if self._options.block_private_addresses:
            _refuse_private(host, host)
        return target


def explain(error: BaseException, url: str) -> DownloadError:
    """Tell an error of aiohttp or the system in our own words."""
    if isinstance(error, DownloadError):
        return error
    text = f"{url}: {error or type(error).__name__}"
    if isinstance(error, aiohttp.InvalidURL):
        return Permanent(f"{url!r} is not a URL", reason="bad_url")
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError)):
        return Permanent(f"TLS failed at {text} (CHUNKDL_VERIFY_TLS)", reason="tls")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
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


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or _UNSAFE_IN_HEADER.search(value):
            raise Permanent(f"header {name!r}: {value!r} cannot be sent", reason="bad_header")
    return {name: value for name, value in headers.items() if name.lower() not in _OURS}


def _without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _CREDENTIALS}


def _same_origin(one: str, other: str) -> bool:
    if one == other:
        return True
    a, b = urlsplit(one), urlsplit(other)
    return a.scheme == b.scheme and host_of(one) == host_of(other)


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
    """Checks the addresses that are really connected to, so that a name cannot turn private after it was looked at."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        for result in results:
            _refuse_private(result["host"], host)
        return results

    async def close(self) -> None:
        await self._resolver.close()
