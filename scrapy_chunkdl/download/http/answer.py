"""A GET that was answered, as the transfer sees it: what it brings, and its bytes.

Knows one response and the file it is for; nothing of plans, disks or retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp

from scrapy_chunkdl.download.http import body
from scrapy_chunkdl.download.http.answers import remote_of
from scrapy_chunkdl.download.http.client import explain
from scrapy_chunkdl.download.http.handler import handler_of
from scrapy_chunkdl.download.http.headers import parse_content_length
from scrapy_chunkdl.download.http.judge import Judge
from scrapy_chunkdl.download.http.parts import Part
from scrapy_chunkdl.download.http.requests import Link, Requests
from scrapy_chunkdl.download.http.verdict import Asked
from scrapy_chunkdl.download.plan.ranges import Range
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import End, FileContext, Line, Source, Take, Wanted


class HttpFile(NamedTuple):
    """What the HTTP sources of one file share. ``most_at_once`` is how many bytes one answer may bring, 0 for any."""

    context: FileContext
    requests: Requests
    judge: Judge
    most_at_once: int = 0


class HttpAnswer:
    """A response whose body is still to be read: an :class:`~scrapy_chunkdl.download.source.Answer`."""

    __slots__ = ("_asked", "_bytes", "_file", "_headers", "_link", "_looked_at_for", "_response", "_source", "_told")

    def __init__(
        self,
        file: HttpFile,
        link: Link,
        source: Source,
        response: aiohttp.ClientResponse,
        asked: Asked,
        headers: Mapping[str, str],
    ) -> None:
        self._file = file
        self._link = link
        self._source = source
        self._response = response
        self._asked = asked
        self._headers = headers
        self._told: Remote | None = None
        self._bytes: Range | None = None
        self._looked_at_for: Wanted | None = None  # judged anew when another go at the file gets it

    @property
    def url(self) -> str:
        return str(self._response.url)

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def told(self) -> Remote:
        if self._told is None:
            self._told = remote_of(self._response)
        return self._told

    @property
    def length(self) -> int | None:
        return parse_content_length(self._response.headers.get("Content-Length"))

    @property
    def line(self) -> Line | None:
        return handler_of(self._response)

    @property
    def is_part(self) -> bool:
        return self._response.status == 206

    @property
    def is_plain(self) -> bool:
        return "Range" not in self._response.request_info.headers

    @property
    def says_empty(self) -> bool:
        return self._response.status in (204, 416)

    def bytes_for(self, wanted: Wanted) -> Range | None:
        if wanted is self._looked_at_for:
            return self._bytes
        evidence = self._file.context.evidence
        is_main = evidence.main is self._source
        part = Part(self._file.judge, evidence, self._link, self._asked, self._headers, is_main=is_main)
        self._bytes = part.bytes_of(self._response, wanted, self._file.requests.asked_at(self._response))
        self._looked_at_for = wanted
        return self._bytes

    def check_whole(self) -> None:
        asked_at = self._file.requests.asked_at(self._response)
        error = self._file.judge.refused(self._response, self._link.host, Asked.PLAIN, asked_at, remote=self.told)
        if error is not None:
            raise error

    async def read(self, take: Take) -> End:
        options, limits = self._file.context.options, self._file.context.limits
        pace = limits.pace(self._link.host)
        try:
            return await body.receive(self._response, self.length, take, stall_timeout=options.stall_timeout, pace=pace)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise explain(error, self.url) from error

    def close(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()
