"""How many connections a host gets, over all threads of the process, and hosts that asked for a pause.

One :class:`Limits` is shared by every downloader of the process; each has an event loop of its own. Waiters are served
first come, first served. Knows hosts and loops; nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from scrapy_chunkdl.download.model import Options

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


@dataclass(slots=True)
class _Host:
    in_use: int = 0
    waiters: deque[_Waiter] = field(default_factory=deque)
    cool_until: float = 0.0


class Limits:
    """Thread-safe. A host is remembered only while it is in use, waited for or cooling down."""

    def __init__(self, options: Options) -> None:
        self._per_host = options.chunks_per_host
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    @asynccontextmanager
    async def slot(self, host: str) -> AsyncIterator[None]:
        """Hold one of the host's connections, once one is free and the host is not cooling down."""
        await self._acquire(host)
        try:
            yield
        finally:
            self._release(host)

    def cool_down(self, host: str, seconds: float) -> None:
        """Let no new request of this process go to ``host`` for ``seconds``. A longer pause already set stands."""
        with self._lock:
            state = self._hosts.setdefault(host, _Host())
            state.cool_until = max(state.cool_until, time.monotonic() + seconds)

    def cooling(self, host: str) -> float:
        """Return the seconds until ``host`` may be asked again."""
        with self._lock:
            state = self._hosts.get(host)
            return max(0.0, state.cool_until - time.monotonic()) if state else 0.0

    def contended(self, host: str) -> bool:
        """Whether somebody waits for a connection to ``host``."""
        with self._lock:
            state = self._hosts.get(host)
            return bool(state and state.waiters)

    async def _acquire(self, host: str) -> None:
        while True:
            await self._take_slot(host)
            pause = self.cooling(host)
            if not pause:
                return
            self._release(host)
            await asyncio.sleep(pause)

    async def _take_slot(self, host: str) -> None:
        with self._lock:
            state = self._hosts.setdefault(host, _Host())
            if state.in_use < self._per_host and not state.waiters:
                state.in_use += 1
                return
            loop = asyncio.get_running_loop()
            granted: asyncio.Future[None] = loop.create_future()
            waiter = (loop, granted)
            state.waiters.append(waiter)
        try:
            await granted
        except asyncio.CancelledError:
            with self._lock:
                still_waiting = waiter in state.waiters
                if still_waiting:
                    state.waiters.remove(waiter)
            if not still_waiting:  # the slot was on its way here: pass it on
                self._release(host)
            raise

    def _release(self, host: str) -> None:
        with self._lock:
            state = self._hosts[host]
            if state.waiters:
                loop, granted = state.waiters.popleft()  # in_use stays: the slot changes hands
                loop.call_soon_threadsafe(_grant, granted)
                return
            state.in_use -= 1
            if not state.in_use and state.cool_until <= time.monotonic():
                del self._hosts[host]


def _grant(granted: asyncio.Future[None]) -> None:
    if not granted.done():
        granted.set_result(None)
