"""Connections that are read from no faster than bytes may come: headers, and whatever aiohttp reads itself.

A transport reads 256 KiB at once for aiohttp's protocol, before anybody can hold it back. So that protocol is given its
bytes by one of ours, for which little is read where little may come. TLS reads ahead, too: there ours stands below it,
next to the socket, and paces bodies as well. Knows aiohttp's connections; nothing of files.
"""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import Any

import aiohttp
from aiohttp.connector import Connection

from scrapy_chunkdl.download.http import addresses, sending_again, socks
from scrapy_chunkdl.download.http.handed_on import given_answer
from scrapy_chunkdl.download.http.handler import Handler
from scrapy_chunkdl.download.http.identity import host_of
from scrapy_chunkdl.download.http.tls import forget_session_with
from scrapy_chunkdl.download.limits.rate import Pace, Rates

LONGEST_PAUSE = 0.25
"""Seconds after which a pause is looked at again, for the limit may have changed."""

_BUFFER = 1 << 18
_UNKNOWN = 1 << 62

_thread = threading.local()


class PacedConnector(aiohttp.TCPConnector):
    """Connections whose answers come no faster than ``rates`` let them; ``is_guarded`` ones do not lead inside.

    ``stall_timeout`` is in seconds.
    """

    def __init__(self, rates: Rates, *, stall_timeout: float, is_guarded: bool = False, **options: Any) -> None:
        super().__init__(resolver=addresses.GuardedResolver() if is_guarded else None, **options)
        self._factory = partial(Handler, asyncio.get_running_loop(), stall_timeout)  # type: ignore[assignment]
        self._context = options.get("ssl")
        self._rates = rates
        self._is_guarded = is_guarded

    def forget_session(self, host: str) -> bool:
        """Offer a host no session after a handshake that failed; tell whether one was ever offered to it."""
        return forget_session_with(self._context, host)

    def drop_idle(self, host: str, port: int) -> None:
        """Close the connections to a host that nobody uses: where one of them was silent the others may be dead, too.

        Whoever asks next gets a new one. aiohttp has no public way to that.
        """
        for key in [key for key in self._conns if (key.host, key.port) == (host, port)]:
            for protocol, _ in self._conns.pop(key):
                protocol.close()

    async def connect(self, req: aiohttp.ClientRequest, *arguments: Any, **more: Any) -> Connection:
        """Get a connection, and have the pace of its host hold for it where there is any."""
        if (given := given_answer.get()) is not None:
            given_answer.set(None)
            return given.adopt(self, req)
        sending_again.refuse_second(req.url.host or "")
        connection = await super().connect(req, *arguments, **more)
        if req.proxy is not None and socks.is_socks(str(req.proxy)):
            req.proxy = None  # the server itself is spoken to: no absolute URL in the request line
        if self._is_guarded:
            addresses.check_peer(connection, req.url.host or "")
        if self._rates.is_limited and connection.transport is not None:
            read(connection, self._rates.pace(host_of(str(req.url))))
        return connection

    async def _create_proxy_connection(
        self, req: aiohttp.ClientRequest, traces: Any, timeout: aiohttp.ClientTimeout
    ) -> tuple[asyncio.BaseTransport, Any]:
        """Make a connection by a proxy: aiohttp knows those of HTTP only."""
        if req.proxy is None or not socks.is_socks(str(req.proxy)):
            return await super()._create_proxy_connection(req, traces, timeout)
        host, port = (req.url.raw_host or "").rstrip("."), req.url.port or 0
        target = host if req.proxy.scheme == "socks5h" else await self._address(host, port)
        local = self._local_addr_infos[0][4][:2] if self._local_addr_infos else None
        sock = await socks.connect(str(req.proxy), target, port, timeout=timeout.connect, local_address=local)
        try:
            return await self._loop.create_connection(
                self._factory,
                sock=sock,
                ssl=self._context if req.is_ssl() else None,
                server_hostname=host if req.is_ssl() else None,
            )
        except BaseException:
            sock.close()
            raise

    async def _address(self, host: str, port: int) -> str:
        """Return the address of a host, resolved here."""
        found = await self._resolve_host(host, port)
        if self._is_guarded:
            addresses.refuse_private(found[0]["host"], host)
        return found[0]["host"]


def read(connection: Connection, pace: Pace) -> PacedReader:
    """Have a connection read no faster than ``pace`` lets it, from now on."""
    assert connection.transport is not None
    below = _below_tls(connection.transport)
    transport = below or connection.transport
    reader = transport.get_protocol()
    if not isinstance(reader, PacedReader):
        kind = PacedReader if below is None else _PacedTls
        reader = kind(transport, reader, connection.protocol)
        transport.set_protocol(reader)
    reader.keep(pace)
    return reader


def lend(connection: Connection, pace: Pace) -> tuple[Pace, PacedReader | None]:
    """Return the pace for whoever reads a body in aiohttp's place, and what paces it for him: below TLS."""
    assert connection.transport is not None
    below = _below_tls(connection.transport)
    reader = (below or connection.transport).get_protocol()
    if below is not None:
        return Pace([]), reader if isinstance(reader, PacedReader) else read(connection, pace)
    return reader.hand_over() if isinstance(reader, PacedReader) else pace, None


def _below_tls(transport: asyncio.Transport) -> asyncio.Transport | None:
    """Return the transport that TLS reads from. CPython has no public name for it; where there is none it is not paced.

    Decrypted bytes are paced there, and TLS reads 256 KiB ahead.
    """
    below: asyncio.Transport | None = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return below


class PacedReader(asyncio.BufferedProtocol):
    """Stands between a transport and the protocol that had it, ``reader``, for as long as the connection lives.

    What was read before a pause is passed on after it: aiohttp has its transport read again whenever somebody takes
    from what it has. ``handler`` is aiohttp's own protocol, which would take a pause for a stall.
    """

    def __init__(self, transport: asyncio.Transport, reader: Any, handler: Any) -> None:
        self._transport = transport
        self._reader = reader
        self._handler = handler
        self._pace = Pace([])
        self._held = b""
        self._timer: asyncio.TimerHandle | None = None
        self._patience: float | None = None
        if not hasattr(_thread, "buffer"):
            _thread.buffer = memoryview(bytearray(_BUFFER))
        self._buffer: memoryview = _thread.buffer

    @property
    def is_pausing(self) -> bool:
        """Whether nothing is read, since nothing may come."""
        return self._timer is not None

    def keep(self, pace: Pace) -> None:
        """Have another pace hold from now on."""
        self.hand_over().give_back(time.monotonic())
        self._pace = pace

    def hand_over(self) -> Pace:
        """End a pause before its time. Whoever goes on reading goes on waiting for the turn, too."""
        if self._timer is not None:
            self._timer.cancel()
            self._resume()
        return self._pace

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the socket is read into."""
        return self._buffer[: self._pace.room(_BUFFER, time.monotonic())]

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read."""
        data = bytes(self._buffer[:nbytes])
        wait = self._pace.read(nbytes, time.monotonic(), _UNKNOWN)
        if wait or self._timer is not None:
            self._held += data
            self._hold_back(wait)
        else:
            self._reader.data_received(data)

    def _hold_back(self, seconds: float) -> None:
        self._transport.pause_reading()
        if self._timer is None:
            self._patience, self._handler.read_timeout = self._handler.read_timeout, None
            self._handler.start_timeout()  # a pause of ours is no stall
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(seconds, LONGEST_PAUSE), self._go_on)

    def _go_on(self) -> None:
        if wait := self._pace.pause(time.monotonic()):
            self._wait(wait)
        else:
            self._resume()

    def _resume(self) -> None:
        self._timer = None
        self._handler.read_timeout = self._patience
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._pass_on()

    def _pass_on(self) -> None:
        data, self._held = self._held, b""
        if data:
            self._reader.data_received(data)

    def eof_received(self) -> bool | None:
        """The peer has closed its side."""
        keep_open: bool | None = self._reader.eof_received()
        return keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever had the connection."""
        self._pace.give_back(time.monotonic())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._reader.connection_lost(exc)

    def pause_writing(self) -> None:
        """Tell whoever writes."""
        self._reader.pause_writing()

    def resume_writing(self) -> None:
        """Tell whoever writes."""
        self._reader.resume_writing()


class _PacedTls(PacedReader):
    """The same below TLS, which has its transport read for reasons of its own only, and has a buffer of its own."""

    def get_buffer(self, sizehint: int) -> memoryview:
        if not isinstance(self._reader, asyncio.BufferedProtocol):  # Python 3.10
            return super().get_buffer(sizehint)
        buffer = memoryview(self._reader.get_buffer(sizehint))
        return buffer[: self._pace.room(len(buffer), time.monotonic())]

    def buffer_updated(self, nbytes: int) -> None:
        if isinstance(self._reader, asyncio.BufferedProtocol):
            self._reader.buffer_updated(nbytes)
        else:
            self._reader.data_received(bytes(self._buffer[:nbytes]))
        wait = self._pace.read(nbytes, time.monotonic(), _UNKNOWN)
        if wait and self._transport.is_reading():  # else TLS has enough for now
            self._hold_back(wait)

    def _go_on(self) -> None:
        if self._handler.transport is None:  # aiohttp has closed it, and TLS would say good-bye at this pace
            self._transport.abort()
        super()._go_on()
