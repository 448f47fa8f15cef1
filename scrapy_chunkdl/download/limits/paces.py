"""Rates and delays that other processes keep to, too, as whoever settles them sees them. Knows no Redis and no HTTP."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from scrapy_chunkdl.download.limits.rate import Rates
from scrapy_chunkdl.download.limits.starts import Starts


class SharedPaces:
    """Those of one process. Called on the thread of whoever settles them."""

    def __init__(self, rates: Rates, starts: Starts | None) -> None:
        self._rates = rates
        self._starts = starts

    def used(self, hosts: Collection[str]) -> tuple[dict[str, tuple[int, bool]], dict[str, tuple[int, int]]]:
        """Return what was used of rates since the last call, and the moments that are wanted, of hosts in use."""
        if not hosts:
            return {}, {}
        return self._rates.used(hosts), self._starts.wanted(hosts) if self._starts is not None else {}

    def settled(self, shares: Mapping[str, float], moments: Mapping[str, tuple[Sequence[float], int]]) -> None:
        """Take shares of rates, in bytes per second, and moments, by host."""
        self._rates.take_shares(shares, time.monotonic())
        if self._starts is not None:
            self._starts.settled(moments)

    def go_alone(self, for_s: float) -> None:
        """Go on with the last share for so many seconds: nobody can be asked."""
        if self._starts is not None:
            self._starts.go_alone(time.monotonic() + for_s)
