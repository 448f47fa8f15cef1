"""Files that Scrapy's own downloader fetches: whatever a Scrapy request can, with the project's middlewares and slots.

Other methods and bodies, schemes that only Scrapy's handlers know, ``meta`` that is for a handler (browsers,
impersonation, APIs), and hosts of CHUNKDL_VIA_SCRAPY. Knows requests and the engine; nothing of files, plans or disks.
Which request goes this way is decided on Scrapy's thread, by ``FileRequests``; what is sent is sent there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from functools import partial
from urllib.parse import urlsplit

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK
from scrapy.utils.python import to_unicode
from twisted.internet import error as twisted_errors
from twisted.web.client import ResponseFailed
from w3lib.url import parse_data_uri

from scrapy_chunkdl.crawl import scrapy_engine
from scrapy_chunkdl.crawl.hook_requests import SHOWN_ATTACHMENT
from scrapy_chunkdl.download import DownloadError, Permanent, Transient, without_userinfo
from scrapy_chunkdl.download.host_rules import VIA_SCRAPY, HostRules
from scrapy_chunkdl.download.http.fetched import Fetched, How, Send, fetched_source, is_guarded
from scrapy_chunkdl.download.http.identity import host_of
from scrapy_chunkdl.download.schemes import OPENERS, is_installed
from scrapy_chunkdl.download.source import FileContext, Source
from scrapy_chunkdl.text.masking import shown_url

WEB = ("http", "https")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""What may be sent again after an answer has begun (RFC 9110 §9.2.1)."""

ASKED_FOR = "chunkdl_via_scrapy"
_OF_HANDLERS = (
    *("playwright", "impersonate", "zyte_api", "zyte_api_automap", "zyte_api_provider", "splash"),
    *("pyppeteer", "selenium", "curl_cffi", "crawlera_fetch"),
)
"""Keys of ``meta`` that download handlers and middlewares are asked by, and aiohttp would not know."""

_READ_BY_NAME = frozenset({"file"})
"""Schemes that lead to this very machine: pages must not name what is read from it."""


class ViaScrapy:
    """Sends requests for files through the engine of one crawl.

    ``patterns`` are those of CHUNKDL_VIA_SCRAPY, ``openers`` the schemes that the downloader has besides its own,
    ``rules`` those of hosts, which may say so, too.
    """

    def __init__(
        self,
        crawler: Crawler,
        patterns: tuple[str, ...],
        openers: Collection[str] = (),
        rules: HostRules | None = None,
    ) -> None:
        self._crawler = crawler
        self._patterns = patterns
        self._rules = rules or HostRules()
        self._native = {*openers, *(scheme for scheme in OPENERS if is_installed(scheme))}
        self._handlers = set(crawler.settings.getwithbase("DOWNLOAD_HANDLERS"))

    def takes(self, request: Request) -> bool:
        """Whether Scrapy's downloader is to fetch it."""
        parts = urlsplit(request.url)
        scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
        if f"{scheme}:" in self._patterns:
            return True
        if scheme in _READ_BY_NAME:
            return False
        if asked_of(request) or request.meta.get(ASKED_FOR) or any(request.meta.get(key) for key in _OF_HANDLERS):
            return True
        if scheme not in WEB and scheme not in self._native:
            return scheme in self._handlers
        if any(fnmatchcase(host, pattern) for pattern in self._patterns if not pattern.endswith(":")):
            return True
        return self.is_named(request.url)

    @property
    def is_used(self) -> bool:
        """Whether plain requests may go this way, by their hosts."""
        return bool(self._patterns) or self._rules.name_scrapy

    def is_named(self, url: str) -> bool:
        """Whether CHUNKDL_HOSTS says so of a URL's host."""
        if not self._rules.name_scrapy:
            return False
        try:
            return self._rules.of(host_of(url)).via == VIA_SCRAPY
        except Permanent:
            return False

    def source(self, request: Request) -> Callable[[FileContext], Source]:
        """Return what makes the source of a file; the request is sent with all that it has."""
        return self._source(request, scrapy_engine.thread_caller(), None)

    def source_of(self, request: Request) -> Callable[[str], Callable[[FileContext], Source] | None]:
        """Return what makes the sources of a file's other URLs, its mirrors and lists, by the rules of :meth:`takes`.

        They are asked for by GET, else as the file is: with its headers and, where they are of the web, its meta.
        """
        call = scrapy_engine.thread_caller()

        def make(url: str) -> Callable[[FileContext], Source] | None:
            meta = request.meta if urlsplit(url).scheme.lower() in WEB else {}
            try:
                other = request.replace(cls=Request, url=url, method="GET", body=b"", meta=meta)
            except ValueError:  # no URL for Scrapy
                return None
            if asked_of(request):
                other.headers.pop("Content-Type", None)
            return self._source(other, call, without_userinfo(url)) if self.takes(other) else None

        return make

    def _source(
        self, request: Request, call: Callable[[Callable[[], object]], object], url: str | None
    ) -> Callable[[FileContext], Source]:
        is_plain = urlsplit(request.url).scheme.lower() in WEB and not asked_of(request)
        for_handler = any(request.meta.get(key) for key in _OF_HANDLERS)
        how = How(is_whole=not is_plain or for_handler, is_repeatable=request.method in _SAFE_METHODS)

        def make(context: FileContext) -> Source:
            send = _sender(self._crawler, call, request, how, is_guarded=is_guarded(context.options))
            return fetched_source(context, url or context.request.url, send, how)

        return make


def asked_of(request: Request) -> str:
    """Return what of a request makes another file of its URL, as text: its method and body; empty for a plain GET."""
    if request.method == "GET" and not request.body:
        return ""
    return f"{request.method} {hashlib.sha256(request.body).hexdigest()}"


def _sender(
    crawler: Crawler, call: Callable[[Callable[[], object]], object], request: Request, how: How, *, is_guarded: bool
) -> Send:
    async def send(method: str, url: str, headers: Mapping[str, str]) -> Fetched:
        sent = _prepared(request, method, url, headers, how, is_guarded=is_guarded)
        fetch = scrapy_engine.from_other_threads(call, partial(scrapy_engine.download, crawler, sent))
        try:
            response = await fetch()
        except DownloadError:
            raise
        except Exception as error:
            raise _meaning(error, shown_url(without_userinfo(url))) from error
        return _fetched(response)

    return send


def _prepared(
    request: Request, method: str, url: str, headers: Mapping[str, str], how: How, *, is_guarded: bool
) -> Request:
    """Return the request as it goes out. It is never one that the project has: middlewares write into ``meta``."""
    meta = {name: value for name, value in request.meta.items() if name != SHOWN_ATTACHMENT}
    meta.setdefault("dont_retry", True)  # failures are counted, and retried, with those of all other files
    if not how.is_whole:
        meta["dont_cache"] = True  # HttpCacheMiddleware takes one range for another
    if is_guarded:
        meta["dont_redirect"] = True
    if meta.get("proxy") == "direct":
        meta["proxy"] = None
    sent: Request = request.replace(
        url=request.url if url == without_userinfo(request.url) else url,
        method=method if request.method == "GET" else request.method,
        meta=meta,
        headers=request.headers.copy(),
        callback=NO_CALLBACK,
        errback=None,
        dont_filter=True,
    )
    for name, value in headers.items():
        sent.headers[name] = value
    if not how.is_whole:
        sent.headers.setdefault("Accept-Encoding", "identity")  # a range of a coded form is of no use
    return sent


def _fetched(response: Response) -> Fetched:
    fields = [
        (to_unicode(name, "latin-1"), to_unicode(value, "latin-1"))
        for name, values in response.headers.items()
        for value in values or ()
    ]
    if response.url[:5].lower() == "data:":
        fields.append(("Content-Type", parse_data_uri(response.url).media_type))
    return Fetched(without_userinfo(response.url), response.status, fields, response.body)


def _meaning(error: Exception, url: str) -> DownloadError:
    """Return what an error of Scrapy's downloader, its handlers and middlewares means, in every version of Scrapy."""
    names = {cls.__name__ for cls in type(error).__mro__}
    said = str(error) or type(error).__name__
    if isinstance(error, IgnoreRequest):
        is_robots = "robots" in said.lower()
        return Permanent(f"{url} was refused by a middleware: {said}", reason="robots" if is_robots else "ignored")
    if names & {"CancelledError", "DownloadCancelledError"}:
        text = f"{url}: the answer is larger than DOWNLOAD_MAXSIZE, or was cancelled: {said}"
        return Permanent(text, reason="too_large")
    if isinstance(error, PermissionError):
        return Permanent(f"{url}: {error.strerror}", reason="no_permission")
    if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
        return Permanent(f"{url}: {error.strerror}", reason="not_found")
    if names & {"NotSupported", "UnsupportedURLSchemeError", "NotConfigured"} and "botocore" in said:
        return Permanent("s3:// needs botocore or obstore: pip install 'scrapy-chunkdl[s3]'", reason="missing_extra")
    if names & {"NotSupported", "UnsupportedURLSchemeError", "NotConfigured"}:
        return Permanent(f"{url} cannot be fetched by Scrapy's downloader: {said}", reason="bad_url")
    for words, reason in _PASSING:
        if names & words:
            return Transient(f"{url}: {said}", reason=reason)
    return Transient(f"{url}: {type(error).__name__}: {said}", reason="handler_failed")


_PASSING = (
    ({"DNSLookupError", "CannotResolveHostError"}, "dns"),
    ({"ConnectionRefusedError", "DownloadConnectionRefusedError", "ConnectError"}, "connect_failed"),
    ({"TCPTimedOutError"}, "connect_timeout"),
    ({"TimeoutError", "DownloadTimeoutError"}, "stalled"),
    ({"ResponseDataLossError"}, "short_body"),
    ({ResponseFailed.__name__, "DownloadFailedError", twisted_errors.ConnectionLost.__name__}, "connection_lost"),
    ({"ConnectionDone", "TunnelError"}, "connection_lost"),
)
"""Classes by name, as Scrapy has called the same by others from one version to the next, and their reasons."""
