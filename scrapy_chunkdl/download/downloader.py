"""``Downloader``: one event loop's downloads, over one session and its connections. The face of this folder."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING

import aiohttp

from scrapy_chunkdl.download.concurrency import QuickCalls
from scrapy_chunkdl.download.disk.checksum import parse_expected
from scrapy_chunkdl.download.errors import DownloadError, LeadsToMetalink
from scrapy_chunkdl.download.http.client import new_session
from scrapy_chunkdl.download.http.handed_on import Tried
from scrapy_chunkdl.download.http.identity import host_of, with_logins_apart
from scrapy_chunkdl.download.http.source import HttpOpener
from scrapy_chunkdl.download.http.tls import tls_context
from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.model import FileRequest, FileResult, Options, Progress
from scrapy_chunkdl.download.plan.small import SmallFiles
from scrapy_chunkdl.download.schemes import Schemes, installed_schemes
from scrapy_chunkdl.download.source import Evidence, FileContext
from scrapy_chunkdl.download.transfer import Transfer

if TYPE_CHECKING:
    from scrapy_chunkdl.download.http.beside import Beside


class Downloader:
    """Fetches files, many at once. An async context manager; it lives in one loop, for as long as there is work.

    Several downloaders of a process, each in its own loop, share one ``limits``.
    """

    def __init__(self, options: Options | None = None, limits: Limits | None = None) -> None:
        self._options = options or Options()
        self._limits = limits or Limits(self._options)
        self._quick_calls = QuickCalls()
        self._schemes: Schemes | None = None
        self._session: aiohttp.ClientSession | None = None
        self._beside: Beside | None = None
        self._small: SmallFiles | None = None
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Downloader:
        context = tls_context(self._options)
        async with AsyncExitStack() as opened:
            self._session = new_session(self._options, self._limits.rates, context)
            self._schemes = Schemes(self._options, self._limits, HttpOpener(self._session))
            opened.push_async_callback(self._schemes.close)
            self._small = SmallFiles(self._options, self._limits, context)
            opened.push_async_callback(self._small.close)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    async def fetch(self, request: FileRequest, progress: Progress | None = None) -> FileResult:
        """Download one file and return once it stands under its final name.

        Raises :class:`DownloadError` with ``reason``, ``status``, ``attempts``, ``bytes_done`` and ``resumable`` set.
        When the task is cancelled, what has arrived is kept and a later call resumes it.
        """
        assert self._schemes is not None, "use 'async with Downloader() as downloader'"
        assert self._small is not None
        request = with_logins_apart(request)
        progress = progress or Progress()
        tried = Tried()
        try:
            if request.checksum_url or request.metalink:
                request = await self._lists().completed(request, progress)
            if not (request.pieces or request.size_bytes):
                small = await self._small.fetch(request, progress)
                if isinstance(small, FileResult):
                    self._limits.circuits.brought(host_of(request.url))
                    return small
                tried = small
            try:
                result = await self._transfer(request, progress, tried)
            except LeadsToMetalink:
                request = await self._lists().followed(request, progress)
                result = await self._transfer(request, progress, Tried())
            if self._schemes.is_http(request):
                small_size = result.size <= self._options.chunk_size
                by_ranges = progress.plan is not None and not result.one_stream
                self._limits.habits.brought(host_of(request.url), small=small_size, by_ranges=by_ranges)
                self._limits.circuits.brought(host_of(request.url))
            return result
        except DownloadError as error:
            circuits = self._limits.circuits
            if error.reason == "wrong_type" and self._schemes.is_http(request):
                progress.blames = host_of(request.url)
                circuits.page(progress.blames, id(progress))
            told = circuits.instead_of(error, progress.blames, request.url)
            told.attempts, told.bytes_done, told.resumable = progress.requests, error.bytes_done, error.resumable
            if told is not error:
                raise told from error
            raise
        finally:
            tried.close()

    def _lists(self) -> Beside:
        """Return what reads lists of checksums and metalinks: few files have any, and it takes an XML parser."""
        if self._beside is None:
            from scrapy_chunkdl.download.http.beside import Beside

            schemes, session = self._schemes, self._session
            assert schemes is not None
            assert session is not None
            known = installed_schemes(self._options)
            self._beside = Beside(
                session, self._options, self._limits, known, lambda context: schemes.sources(context, Tried())
            )
        return self._beside

    async def _transfer(self, request: FileRequest, progress: Progress, tried: Tried) -> FileResult:
        assert self._schemes is not None
        expected = parse_expected(request.checksum) if request.checksum else None
        evidence = Evidence(expected, size_bytes=request.size_bytes, pieces=request.pieces)
        context = FileContext(request, self._options, self._limits, progress, evidence)
        return await Transfer(context, self._schemes.sources(context, tried), self._quick_calls).run()
