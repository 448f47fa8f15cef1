"""How fast bytes may come: over the whole process, and from each host. Time is passed in; nothing waits.

Knows numbers and hosts; nothing of sockets. Whoever reads from one asks how much, tells what it read, and is told how
long to pause.

Bytes are paid for before they are read: a reader reserves a piece, pauses until its turn, and reads no more than that.
So readers come round one after the other, however many there are. One that waited for its peer instead has no piece: it
gets one at once where there is room, else a sip, and queues. So answers that begin in the same moment bring no
more than the limit together.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from scrapy_chunkdl.download.host_rules import HostRules
from scrapy_chunkdl.download.limits.shares import SharedLimits

_BURST = 1 / 16
_PIECES_PER_SECOND = 256
_LEAST_PIECE = 1024
_MOST_PIECE = 1 << 15
_SIP = 16
_KEPT = 1 / 4
"""Seconds for which a piece is kept for a reader whose turn it is, and whose peer sends nothing."""

_HOSTS_REMEMBERED = 4096

_LEAST_SHARE = 1.0
"""Bytes per second where others have all of a limit, or nobody has said yet: no limit would be written as 0."""

ALL = ""
"""What the limit of all hosts together is called among those of single hosts."""


class Rate:
    """A limit in bytes per second, as the virtual scheduling of the leaky bucket (ITU-T I.371); 0 is none. Thread-safe.

    What was not read is lost but for a sixteenth of a second's worth. Times are in seconds of a clock that never goes
    back. Turns are places in the stream of bytes that the limit lets through, so one that changes all the time, such
    as a share of others', is kept all the same: a place stays what it is, and comes sooner or later.
    """

    def __init__(self, bytes_per_second: float, share: float | None = None) -> None:
        self._own = bytes_per_second
        self._share = share
        self.bytes_per_second = _least(bytes_per_second, share)
        self.changes = self.shifts = 0
        self._passed, self._passed_at = 0.0, 0.0
        self._due = float("-inf")
        self._taken = self._taken_late = 0
        self._lock = threading.Lock()

    def change(self, bytes_per_second: float) -> None:
        """Set another limit. What is reserved under the old one is to be reserved anew."""
        with self._lock:
            self._own = bytes_per_second
            self.bytes_per_second = _least(bytes_per_second, self._share)
            self.changes += 1
            self._passed, self._passed_at, self._due = 0.0, 0.0, float("-inf")

    def take_share(self, bytes_per_second: float, now: float) -> None:
        """Set what may be used of a limit that others use, too: what is reserved stays so, and waits accordingly."""
        with self._lock:
            self._passed, self._passed_at = self._place_now(now), now
            self._share = max(_LEAST_SHARE, bytes_per_second)
            self.bytes_per_second = _least(self._own, self._share)
            self.shifts += 1

    def reserve(self, size: int, now: float) -> float:
        """Reserve ``size`` bytes and return their place, for :meth:`until`; give back as many if it is negative."""
        with self._lock:
            if not self.bytes_per_second:
                return float("-inf")
            passed = self._place_now(now)
            place = max(self._due, passed - _BURST * self.bytes_per_second)
            self._due = place + size
            self._taken += size
            self._taken_late += size if place > passed else 0
            return place

    def until(self, place: float, now: float) -> float:
        """Return the seconds until what is reserved at ``place`` may be read."""
        with self._lock:
            if not self.bytes_per_second:
                return 0.0
            return max(0.0, (place - self._place_now(now)) / self.bytes_per_second)

    @property
    def own(self) -> float:
        """The limit of this process alone."""
        return self._own

    def queue(self, now: float) -> float:
        """Return the seconds until what is reserved so far has been read."""
        return self.until(self._due, now)

    def used(self) -> tuple[int, bool]:
        """Return the bytes reserved since the last call, and whether most of them had to wait for others' sake."""
        with self._lock:
            taken, late, self._taken, self._taken_late = max(0, self._taken), self._taken_late, 0, 0
            is_for_others = self._share is not None and self.bytes_per_second == self._share
            return taken, is_for_others and late > 0 and 2 * late > taken

    def _place_now(self, now: float) -> float:
        return self._passed + (now - self._passed_at) * self.bytes_per_second


def _least(own: float, share: float | None) -> float:
    return own if share is None else min(own, share) if own else share


class Pace:
    """What holds for one reader, a body or a connection, in one thread. Limits may change while it runs."""

    def __init__(self, rates: list[Rate]) -> None:
        self._rates = rates
        self._granted = self._offered = self._wanted = 0
        self._turn = 0.0
        self._places: list[float] = []
        self._changes, self._shifts = self._changes_made(), self._shifts_made()

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit now."""
        return any(rate.bytes_per_second for rate in self._rates)

    def room(self, wanted: int, now: float) -> int:
        """Return how many of ``wanted`` bytes may be read now: at least one, so ask only where some may come."""
        if not self.is_limited:
            return wanted
        if now > self._turn + _KEPT:
            self.give_back(now)
        if not self._granted and not self.queue(now):
            self._reserve(wanted, now)
        has_turn = self._granted and now >= self._turn
        self._offered = min(wanted, self._granted if has_turn else _SIP)
        return self._offered

    def read(self, size: int, now: float, more: int) -> float:
        """Note that ``size`` bytes have been read; return the seconds to pause.

        ``more`` is how many bytes may still come, at most.
        """
        if not self.is_limited:
            return 0.0
        has_turn = self._granted and now >= self._turn
        if has_turn:
            self._granted -= size
        else:
            for rate in self._rates:
                rate.reserve(size, now)
            if self._granted:
                return self._turn - now
        if size < self._offered or self._granted:  # no more was there
            self.give_back(now)
            return 0.0
        return self._reserve(more, now) if more else 0.0

    def pause(self, now: float) -> float:
        """Return the seconds that are left of a pause, which a change of the limit makes shorter or longer."""
        if self._changes != self._changes_made():
            self._granted = 0
            return self._reserve(self._wanted, now) if self.is_limited else 0.0
        if self._shifts != self._shifts_made() and self._granted:
            self._wait_for_places(now)
        if (left := self._turn - now) > 0:
            return left
        self._turn = now
        return 0.0

    def queue(self, now: float) -> float:
        """Return the seconds a newcomer would wait for its turn."""
        return max(rate.queue(now) for rate in self._rates)

    def give_back(self, now: float) -> None:
        """Give back what is reserved: it is not going to be read, or not when it was meant to be."""
        if self._granted and self._changes == self._changes_made():
            for rate in self._rates:
                rate.reserve(-self._granted, now)
        self._granted = 0

    def _reserve(self, wanted: int, now: float) -> float:
        slowest = min(rate.bytes_per_second or float("inf") for rate in self._rates)
        self._changes, self._wanted = self._changes_made(), wanted
        self._granted = int(min(wanted, _MOST_PIECE, max(_LEAST_PIECE, slowest / _PIECES_PER_SECOND)))
        self._places = [rate.reserve(self._granted, now) for rate in self._rates]
        return self._wait_for_places(now)

    def _wait_for_places(self, now: float) -> float:
        self._shifts = self._shifts_made()
        wait = max(rate.until(place, now) for rate, place in zip(self._rates, self._places, strict=True))
        self._turn = now + wait
        return wait

    def _shifts_made(self) -> int:
        return sum(rate.shifts for rate in self._rates)

    def _changes_made(self) -> int:
        return sum(rate.changes for rate in self._rates)


class Rates:
    """The limits of a process, in bytes per second; 0 is none.

    ``shared`` says which of them other processes keep to, too: nothing comes then before :meth:`take_shares`.
    """

    def __init__(
        self, of_process: float, of_host: float, rules: HostRules | None = None, shared: SharedLimits | None = None
    ) -> None:
        self._shared = shared or SharedLimits()
        self._process = Rate(of_process, _LEAST_SHARE if self._shared.rate else None)
        self._of_host = of_host
        self._rules = rules or HostRules()
        self._hosts: OrderedDict[str, Rate] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def of_process(self) -> float:
        """The limit of the whole process."""
        return self._process.bytes_per_second

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit now."""
        return bool(
            self._process.bytes_per_second or self._of_host or self._shared.rate_per_host or self._rules.limit_rates
        )

    def change(self, bytes_per_second: float) -> None:
        """Set another limit for the whole process, for bodies that run, too. Called from any thread.

        Raises ValueError for what is no number of bytes.
        """
        if not 0 <= bytes_per_second < float("inf"):
            raise ValueError(f"{bytes_per_second!r} is no limit in bytes per second: 0 for none, or more")
        self._process.change(bytes_per_second)

    def pace(self, host: str) -> Pace:
        """Return what holds for a new reader of ``host``."""
        with self._lock:
            if (rate := self._hosts.get(host)) is None:
                share = _LEAST_SHARE if self._shared.rate_per_host else None
                rate = self._hosts[host] = Rate(self._limit_of(host), share)
            self._hosts.move_to_end(host)
            if len(self._hosts) > _HOSTS_REMEMBERED:
                self._hosts.popitem(last=False)
        return Pace([self._process, rate])

    def rules_changed(self) -> None:
        """Keep to what the rules of hosts say now, for bodies that run, too. Called from any thread."""
        with self._lock:
            for host, rate in self._hosts.items():
                if rate.own != self._limit_of(host):
                    rate.change(self._limit_of(host))

    def _limit_of(self, host: str) -> float:
        own = self._rules.of(host).rate
        return self._of_host if own is None else own

    # --- limits that other processes keep to, too

    def used(self, hosts: Iterable[str]) -> dict[str, tuple[int, bool]]:
        """Return the bytes used since the last call, and whether more are wanted, of each of ``hosts``, where shared.

        :data:`ALL` stands for all of them together.
        """
        used = {ALL: self._process.used()} if self._shared.rate else {}
        if self._shared.rate_per_host:
            with self._lock:
                rates = {host: self._hosts.get(host) for host in hosts}
            used |= {host: rate.used() if rate is not None else (0, False) for host, rate in rates.items()}
        return used

    def take_shares(self, shares: Mapping[str, float], now: float) -> None:
        """Take what may be used from now on, in bytes per second, by host."""
        for host, share in shares.items():
            if host == ALL:
                self._process.take_share(share, now)
                continue
            with self._lock:
                rate = self._hosts.get(host)
            if rate is not None:
                rate.take_share(share, now)
