"""``HostShares``: how many connections a host gets, and pauses it asked for, over all processes on one Redis.

Rates and delays of all processes, :mod:`.rate_shares` and :mod:`.start_shares`, are settled by the same call.

A process holds some of a host's slots for a while, as a lease: it starts and ends as many requests as it likes on them
without a word to Redis. It settles its holdings with the others a few times a second while it wants something, and on
its heartbeat; a process that dies frees its slots when its lease runs out.

Knows hosts, numbers and Redis; nothing of HTTP or of who waits for what. Safe to use from several threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from scrapy_chunkdl.queue import rate_shares, start_shares
from scrapy_chunkdl.queue.item_queue import load_script, new_token
from scrapy_chunkdl.queue.rate_shares import RateShares
from scrapy_chunkdl.queue.start_shares import StartShares

PREFIX = "{chunkdl}:host:"
"""One slot of a cluster for all hosts, so that one call settles many of them."""

HOSTS_AT_ONCE = 50
"""Hosts, or limits of these, per call: Redis does nothing else meanwhile."""

ANY = 1 << 30
"""Connections a host gets where they are not limited over all processes."""

_Row = tuple[str, list[str | int]]
"""A key to settle, and its part of the arguments of ``share.lua``."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a process does at a host: ``in_use`` requests run, ``wanted`` would in all, those included."""

    in_use: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Share:
    """What a process may do at a host: begin a request while fewer than ``slots`` run, not for ``cool_for`` seconds.

    ``others_want``: another process waits for slots, so that those let go of go to it at the next settling.
    """

    slots: int
    cool_for: float
    others_want: bool


_NOTHING = Demand(0, 0)


@dataclass(frozen=True, slots=True)
class _Host:
    """What is known of a host. Times are monotonic."""

    demand: Demand = _NOTHING
    slots: int = 0
    lease_end: float = 0.0
    cool_end: float = 0.0
    untold_cool_end: float = 0.0
    """A pause this process was asked for and has told nobody yet."""


class HostShares:
    """One process's part of the limits.

    ``limit`` is per host, over all processes; they should agree on it; 0 is none. ``lease`` is in seconds: what is
    settled holds for that long, and settling again makes it last from then on. Methods raise as ItemQueue's do.

    The limit holds as long as each process begins no request while :meth:`slots` or more of them run, and none between
    counting those that run and :meth:`tell`. A lease that ran
    out (Redis was away, the process was frozen) gives no slots at all; requests that still run then go on, and may
    together with those of the process that took the slots over be more than the limit until they end.
    """

    def __init__(
        self,
        client: Any,
        *,
        limit: int,
        lease: float,
        token: str | None = None,
        rates: RateShares | None = None,
        starts: StartShares | None = None,
    ) -> None:
        self.token = token or new_token()
        self.rates = rates or RateShares(0, 0)
        self.starts = starts or StartShares(0)
        self._limit = limit
        self._lease = lease
        self._share = load_script(client, "share")
        self._settling = threading.Lock()
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        self.given_rates: dict[str, float] = {}
        self.given_moments: dict[str, tuple[list[float], int]] = {}
        """What the last :meth:`settle` gave of rates and delays, by host."""

    @property
    def limits_connections(self) -> bool:
        """Whether connections are settled, for which nobody waits longer than for an answer of Redis."""
        return self._limit > 0

    def cool_down(self, host: str, seconds: float) -> None:
        """Leave ``host`` alone for ``seconds`` from now on. A longer pause stands.

        The others are told by the next :meth:`settle`, best made now, and obey when they settle next.
        """
        if not self._limit:
            return
        until = time.monotonic() + seconds
        with self._lock:
            known = self._hosts.get(host, _Host())
            self._hosts[host] = replace(known, untold_cool_end=max(known.untold_cool_end, until))

    def tell(self, demands: Mapping[str, Demand]) -> None:
        """Note what is used and wanted, for the next :meth:`settle`. Until that is answered, no more may be used.

        For from then on Redis may give the rest to others, also where its answer is lost on the way.
        """
        if not self._limit:
            return
        with self._lock:
            for host, demand in demands.items():
                known = self._hosts.get(host, _Host())
                self._hosts[host] = replace(known, demand=demand, slots=min(known.slots, demand.in_use))

    def settle(self, demands: Mapping[str, Demand]) -> dict[str, Share]:
        """Tell what is used and wanted, and learn what may be used. One call to Redis for 50 hosts.

        Hosts not named are settled by the last demand told, so that ``settle({})`` renews every lease. One that is not
        wanted any more must be told once, with ``Demand(0, 0)``.
        """
        with self._settling:  # one at a time: an older answer must not replace a newer one
            self.tell(demands)
            with self._lock:
                told = {PREFIX + host: known for host, known in self._hosts.items()}
            asked_at = time.monotonic()
            rows: list[_Row] = [(key, self._row(known, asked_at)) for key, known in told.items()]
            shares: dict[str, Share] = {}
            self.given_rates, self.given_moments = {}, {}
            for some in _by(HOSTS_AT_ONCE, [*self.rates.rows(), *self.starts.rows(), *rows]):
                asked_at = time.monotonic()
                answers = self._ask(some)
                self.given_rates |= self.rates.note(_of(rate_shares.PREFIX, answers))
                self.given_moments |= self.starts.note(_of(start_shares.PREFIX, answers), time.monotonic())
                answer = {
                    key[len(PREFIX) :]: Share(slots, cool_ms / 1000, bool(others_want))
                    for key, (slots, cool_ms, others_want) in _of(PREFIX, answers).items()
                }
                self._note(told, answer, asked_at)
                shares |= answer
            return shares

    def slots(self, host: str) -> int:
        """Return below how many running requests one may be begun: 0 in a cool-down or when the lease has run out."""
        if not self._limit:
            return ANY
        now = time.monotonic()
        with self._lock:
            known = self._hosts.get(host, _Host())
        return 0 if now >= known.lease_end or now < max(known.cool_end, known.untold_cool_end) else known.slots

    def cooling(self, host: str) -> float:
        """Return the seconds until ``host`` may be asked again, as far as this process knows."""
        with self._lock:
            known = self._hosts.get(host, _Host())
        return max(0.0, max(known.cool_end, known.untold_cool_end) - time.monotonic())

    def close(self) -> None:
        """Let go of everything. Call when no request runs any more."""
        with self._lock:
            hosts = list(self._hosts)
        self.rates.let_go()
        self.starts.tell({})
        self.settle(dict.fromkeys(hosts, _NOTHING))

    def _row(self, known: _Host, now: float) -> list[str | int]:
        pause_ms = max(0, round((known.untold_cool_end - now) * 1000))
        return ["c", self._limit, known.demand.in_use, known.demand.wanted, pause_ms, 0]

    def _ask(self, rows: Sequence[_Row]) -> dict[str, tuple[int, int, int]]:
        arguments: list[str | int] = [self.token, round(self._lease * 1000)]
        for _, told in rows:
            arguments += told
        flat = [int(number) for number in self._share(keys=[key for key, _ in rows], args=arguments)]
        return dict(zip((key for key, _ in rows), zip(flat[::3], flat[1::3], flat[2::3], strict=True), strict=True))

    def _note(self, told: Mapping[str, _Host], shares: Mapping[str, Share], asked_at: float) -> None:
        now = time.monotonic()
        with self._lock:
            for host, share in shares.items():
                known = self._hosts[host]
                untold = 0.0 if known.untold_cool_end == told[PREFIX + host].untold_cool_end else known.untold_cool_end
                self._hosts[host] = _Host(
                    known.demand, share.slots, asked_at + self._lease, now + share.cool_for, untold
                )
                if known.demand == _NOTHING and not share.cool_for and not untold:
                    del self._hosts[host]


def _of(prefix: str, answers: Mapping[str, tuple[int, int, int]]) -> dict[str, tuple[int, int, int]]:
    return {key: numbers for key, numbers in answers.items() if key.startswith(prefix)}


def _by(size: int, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    rest = iter(rows)
    while some := list(islice(rest, size)):
        yield some
