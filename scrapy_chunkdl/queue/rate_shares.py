"""``RateShares``: how many bytes per second of a limit over all processes this one may use, as leases.

A process tells what it used and whether more is wanted; who needs less leaves more to the others (max-min fairness).
Settled together with the connections, by :class:`~scrapy_chunkdl.queue.hosts.HostShares`. Knows numbers and keys;
nothing of sockets, threads, or who asks Redis.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PREFIX = "{chunkdl}:rate:"
"""Of the limits of single hosts; without a host, of all together."""

LEASE_S = 5.0
"""Seconds until the share of a process that died is the others'. They are settled four times a second."""

KEPT_S = 2.0
"""Seconds for which what was used is taken for what will be."""

_MORE = 1.05
_LEAST = 200
"""The part of a limit that a process keeps which used nothing lately, so that it need not ask before it begins."""


@dataclass(slots=True)
class _Known:
    """What is known of one limit. ``used`` are bytes per second, with when that was; ``share`` is what may be used."""

    used: deque[tuple[float, float]] = field(default_factory=deque)
    told_at: float | None = None
    wants_more: bool = False
    is_used: bool = True
    share: float = 0.0

    def wanted(self, limit: float) -> float:
        if not self.is_used:
            return 0.0
        if self.wants_more:
            return limit
        return min(limit, _MORE * max((used for _, used in self.used), default=0.0) + limit / _LEAST)


class RateShares:
    """Those of one process. ``of_all`` and ``of_host`` are the limits over all processes, in bytes per second; 0: none.

    Not safe to use from several threads: :class:`HostShares` settles one at a time.
    """

    def __init__(self, of_all: float, of_host: float) -> None:
        self._of_all = of_all
        self._of_host = of_host
        self._known: dict[str, _Known] = {}

    def tell(self, used: Mapping[str, tuple[int, bool]], now: float) -> None:
        """Note how many bytes were used since the last call, and whether more were wanted, by host; "" is all.

        What is not named is used no more, and given back.
        """
        for host, known in self._known.items():
            known.is_used = host in used
        for host, (size, wants_more) in used.items():
            known = self._known.setdefault(host, _Known())
            if known.told_at is not None and now > known.told_at:
                known.used.append((now, size / (now - known.told_at)))
            known.told_at, known.wants_more = now, wants_more
            while known.used and known.used[0][0] < now - KEPT_S:
                known.used.popleft()

    def rows(self) -> list[tuple[str, list[str | int]]]:
        """Return the keys to settle, each with its part of the arguments of ``share.lua``."""
        rows: list[tuple[str, list[str | int]]] = []
        for host, known in self._known.items():
            limit = self._of_host if host else self._of_all
            told: list[str | int] = [
                "r",
                round(limit),
                round(known.share),
                round(known.wanted(limit)),
                round(LEASE_S * 1000),
                0,
            ]
            rows.append((PREFIX + host, told))
        return rows

    def note(self, answers: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """Take the answers, by key. Return what may be used from now on, in bytes per second, by host."""
        shares = {}
        for key, (share, *_) in answers.items():
            host = key[len(PREFIX) :]
            if (known := self._known.get(host)) is None:
                continue
            known.share = shares[host] = float(share)
            if not known.is_used:
                del self._known[host]
        return shares

    def let_go(self) -> None:
        """Want nothing any more."""
        for known in self._known.values():
            known.is_used = False
