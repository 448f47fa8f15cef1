"""How many connections a host gets, over all threads of the process, and hosts that asked for a pause.

One :class:`Limits` is shared by every downloader of the process; each has an event loop of its own. Waiters are served
first come, first served. Knows hosts and loops; nothing of HTTP, nor of where the :class:`Shares` of a host come from
that other processes use, too.

How many connections a host seems to bear is :mod:`.ceiling`'s to say, how far apart its requests begin
:mod:`.spacing`'s; here is who gets one, and when.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from scrapy_chunkdl.download.host_rules import NamedRule
from scrapy_chunkdl.download.limits import remembered
from scrapy_chunkdl.download.limits.ceiling import Ceiling
from scrapy_chunkdl.download.limits.circuits import Circuits
from scrapy_chunkdl.download.limits.habits import Habits
from scrapy_chunkdl.download.limits.paces import SharedPaces
from scrapy_chunkdl.download.limits.rate import Pace, Rates
from scrapy_chunkdl.download.limits.remembered import Remembered
from scrapy_chunkdl.download.limits.shares import SharedLimits, Shares, Use
from scrapy_chunkdl.download.limits.spacing import Spacing, longest_s
from scrapy_chunkdl.download.limits.starts import Starts
from scrapy_chunkdl.download.model import Options
from scrapy_chunkdl.download.progress import Progress

_LOOK_EVERY_S = 0.25
"""Seconds between two looks of a request that waits for its moment whether limits are others by now."""

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class HostState(NamedTuple):
    """A host at one moment: connections in use, and how many it seems to bear."""

    connections: int
    bears: int


@dataclass(slots=True)
class _Host:
    in_use: int = 0
    waiters: deque[_Waiter] = field(default_factory=deque)
    cool_until: float = 0.0
    yielding: int = 0
    holders: list[Progress] = field(default_factory=list)


class Limits:
    """Thread-safe. A host's connections are remembered while it is in use, waited for or cooling down.

    ``rates`` are the limits in bytes per second, ``habits`` what hosts' files were like, ``circuits`` which are ill.
    ``shared`` are those that ``shares`` settle with other processes, besides connections.
    """

    def __init__(self, options: Options, shares: Shares | None = None, shared: SharedLimits | None = None) -> None:
        self._per_host = options.chunks_per_host
        self._rules = options.host_rules
        self._delay = options.delay
        self._robots = options.robots
        self._longest_space_s = longest_s(options)
        self._last_start: OrderedDict[str, float] = OrderedDict()
        self._changes = 0
        self._shares = shares
        self.habits = Habits()
        self.circuits = Circuits(begins_anew=self._begin_anew)
        shared = shared or SharedLimits()
        self.rates = Rates(options.max_rate, options.max_rate_per_host, options.host_rules, shared)
        self._starts = Starts(shared.delay_s, shares.ask) if shares is not None and shared.delay_s else None
        self.paces = SharedPaces(self.rates, self._starts)
        self._hosts: dict[str, _Host] = {}
        self._cooling: list[tuple[float, str]] = []
        self._ceilings = Remembered(Ceiling)
        self._spacings = Remembered(Spacing)
        self._peaks: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._crowded: Mapping[str, int] = {}
        self._lock = threading.Lock()

    def put_first(self, rules: Sequence[NamedRule]) -> None:
        """Have rules hold before those of the settings, from now on, also for what runs. Called from any thread."""
        self._rules.put_first(rules)
        self.rates.rules_changed()
        with self._lock:
            self._changes += 1
            self._last_start.clear()  # a long delay that is over would have moments in it far ahead
            for host in self._hosts:
                self._grant_waiters(host)

    def _most_of(self, host: str) -> int:
        return self._rules.of(host).connections or self._per_host

    def _delay_of(self, host: str) -> float:
        delay_s = self._rules.of(host).delay_s
        if delay_s is not None:
            return delay_s
        return self._delay if self._robots is None else max(self._delay, self._robots.delay_of(host))

    def slot(self, host: str) -> Slot:
        """Hold one of the host's connections, once one is free and the host is not cooling down."""
        return Slot(self, host)

    async def wait_for_pace(self, host: str) -> None:
        """Wait until the host's last request was begun long enough ago, by any process where they share a delay.

        Raises HostIll as soon as it is.
        """
        if self._starts is not None:
            await self._starts.turn(host)
        while not await self._had_turn(host):
            pass  # the limits are others now: what was waited for is another moment

    async def _had_turn(self, host: str) -> bool:
        self.circuits.check(host)
        rules, spacing = self._changes, self._spacings.get(host)
        delay = max(self._delay_of(host), spacing.space_s if spacing is not None else 0.0)
        if not delay:
            return True
        with self._lock:
            now = time.monotonic()
            at = self._last_start[host] = max(now, self._last_start.get(host, -delay) + delay)
            self._last_start.move_to_end(host)
            if len(self._last_start) > remembered.HOSTS_REMEMBERED:
                self._last_start.popitem(last=False)
        while (left_s := at - now) > _LOOK_EVERY_S:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.circuits.check(host)
            if rules != self._changes:
                return False
            now = time.monotonic()
        await asyncio.sleep(left_s)
        return True

    def pace(self, host: str) -> Pace:
        """Return how fast a body from ``host`` may come."""
        return self.rates.pace(host)

    def cool_down(self, host: str, seconds: float) -> None:
        """Let no new request go to ``host`` for ``seconds``. A longer pause already set stands."""
        with self._lock:
            now = time.monotonic()
            state = self._hosts.setdefault(host, _Host())
            state.cool_until = max(state.cool_until, now + seconds)
            heapq.heappush(self._cooling, (state.cool_until, host))
            while self._cooling and self._cooling[0][0] <= now:
                self._forget_unused(heapq.heappop(self._cooling)[1])
        if self._shares is not None:
            self._shares.cool_down(host, seconds)

    def cooling(self, host: str) -> float:
        """Return the seconds until ``host`` may be asked again."""
        with self._lock:
            state = self._hosts.get(host)
            pause = max(0.0, state.cool_until - time.monotonic()) if state else 0.0
        return pause if self._shares is None else max(pause, self._shares.cooling(host))

    def answered(self, host: str) -> None:
        """Note that ``host`` served a request: it bears some connections more."""
        with self._lock:
            now = time.monotonic()
            self._spacings.of(host).served(now)
            if self._ceilings.of(host).answered(now, self._most_of(host)):
                self._grant_waiters(host)

    def refused(self, host: str, asked_at: float) -> None:
        """Note that ``host`` refused a request made at ``asked_at``, of the monotonic clock: it bears fewer."""
        with self._lock:
            state = self._hosts.get(host)
            self._ceilings.of(host).refused(asked_at, time.monotonic(), state.in_use if state else 1)

    def _begin_anew(self, host: str) -> None:
        """Forget the pace that a host was asked at before it was left alone, and what it bore: that was for naught."""
        with self._lock:
            self._last_start.pop(host, None)
            self._spacings.pop(host, None)
            self._ceilings.pop(host, None)

    def is_serving(self, host: str) -> bool:
        """Whether another request than the one that asks this runs at ``host``."""
        with self._lock:
            state = self._hosts.get(host)
            return state is not None and state.in_use > 1

    def too_fast(self, host: str, asked_at: float, *, is_load: bool = False) -> bool:
        """Note an error without a name for its cause; tell whether ``host`` refuses the pace of the requests.

        ``is_load`` says that the error speaks of load, and no file has it by itself.
        """
        with self._lock:
            spacing = self._spacings.of(host)
            return spacing.is_too_fast(asked_at, time.monotonic(), self._longest_space_s, is_load=is_load)

    def bears(self, host: str) -> int:
        """Return how many connections ``host`` seems to bear, at most as many as it may get."""
        with self._lock:
            return self._borne(host)

    def hosts(self) -> dict[str, HostState]:
        """Return the hosts that are in use, waited for or cooling down."""
        with self._lock:
            return {host: HostState(state.in_use, self._borne(host)) for host, state in self._hosts.items()}

    def connections(self) -> int:
        """Return how many connections are in use, over all hosts."""
        with self._lock:
            return sum(state.in_use for state in self._hosts.values())

    def take_now(self, host: str, progress: Progress) -> bool:
        """Hold one of the host's connections, if one is free and nothing is to be waited for; else nothing is done.

        What :meth:`slot` and :meth:`hold` do, under one lock and without a task's turn. :meth:`give_back` ends it.
        """
        shares, more_than_told = self._shares, False
        if self._starts is not None or self._delay_of(host) or (shares is not None and shares.cooling(host)):
            return False
        with self._lock:
            if (state := self._hosts.get(host)) is None:
                state = self._hosts[host] = _Host()
            spacing = self._spacings.get(host)
            if state.waiters or state.cool_until or (spacing is not None and spacing.space_s):
                return False
            if state.in_use >= self._most(host):
                return False
            state.in_use += 1
            state.holders.append(progress)
            if shares is not None:
                more_than_told = self._note_peak(host, state)
        progress.connections += 1
        if more_than_told and shares is not None:
            shares.ask()
        return True

    def give_back(self, host: str, progress: Progress, *, served: bool) -> None:
        """Give back what :meth:`take_now` took; ``served`` as :meth:`answered` notes it."""
        with self._lock:
            state = self._hosts[host]
            state.holders.remove(progress)
            state.in_use -= 1
            gave_way = state.yielding > 0
            state.yielding -= gave_way
            if served:
                now = time.monotonic()
                self._spacings.of(host).served(now)
                self._ceilings.of(host).answered(now, self._most_of(host))
            if state.waiters:
                self._grant_waiters(host)
            if not state.in_use:
                self._forget_unused(host)
        progress.connections -= 1
        if gave_way and self._shares is not None:
            self._shares.ask()

    # --- who waits for a host, and whether that goes on

    def hold(self, host: str, progress: Progress) -> None:
        """Note whose the slot is that was got."""
        with self._lock:
            self._hosts[host].holders.append(progress)
            progress.connections += 1

    def let_go(self, host: str, progress: Progress) -> None:
        """Note that the slot is about to be released."""
        with self._lock:
            self._hosts[host].holders.remove(progress)
            progress.connections -= 1

    def moved_at(self, host: str) -> float:
        """Return when one of those who hold the host's connections last gave a sign, by the monotonic clock.

        Now, while nobody here holds one: then it is a pause on purpose, or another process that is waited for.
        """
        with self._lock:
            state = self._hosts.get(host)
            holders = tuple(state.holders) if state is not None else ()
        return max((max(held.moved_at, held.paused_until) for held in holders), default=time.monotonic())

    # --- hosts that other processes use, too

    def uses(self, tell: Callable[[Mapping[str, Use]], None] = lambda uses: None) -> dict[str, Use]:
        """Return what was done at hosts since the last call, or is. One that is used no more is named once.

        ``tell`` is called with the same, and no request begins until it returns: what it does with it stays true.
        """
        with self._lock:
            peaks, self._peaks = self._peaks, {}
            uses = {}
            for host in {*peaks, *self._hosts, *self._told}:
                state = self._hosts.get(host, _Host())
                wanted = max(peaks.get(host, 0), min(state.in_use + len(state.waiters), self._most_of(host)))
                uses[host] = Use(state.in_use, wanted)
            self._told = {host: use.wanted for host, use in uses.items() if use.wanted}
            tell(uses)
            return uses

    def settled(self, crowded: Mapping[str, int]) -> None:
        """Begin what the shares let begin now. ``crowded`` are hosts others wait for, with what may go on there."""
        with self._lock:
            for host in self._hosts:
                self._grant_waiters(host)
            self._crowded = crowded

    def give_way(self, host: str) -> bool:
        """Tell a request to ``host`` whether it is to end early, for others that wait. Counts on its doing so."""
        if (may_go_on := self._crowded.get(host)) is None:
            return False
        with self._lock:
            state = self._hosts.get(host)
            if state is None or state.in_use - state.yielding <= may_go_on:
                return False
            state.yielding += 1
            return True

    # --- slots

    async def acquire(self, host: str) -> None:
        while True:
            self.circuits.check(host)
            await self._take_slot(host)
            pause = self.cooling(host)
            if not pause:
                return
            self.release(host)
            await asyncio.sleep(pause)

    async def _take_slot(self, host: str) -> None:
        with self._lock:
            state = self._hosts.setdefault(host, _Host())
            is_free = not state.waiters and state.in_use < self._most(host)
            if is_free:
                state.in_use += 1
            else:
                loop = asyncio.get_running_loop()
                granted: asyncio.Future[None] = loop.create_future()
                waiter = (loop, granted)
                state.waiters.append(waiter)
            more_than_told = self._shares is not None and self._note_peak(host, state)
        if more_than_told and self._shares is not None:
            self._shares.ask()
        if is_free:
            return
        try:
            await granted
        except asyncio.CancelledError:
            with self._lock:
                still_waiting = waiter in state.waiters
                if still_waiting:
                    state.waiters.remove(waiter)
                    self._forget_unused(host)
            if not still_waiting:  # the slot was on its way here: pass it on
                self.release(host)
            raise

    def _note_peak(self, host: str, state: _Host) -> bool:
        wanted = min(state.in_use + len(state.waiters), self._most_of(host))
        self._peaks[host] = max(self._peaks.get(host, 0), wanted)
        return wanted > self._told.get(host, 0)

    def release(self, host: str) -> None:
        with self._lock:
            state = self._hosts[host]
            state.in_use -= 1
            gave_way = state.yielding > 0
            state.yielding -= gave_way
            self._grant_waiters(host)
            self._forget_unused(host)
        if gave_way and self._shares is not None:
            self._shares.ask()

    def _grant_waiters(self, host: str) -> None:
        state = self._hosts.get(host)
        while state is not None and state.waiters and state.in_use < self._most(host):
            state.in_use += 1
            loop, granted = state.waiters.popleft()
            if loop is _running_loop():  # waking it by its pipe takes 10 µs more
                _grant(granted)
            else:
                loop.call_soon_threadsafe(_grant, granted)

    def _most(self, host: str) -> int:
        most = min(self._borne(host), self.circuits.most(host))
        return most if self._shares is None else min(most, self._shares.slots(host))

    def _borne(self, host: str) -> int:
        return int(min(self._ceilings.of(host).now, self._most_of(host)))

    def _forget_unused(self, host: str) -> None:
        state = self._hosts.get(host)
        if state is not None and not state.in_use and not state.waiters and state.cool_until <= time.monotonic():
            del self._hosts[host]


class Slot:
    """One of a host's connections, held in ``async with``. Written out: a generator takes three times as long."""

    __slots__ = ("_host", "_limits")

    def __init__(self, limits: Limits, host: str) -> None:
        self._limits = limits
        self._host = host

    async def __aenter__(self) -> None:
        await self._limits.acquire(self._host)
        try:
            await self._limits.wait_for_pace(self._host)
        except BaseException:
            self._limits.release(self._host)
            raise

    async def __aexit__(self, *error: object) -> None:
        self._limits.release(self._host)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _grant(granted: asyncio.Future[None]) -> None:
    if not granted.done():
        granted.set_result(None)
