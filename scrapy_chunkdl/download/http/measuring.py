"""What a file is, asked of its server: HEAD where it is worth its time, then the first bytes by a GET.

Knows which questions to put in which order; nothing of plans, disks or other sources of the file.
"""

from __future__ import annotations

import time

import aiohttp

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.errors import AskLess, DownloadError, LeadsToMetalink, Permanent
from scrapy_chunkdl.download.http.answer import HttpAnswer, HttpFile
from scrapy_chunkdl.download.http.answers import covers_whole, remote_of
from scrapy_chunkdl.download.http.headers import Validator, parse_content_range
from scrapy_chunkdl.download.http.requests import Link
from scrapy_chunkdl.download.http.verdict import Asked, is_whole
from scrapy_chunkdl.download.known import Match, compare
from scrapy_chunkdl.download.limits.slot import HostSlot
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import Measured, Opening, Source
from scrapy_chunkdl.text.masking import masked


class Measuring:
    """One go at measuring a file at one of its links. ``failures`` are those in a row before it."""

    def __init__(self, file: HttpFile, link: Link, source: Source, finished: Published | None, failures: int) -> None:
        self._file = file
        self._context = file.context
        self._options = file.context.options
        self._limits = file.context.limits
        self._evidence = file.context.evidence
        self._link = link
        self._source = source
        self._finished = finished
        self._failures = failures
        self._asks_ranges = True

    async def run(self, *, by_head: bool) -> Measured:
        """Ask, and return what the file is. Without ``by_head`` only GETs are asked."""
        remote, evidence = None, self._evidence
        probe, host = self._options.probe, self._link.host
        if probe == "get" or (probe == "auto" and self._limits.habits.wants_one_get(host)):
            return await self._open_plainly()
        self._asks_ranges = self._limits.habits.answers_ranges(host)
        asks_head = by_head and self._wants_head()
        if asks_head:
            remote, known = await self._head(), evidence.known
            match = compare(known, remote.known) if known is not None and remote is not None else Match.UNTOLD
            if remote is not None and remote.size is not None and not remote.coding:
                told_all = remote.size > 0 and remote.ranges is not None and match is not Match.CONTRADICTION
                told_all &= not (match is Match.UNTOLD and _conditions(self._finished))  # a 304 may tell
                if told_all or (self._finished is not None and match is Match.SAME):
                    return Measured(remote if self._asks_ranges else _without_ranges(remote))
            if match in (Match.OTHER, Match.CONTRADICTION):
                self._finished = None  # 304 may be said to any older date, or to an ETag that stays (Tornado)
            if remote is not None and match is not Match.SAME:
                evidence.known = remote.known
        measured = await self._open(remote)
        if asks_head and self._link.is_own:
            self._limits.habits.head_told(self._link.host, remote is not None)
        return measured

    def _wants_head(self) -> bool:
        """Whether a HEAD is worth its time.

        Of a file that is there it tells more than a 304, which may leave out the date that gives away a lying ETag.
        """
        probe, host = self._options.probe, self._link.host
        if self._file.requests.given is not None or probe == "range" or not self._limits.habits.wants_heads(host):
            return False
        if self._limits.circuits.is_doubtful(host) or self._is_signed():
            return False
        return probe == "head" or self._finished is not None or not self._limits.habits.are_small(host)

    def _is_signed(self) -> bool:
        """Whether the link seems to be made for one method, or for one request: S3's answer a HEAD with 403."""
        return self._options.probe == "auto" and masked(self._link.url) != self._link.url

    async def _head(self) -> Remote | None:
        """Ask by HEAD. None when it is refused, hangs, fails, leads nowhere, or is not to be believed: a GET will tell.

        Against the record of an earlier run it counts where it has validators and a size; the GET that follows has to
        agree.
        """
        link, judge, evidence, progress = self._link, self._file.judge, self._evidence, self._context.progress
        queue = self._limits.pace(link.host).queue(time.monotonic())
        patience = min(self._options.connect_timeout, self._options.stall_timeout) + 2 * queue
        judge.refused_head = 0
        async with self._slot():
            asked_at = progress.asked()
            try:
                response = await self._file.requests.head(link, patience)
            except DownloadError as error:
                if error.reason == "connect_failed":
                    self._limits.refused(link.host, asked_at)
                return None
            is_hint = judge.is_hint(response, link.host, asked_at)
        if not is_hint:
            return None
        self._leave_metalink(response)
        remote = remote_of(response)
        if evidence.known is not None and compare(evidence.known, remote.known) is Match.CONTRADICTION:
            return None if remote.validator.is_empty or not remote.size else remote
        evidence.hinted, evidence.hinted_type = remote.size or 0, remote.content_type
        evidence.hinted_validator = remote.validator
        return remote

    async def _open(self, hint: Remote | None) -> Measured:
        """Ask by a GET of the first chunk, or of the whole if that is no more, and keep the answer for its body."""
        chunk = self._options.chunk_size
        is_small = hint is not None and hint.size is not None and hint.size <= chunk and not hint.coding
        is_small |= not self._asks_ranges or self._is_signed()
        if (given := self._file.requests.given) is not None:
            is_small = not given.ranged
        headers = {} if is_small else {"Range": f"bytes=0-{chunk - 1}"}
        headers.update(_conditions(self._finished))
        is_refused = not self._asks_ranges
        async with self._slot() as slot:
            while True:
                asked = Asked.FIRST if "Range" in headers else Asked.PLAIN
                asked_at = time.monotonic()
                response = None
                try:
                    response = await self._get(headers, asked)
                    answer = HttpAnswer(self._file, self._link, self._source, response, asked, headers)
                    if response.status == 304 and (finished := self._finished) is not None and _conditions(finished):
                        response.release()
                        if finished.validator.same_version(Validator.of(response.headers)) is not False:
                            return Measured(_unchanged(finished), is_unchanged=True)
                        for name in _conditions(finished):  # an older version has come back
                            del headers[name]
                        self._finished = None
                        continue
                    remote, is_used = self._told(response, asked, hint)
                except AskLess as less:
                    if response is not None:
                        response.close()
                    if "Range" not in headers:
                        raise less.refusal from less
                    del headers["Range"]
                    is_refused = True
                    continue
                except BaseException:
                    if response is not None:
                        response.close()
                    raise
                if is_refused:
                    remote = _without_ranges(remote)
                if not is_used:
                    response.close()
                    return Measured(remote)
                slot.hand_on()
                return Measured(remote, Opening(answer, self._source, slot, asked_at))

    async def _get(self, headers: dict[str, str], asked: Asked) -> aiohttp.ClientResponse:
        """Send a GET. A range is given as long as a HEAD to be answered: some servers never do."""
        is_bound = asked is Asked.FIRST and self._options.robots is None and not self._limits.rates.is_limited
        patience = min(self._options.connect_timeout, self._options.stall_timeout) if is_bound else None
        return await self._file.requests.get(self._link, headers, asked, failures=self._failures, patience_s=patience)

    async def _open_plainly(self) -> Measured:
        """Ask by one plain GET, after which nothing else is asked for: what it brings, it brings in one stream."""
        measured = await self._open(Remote(0, False, Validator()))
        measured.remote = measured.remote._replace(ranges=False, no_ranges="one_request")
        return measured

    def _told(self, response: aiohttp.ClientResponse, asked: Asked, hint: Remote | None) -> tuple[Remote, bool]:
        """Return what an answer says the file is, and whether its body is of use. Raises DownloadError."""
        status = response.status
        if is_whole(status):
            self._leave_metalink(response)
        part = parse_content_range(response.headers.get("Content-Range"))
        if status == 416 and part is not None and part.total == 0:
            validator = Validator.of(response.headers)
            if validator.is_empty and hint is not None:
                validator = hint.validator
            if validator.is_empty:  # the next run will want to know
                raise AskLess(Permanent(f"{response.url} has no bytes", reason="http_416", status=416))
            return Remote(0, False, validator, confirmed=True), True
        if status == 204 and hint is not None and hint.size == 0:
            return hint._replace(ranges=False, confirmed=True), True
        remote, asked_at = remote_of(response), self._file.requests.asked_at(response)
        error = self._file.judge.refused(
            response, self._link.host, asked, asked_at, remote=remote, failures=self._failures
        )
        if error is not None:
            raise error
        if status == 206 and not covers_whole(response):
            honest = part is not None and part.start == 0 and not remote.coding and remote.can_be_split
            if not honest:
                why = "" if remote.can_be_split else remote.one_stream
                return remote._replace(
                    ranges=False, no_ranges=why or "range_mismatch"
                ), False  # asked for anew, as a whole
        return remote, True

    def _leave_metalink(self, response: aiohttp.ClientResponse) -> None:
        """Raise LeadsToMetalink for a document that says where the file is."""
        if self._link.is_own and self._context.request.follows(response.headers.get("Content-Type")):
            raise LeadsToMetalink(f"{self._link.url} leads to a metalink")

    def _slot(self) -> HostSlot:
        return HostSlot(self._limits, self._link.host, self._context.progress)


def _conditions(finished: Published | None) -> dict[str, str]:
    """Return what has the server say 304 instead of sending an unchanged file again (RFC 9110 §13.1)."""
    if finished is None:
        return {}
    before = finished.validator
    if (etag := before.strong_etag) is not None and etag.startswith('"') and etag.isascii():
        return {"If-None-Match": etag}
    if before.last_modified and before.date_is_strong:
        return {"If-Modified-Since": before.last_modified}
    is_weak = before.etag is not None and before.etag.startswith('W/"') and before.etag.isascii()
    return {"If-None-Match": before.etag or ""} if is_weak else {}


def _without_ranges(remote: Remote) -> Remote:
    return remote._replace(ranges=False, no_ranges="range_refused")


def _unchanged(finished: Published) -> Remote:
    return Remote(finished.size, False, finished.validator, confirmed=True)
