"""Whether a request may go out a second time by itself: aiohttp sends those again that met a connection just closed.

That is right for a connection that was idle, and doubles what a host gets that resets each request. Knows requests of
one task; who may, its caller says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import aiohttp


@dataclass(slots=True)
class _Request:
    may_again: Callable[[], bool]
    is_sent: bool = False


_request: ContextVar[_Request | None] = ContextVar("request", default=None)


@contextmanager
def only_if(may_again: Callable[[], bool]) -> Iterator[None]:
    """Have the request that is sent meanwhile go out again only if that says so."""
    token = _request.set(_Request(may_again))
    try:
        yield
    finally:
        _request.reset(token)


def refuse_second(host: str) -> None:
    """Called with each connection a request asks for; raises aiohttp's ServerDisconnectedError where it may not."""
    request = _request.get()
    if request is None:
        return
    if request.is_sent and not request.may_again():
        raise aiohttp.ServerDisconnectedError(f"{host} closed the connection")
    request.is_sent = True
