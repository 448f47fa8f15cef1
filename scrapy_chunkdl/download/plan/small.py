"""The way of a small file: one GET, the whole body in memory, and a name, together with others that are ready.

Most attachments are small, and most servers answer plainly. For them a probe, a plan, a part file that grows and a
thread cost more than the bytes (docs/performance.md). Whatever is not plain, about the file, its server or its disk, is
left to the ordinary transfer, which goes on with the answer that has begun to come, or asks as if nothing had been
tried. Nothing is decided here that it would decide otherwise: :meth:`SmallFiles.fetch` brings a right file, or says
what was tried. Knows what a file needs to be such a one; nothing of plans, retries or ranges.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import aiohttp
from multidict import CIMultiDict

from scrapy_chunkdl.download.disk import platform
from scrapy_chunkdl.download.disk.checksum import digests_of, parse_expected, told_first
from scrapy_chunkdl.download.disk.file_identity import FileIdentity
from scrapy_chunkdl.download.disk.record import Published, read_published
from scrapy_chunkdl.download.disk.whole_file import NoLocks, Publishing, WholeFile
from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.http import plausible, proxies
from scrapy_chunkdl.download.http.handed_on import Tried
from scrapy_chunkdl.download.http.headers import Validator, parse_digests
from scrapy_chunkdl.download.http.identity import PORTS, Identity
from scrapy_chunkdl.download.http.media_types import Kind, kind_of_name, kind_of_type
from scrapy_chunkdl.download.http.names import name_of
from scrapy_chunkdl.download.http.plain_answer import Answer, Odd
from scrapy_chunkdl.download.http.plain_get import Origin, PlainConnections
from scrapy_chunkdl.download.http.urls import PLAIN_URL
from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.model import FileRequest, FileResult, Options, Progress
from scrapy_chunkdl.download.progress import Doing
from scrapy_chunkdl.text import naming

_UNUSUAL_HEADERS = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
_QUICK_CHUNKS = 4
_MOST_QUICK = 1 << 22
"""Bytes of a file that come in a moment, and in memory, where a host is quick: in one request, without a journal."""

_HEADS_REMEMBERED = 256
_ENTRIES_READ = 8
_NOT_OF_THE_HOST = frozenset({"status", "large", "there", "disk", "checksum", "metalink"})
"""Why a file may be odd without its host being so."""


_SPEAKS_OF_HOST = {"no_connection": "connect_failed", "closed": "connection_lost", "slow": "stalled"}


class _Small(NamedTuple):
    """One file on its way: what is asked for, under which name, as what, and since when (monotonic)."""

    request: FileRequest
    wanted: str | None
    identity: FileIdentity
    expected: tuple[str, str] | None
    progress: Progress
    began: float


class _Whole(NamedTuple):
    """A file that is whole in its part file."""

    file: WholeFile
    record: Published
    content_type: str | None


class SmallFiles:
    """Fetches what is small and plain, for one loop."""

    def __init__(self, options: Options, limits: Limits, context: ssl.SSLContext) -> None:
        self._options = options
        self._limits = limits
        self._habits = limits.habits
        self._connections = PlainConnections(
            aiohttp.ThreadedResolver(),
            context,
            bind_address=options.bind_address,
            dns_timeout=options.dns_timeout,
            connect_timeout=options.connect_timeout,
            stall_timeout=options.stall_timeout,
        )
        self._publishing = Publishing()
        self._heads: dict[tuple[str, bool], bytes] = {}
        self._most = min(options.chunk_size, options.max_file_size or options.chunk_size)
        most_quick = max(options.chunk_size, min(_QUICK_CHUNKS * options.chunk_size, _MOST_QUICK))
        self._most_quick = min(most_quick, options.max_file_size or most_quick)
        self._is_off = (
            options.probe in ("head", "get")
            or options.robots is not None
            or options.store is not None
            or options.block_private_addresses
            or not platform.can_rename_open_files()
        )

    async def close(self) -> None:
        """Close the connections; files that are being published get their names first."""
        self._publishing.close()
        await self._connections.close()

    async def fetch(self, request: FileRequest, progress: Progress) -> FileResult | Tried:
        """Fetch a file if it is small and plain; if not, say what was tried, which is the caller's to close.

        Raises what the ordinary way would: Permanent for a lost lease, a checksum that is none, or a header that cannot
        be sent.
        """
        match = PLAIN_URL.fullmatch(request.url)
        if match is None or self._is_off or request.source is not None or self._limits.rates.is_limited:
            return Tried()
        scheme, name, port, _ = match.groups()
        host = f"{name}:{port or PORTS[scheme]}"
        if self._limits.circuits.is_doubtful(host):  # each request counts there
            return Tried()
        if self._options.host_rules.of(host).via is not None:
            return Tried()
        if not self._habits.are_small(host):
            self._habits.left_out(host)
            return Tried()
        identity = FileIdentity.of(request, self._options)
        wanted = naming.safe_name(request.name) if request.name else None
        if not self._may_be_asked(request, name) or _may_be_there(request, wanted, identity):
            return Tried()
        expected = parse_expected(request.checksum) if request.checksum else None
        most = self._most_of(host, request)
        requests, ranged = progress.requests, most <= self._most and self._habits.asks_for_ranges(host)
        small = _Small(request, wanted, identity, expected, progress, time.monotonic())
        try:
            whole = await self._ask(small, match, host, most, ranged)
            result = await self._publish(small, whole)
        except Odd as odd:
            if odd.why == "stalled":
                progress.retried("stalled")
            if odd.why == "page":
                self._limits.circuits.page(host, id(progress))
                progress.blames = host
            if odd.why not in _NOT_OF_THE_HOST:
                self._habits.was_odd(host)
            progress.size, progress.done = None, 0
            return Tried(progress.requests - requests, odd.given, ranged=ranged, asked_at=progress.asked_at)
        self._habits.was_plain(host)
        return result

    def _may_be_asked(self, request: FileRequest, host: str) -> bool:
        """Whether the host is allowed, and reached without a proxy, by a request as most are."""
        options = self._options
        if request.headers and not _UNUSUAL_HEADERS.isdisjoint(map(str.lower, request.headers)):
            return False
        if options.allowed_hosts and not any(
            host == name or host.endswith("." + name) for name in options.allowed_hosts
        ):
            return False
        if not (request.proxy or options.proxies):
            return True
        return proxies.proxy_for(request.url, request.proxy, options.proxies) is None

    # --- asking

    def _most_of(self, host: str, request: FileRequest) -> int:
        """Return how many bytes a file may have: a chunk, or what comes in a moment. What is hashed takes longer."""
        if request.checksum or self._options.checksum:
            return self._most
        return max(self._most, min(self._most_quick, int(self._habits.bytes_in_a_moment(host))))

    async def _ask(self, small: _Small, match: re.Match[str], host: str, most: int, ranged: bool) -> _Whole:
        scheme, name, port, target = match.groups()
        origin = Origin(name, int(port or PORTS[scheme]), scheme == "https")
        asked = b"GET " + target.encode("ascii") + self._head(small.request, match, ranged)
        limits, progress, is_served = self._limits, small.progress, False
        if not limits.take_now(host, progress):
            slot = limits.slot(host)
            with progress.during(Doing.WAITING_FOR_A_HOST, lambda: limits.moved_at(host)):
                await slot.__aenter__()
            limits.hold(host, progress)
        try:
            asked_at = progress.asked()
            limits.circuits.ask(host)
            progress.requests += 1

            def use(answer: Answer) -> _Whole:
                nonlocal is_served
                is_served = True
                progress.answered(answer.status, asked_at, "GET", small.request.url)
                limits.circuits.answered(host, id(progress), answer.status, asked_at)
                progress.moved()
                progress.size = progress.done = len(answer.body)
                progress.fetched += len(answer.body)
                if answer.took_s:
                    self._habits.came(host, answer.late_bytes, answer.took_s)
                return self._write(small, answer)

            return await self._connections.get(origin, asked, most, use)
        except Odd as odd:
            if not is_served and odd.given is None:
                progress.answered(None, asked_at, "GET", small.request.url, _SPEAKS_OF_HOST.get(odd.why, odd.why))
                if limits.circuits.unanswered(host, id(progress), _SPEAKS_OF_HOST.get(odd.why, ""), asked_at):
                    progress.blames = host
            raise
        finally:
            limits.give_back(host, progress, served=is_served)

    def _head(self, request: FileRequest, match: re.Match[str], ranged: bool) -> bytes:
        """Return a request's head behind its target: the same for all that ask a host for no more than a file."""
        is_common = not (request.headers or request.cookies or request.logins)
        place = request.url[: match.start(4)]
        if is_common and (known := self._heads.get((place, ranged))) is not None:
            return known
        sent: CIMultiDict[str] = CIMultiDict({"Host": place.partition("://")[2]})
        sent.update(Identity(request, self._options).headers_for(request.url))
        sent.setdefault("Accept", "*/*")
        if ranged:
            sent["Range"] = f"bytes=0-{self._options.chunk_size - 1}"
        sent["Accept-Encoding"] = "identity"
        head = (" HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in sent.items()) + "\r\n").encode()
        if is_common:
            if len(self._heads) >= _HEADS_REMEMBERED:
                self._heads.clear()
            self._heads[place, ranged] = head
        return head

    # --- the file

    def _write(self, small: _Small, answer: Answer) -> _Whole:
        """Look at an answer, and put it into its part file. Raises Odd for what is not for this way."""
        request, headers, body = small.request, answer.headers, answer.body
        validator = Validator.of(headers)
        content_type = headers.get("Content-Type") or None
        disposition = headers.get("Content-Disposition")
        if request.follows(content_type):
            raise Odd("metalink")
        if small.expected is None and (self._options.check_type or request.accept):
            self._refuse_implausible(request, disposition, content_type, body)
        checksum = self._checked(headers, body, small.expected)
        name = small.wanted or name_of(disposition, request.url, request.url, content_type)
        record = Published(
            small.identity.recorded,
            len(body),
            validator.etag,
            validator.last_modified,
            checksum,
            date_is_strong=validator.date_is_strong,
        )
        file = WholeFile(os.fspath(request.folder), name)
        try:
            file.lock()
            if os.path.lexists(file.final):
                raise Odd("there")
            file.write(body, record)
        except BaseException as problem:
            file.discard()
            if isinstance(problem, NoLocks):
                self._is_off = True
            if isinstance(problem, OSError):
                raise Odd("disk") from problem
            raise
        return _Whole(file, record, content_type)

    async def _publish(self, small: _Small, whole: _Whole) -> FileResult:
        """Give a whole file its name, unless its lease was lost."""
        request, progress, record = small.request, small.progress, whole.record
        if request.may_publish is not None and not request.may_publish():
            whole.file.discard()
            raise Permanent("the lease was lost: another process finishes the file", reason="lease_lost")
        with progress.during(Doing.PUBLISHING):
            try:
                await self._publishing.publish(whole.file)
            except OSError as error:
                raise Odd("disk") from error
        return FileResult(
            url=request.url,
            final_url=request.url,
            path=whole.file.path,
            size=record.size,
            checksum=record.checksum,
            etag=record.etag,
            last_modified=record.last_modified,
            elapsed=time.monotonic() - small.began,
            requests=progress.requests,
            retries=progress.retries,
            fetched=progress.fetched,
            content_type=whole.content_type,
            date_is_strong=record.date_is_strong,
            one_stream="small",
        )

    def _refuse_implausible(
        self, request: FileRequest, disposition: str | None, content_type: str | None, body: memoryview
    ) -> None:
        """Raise Odd for what may be a page in place of the file: a HEAD, and a second try, tell more."""
        first = bytes(body[: plausible.FIRST_BYTES])
        if not request.accept and plausible.is_no_text(first, content_type):
            return
        given, by_url = naming.name_from_content_disposition(disposition), naming.name_from_url(request.url)
        called = [name for name in (request.name, given, by_url) if name]
        name = next((name for name in called if kind_of_name(name) is not Kind.UNKNOWN), called[0] if called else "")
        if plausible.why_not(name, content_type, len(body), first, accept=request.accept) is not None:
            raise Odd("page")
        if kind_of_type(content_type) is Kind.PAGE and kind_of_name(name) is Kind.UNKNOWN:
            raise Odd("page")

    def _checked(self, headers: CIMultiDict[str], body: memoryview, expected: tuple[str, str] | None) -> str | None:
        """Return the checksum that is told. Raises Odd for a wrong one: the ordinary way asks again, and tells."""
        wanted = parse_digests(headers)
        if expected is not None:
            wanted[expected[0]] = expected[1]
        reported = self._options.checksum
        if not wanted and not reported:
            return None
        found = digests_of(body, {*wanted, *([reported] if reported else [])})
        if any(found[name] != wanted[name] for name in wanted):
            raise Odd("checksum")
        reported = reported or (expected[0] if expected is not None else told_first(found))
        return f"{reported}:{found[reported]}"


def may_be_there(request: FileRequest, options: Options) -> bool:
    """Whether an earlier run may have left a file, for who only looks."""
    wanted = naming.safe_name(request.name) if request.name else None
    return _may_be_there(request, wanted, FileIdentity.of(request, options))


def _may_be_there(request: FileRequest, wanted: str | None, identity: FileIdentity) -> bool:
    """Whether an earlier run may have left the file: then its server is asked whether it has changed."""
    folder = os.fspath(request.folder)
    if wanted:
        return os.path.lexists(f"{folder}/{wanted}")
    try:
        with os.scandir(folder) as entries:
            paths = [entry.path for entry in islice(entries, _ENTRIES_READ)]
    except OSError:
        return False
    there = (read_published(Path(path)) for path in paths)
    return any(one is not None and one.url is not None and not identity.is_anothers(one.url) for one in there)
