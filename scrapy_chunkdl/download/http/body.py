"""Bodies from the socket straight to their reader: aiohttp speaks HTTP, and stands aside while the bytes come.

aiohttp makes a bytes object of each piece of a body, queues it and wakes a task for it. For the time of one body its
connection is lent to a :class:`_Receiver`, which has the socket read into one buffer of the thread and passes that on,
there and then; docs/performance.md has what it gains. What cannot be lent (a chunked body, a connection that reads
ahead) is read the usual way. Knows aiohttp's connections; nothing of files, ranges or retries.
"""

from __future__ import annotations

import asyncio
import threading
import time
from mmap import mmap
from typing import Any

import aiohttp
from aiohttp import hdrs

from scrapy_chunkdl.download.errors import Transient
from scrapy_chunkdl.download.http import paced
from scrapy_chunkdl.download.http.paced import LONGEST_PAUSE, PacedReader
from scrapy_chunkdl.download.limits.rate import Pace
from scrapy_chunkdl.download.source import End, Take

BUFFER = 4 << 20
"""Bytes read from a socket at once, at most. 1 GiB from nginx took 1.22 s with 64 KiB, 0.99 s with 256 KiB, 0.90 s with
1 MiB, 0.80 s with this, and no less with 8 MiB."""

_LOOKS = 4
"""How often a stall is looked for within its time-out: it is found a quarter late at most."""

_NO_LENGTH = 1 << 62

_thread = threading.local()


async def receive(
    response: aiohttp.ClientResponse,
    length: int | None,
    take: Take,
    *,
    stall_timeout: float,
    pace: Pace | None = None,
) -> End:
    """Pass the body of ``response`` to ``take``, piece by piece, until it ends or no more is wanted; say how it ended.

    ``length`` is the body's as it is sent, in bytes, as its headers say; None if they do not. A body of known length
    that ends early is CLOSED. ``pace`` is how fast it may come. Raises Transient, reason ``stalled``, when no byte
    comes for ``stall_timeout`` seconds, reason ``connection_lost`` for a reset, what ``take`` raises, and what aiohttp
    and the network do.
    """
    pace, below = pace or Pace([]), None
    is_chunked = hdrs.TRANSFER_ENCODING in response.headers
    if is_chunked:
        length = None
    if (connection := response.connection) is not None and connection.transport is not None:
        if not is_chunked:
            pace, below = paced.lend(connection, pace)
        else:
            paced.read(connection, pace)
    if not is_chunked and (lender := _lender(response)) is not None:
        return await _Receiver(response, *lender, length, take, stall_timeout, pace, below).run()
    left = _NO_LENGTH if length is None else length
    while data := await response.content.readany():
        left -= len(data)
        if not take(data):
            return End.COUNTED if left == 0 else End.STOPPED
    if is_chunked:
        return End.CHUNKED
    if length is None and _was_reset(response):
        raise Transient(f"connection lost: {response.url}: reset in a body without length", reason="connection_lost")
    return End.COUNTED if left <= 0 else End.CLOSED


def _was_reset(response: aiohttp.ClientResponse) -> bool:
    """Whether a connection that aiohttp has seen the end of was reset: it feeds an end either way."""
    problem = getattr(getattr(response, "_protocol", None), "exception", lambda: None)()
    return isinstance(problem, OSError) and not isinstance(problem, aiohttp.ServerDisconnectedError)


def _lender(response: aiohttp.ClientResponse) -> tuple[asyncio.Transport, Any] | None:
    """Return the transport and aiohttp's protocol of a connection that can be lent."""
    connection = response.connection
    if connection is None:
        return None
    transport, handler = connection.transport, connection.protocol
    if transport is None or not transport.is_reading():  # all of the body is here, or so much that aiohttp paused
        return None
    return transport, handler


class _Receiver(asyncio.BufferedProtocol):
    """Reads one body in place of aiohttp's own protocol, ``handler``."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        transport: asyncio.Transport,
        handler: Any,
        length: int | None,
        take: Take,
        stall_timeout: float,
        pace: Pace,
        below: PacedReader | None,
    ) -> None:
        self._response = response
        self._transport = transport
        self._handler = handler
        self._left = length = _NO_LENGTH if length is None else length
        self._take = take
        self._pace = pace
        self._below = below
        self._before: asyncio.BaseProtocol = handler
        self._pause: asyncio.TimerHandle | None = None
        self._look_every = stall_timeout / _LOOKS
        self._left_before = length
        self._looks = 0
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[End] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._is_lost = False
        if not hasattr(_thread, "buffer"):
            _thread.buffer = memoryview(mmap(-1, BUFFER))  # of which only what is read into takes room
        self._buffer: memoryview = _thread.buffer

    async def run(self) -> End:
        """Read until the body ends or no more is wanted."""
        early = self._response.content.read_nowait()  # it came together with the headers
        self._left -= len(early)
        if early and not self._take(early):
            return End.COUNTED if self._left == 0 else End.STOPPED
        if self._left == 0:  # an empty body, whose end aiohttp has not seen: there is nothing to read into
            self._response.content.feed_eof()
            return End.COUNTED
        self._handler.read_timeout = None  # aiohttp sees no bytes from now on, and would take that for a stall
        self._handler.start_timeout()
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)
        self._pause_for(self._pace.pause(time.monotonic()))
        self._look()
        try:
            return await self._over
        finally:
            assert self._timer is not None
            self._timer.cancel()
            if self._pause is not None:
                self._pause.cancel()
            self._pace.give_back(time.monotonic())
            if not self._is_lost and self._transport.get_protocol() is self:
                self._transport.set_protocol(self._before)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the socket is read into: never more than the body, what follows is aiohttp's."""
        size = self._pace.room(min(self._left, BUFFER), time.monotonic())
        return self._buffer if size == BUFFER else self._buffer[:size]

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read."""
        if self._over.done():
            return
        self._left -= nbytes
        try:
            wanted = self._take(self._buffer[:nbytes])
        except Exception as error:  # noqa: BLE001 - raised where the body is waited for
            self._transport.abort()
            self._over.set_exception(error)
            return
        wait = self._pace.read(nbytes, time.monotonic(), self._left if wanted else 0)
        if self._left == 0:
            self._transport.set_protocol(self._before)
            self._response.content.feed_eof()  # has aiohttp take the connection back into its pool
            self._over.set_result(End.COUNTED)
        elif not wanted:
            self._transport.abort()  # to close TLS takes an answer, which Python 3.10 does not read once it was paused
            self._over.set_result(End.STOPPED)
        else:
            self._pause_for(wait)

    def _pause_for(self, seconds: float) -> None:
        if seconds:
            self._transport.pause_reading()
            self._pause = self._loop.call_later(min(seconds, LONGEST_PAUSE), self._go_on)

    def _go_on(self) -> None:
        if wait := self._pace.pause(time.monotonic()):
            self._pause = self._loop.call_later(min(wait, LONGEST_PAUSE), self._go_on)
            return
        self._pause = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> None:
        """The peer has closed its side; the transport closes, too."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell aiohttp, whose connection it is, and whoever waits."""
        self._is_lost = True
        self._handler.connection_lost(exc)
        if self._over.done():
            return
        if exc is None:
            self._over.set_result(End.CLOSED)
        else:
            self._over.set_exception(exc)

    def _is_pausing(self) -> bool:
        return self._pause is not None or (self._below is not None and self._below.is_pausing)

    def _look(self) -> None:
        """Notice a stall. Looking now and then costs less than setting a timer anew with each piece."""
        silent = self._left == self._left_before and not self._is_pausing()
        self._looks = self._looks + 1 if silent else 0
        self._left_before = self._left
        if self._looks > _LOOKS and not self._over.done():
            self._over.set_exception(Transient(f"no byte in time: {self._response.url}", reason="stalled"))
        else:
            self._timer = self._loop.call_later(self._look_every, self._look)
