"""GETs whose answers are plain and come whole: over kept connections, one head, one body in memory.

A file of 64 KiB costs as much in layers of a general HTTP client as in bytes (docs/performance.md), and most small
files come in the same plain way: 200, or a 206 with all of it, a Content-Length, nothing coded, nothing to remember.
Nothing here retries, follows, decodes or forgives, but for a connection that was closed while nobody used it. Knows
sockets, names and TLS; nothing of heads (:mod:`.plain_answer`), files, hosts' habits or limits.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from mmap import mmap
from typing import Any, NamedTuple, TypeVar

import aiohappyeyeballs
from aiohttp.abc import AbstractResolver

from scrapy_chunkdl.download.http.plain_answer import Answer, Connection, Odd
from scrapy_chunkdl.services.patience import within

BUFFER = 1 << 17
"""Bytes of an answer, head and body, that are read where they can be read again and again: no memory is made for them.
A body of 64 KiB got 30 µs of page faults that way."""

_MOST_BUFFERS = 64

_MOST_IDLE = 256
_KEPT_S = 15.0
"""Seconds an idle connection is kept, as aiohttp does."""

_DNS_TTL_S = 60.0
_LOOKS = 4
"""How often a stall is looked for within its time-out: it is found a quarter late at most."""

T = TypeVar("T")

_Address = tuple[int, int, int, str, tuple[Any, ...]]


class Origin(NamedTuple):
    """Where a connection goes."""

    host: str
    port: int
    is_tls: bool


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
        self._idle: OrderedDict[Origin, deque[Connection]] = OrderedDict()
        self._idle_count = 0
        self._busy: set[Connection] = set()
        self._addresses: dict[Origin, tuple[float, asyncio.Task[list[_Address]]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._buffers: list[memoryview] = []
        self._is_closed = False

    async def get(self, origin: Origin, request: bytes, most_bytes: int, use: Callable[[Answer], T]) -> T:
        """Send a request, which is a whole head of a GET, and return what ``use`` makes of its answer.

        The body is good until ``use`` returns, and ``use`` is called before anybody else has a turn. Raises what it
        raises, Odd for any answer that is not plain, or larger than ``most_bytes``, and for what the network does.
        """
        connection = self._take(origin)
        if connection is not None:
            try:
                return await self._get_on(connection, origin, request, most_bytes, use)
            except Odd as odd:
                if odd.why != "closed" or connection.was_answered:  # else it was closed while it was idle
                    raise
        return await self._get_on(await self._connect(origin), origin, request, most_bytes, use)

    async def _get_on(
        self, connection: Connection, origin: Origin, request: bytes, most_bytes: int, use: Callable[[Answer], T]
    ) -> T:
        self._busy.add(connection)
        if self._timer is None:
            self._look()
        buffer = self._buffers.pop() if self._buffers else memoryview(mmap(-1, BUFFER))
        is_kept = is_given = False
        try:
            answer = await connection.ask(request, most_bytes, buffer)
            is_kept = connection.is_open and not self._is_closed
            return use(answer)
        except Odd as odd:
            is_given = odd.given is not None
            raise
        finally:
            self._busy.discard(connection)
            if is_kept:
                self._keep(origin, connection)
            elif not is_given:
                connection.abort()
            connection.let_go_of_buffer()
            if len(self._buffers) < _MOST_BUFFERS:
                self._buffers.append(buffer)

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

    def _take(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            self._idle_count -= 1
            if connection.is_open:
                return connection
        return None

    def _keep(self, origin: Origin, connection: Connection) -> None:
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

    async def _connect(self, origin: Origin) -> Connection:
        try:
            addresses = await within(self._dns_timeout, asyncio.shield(self._resolve(origin)))
            return await within(self._connect_timeout, self._connect_to(origin, addresses))
        except (OSError, asyncio.TimeoutError, ValueError) as error:
            raise Odd("no_connection") from error

    async def _connect_to(self, origin: Origin, addresses: list[_Address]) -> Connection:
        loop = asyncio.get_running_loop()
        local = [self._local_address()] if self._bind_address else None
        connected = await aiohappyeyeballs.start_connection(
            addresses, local_addr_infos=local, happy_eyeballs_delay=0.25, interleave=1, loop=loop
        )
        _, connection = await loop.create_connection(
            lambda: Connection(loop),
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
