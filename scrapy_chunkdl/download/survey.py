"""What servers say of files that nobody fetches yet: a HEAD each, no more, as politely as they would be fetched.

Knows requests, limits and the disk; fetches nothing, writes nothing. Only ``http`` and ``https`` are asked,
and not what is fetched in another way (a form, through Scrapy).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scrapy_chunkdl.download.errors import DownloadError
from scrapy_chunkdl.download.http.client import FileClient, new_session
from scrapy_chunkdl.download.http.identity import host_of
from scrapy_chunkdl.download.http.tls import tls_context
from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.model import FileRequest, Options
from scrapy_chunkdl.download.progress import Progress

AT_ONCE = 16
"""Requests under way to all hosts together."""

ANSWERS_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Told:
    """What one server said. ``size_bytes`` is None where it did not say; ``refused`` is why there is no file."""

    request: FileRequest
    size_bytes: int | None = None
    refused: str | None = None


async def survey(requests: Sequence[FileRequest], options: Options, told: Callable[[Told], None]) -> None:
    """Ask for each file once, within the limits per host; call ``told`` with each answer as it comes."""
    limits, places = Limits(options), asyncio.Semaphore(AT_ONCE)
    session = new_session(options, limits.rates, tls_context(options))

    async def ask(request: FileRequest) -> None:
        if request.source is not None or not request.url.lower().startswith(("http://", "https://")):
            told(Told(request, refused=None if "://" in request.url else "bad_url"))
            return
        async with places, limits.slot(host_of(request.url)):
            told(await _head(FileClient(session, options, request, Progress()), request))

    try:
        await asyncio.gather(*map(ask, requests))
    finally:
        await session.close()


async def _head(client: FileClient, request: FileRequest) -> Told:
    try:
        response = await client.request("HEAD", request.url, {}, timeout=ANSWERS_WITHIN_S)
    except DownloadError as error:
        return Told(request, refused=error.reason)
    response.release()
    if response.status in (405, 501):  # it knows no HEAD (RFC 9110 §15.5.6, §15.6.2): a GET would tell
        return Told(request)
    if response.status >= 400:
        return Told(request, refused=f"http_{response.status}")
    length = response.headers.get("Content-Length", "")
    return Told(request, size_bytes=int(length) if length.isascii() and length.isdigit() and len(length) < 16 else None)
