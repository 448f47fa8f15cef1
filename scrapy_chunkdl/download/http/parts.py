"""Whether the answer to a range request brings bytes of the right file and version, and which.

Validators may lie and backends differ, so a part counts only where it shows what it is of (RFC 9110 §13.1.5, §15.3.7).
Reads heads; sends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import aiohttp

from scrapy_chunkdl.download.errors import (
    AskLess,
    Contradiction,
    DownloadError,
    Permanent,
    RangeIgnored,
    RangeMismatch,
    Remeasured,
    SourceChanged,
)
from scrapy_chunkdl.download.http.answers import coding_of, remote_of
from scrapy_chunkdl.download.http.headers import (
    ContentRange,
    Validator,
    parse_content_length,
    parse_content_range,
    parse_digests,
)
from scrapy_chunkdl.download.http.judge import Judge
from scrapy_chunkdl.download.http.media_types import essence
from scrapy_chunkdl.download.http.requests import Link
from scrapy_chunkdl.download.http.verdict import Asked, is_whole
from scrapy_chunkdl.download.known import By, Known, Match, compare
from scrapy_chunkdl.download.plan.ranges import Range
from scrapy_chunkdl.download.source import Evidence, Seen, Wanted
from scrapy_chunkdl.download.versions import refuse_other_version

_JUST_NOW_S = 1.0
"""Seconds for which a file counts as served after a body of it has ended."""


_SEVERAL_PARTS = "multipart/byteranges"


def asked_as(headers: Mapping[str, str], seen: Seen) -> Asked:
    """Return what a request with these headers is, by what the file has seen."""
    return Asked.PLAIN if "Range" not in headers else Asked.LATER if seen.is_served else Asked.FIRST


def known_of(evidence: Evidence, seen: Seen) -> Known:
    """Return what is known of the file, by all answers or by the one that measured it."""
    return evidence.known or seen.remote.known


class Part:
    """What one answer was asked for, and by whom: ``is_main`` is the source that the others have to agree with.

    ``headers`` are those it was asked with.
    """

    def __init__(
        self, judge: Judge, evidence: Evidence, link: Link, asked: Asked, headers: Mapping[str, str], *, is_main: bool
    ) -> None:
        self._judge = judge
        self._evidence = evidence
        self._link = link
        self._asked = asked
        self._headers = headers
        self._is_main = is_main

    def bytes_of(self, response: aiohttp.ClientResponse, wanted: Wanted, asked_at: float) -> Range | None:
        """Return the range that the answer brings, once it is sure to be of the right version and usable.

        None for all of the file, where nothing of it is there yet, and it is not just what was asked for.
        """
        seen, link, status = wanted.seen, self._link, response.status
        size = seen.size
        told = parse_content_range(response.headers.get("Content-Range")) if status in (206, 416) else None
        if status == 206 and coding_of(response):
            raise RangeIgnored(f"{response.url} answered with a slice of an encoded form", status=206)
        if told is not None and told.total is not None and told.total != size:
            raise self._other_size(told.total, seen, status)
        remote = remote_of(response) if is_whole(status) else None
        if remote is not None and not self._is_main:
            raise RangeIgnored(f"{response.url} ignores ranges")
        error = self._judge.refused(
            response,
            link.host,
            self._asked,
            asked_at,
            remote=remote,
            conditional="If-Range" in self._headers and not link.vouched,
            failures=wanted.failures,
            is_served=seen.others_are_asking or time.monotonic() - seen.moved_at < _JUST_NOW_S,
        )
        unsure = not seen.is_confirmed and not seen.remote.confirmed
        if isinstance(error, SourceChanged) and unsure and remote is not None and remote.size not in (None, size):
            raise self._other_size(remote.size or 0, seen, status)
        if error is not None:
            if status == 416 and not isinstance(error, AskLess):
                span = wanted.span
                raise RangeMismatch(f"{response.url} refused bytes {span.position}-{span.stop - 1}", status=416)
            raise error
        if remote is not None:
            told_same = not remote.coding and remote.size == size
            match = compare(known_of(self._evidence, seen), remote.known)
            if self._asked is not Asked.PLAIN or not told_same or match is not Match.SAME:
                return None  # what it says of itself is recorded with its bytes
            return 0, size
        return self._checked(response, wanted, told)

    def _checked(self, response: aiohttp.ClientResponse, wanted: Wanted, got: ContentRange | None) -> Range:
        if got is None or got.start is None or got.stop is None:
            raise RangeMismatch(f"{response.url} answered 206 without a valid Content-Range")
        kind = response.headers.get("Content-Type")
        if essence(kind) == _SEVERAL_PARTS:  # what it asks for is one, and its boundaries are no bytes of the file
            raise RangeIgnored(f"{response.url} answered with a range in {_SEVERAL_PARTS}", status=206)
        known = known_of(self._evidence, wanted.seen)
        if Known(By.PARTS, None, content_type=kind).is_page and known.content_type is not None and not known.is_page:
            raise Contradiction(f"{response.url} answered with a page under 206", status=206)
        # If-Range alone does not show it, for there are servers that do ranges and ignore it.
        refuse_other_version(
            wanted.seen,
            Validator.of(response.headers),
            parse_digests(response.headers, whole=False),
            is_main=self._is_main,
            url=self._link.url,
            status=206,
        )
        position = wanted.span.position
        if not got.start <= position < got.stop:
            raise RangeMismatch(f"{response.url} answered bytes {got.start}-{got.stop - 1}, not {position}-")
        length = None
        if "Transfer-Encoding" not in response.headers:
            length = parse_content_length(response.headers.get("Content-Length"))
        if length is not None and length > got.stop - got.start:
            raise RangeMismatch(f"{response.url} brings {length} bytes as {got.start}-{got.stop - 1}")
        self._link.vouched |= "If-Range" in self._headers
        return got.start, got.stop

    def _other_size(self, total: int, seen: Seen, status: int) -> DownloadError:
        text = f"{self._link.url} has {total} bytes, not {seen.size}"
        if not self._is_main:
            return Permanent(text, reason="other_size", status=status)
        if not seen.is_confirmed and not seen.remote.confirmed:
            return Remeasured(text, total=total, status=status)
        return SourceChanged(text, status=status)
