"""An answer that has begun to come, handed on to aiohttp as if aiohttp had asked: nothing is asked, or sent, twice.

A link may be good for one request only, and a large file's first bytes are on their way. So what the plain way cannot
use goes on to the ordinary client with its connection: what was read of it is read again by aiohttp's parser, the rest
comes from the socket, and cookies, redirects, codings and refusals mean what they always do. The connection is closed
after that answer. Knows aiohttp's connections and transports; nothing of what answers mean.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.connector import Connection

given_answer: ContextVar[HandedOn | None] = ContextVar("given_answer", default=None)
"""The answer that the next request of this task is to take, instead of being sent."""


class HandedOn:
    """A connection with an answer of which ``read`` are the first bytes. It is adopted once, or closed."""

    def __init__(self, transport: asyncio.Transport, read: bytes) -> None:
        self._transport: asyncio.Transport | None = transport
        self._read = read
        self.is_lost = False
        transport.pause_reading()

    def adopt(self, connector: aiohttp.BaseConnector, request: Any) -> Connection:
        """Return a connection on which ``request``, of aiohttp, seems to be sent, and is answered."""
        assert self._transport is not None
        transport, self._transport = self._transport, None
        loop = asyncio.get_running_loop()
        handler = connector._factory()
        handler.connection_made(_Answered(transport))  # type: ignore[arg-type]
        handler.data_received(self._read)  # kept until there is a parser
        handler.force_close()
        if self.is_lost:
            loop.call_soon(handler.connection_lost, None)
        else:
            transport.set_protocol(handler)
            transport.resume_reading()
        return Connection(connector, request.connection_key, handler, loop)

    def close(self) -> None:
        """Close it if nobody has adopted it."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class _Answered:
    """A transport on which the request has been sent already: what is written is dropped."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_asked = False

    def write(self, data: bytes) -> None:
        self._is_asked = True

    def writelines(self, pieces: object) -> None:
        self._is_asked = True

    def is_closing(self) -> bool:
        return self._is_asked and self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Tried:
    """What the plain way did for a file that it could not bring: requests sent, and perhaps an answer to go on with.

    ``ranged`` says that the answer is to a request for the first chunk, not for the whole file, ``asked_at`` when that
    went out, by the monotonic clock.
    """

    def __init__(
        self, requests: int = 0, given: HandedOn | None = None, *, ranged: bool = False, asked_at: float = 0.0
    ) -> None:
        self.requests = requests
        self.given = given
        self.ranged = ranged
        self.asked_at = asked_at

    def take(self) -> HandedOn | None:
        """Return the answer, once."""
        given, self.given = self.given, None
        return given

    def close(self) -> None:
        """Close an answer that nobody took."""
        if (given := self.take()) is not None:
            given.close()
