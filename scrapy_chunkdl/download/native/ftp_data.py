"""The data connection of an FTP transfer: bytes as they come, no more of them ahead than a reader is behind.

TLS begins only once the transfer was accepted: servers do their handshake then (vsftpd, ProFTPD), and would never
answer one before. Knows transports; nothing of commands.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import cast

from aioftp.common import SSLSessionBoundContext

_BUFFER = 1 << 18
_BUFFERS = 4
"""Bytes that come ahead of a reader: 1 MiB, in buffers that are used again, as memory that is new for each costs more
than the bytes in it."""


class DataConnection(asyncio.BufferedProtocol):
    """One connection, which only brings bytes. ``stall_s`` is how long a byte may be waited for."""

    def __init__(self, stall_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stall_s = stall_s
        self._free: list[memoryview] = []
        self._filling: memoryview | None = None
        self._read: memoryview | None = None
        self._full: deque[tuple[memoryview, memoryview]] = deque()
        self._is_over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, host: str, port: int, stall_s: float, local_address: tuple[str, int] | None) -> DataConnection:
        """Connect. Raises what asyncio does."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(stall_s), host, port, local_addr=local_address)
        return connection

    async def start_tls(self, control: ssl.SSLObject, host: str) -> None:
        """Speak TLS from now on, in the session of the control connection, as servers want it (vsftpd)."""
        assert self._transport is not None
        context = SSLSessionBoundContext(
            ssl.PROTOCOL_TLS_CLIENT, context=control.context, session=cast(ssl.SSLSession, control.session)
        )
        over_tls = await self._loop.start_tls(self._transport, self, context, server_hostname=host)
        self._transport = cast(asyncio.Transport, over_tls)

    async def read(self, most: int) -> memoryview:
        """Return the next bytes, good until the next call; none at the end.

        Raises OSError for one that broke, TimeoutError for silence.
        """
        if self._read is not None:
            self._free.append(self._read)
            self._read = None
            if self._is_paused and self._transport is not None:
                self._is_paused = False
                self._transport.resume_reading()
        if not self._full and not self._is_over:
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(self._stall_s, self._lose_patience, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if not self._full:
            if self._error is not None:
                raise self._error
            return memoryview(b"")
        buffer, piece = self._full.popleft()
        if len(piece) > most:
            self._full.appendleft((buffer, piece[most:]))
            return piece[:most]
        self._read = buffer
        return piece

    def close(self) -> None:
        """End it at once."""
        self._is_over = True
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # --- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # asyncio's TLS would write into slices of a bytearray, copies
        if self._filling is None:
            self._filling = self._free.pop() if self._free else memoryview(bytearray(_BUFFER))
        return self._filling

    def buffer_updated(self, nbytes: int) -> None:
        assert self._filling is not None
        self._full.append((self._filling, self._filling[:nbytes]))
        self._filling = None
        if len(self._full) >= _BUFFERS and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._is_over = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._error = exc
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _lose_patience(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_exception(asyncio.TimeoutError())
