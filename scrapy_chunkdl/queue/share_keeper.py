"""The share keeper: a thread that settles a process's shares of hosts with the other processes on one Redis.

It stands between those who make requests, and must not wait for Redis, and :class:`HostShares`, which asks it. Knows
when to settle; what is used and wanted is told by whoever starts it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from scrapy_chunkdl.queue.errors import REDIS_ERRORS, explain
from scrapy_chunkdl.queue.hosts import Demand, HostShares
from scrapy_chunkdl.services.thread import ServiceThread

logger = logging.getLogger(__name__)

Uses = Mapping[str, tuple[int, int]]
"""Requests that run, and those there would be if none had to wait, by host."""

TICK = 0.25
"""Seconds between settlings while anything is used or wanted. Connections that are first wanted do not wait for it."""


class Paces(Protocol):
    """Rates and delays of a process that others keep to, too. Called on the keeper's thread."""

    def used(self, hosts: Collection[str]) -> tuple[dict[str, tuple[int, bool]], dict[str, tuple[int, int]]]:
        """Return bytes used since the last call and whether more are wanted, and moments to come and wanted besides."""

    def settled(self, shares: Mapping[str, float], moments: Mapping[str, tuple[Sequence[float], int]]) -> None:
        """Take shares, in bytes per second, and moments with how many processes want some."""

    def go_alone(self, for_s: float) -> None:
        """Go on with the last share for so many seconds."""


class ShareKeeper(ServiceThread):
    """Settles ``shares`` every :data:`TICK` while there is something to settle, and at once when asked.

    A Redis that does not answer is asked again a tick later. Until it does, no more may run than did when it was asked,
    and once the lease runs out nothing new may begin.
    """

    def __init__(self, shares: HostShares) -> None:
        super().__init__("chunkdl-shares")
        self._shares = shares
        self._asked = threading.Event()
        self._in_trouble = False
        self._is_wanted = False
        self._uses: Callable[[Callable[[Uses], None]], object] = lambda tell: tell({})
        self._settled: Callable[[Mapping[str, int]], None] = lambda _: None
        self._paces: Paces | None = None
        self._settled_at = float("-inf")
        self._in_use: list[str] = []

    def serve(
        self,
        uses: Callable[[Callable[[Uses], None]], object],
        settled: Callable[[Mapping[str, int]], None],
        paces: Paces | None = None,
    ) -> None:
        """Say whom it settles for, before the start.

        ``uses`` tells the requests that run and those wanted, by host, to the function it is given.

        None may begin until that returns. ``settled`` gets the outcome, that is, for hosts where others wait, how many
        requests may go on there. Both are called on this thread. ``paces`` are settled by the same calls.
        """
        self._uses = uses
        self._settled = settled
        self._paces = paces

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
        while not self.stopping.is_set():
            self._asked.wait(TICK if self._is_wanted or self._in_trouble else None)
            if not self._shares.limits_connections:
                self.stopping.wait(max(0.0, self._settled_at + TICK - time.monotonic()))
            self._asked.clear()
            self._settled_at = time.monotonic()
            try:
                self.settle()
            except REDIS_ERRORS as error:
                if not self._in_trouble:
                    logger.warning(
                        "Limits over all processes cannot be settled (CHUNKDL_CLUSTER_CONCURRENT_CHUNKS_PER_HOST, "
                        "_MAX_RATE, _DOWNLOAD_DELAY): until they can, no more connections are made than there are, and "
                        "each process keeps its last share of a rate. %s",
                        explain(error),
                    )
                self._in_trouble = True
                if self._paces is not None:
                    self._paces.go_alone(2 * TICK)
            except Exception as error:  # without this thread every download would wait for ever, unsaid
                logger.error("Limits over all processes could not be settled by a bug", exc_info=error)
                self._in_trouble = True
            else:
                self._in_trouble = False

    def settle(self) -> None:
        """Settle once, now. Raises as :meth:`HostShares.settle` does."""
        self._uses(self._tell)
        if self._paces is not None:
            used, wanted = self._paces.used(self._in_use)
            self._shares.rates.tell(used, time.monotonic())
            self._shares.starts.tell(wanted)
        shares = self._shares.settle({})
        self._settled({host: share.slots for host, share in shares.items() if share.others_want})
        if self._paces is not None:
            self._paces.settled(self._shares.given_rates, self._shares.given_moments)

    def _tell(self, uses: Uses) -> None:
        self._is_wanted = any(wanted for _, wanted in uses.values())
        self._shares.tell({host: Demand(*use) for host, use in uses.items()})
        self._in_use = [host for host, (_, wanted) in uses.items() if wanted]

    def wake(self) -> None:
        """Look at whether it is to end."""
        self._asked.set()

    def release(self) -> None:
        """Let go of all shares: no request runs any more."""
        try:
            self._shares.close()
        except REDIS_ERRORS as error:
            logger.debug("Shares not let go of, their lease ends: %s", error)
