"""HTTP as a source of files: one URL of a file, or of a mirror of it, and the session that all share.

Knows requests, and carries out what the table of verdicts says of answers; nothing of what happens to the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.errors import AskLess, DownloadError, RangeIgnored, Transient
from scrapy_chunkdl.download.http.answer import HttpAnswer, HttpFile
from scrapy_chunkdl.download.http.client import FileClient
from scrapy_chunkdl.download.http.handed_on import Tried
from scrapy_chunkdl.download.http.judge import Judge
from scrapy_chunkdl.download.http.measuring import Measuring
from scrapy_chunkdl.download.http.parts import asked_as, known_of
from scrapy_chunkdl.download.http.requests import Link, Requests
from scrapy_chunkdl.download.http.verdict import Asked
from scrapy_chunkdl.download.known import Match, compare
from scrapy_chunkdl.download.source import FileContext, Measured, Seen, Source, Wanted


class HttpOpener:
    """Makes HTTP sources over one session: an :class:`~scrapy_chunkdl.download.source.Opener`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def sources(self, context: FileContext, urls: Sequence[str], tried: Tried | None = None) -> list[Source]:
        """Return the sources of one file. ``tried`` is what was asked of the first by a shorter way."""
        client = FileClient(self._session, context.options, context.request, context.progress, tried, context.limits)
        file = HttpFile(context, Requests(context, client, tried), Judge(context))
        return [HttpSource(file, Link(url, url, is_own=url == context.request.url)) for url in urls]

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


class HttpSource:
    """One URL: a :class:`~scrapy_chunkdl.download.source.Source`. It has nothing open but the answers it returned."""

    def __init__(self, file: HttpFile, link: Link) -> None:
        self._file = file
        self._link = link

    @property
    def url(self) -> str:
        return self._link.url

    @property
    def led_to(self) -> str:
        return self._link.final_url

    @property
    def host(self) -> str:
        return self._link.host

    async def measure(self, finished: Published | None, *, by_hint: bool, failures: int) -> Measured:
        return await Measuring(self._file, self._link, self, finished, failures).run(by_head=by_hint)

    async def read(self, wanted: Wanted) -> HttpAnswer:
        link, span, seen = self._link, wanted.span, wanted.seen
        headers = {}
        most = self._file.most_at_once or seen.size
        stop = min(span.stop, span.position + most)
        if span.position > 0 or stop < seen.size:  # all of the file is a plain GET
            headers["Range"] = f"bytes={span.position - wanted.look}-{stop - 1}"
            validator = seen.remote.validator.if_range()
            if validator and link.conditional and self._file.context.evidence.main is self:
                headers["If-Range"] = validator
        while True:
            wanted.asked()
            try:
                return await self._ask_for(wanted, headers)
            except AskLess as less:
                if "If-Range" in headers and (less.status == 200 or wanted.failures or not seen.others_are_asking):
                    link.conditional = False
                    del headers["If-Range"]
                    continue
                raise _less(less, seen) from less

    async def _ask_for(self, wanted: Wanted, headers: dict[str, str]) -> HttpAnswer:
        file, seen, asked = self._file, wanted.seen, asked_as(headers, wanted.seen)
        response = await file.requests.get(self._link, headers, asked, failures=wanted.failures)
        answer = HttpAnswer(file, self._link, self, response, asked, headers)
        try:
            if response.status == 200 and "If-Range" in headers:
                # It can be of the same version: some CDNs honour If-Range only with a date.
                match = compare(known_of(file.context.evidence, seen), answer.told.known)
                if match in (Match.SAME, Match.UNTOLD):
                    raise AskLess(RangeIgnored(f"{response.url} ignores ranges"))
            answer.bytes_for(wanted)
        except BaseException:
            answer.close()
            raise
        return answer

    async def read_whole(self) -> HttpAnswer:
        response = await self._file.requests.get(self._link, {}, Asked.PLAIN)
        return HttpAnswer(self._file, self._link, self, response, Asked.PLAIN, {})

    def forget(self, *, where_it_led: bool = False) -> None:
        self._link.conditional = True
        if where_it_led:
            self._link.final_url = self._link.url

    async def close(self) -> None:
        """Nothing is left to end: answers are their receivers'."""


def _less(less: AskLess, seen: Seen) -> DownloadError:
    """Return what to do where ranges seem to be refused: hear what the other connections get, then do without."""
    refusal = less.refusal
    if seen.is_served or seen.others_are_asking:
        return Transient(str(refusal), reason=refusal.reason, status=refusal.status)
    return RangeIgnored(f"ranges are refused: {refusal}", status=refusal.status or 0)
