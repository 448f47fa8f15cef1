"""How much may still be fetched in this day or hour: CHUNKDL_BUDGET, for each host and for all together.

used + what all processes have set aside for files that are under way <= most
left here = what is set aside for this process - what came here since - what is under way here

A file begins only where that is left for it. So a budget of files is exact; one of bytes is passed by no more than the
last file is larger than what was left for it, as a size is known when it comes: until then the largest that came so far
is taken for it, and as long as none came one file is asked for at a time. A host with nothing left waits for the next
period; a file that has begun is finished. Days and hours are those of UTC, by Redis' clock. Counts and decides; knows
nothing of Redis, items or of who waits.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple

from scrapy_chunkdl.download.host_rules import fits
from scrapy_chunkdl.queue.budgets import PERIODS_S, Asked, Count, Standing, Used
from scrapy_chunkdl.settings.budget import ALL, Limit
from scrapy_chunkdl.text.units import size_text

_HOSTS_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Over:
    """A limit of a host, or of :data:`ALL`, by which nothing more may begin before ``until`` (seconds since 1970).

    ``is_used_up``: it is, or too little is left for what would begin; else what is left of it is under way.
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
    stands: Standing


class _Left(NamedTuple):
    """What is not used, what of it is not set aside either, and what is set aside here and not under way."""

    in_all: int
    free: int
    here: int


_UNKNOWN = _Left(1, 0, 0)


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

    def asked(
        self,
        hosts: Iterable[str],
        under_way: Mapping[str, int] = {},
        new: Mapping[str, int] = {},
        first: Mapping[str, int] = {},
    ) -> list[Asked]:
        """Return what has to be asked about for these hosts and for all: what is ``under_way``, and what would begin.

        All three have as many ``bytes`` and ``files`` as are, by fields such as ``files *`` or ``bytes host:80``.
        """
        asked: dict[Count, Asked] = {}
        for who, limit in (one for host in (ALL, *hosts) for one in self.limits_of(host)):
            count = _count(who, limit)
            needed = under_way.get(count[1], 0) + self._new[count]  # what came and is not told yet is set aside still
            asked[count] = Asked(count, limit.most, needed, needed + new.get(count[1], 0), first.get(count[1], 0))
        return list(asked.values())

    def last_parts(self) -> list[tuple[int, Mapping[Count, int]]]:
        """Return all that was not told, or perhaps not, as it is to be told."""
        part, telling = self.part()
        return [(part, telling), (part + 1, dict(self._new))]

    def told(self, part: int, used: Used) -> None:
        """Take note of how much is used, what was told with that part of :meth:`part` included."""
        if part == self._part:
            self._telling = {}
        self._ahead = used.now - self._clock()
        self._known = {count: known for count, known in self._known.items() if known.number == self._number(count[0])}
        for count, stands in used.counts.items():
            self._known[count] = _Known(self._number(count[0]), stands)

    def knows(self, host: str) -> bool:
        """Whether it is known how much of all limits of a host is used in this period."""
        return all(self._of(_count(who, limit)) is not None for who, limit in self.limits_of(host))

    def over(self, host: str, under_way: Mapping[str, int], need: Mapping[str, int] | None = None) -> Over | None:
        """Return a limit by which nothing of a host, or of :data:`ALL`, is worth a try; None if something is left.

        With what files ``need`` it is a limit by which they may not begin: they may use what is set aside alone.
        """
        return next(self._overs(host, under_way, need), None)

    def left_files(self, under_way: Mapping[str, int]) -> int | None:
        """Return how many files may begin in all, None for any number."""
        left = [self._left(who, limit, under_way).free for who, limit in self._of_all if limit.what == "files"]
        return max(0, min(left)) if left else None

    def _overs(self, host: str, under_way: Mapping[str, int], need: Mapping[str, int] | None) -> Iterator[Over]:
        for who, limit in self.limits_of(host):
            left = self._left(who, limit, under_way)
            needed = need.get(_count(who, limit)[1], 0) if need is not None else 0
            if left.free <= 0 if need is None else needed > left.here:
                until = (self._number(limit.period) + 1) * PERIODS_S[limit.period]
                is_short = limit.what == "files" and left.in_all < needed <= limit.most
                yield Over(who, limit, until, left.in_all <= 0 or is_short)

    def _left(self, who: str, limit: Limit, under_way: Mapping[str, int]) -> _Left:
        count = _count(who, limit)
        known = self._of(count)
        if known is None:
            return _UNKNOWN
        since, running = self._new[count] + self._telling.get(count, 0), under_way.get(count[1], 0)
        in_all = limit.most - known.stands.used - since
        return _Left(in_all, in_all - known.stands.others - running, known.stands.granted - since - running)

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

    def tell(self, part: int, spent: Mapping[Count, int], asked: Sequence[Asked], largest: int = 0) -> Used:
        """Add what was spent, and return how what is ``asked`` about stands: all that is left is this process'."""
        now = self._clock()
        numbers = {period: int(now // seconds) for period, seconds in PERIODS_S.items()}
        over = {period for period, number in numbers.items() if self._numbers.get(period) != number}
        self._numbers = numbers
        if over:
            self._used = Counter({count: used for count, used in self._used.items() if count[0] not in over})
        self._used.update(spent)
        return Used(now, {one.of: self._stands(one) for one in asked}, largest)

    def leave(self, parts: Sequence[tuple[int, Mapping[Count, int]]]) -> None:
        """What it used goes with it."""

    def _stands(self, one: Asked) -> Standing:
        used = self._used[one.of]
        free = one.most - used
        gets = max(one.needed, min(one.wanted, free))
        may_be_more = one.first > one.most or one.of[1].startswith("bytes ")
        if gets < one.first and not one.needed and free > 0 and may_be_more:
            gets = one.first
        return Standing(used, 0, gets)
