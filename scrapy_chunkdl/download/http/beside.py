"""What lies beside a file and says more of it: lists of checksums, metalinks. Fetched as the file is, once for all.

Knows requests, and sources of other schemes by their protocol; what a list says is read elsewhere, in a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp

from scrapy_chunkdl.download.concurrency import in_thread
from scrapy_chunkdl.download.disk.checksum_list import LONGEST, ChecksumList
from scrapy_chunkdl.download.disk.metalink import MetalinkFile, find_file, last_of, read_metalink
from scrapy_chunkdl.download.errors import Permanent, Transient
from scrapy_chunkdl.download.http.client import FileClient
from scrapy_chunkdl.download.http.identity import with_logins_apart
from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.limits.slot import HostSlot
from scrapy_chunkdl.download.model import FileRequest, Options, Progress
from scrapy_chunkdl.download.plan import retry
from scrapy_chunkdl.download.source import FileContext, Source
from scrapy_chunkdl.text.masking import shown_url
from scrapy_chunkdl.text.naming import name_from_url

T = TypeVar("T")

_KEPT_S = 300.0
_MOST_KEPT = 16


class Beside:
    """The lists of one loop, kept for a few minutes: a folder of files has one."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        options: Options,
        limits: Limits,
        schemes: Collection[str],
        sources: Callable[[FileContext], list[Source]],
    ) -> None:
        """``schemes`` are those that mirrors may be of; ``sources`` gives those of a file of any of them."""
        self._session = session
        self._schemes = schemes
        self._options = options
        self._limits = limits
        self._sources = sources
        self._kept: OrderedDict[object, tuple[float, asyncio.Task[Any]]] = OrderedDict()

    async def completed(self, request: FileRequest, progress: Progress) -> FileRequest:
        """Return the request with what its metalink and its list of checksums say. Raises DownloadError.

        What it says itself goes first.
        """
        if request.metalink:
            request = await self._with_metalink(request, progress)
        if request.checksum_url and not request.checksum:
            request = replace(request, checksum=await self._checksum_of(request, progress))
        return request

    async def followed(self, request: FileRequest, progress: Progress) -> FileRequest:
        """Return the request of the file that a metalink is about, where its URL led to one. Raises DownloadError."""
        file = await self._file_of(request.url, request, progress)
        if not file.urls:
            raise Permanent(f"{shown_url(request.url)} names no URL that can be fetched here", reason="bad_metalink")
        request = self._by_metalink(request, file)
        urls = tuple(dict.fromkeys((*request.mirrors, *file.urls)))
        name = request.name or last_of(file.name) or None
        return with_logins_apart(replace(request, found_at=urls, mirrors=(), name=name))

    async def _with_metalink(self, request: FileRequest, progress: Progress) -> FileRequest:
        file = await self._file_of(beside_url(request.url, request.metalink or ""), request, progress)
        known = (request.url, *request.mirrors)
        mirrors = (*request.mirrors, *(url for url in file.urls if url not in known))
        return with_logins_apart(replace(self._by_metalink(request, file), mirrors=mirrors))

    def _by_metalink(self, request: FileRequest, file: MetalinkFile) -> FileRequest:
        """Return the request with what a metalink says; an item's own checksum goes first."""
        return replace(request, checksum=request.checksum or file.checksum, size_bytes=file.size, pieces=file.pieces)

    async def _file_of(self, url: str, request: FileRequest, progress: Progress) -> MetalinkFile:
        files = await self._list(url, request, progress, lambda text: read_metalink(text, self._schemes, url))
        if (file := find_file(files, [name_from_url(request.url) or "", request.name or ""])) is None:
            text = f"{shown_url(url)} has {len(files)} files, none of the name of this one, or several"
            raise Permanent(text, reason="bad_metalink")
        return file

    async def _checksum_of(self, request: FileRequest, progress: Progress) -> str:
        """Return what a file's list says of it. Raises DownloadError, reason ``no_checksum`` where it says nothing.

        A list that cannot be had gives the file up: it was asked to be checked.
        """
        assert request.checksum_url is not None
        url = beside_url(request.url, request.checksum_url)
        called = name_from_url(url) or ""
        sums = await self._list(url, request, progress, lambda text: ChecksumList(text, called))
        name = name_from_url(request.url) or request.name or ""
        if (found := sums.find([unquote(urlsplit(request.url).path), name, request.name or ""])) is None:
            raise Permanent(f"{shown_url(url)} has no checksum of {name!r}", reason="no_checksum")
        return found

    async def _list(self, url: str, request: FileRequest, progress: Progress, read: Callable[[bytes], T]) -> T:
        """Return what ``read`` makes of a document, of one kind for one URL; kept, as many files may ask for it."""
        key, now = (url, request.proxy, tuple(sorted(request.headers.items()))), time.monotonic()
        kept = self._kept.get(key)
        if kept is not None and now - kept[0] < _KEPT_S and not (kept[1].done() and _has_failed(kept[1])):
            found: T = await asyncio.shield(kept[1])
            return found
        asking = asyncio.ensure_future(self._fetch(url, request, progress, read))
        self._kept[key] = (now, asking)
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return await asyncio.shield(asking)

    async def _fetch(self, url: str, request: FileRequest, progress: Progress, read: Callable[[bytes], T]) -> T:
        source = request.source_of(url) if request.source_of is not None else None
        asked = replace(request, url=url, mirrors=(), checksum=None, checksum_url=None, metalink=None, source=source)
        asked = with_logins_apart(asked)
        backoff = retry.Backoff(self._options.backoff_base, self._options.backoff_max)
        insist = retry.retrying(
            self._options.retry_times,
            backoff,
            position=lambda *_: 0,
            enough=lambda *_: 1,
            on_retry=lambda error, pause: progress.retried(error.reason),
        )
        if source is None and url.partition(":")[0].lower() in ("http", "https"):
            client = FileClient(self._session, self._options, asked, progress)
            text = await insist(client.get_small)(url, LONGEST)
        else:
            context = FileContext(asked, self._options, self._limits, progress)
            text = await insist(self._read_whole)(self._sources(context)[0], context)
        return await in_thread(read, text)

    async def _read_whole(self, source: Source, context: FileContext) -> bytes:
        body = bytearray()

        def take(data: bytes | memoryview) -> bool:
            body.extend(data)
            return len(body) < LONGEST

        async with HostSlot(context.limits, source.host, context.progress):
            answer = await source.read_whole()
            try:
                await answer.read(take)
            finally:
                answer.close()
        if answer.length is not None and len(body) < min(LONGEST, answer.length):
            raise Transient(f"{answer.url} ended early", reason="short_body")
        return bytes(body[:LONGEST])


def beside_url(url: str, reference: str) -> str:
    """Return where a reference leads that is relative to a file's URL, of schemes as well that urllib does not know."""
    scheme, colon, rest = url.partition(":")
    if not colon or urlsplit(reference).scheme:
        return reference
    return f"{scheme}:{urljoin('http:' + rest, reference).partition(':')[2]}"


def _has_failed(asking: asyncio.Task[bytes]) -> bool:
    return asking.cancelled() or asking.exception() is not None
