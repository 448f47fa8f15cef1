"""When requests to a host may begin where all processes together keep a delay: each gets moments of its own.

Moments are handed out by whoever settles them with the other processes, some ahead, so that nobody waits for Redis
between two of them; one that is not used in time is lost. While nobody settles, each process goes on as fast as its
last share. Thread-safe. Knows hosts, moments and loops; nothing of Redis or HTTP.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scrapy_chunkdl.download.limits.remembered import Remembered

_LATE_S = 0.1
"""Seconds by which a moment may be missed at least: a busy machine wakes a task that late."""

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[float]"]


@dataclass(slots=True)
class _Host:
    """``moments`` are monotonic. ``taken`` counts those used since it was told last."""

    moments: deque[float] = field(default_factory=deque)
    waiters: deque[_Waiter] = field(default_factory=deque)
    taken: int = 0
    last: float = float("-inf")
    processes: int = 1


class Starts:
    """Those of one process. ``delay_s`` is between any two requests to a host; ``ask`` has moments settled soon."""

    def __init__(self, delay_s: float, ask: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._delay_s = delay_s
        self._late_s = max(delay_s, _LATE_S)
        self._ask = ask
        self._clock = clock
        self._hosts = Remembered(_Host)
        self._lock = threading.Lock()

    async def turn(self, host: str) -> None:
        """Wait for a moment at which a request to ``host`` may begin."""
        with self._lock:
            state = self._hosts.of(host)
            at = self._take(state)
            if at is None:
                loop = asyncio.get_running_loop()
                given: asyncio.Future[float] = loop.create_future()
                waiter = (loop, given)
                state.waiters.append(waiter)
        if at is None:
            self._ask()
            try:
                at = await given
            except asyncio.CancelledError:
                with self._lock:
                    if waiter in state.waiters:
                        state.waiters.remove(waiter)
                raise
        await asyncio.sleep(at - self._clock())

    def wanted(self, hosts: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return of each host how many moments are still to come, and how many are wanted besides.

        Wanted are those for requests that wait, and as many as were used since the last call, for those to come.
        """
        now, wanted = self._clock(), {}
        with self._lock:
            for host in hosts:
                if (state := self._hosts.get(host)) is None:
                    continue
                self._forget_missed(state, now)
                free = len(state.moments)
                taken, state.taken = state.taken, 0
                wanted[host] = (free, max(0, len(state.waiters) + taken - free))
        return wanted

    def settled(self, given: Mapping[str, tuple[Sequence[float], int]]) -> None:
        """Take moments, and how many processes want some of a host's, by host."""
        with self._lock:
            for host, (moments, processes) in given.items():
                state = self._hosts.of(host)
                state.processes = max(1, processes)
                state.moments.extend(moments)
                self._serve(state)

    def go_alone(self, until: float) -> None:
        """Hand out the moments up to ``until`` of the last share: nobody can be asked."""
        now = self._clock()
        with self._lock:
            for state in self._hosts.values():
                space_s = self._delay_s * state.processes
                for _ in range(len(state.waiters)):
                    at = max(now, state.last + space_s)
                    if at > until:
                        break
                    state.moments.append(at)
                    self._serve(state)

    def _take(self, state: _Host) -> float | None:
        self._forget_missed(state, self._clock())
        if not state.moments or state.waiters:
            return None
        state.taken += 1
        state.last = state.moments.popleft()
        return state.last

    def _serve(self, state: _Host) -> None:
        while state.waiters and state.moments:
            loop, given = state.waiters.popleft()
            state.taken += 1
            state.last = state.moments.popleft()
            loop.call_soon_threadsafe(_give, given, state.last)

    def _forget_missed(self, state: _Host, now: float) -> None:
        while state.moments and state.moments[0] + self._late_s < now:
            state.moments.popleft()


def _give(given: asyncio.Future[float], at: float) -> None:
    if not given.done():
        given.set_result(at)
