"""How much may still be fetched in this day or hour: CHUNKDL_BUDGET, for each host and for all together.

used = what all processes told by now
left here = ceil((most - used) / processes) - what came here since - what is under way here

A host with nothing left waits for the next period; a file that has begun is finished. So a budget is passed by no more
than what is under way at once, an item for each process, and what comes in the five seconds after one more process
joins in. Days and hours are those of UTC, by Redis' clock. Counts and decides; knows nothing of Redis, items or of who
waits.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from scrapy_chunkdl.download.host_rules import fits
from scrapy_chunkdl.queue.budgets import PERIODS_S, Count, Used
from scrapy_chunkdl.settings.budget import ALL, Limit
from scrapy_chunkdl.text.units import size_text

_HOSTS_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Over:
    """A limit of a host, or of :data:`ALL`, by which nothing more may begin before ``until`` (seconds since 1970).

    ``is_used_up``: it is; else what is left of it is under way, or another process' share.
    """

    who: str
    limit: Limit
    until: float
    is_used_up: bool

    def sentence(self) -> str:
        """Return what a person should know: what is used up, and until when is waited."""
        most = size_text(self.limit.most) if self.limit.what == "bytes" else f"{self.limit.most} files"
        who, whose = ("All hosts together", "") if self.who == ALL else (self.who, "its items wait")
        told = f"{who} had the {most} of this {self.limit.period}"
        if not self.is_used_up:
            told = f"What is left of the {most} for {who.lower()} in this {self.limit.period} is under way"
        until = f"{datetime.fromtimestamp(self.until, timezone.utc):%Y-%m-%d %H:%M} UTC"
        return f"{told} (CHUNKDL_BUDGET, {self.limit.name}): {whose or 'nothing is claimed'} until {until}"


@dataclass(frozen=True, slots=True)
class _Known:
    number: int
    used: int
    processes: int


class Budget:
    """That of one process, by limits of hosts and patterns. ``clock`` is in seconds since 1970."""

    def __init__(self, limits: Mapping[str, tuple[Limit, ...]], clock: Callable[[], float] = time.time) -> None:
        self._of_all = [(ALL, limit) for limit in limits.get(ALL, ())]
        self._patterns = [(pattern, of_host) for pattern, of_host in limits.items() if pattern != ALL]
        self._clock = clock
        self._ahead = 0.0
        self._limits_of: dict[str, list[tuple[str, Limit]]] = {}
        self._known: dict[Count, _Known] = {}
        self._new: Counter[Count] = Counter()
        self._telling: dict[Count, int] = {}
        self._part = 0

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return bool(self._of_all or self._patterns)

    @property
    def counts_bytes(self) -> bool:
        """Whether any limit is in bytes."""
        every = [limit for _, limit in self._of_all] + [limit for _, limits in self._patterns for limit in limits]
        return any(limit.what == "bytes" for limit in every)

    def limits_of(self, host: str) -> list[tuple[str, Limit]]:
        """Return what holds for a host, ``*`` for all included: whom each limit is of."""
        if host == ALL or not self._patterns:
            return self._of_all
        found = self._limits_of.get(host)
        if found is None:
            own: dict[str, Limit] = {}
            for pattern, limits in self._patterns:
                if fits(pattern, host):
                    own = {limit.name: limit for limit in limits} | own  # the first that says something decides
            found = self._of_all + [(host, limit) for limit in own.values()]
            if len(self._limits_of) >= _HOSTS_REMEMBERED:
                self._limits_of.clear()
            self._limits_of[host] = found
        return found

    def spend(self, host: str, what: str, number: int) -> None:
        """Count ``bytes`` or ``files`` that came from a host."""
        for who, limit in self.limits_of(host):
            if limit.what == what:
                self._new[_count(who, limit)] += number

    def part(self) -> tuple[int, Mapping[Count, int]]:
        """Return what is to be told now, with its number: the same again until :meth:`told` is called."""
        if not self._telling and self._new:
            self._part += 1
            self._telling, self._new = dict(self._new), Counter()
        return self._part, self._telling

    @property
    def has_news(self) -> bool:
        """Whether something came that was not told."""
        return bool(self._new or self._telling)

    def asked(self, hosts: Iterable[str]) -> list[Count]:
        """Return what has to be asked about for these hosts and for all."""
        of_each = (self.limits_of(host) for host in (ALL, *hosts))
        return list(dict.fromkeys(_count(who, limit) for limits in of_each for who, limit in limits))

    def told(self, part: int, used: Used) -> None:
        """Take note of how much is used, what was told with that part of :meth:`part` included."""
        if part == self._part:
            self._telling = {}
        self._ahead = used.now - self._clock()
        self._known = {count: known for count, known in self._known.items() if known.number == self._number(count[0])}
        for count, number in used.counts.items():
            self._known[count] = _Known(self._number(count[0]), number, used.processes)

    def knows(self, host: str) -> bool:
        """Whether it is known how much of all limits of a host is used in this period."""
        return all(self._of(_count(who, limit)) is not None for who, limit in self.limits_of(host))

    def over(self, host: str, under_way: Mapping[str, int]) -> Over | None:
        """Return a limit that keeps files of a host, or of :data:`ALL`, from beginning; None if they may.

        ``under_way`` has as many ``bytes`` and ``files`` as are, by fields such as ``files *`` or ``bytes host:80``.
        """
        return next((over for over in self._overs(host, under_way) if over is not None), None)

    def left_files(self, under_way: Mapping[str, int]) -> int | None:
        """Return how many files may begin in all, None for any number."""
        left = [self._left(who, limit, under_way)[1] for who, limit in self._of_all if limit.what == "files"]
        return max(0, min(left)) if left else None

    def _overs(self, host: str, under_way: Mapping[str, int]) -> Iterable[Over | None]:
        for who, limit in self.limits_of(host):
            left, here = self._left(who, limit, under_way)
            if here <= 0:
                seconds = PERIODS_S[limit.period]
                until = (self._number(limit.period) + 1) * seconds
                yield Over(who, limit, until, left <= 0)

    def _left(self, who: str, limit: Limit, under_way: Mapping[str, int]) -> tuple[int, int]:
        """Return what is left for all processes, and for what this one may begin now; 1 and 0 where that is unknown."""
        count = _count(who, limit)
        known = self._of(count)
        if known is None:
            return 1, 0
        since = self._new[count] + self._telling.get(count, 0)
        left = limit.most - known.used
        return left - since, -(-left // known.processes) - since - under_way.get(count[1], 0)

    def _of(self, count: Count) -> _Known | None:
        known = self._known.get(count)
        return known if known is not None and known.number == self._number(count[0]) else None

    def _number(self, period: str) -> int:
        return int((self._clock() + self._ahead) // PERIODS_S[period])

    def seconds_until(self, over: Over) -> float:
        """Return how long a wait takes."""
        return max(1.0, over.until - self._clock() - self._ahead)


def _count(who: str, limit: Limit) -> Count:
    return limit.period, f"{limit.what} {who}"


class LocalBudgets:
    """What :class:`.SharedBudgets` is for many processes, for one alone: what it used goes with it."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._numbers: dict[str, int] = {}
        self._used: Counter[Count] = Counter()

    def tell(self, part: int, spent: Mapping[Count, int], asked: Sequence[Count]) -> Used:
        """Add what was spent, and return how much of what is ``asked`` about is used."""
        now = self._clock()
        numbers = {period: int(now // seconds) for period, seconds in PERIODS_S.items()}
        over = {period for period, number in numbers.items() if self._numbers.get(period) != number}
        self._numbers = numbers
        if over:
            self._used = Counter({count: used for count, used in self._used.items() if count[0] not in over})
        self._used.update(spent)
        return Used(now, 1, {count: self._used[count] for count in asked})
