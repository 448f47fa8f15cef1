"""GETs whose answers are plain and come whole: over kept connections, one head, one body in memory.

A file of 64 KiB costs as much in layers of a general HTTP client as in bytes (docs/performance.md), and most small
files come in the same plain way: 200, or a 206 with all of it, a Content-Length, nothing coded, nothing to remember.
Such an answer is read here by a protocol of ours, strictly (RFC 9112 §2.2, §5, §6.3). What is not plain is no error:
:class:`Odd` says why, and has the answer as far as it came for the ordinary client, which knows the rest of HTTP. So
nothing here retries, follows, decodes or forgives, but for a connection that was closed while nobody used it. Knows
sockets, TLS and heads; nothing of files, hosts' habits or limits.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohappyeyeballs
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict

from scrapy_chunkdl.download.http.handed_on import HandedOn
from scrapy_chunkdl.download.http.headers import parse_content_range

_BUFFER = 1 << 18
"""Bytes read from a socket before the length of a body is known."""

_USUAL_HEAD = 1 << 10
_MOST_HEAD = 1 << 14
_MOST_IDLE = 256
_KEPT_S = 15.0
"""Seconds an idle connection is kept, as aiohttp does."""

_DNS_TTL_S = 60.0
_LOOKS = 4
"""How often a stall is looked for within its time-out: it is found a quarter late at most."""

_FIELD = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[ \t]*[ -~\t]*\r\n"
_HEAD = re.compile(rb"HTTP/1\.1 (200|206)(?: [ -~]*)?\r\n((?:" + _FIELD + rb")+)\r\n")
"""A status line and fields of printable ASCII (RFC 9112 §4, §5): no folded line, no space before a colon."""

_OTHER_STATUS = re.compile(rb"HTTP/1\.1 (?!200|206)[2-5][0-9]{2} ")
_LENGTH = re.compile(r"[0-9]{1,10}")
_ODD_FIELDS = frozenset({"transfer-encoding", "content-encoding", "set-cookie", "location", "refresh", "trailer"})
_ONCE = ("Content-Length", "Content-Range", "Content-Type", "ETag", "Last-Modified", "Content-Disposition")


class Odd(Exception):
    """An answer, or a connection, that is not for this way. ``why`` is one short word.

    ``given`` is the answer as it came, for whoever reads it to its end; the receiver of the error has to close it.
    ``length`` and ``headers`` are those of a plain answer that is too large.
    """

    def __init__(self, why: str, length: int = 0, headers: CIMultiDict[str] | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.length = length
        self.headers = headers if headers is not None else CIMultiDict()
        self.given: HandedOn | None = None


class Origin(NamedTuple):
    """Where a connection goes."""

    host: str
    port: int
    is_tls: bool


@dataclass(slots=True)
class Answer:
    """A plain answer with all of its body."""

    status: int
    headers: CIMultiDict[str]
    body: bytearray


class PlainConnections:
    """Kept connections of one loop, by origin. Lives as long as a downloader; :meth:`close` ends them."""

    def __init__(
        self,
        resolver: AbstractResolver,
        context: ssl.SSLContext,
        *,
        bind_address: str | None,
        dns_timeout: float,
        connect_timeout: float,
        stall_timeout: float,
    ) -> None:
        self._resolver = resolver
        self._context = context
        self._bind_address = bind_address
        self._dns_timeout = dns_timeout
        self._connect_timeout = connect_timeout
        self._stall_timeout = stall_timeout
        self._idle: OrderedDict[Origin, deque[_Connection]] = OrderedDict()
        self._idle_count = 0
        self._busy: set[_Connection] = set()
        self._addresses: dict[Origin, tuple[float, asyncio.Task[list[_Address]]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._buffer = memoryview(bytearray(_BUFFER))
        self._is_closed = False

    async def get(self, origin: Origin, request: bytes, most_bytes: int) -> Answer:
        """Send a request, which is a whole head of a GET, and return its answer with the body.

        Raises Odd for any answer that is not plain, or larger than ``most_bytes``, and for what the network does.
        """
        connection = self._take(origin)
        if connection is not None:
            try:
                return await self._get_on(connection, origin, request, most_bytes)
            except Odd as odd:
                if odd.why != "closed" or connection.was_answered:  # else it was closed while it was idle
                    raise
        return await self._get_on(await self._connect(origin), origin, request, most_bytes)

    async def _get_on(self, connection: _Connection, origin: Origin, request: bytes, most_bytes: int) -> Answer:
        self._busy.add(connection)
        if self._timer is None:
            self._look()
        try:
            answer = await connection.ask(request, most_bytes)
        except Odd as odd:
            if odd.given is None:
                connection.abort()
            raise
        except BaseException:
            connection.abort()
            raise
        finally:
            self._busy.discard(connection)
        if connection.is_open and not self._is_closed:
            self._keep(origin, connection)
        else:
            connection.abort()
        return answer

    async def close(self) -> None:
        """Close all connections."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for connection in [*self._busy, *(one for idle in self._idle.values() for one in idle)]:
            connection.abort()
        for _, asking in self._addresses.values():
            asking.cancel()
        self._idle.clear()
        await asyncio.sleep(0)  # transports close a turn later

    # --- connections

    def _take(self, origin: Origin) -> _Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            self._idle_count -= 1
            if connection.is_open:
                return connection
        return None

    def _keep(self, origin: Origin, connection: _Connection) -> None:
        connection.moved_at = time.monotonic()
        self._idle.setdefault(origin, deque()).append(connection)
        self._idle.move_to_end(origin)
        self._idle_count += 1
        if self._idle_count > _MOST_IDLE:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        origin, idle = next(iter(self._idle.items()))
        if idle:
            idle.popleft().abort()
            self._idle_count -= 1
        if not idle:
            del self._idle[origin]

    async def _connect(self, origin: Origin) -> _Connection:
        try:
            addresses = await asyncio.wait_for(asyncio.shield(self._resolve(origin)), self._dns_timeout)
            return await asyncio.wait_for(self._connect_to(origin, addresses), self._connect_timeout)
        except (OSError, asyncio.TimeoutError, ValueError) as error:
            raise Odd("no_connection") from error

    async def _connect_to(self, origin: Origin, addresses: list[_Address]) -> _Connection:
        loop = asyncio.get_running_loop()
        local = [self._local_address()] if self._bind_address else None
        connected = await aiohappyeyeballs.start_connection(
            addresses, local_addr_infos=local, happy_eyeballs_delay=0.25, interleave=1, loop=loop
        )
        _, connection = await loop.create_connection(
            lambda: _Connection(loop, self._buffer),
            sock=connected,
            ssl=self._context if origin.is_tls else None,
            server_hostname=origin.host if origin.is_tls else None,
        )
        return connection

    def _local_address(self) -> _Address:
        assert self._bind_address is not None
        family = socket.AF_INET6 if ":" in self._bind_address else socket.AF_INET
        return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (self._bind_address, 0))

    def _resolve(self, origin: Origin) -> asyncio.Task[list[_Address]]:
        now = time.monotonic()
        until, asking = self._addresses.get(origin, (0.0, None))
        if asking is None or until < now or (asking.done() and (asking.cancelled() or asking.exception())):
            asking = asyncio.get_running_loop().create_task(self._look_up(origin))
            self._addresses[origin] = (now + _DNS_TTL_S, asking)
        return asking

    async def _look_up(self, origin: Origin) -> list[_Address]:
        found = await self._resolver.resolve(origin.host, origin.port, socket.AF_UNSPEC)
        return [(one["family"], socket.SOCK_STREAM, one["proto"], "", (one["host"], one["port"])) for one in found]

    def _look(self) -> None:
        """Notice stalls, and close what is idle for long. Looking now and then costs less than a timer for each."""
        now = time.monotonic()
        for connection in tuple(self._busy):
            if now - connection.moved_at > self._stall_timeout:
                connection.give_up_waiting()
        for origin in tuple(self._idle):
            idle = self._idle[origin]
            while idle and (now - idle[0].moved_at > _KEPT_S or not idle[0].is_open):
                idle.popleft().abort()
                self._idle_count -= 1
            if not idle:
                del self._idle[origin]
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._stall_timeout / _LOOKS, self._look) if self._busy or self._idle else None


_Address = tuple[int, int, int, str, tuple[Any, ...]]


class _Connection(asyncio.BufferedProtocol):
    """One connection: asks, then reads an answer into memory."""

    __slots__ = (
        *(
            "_answer",
            "_answers",
            "_body",
            "_buffer",
            "_early",
            "_given",
            "_head",
            "_loop",
            "_most",
            "_rest",
            "_transport",
        ),
        *("_transport", "is_open", "moved_at", "was_answered"),
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer: memoryview) -> None:
        self._loop = loop
        self._buffer = buffer
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._answers = 0
        self._most = 0
        self._early = b""
        self._head: tuple[int, CIMultiDict[str]] | None = None
        self._given: HandedOn | None = None
        self._body = bytearray()
        self._rest: memoryview | None = None
        self.is_open = False
        self.was_answered = False
        self.moved_at = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.is_open = True

    def ask(self, request: bytes, most_bytes: int) -> asyncio.Future[Answer]:
        """Send a request; the future has its answer, or an Odd."""
        assert self._transport is not None
        self._answer = answer = self._loop.create_future()
        self._most = most_bytes
        self.was_answered = False
        self.moved_at = time.monotonic()
        self._transport.write(request)
        return answer

    def abort(self) -> None:
        """Close it at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def give_up_waiting(self) -> None:
        """End a silent answer. A first one that has not begun goes on to whoever knows how long a server may take.

        A connection that had an answer before may have been lost meanwhile: there it is asked anew.
        """
        odd = Odd("stalled" if self.was_answered or self._answers else "slow")
        if odd.why == "slow":
            assert self._transport is not None
            self._given = odd.given = HandedOn(self._transport, b"")
        self.fail(odd)

    def fail(self, odd: Odd) -> None:
        """End the answer that is waited for, and the connection."""
        self.is_open = False
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(odd)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the socket is read into: the body's own place, as soon as its length is known."""
        return self._buffer if self._rest is None else self._rest

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.moved_at = time.monotonic()
        if self._rest is not None:
            self._rest = self._rest[nbytes:]
            if not self._rest:
                self._end()
            return
        self.was_answered = True
        if self._answer is None:  # nobody asked: what comes now would pass as the next answer
            self.abort()
            return
        try:
            self._begin(nbytes)
        except Odd as odd:
            assert self._transport is not None
            self._given = odd.given = HandedOn(self._transport, self._early + bytes(self._buffer[:nbytes]))
            if self._answer.done():  # whoever asked has gone
                odd.given.close()
            self.fail(odd)

    def _begin(self, nbytes: int) -> None:
        raw = self._early + bytes(self._buffer[: min(nbytes, _USUAL_HEAD)])
        end = raw.find(b"\r\n\r\n") + 4
        if end < 4:
            raw = self._early + bytes(self._buffer[: min(nbytes, _MOST_HEAD)])
            end = raw.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(raw) >= _MOST_HEAD:
                raise Odd("long_head")
            self._early = raw
            return
        status, headers, length = read_head(raw[:end])
        if length > self._most or (length == self._most and status == 200):  # which may be just the part asked for
            raise Odd("large", length, headers)
        if length == 0:
            raise Odd("empty")
        start = end - len(self._early)
        got = nbytes - start
        if got > length:
            raise Odd("too_long")
        self._early = b""
        self._head = status, headers
        self._body = body = bytearray(length)
        body[:got] = self._buffer[start:nbytes]
        if got == length:
            self._end()
        else:
            self._rest = memoryview(body)[got:]

    def _end(self) -> None:
        assert self._head is not None
        self._rest = None
        status, headers = self._head
        self._head = None
        answer, self._answer = self._answer, None
        self._answers += 1
        if answer is not None and not answer.done():
            self.is_open = self.is_open and headers.get("Connection", "keep-alive").lower() == "keep-alive"
            answer.set_result(Answer(status, headers, self._body))
        self._body = bytearray()

    def eof_received(self) -> None:
        """The peer has closed its side; the transport closes, too."""
        self._lost()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._lost()

    def _lost(self) -> None:
        if self._given is not None:
            self._given.is_lost = True
        self.fail(Odd("closed"))


def read_head(raw: bytes) -> tuple[int, CIMultiDict[str], int]:
    """Return status, fields and the length of the body, which is that of the file. Raises Odd for what is not plain."""
    match = _HEAD.fullmatch(raw)
    if match is None:
        raise Odd("status" if _OTHER_STATUS.match(raw) else "head")
    headers: CIMultiDict[str] = CIMultiDict()
    for line in match[2].decode("ascii").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon:
            break
        if name.lower() in _ODD_FIELDS:
            raise Odd(name.lower())
        headers.add(name, value.strip(" \t"))
    if any(len(headers.getall(name, ())) > 1 for name in _ONCE):
        raise Odd("twice")
    told = headers.get("Content-Length", "")
    if not _LENGTH.fullmatch(told):
        raise Odd("no_length")
    length = int(told)
    if match[1] == b"200":
        if "Content-Range" in headers:
            raise Odd("part")
        return 200, headers, length
    span = parse_content_range(headers.get("Content-Range"))
    if span is None or span.start != 0 or span.stop != length:
        raise Odd("part")
    if span.total != length:
        raise Odd("large")
    return 206, headers, length
