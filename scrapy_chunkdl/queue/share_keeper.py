"""The share keeper: a thread that settles a process's shares of hosts with the other processes on one Redis.

It stands between those who make requests, and must not wait for Redis, and :class:`HostShares`, which asks it. Knows
when to settle; what is used and wanted is told by whoever starts it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from scrapy_chunkdl.queue.client import REDIS_ERRORS
from scrapy_chunkdl.queue.hosts import Demand, HostShares

logger = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between settlings while anything is used or wanted. What is first wanted does not wait for it."""


class ShareKeeper(threading.Thread):
    """Settles ``shares`` every :data:`TICK` while there is something to settle, and at once when asked.

    A Redis that does not answer is asked again a tick later; what was settled holds until its lease runs out, and then
    nothing new may begin until Redis is back. The courier, which meets the same trouble, is the one that reports it.
    """

    def __init__(self, shares: HostShares) -> None:
        super().__init__(name="chunkdl-shares", daemon=True)
        self._shares = shares
        self._asked = threading.Event()
        self._stopped = False

    def keep(
        self, uses: Callable[[], Mapping[str, tuple[int, int]]], settled: Callable[[Mapping[str, int]], None]
    ) -> None:
        """Start. ``uses`` tells the requests that run and those wanted, by host; ``settled`` gets the outcome.

        That is, for hosts where others wait, how many requests may go on there. Both are called on this thread.
        """
        self._uses = uses
        self._settled = settled
        self.start()

    def slots(self, host: str) -> int:
        """Return below how many running requests one may be begun now."""
        return self._shares.slots(host)

    def cooling(self, host: str) -> float:
        """Return the seconds for which the host is to be left alone."""
        return self._shares.cooling(host)

    def cool_down(self, host: str, seconds: float) -> None:
        """Have all processes leave the host alone for so many seconds."""
        self._shares.cool_down(host, seconds)
        self.ask()

    def ask(self) -> None:
        """Settle now rather than at the next tick."""
        self._asked.set()

    def run(self) -> None:
        is_wanted = False
        while not self._stopped:
            self._asked.wait(TICK if is_wanted else None)
            self._asked.clear()
            uses = self._uses()
            is_wanted = any(wanted for _, wanted in uses.values())
            try:
                shares = self._shares.settle({host: Demand(*use) for host, use in uses.items()})
            except REDIS_ERRORS as error:
                logger.debug("Shares not settled: %s", error)
                is_wanted = True  # to be told that it is not, if so
                continue
            self._settled({host: share.slots for host, share in shares.items() if share.others_want})

    def stop(self) -> None:
        """Let go of all shares and stop. Called when no request runs any more."""
        self._stopped = True
        self._asked.set()
        self.join(timeout=5.0)
        try:
            self._shares.close()
        except REDIS_ERRORS as error:
            logger.debug("Shares not let go of, their lease ends: %s", error)
