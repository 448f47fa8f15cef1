"""Which kind of source has the files of a URL scheme: the one place where kinds of sources are named.

A kind is an :class:`~scrapy_chunkdl.download.source.Opener`, opened when the first file asks for it, one for each loop.
What no other kind has is HTTP's, which says what is wrong with a URL that is none. Called by the downloader.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from scrapy_chunkdl.download.extras import needed
from scrapy_chunkdl.download.http.handed_on import Tried
from scrapy_chunkdl.download.http.source import HttpOpener
from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.model import FileRequest, Options
from scrapy_chunkdl.download.source import FileContext, Opener, Source

if TYPE_CHECKING:
    from scrapy_chunkdl.download.native.source import Shared


def _ftp(options: Options, limits: Limits) -> Opener:
    ftp = needed("scrapy_chunkdl.download.native.ftp", "ftp", "ftp://")
    return _native(ftp.FtpKept.of(options))


def _sftp(options: Options, limits: Limits) -> Opener:
    sftp = needed("scrapy_chunkdl.download.native.sftp", "sftp", "sftp://")
    return _native(sftp.SftpKept.of(options))


def _native(shared: Shared) -> Opener:
    from scrapy_chunkdl.download.native.source import NativeOpener  # most crawls have no such files

    return NativeOpener(shared)


OPENERS: Mapping[str, Callable[[Options, Limits], Opener]] = {"ftp": _ftp, "ftps": _ftp, "sftp": _sftp}
"""By scheme, in lower case, what makes the opener of a kind other than HTTP. It may import what an extra brings, and
raise Permanent where that is missing."""


_MODULES = {"ftp": "aioftp", "ftps": "aioftp", "sftp": "asyncssh"}


def is_installed(scheme: str) -> bool:
    """Whether the library is there that the files of a scheme of :data:`OPENERS` take."""
    return importlib.util.find_spec(_MODULES[scheme]) is not None


def installed_schemes(options: Options) -> frozenset[str]:
    """Return the schemes whose files can be fetched here."""
    return frozenset({"http", "https", *options.openers, *(scheme for scheme in OPENERS if is_installed(scheme))})


class Schemes:
    """The openers of one loop."""

    def __init__(self, options: Options, limits: Limits, http: HttpOpener) -> None:
        self._options = options
        self._limits = limits
        self._http = http
        self._opened: dict[Callable[[Options, Limits], Opener], Opener] = {}

    def sources(self, context: FileContext, tried: Tried) -> list[Source]:
        """Return the sources of a file, in the order of its URLs; the one it brings itself takes the first's place.

        ``tried`` is what a shorter way asked of the first. Raises what an opener raises that cannot be had.
        """
        request, found = context.request, dict[str, Source]()
        by_opener: dict[Opener, list[str]] = {}
        urls = request.found_at or ((request.url, *request.mirrors) if request.source is None else request.mirrors)
        for url in urls:
            by_opener.setdefault(self._opener(url), []).append(url)
        for opener, own in by_opener.items():
            is_http = opener is self._http
            made = self._http.sources(context, own, tried) if is_http else opener.sources(context, own)
            found.update(zip(own, made, strict=True))
        first = [request.source(context)] if request.source is not None and not request.found_at else []
        return first + [found[url] for url in urls]

    def is_http(self, request: FileRequest) -> bool:
        """Whether a file's own source is HTTP's."""
        return request.source is None and self._opener(request.url) is self._http

    def _opener(self, url: str) -> Opener:
        scheme = url.partition(":")[0].lower()
        make = self._options.openers.get(scheme) or OPENERS.get(scheme)
        if make is None:
            return self._http
        if make not in self._opened:
            self._opened[make] = make(self._options, self._limits)
        return self._opened[make]

    async def close(self) -> None:
        """Close the connections of all kinds."""
        for opener in (*self._opened.values(), self._http):
            await opener.close()
