"""aiohttp's side of a connection, which is given heads that it can read, and of bodies no more than was promised.

Knows aiohttp's connections and heads; nothing of requests, files or retries.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage

from scrapy_chunkdl.download.http.heads import LONGEST_HEAD, BadHead, Head, body_length, end_of_head, read_head
from scrapy_chunkdl.download.http.tls import forget_session

_BLANK = b"\r\n"
_is_patient: ContextVar[bool] = ContextVar("is_patient", default=False)


@contextmanager
def waiting(*, patiently: bool) -> Iterator[None]:
    """Say for the request that is sent meanwhile whether a silent connection is one whose server takes its time."""
    token = _is_patient.set(patiently)
    try:
        yield
    finally:
        _is_patient.reset(token)


class Handler(ResponseHandler):
    """One connection. What a server sends behind a body is dropped, and the connection with it.

    ``stall_timeout`` is in seconds. It holds between the bytes of an answer, and for the first byte over a connection
    that had an answer before, once: one that was lost meanwhile is silent, too. Else the session's read time-out is for
    the first byte. ``was_lost`` says that the server ended it without having said that it would.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, stall_timeout: float) -> None:
        super().__init__(loop)
        self._stall_timeout = stall_timeout
        self._early: bytearray | None = None  # what has come of a head that is waited for
        self._to_head = False
        self._left: int | None = None
        self._has_begun = False  # a head, that is not whole yet
        self._answers = 0
        self.was_lost = False

    def set_response_params(self, **options: Any) -> None:
        """Wait for an answer."""
        self._early, self._left, self._has_begun = bytearray(), None, False
        self._to_head = bool(options.get("skip_payload"))
        patience = options.get("read_timeout")
        if self._answers and patience and not _is_patient.get():
            options["read_timeout"] = min(patience, self._stall_timeout)
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        """Pass on what belongs to the answer."""
        if self._early is not None:
            self._early += data
            data = self._head_and_more()
            if data:
                super().data_received(data)
            return
        if self._parser is not None and self._is_over:
            if data.strip(_BLANK):  # an empty line is allowed between answers (RFC 9112 §2.2)
                self._drop()
            return
        super().data_received(self._no_more_than_promised(data))

    @property
    def _is_over(self) -> bool:
        return self._left == 0 or (self._payload is not None and self._payload.is_eof())

    def _head_and_more(self) -> bytes:
        """Return the head that was waited for, and the body as far as it is there; nothing while it is not whole."""
        assert self._early is not None
        while True:
            early = self._early = self._early.lstrip(_BLANK)
            end = end_of_head(early)
            if end < 0:
                if len(early) > LONGEST_HEAD:
                    self._refuse(BadHead(f"it has more than {LONGEST_HEAD} bytes"))
                elif early and not self._has_begun:
                    self._has_begun = True  # from its first byte on, the head has to come in the time of one stall
                    self.read_timeout = min(self.read_timeout or self._stall_timeout, self._stall_timeout)
                    self.start_timeout()
                return b""
            try:
                if end > LONGEST_HEAD:
                    raise BadHead(f"it has {end} bytes")
                head = read_head(bytes(early[:end]))
            except BadHead as error:
                self._refuse(error)
                return b""
            del early[:end]
            self._has_begun = False
            if not 100 <= head.status < 200 or head.status == 101:
                return self._begin(head, bytes(early))

    def _begin(self, head: Head, rest: bytes) -> bytes:
        self._early = None
        self._answers += 1
        self._left = body_length(head, to_head=self._to_head)
        if self.read_timeout:
            self.read_timeout = self._stall_timeout
        return head.raw + self._no_more_than_promised(rest)

    def _no_more_than_promised(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        surplus = len(data) - self._left
        self._left = max(0, -surplus)
        if surplus <= 0:
            return data
        if data[-surplus:].strip(_BLANK):
            self.force_close()
        return data[:-surplus]

    def _refuse(self, error: BadHead) -> None:
        self._early = bytearray()
        is_reused = self._answers > 0
        self._drop()
        # What comes first over a connection that had an answer is what that one had too much: aiohttp asks anew.
        self.set_exception(aiohttp.ServerDisconnectedError() if is_reused else BadHttpMessage(str(error)))

    def _drop(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell whoever waits; after a fault of TLS the next handshake is a full one."""
        self.was_lost = self.transport is not None and not self._should_close
        if isinstance(exc, ssl.SSLError) and self.transport is not None:
            forget_session(self.transport.get_extra_info("ssl_object"))
        super().connection_lost(exc)


def handler_of(response: aiohttp.ClientResponse) -> Handler | None:
    """Return what an answer came over, if it is ours; aiohttp has no public name for it once the body has ended."""
    handler = getattr(response, "_protocol", None)
    return handler if isinstance(handler, Handler) else None
