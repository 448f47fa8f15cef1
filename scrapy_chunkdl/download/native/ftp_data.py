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

_AHEAD = 1 << 20


class DataConnection(asyncio.Protocol):
    """One connection, which only brings bytes. ``stall_s`` is how long a byte may be waited for."""

    def __init__(self, stall_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stall_s = stall_s
        self._pieces: deque[bytes] = deque()
        self._size = 0
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

    async def read(self, most: int) -> bytes:
        """Return the next bytes; none at the end. Raises OSError for one that broke, TimeoutError for silence."""
        if not self._pieces and not self._is_over:
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(self._stall_s, self._lose_patience, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if not self._pieces:
            if self._error is not None:
                raise self._error
            return b""
        piece = self._pieces.popleft()
        if len(piece) > most:
            self._pieces.appendleft(piece[most:])
            piece = piece[:most]
        self._size -= len(piece)
        if self._is_paused and self._size <= _AHEAD // 2 and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
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

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _AHEAD and not self._is_paused and self._transport is not None:
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
