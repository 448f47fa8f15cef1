"""Which kind of source has the files of a URL scheme: the one place where kinds of sources are named.

A kind is an :class:`~scrapy_chunkdl.download.source.Opener`, opened when the first file asks for it, one for each loop.
What no other kind has is HTTP's, which says what is wrong with a URL that is none. Called by the downloader.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.extras import needed
from scrapy_chunkdl.download.http.handed_on import Tried
from scrapy_chunkdl.download.http.source import HttpOpener
from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.model import FileRequest, Options
from scrapy_chunkdl.download.source import FileContext, Opener, Source
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

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


_OF_BUCKETS = {"s3": "s3", "gs": "cloud", "az": "cloud"}
"""The extras that have openers of these schemes be handed in."""

_MODULES = {"ftp": "aioftp", "ftps": "aioftp", "sftp": "asyncssh"}


def is_installed(scheme: str) -> bool:
    """Whether the library is there that the files of a scheme of :data:`OPENERS` take."""
    return importlib.util.find_spec(_MODULES[scheme]) is not None


def installed_schemes(options: Options) -> frozenset[str]:
    """Return the schemes whose files can be fetched here."""
    return frozenset({"http", "https", *options.openers, *(scheme for scheme in OPENERS if is_installed(scheme))})


MOST_SOURCES = 32
"""Places that one file is asked for at. Dead ones cost the time-outs and retries of one each, one after the other."""


class Schemes:
    """The openers of one loop."""

    def __init__(self, options: Options, limits: Limits, http: HttpOpener) -> None:
        self._options = options
        self._limits = limits
        self._http = http
        self._opened: dict[Callable[[Options, Limits], Opener], Opener] = {}

    def sources(self, context: FileContext, tried: Tried) -> list[Source]:
        """Return the sources of a file, in the order of its URLs; the one it brings itself takes the first's place.

        ``tried`` is what a shorter way asked of the first. What cannot be had here (an extra is missing) is left out.
        Raises Permanent where nothing is left.
        """
        request, found, errors = context.request, dict[str, Source](), list[Permanent]()
        own = [request.source(context)] if request.source is not None and not request.found_at else []
        urls = [*dict.fromkeys(request.found_at or (request.mirrors if own else (request.url, *request.mirrors)))]
        if len(urls) > MOST_SOURCES:
            text = f"{request.url} has {len(urls)} places: the first {MOST_SOURCES} are asked, no more"
            logger.warning("%s", printable(text))
            del urls[MOST_SOURCES:]
        of_http = []
        for url in urls:
            if request.source_of is not None and (make := request.source_of(url)) is not None:
                found[url] = make(context)
                continue
            try:
                opener = self._opener(url)
                if opener is self._http:
                    of_http.append(url)
                else:
                    found.update(zip([url], opener.sources(context, [url]), strict=True))
            except Permanent as error:
                errors.append(error)
        if of_http:
            found.update(zip(of_http, self._http.sources(context, of_http, tried), strict=True))
        if errors and not (found or own):
            raise errors[0]
        for problem in errors:
            logger.warning("%s", printable(f"Left out as a source of {request.url}: {problem}"))
        return own + [found[url] for url in urls if url in found]

    def is_http(self, request: FileRequest) -> bool:
        """Whether a file's own source is HTTP's."""
        scheme = request.url.partition(":")[0].lower()
        others = (OPENERS, _OF_BUCKETS, self._options.openers)
        return request.source is None and not any(scheme in schemes for schemes in others)

    def _opener(self, url: str) -> Opener:
        scheme = url.partition(":")[0].lower()
        make = self._options.openers.get(scheme) or OPENERS.get(scheme)
        if make is None:
            if scheme in _OF_BUCKETS:
                text = f"{scheme}:// needs obstore: pip install 'scrapy-chunkdl[{_OF_BUCKETS[scheme]}]'"
                raise Permanent(text, reason="missing_extra")
            return self._http
        if make not in self._opened:
            self._opened[make] = make(self._options, self._limits)
        return self._opened[make]

    async def close(self) -> None:
        """Close the connections of all kinds."""
        for opener in (*self._opened.values(), self._http):
            await opener.close()
