"""A file fetched whole by one request, from its first byte: where ranges cannot be had, or not safely.

One answer is of one version. Knows that answer and the part file; nothing of names, checksums or plans.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import aiohttp

from scrapy_chunkdl.download import body
from scrapy_chunkdl.download.client import explain
from scrapy_chunkdl.download.concurrency import in_thread
from scrapy_chunkdl.download.decoding import Decoder
from scrapy_chunkdl.download.errors import DownloadError, Transient
from scrapy_chunkdl.download.headers import parse_content_length
from scrapy_chunkdl.download.model import Options, Progress
from scrapy_chunkdl.download.partfile import PartFile
from scrapy_chunkdl.download.probe import Remote
from scrapy_chunkdl.download.sources import Source, Sources


class StreamedFetch:
    """One go at fetching in one stream; nothing of an earlier go is used."""

    def __init__(self, sources: Sources, options: Options, progress: Progress, part: PartFile) -> None:
        self._sources = sources
        self._options = options
        self._progress = progress
        self._part = part

    async def run(self) -> tuple[Remote, int]:
        """Fetch the whole file by one request, from its first byte; return what that answer said it is."""
        while True:
            source = self._sources.first
            stream = self._sources.retrying()(self._stream)
            try:
                return await stream(source)
            except DownloadError as error:
                if not self._sources.drop(source, error):
                    raise

    async def _stream(self, source: Source) -> tuple[Remote, int]:
        async with AsyncExitStack() as stack:
            if self._sources.opening is not None and self._sources.opening.response.status == 200:
                opening, self._sources.opening = self._sources.opening, None
                await stack.enter_async_context(opening.stack)
                response = opening.response
            else:
                await self._sources.close_opening()
                await stack.enter_async_context(self._sources.slot(source))
                response = await self._sources.ask("GET", source, {})
                stack.callback(response.close)
            if response.status != 200:
                raise self._sources.refused(response, source)
            remote = Remote.of(response)
            self._options.refuse_too_large(remote.size)
            source.used = True
            self._progress.size, self._progress.done = remote.size, 0
            try:
                size = await self._read_whole(response, remote, source)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                raise explain(error, str(response.url)) from error
            # A body that ends with its connection cannot be told from one cut short (RFC 9112 §8), but by HEAD's size.
            unframed = not {"Content-Length", "Transfer-Encoding"}.intersection(response.headers)
            if unframed and not remote.coding and size < self._sources.hinted:
                text = f"{response.url} ended at {size} bytes of {self._sources.hinted}"
                raise Transient(text, reason="short_body", status=200)
            if response.content.at_eof():
                response.release()
        if self._part.size != size:
            await in_thread(self._part.truncate, size)
        return remote, size

    async def _read_whole(self, response: aiohttp.ClientResponse, remote: Remote, source: Source) -> int:
        decoder = Decoder(remote.coding) if remote.coding else None
        progress, position = self._progress, 0

        def take(data: bytes | memoryview) -> bool:
            nonlocal position
            progress.fetched += len(data)
            if decoder is None and remote.size is not None:
                data = data[: remote.size - position]
            for piece in decoder.decode(data) if decoder is not None else (data,):
                self._part.write(position, piece)
                position += len(piece)
                self._options.refuse_too_large(position)
            progress.done = position
            progress.moved_at = time.monotonic()
            return remote.size is None or position < remote.size

        length = parse_content_length(response.headers.get("Content-Length"))
        pace = self._sources.pace(source)
        await body.receive(response, length, take, stall_timeout=self._options.stall_timeout, pace=pace)
        if decoder is not None and not decoder.is_complete:
            raise Transient(f"{response.url} ended in the middle of its {remote.coding} form", reason="short_body")
        if remote.size is not None and position < remote.size:
            raise Transient(f"{response.url} ended {remote.size - position} bytes early", reason="short_body")
        return position
