"""Which hosts a crawl without Redis leaves alone: the pauses, and the one request that tries a host, by itself.

The counterpart of :mod:`.host_watch`, with the same pauses. Items wait in the pipeline, which has room for few, so they
do not wait for long. Everything happens on Scrapy's thread, but for what the circuits call. Knows hosts; nothing of
items.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scrapy_chunkdl.bridge.bridge import Deliver
from scrapy_chunkdl.download.limits.circuits import Circuits, Fall, Told
from scrapy_chunkdl.queue import host_health
from scrapy_chunkdl.queue.host_health import TRIAL_S, Illness

logger = logging.getLogger(__name__)

PATIENCE_S = 600.0
"""Seconds that items wait in the pipeline for a host, where CHUNKDL_HOST_PATIENCE is no shorter."""

_JITTER = 0.25


@dataclass(slots=True)
class _Ill:
    """A host that is ill. Times are of the clock."""

    reason: str
    since: float
    pause_s: float
    next_at: float
    tries: int = 0


class LocalWatch:
    """One crawl's. ``patience_s`` is how long an ill host is waited for; with 0 none ever is ill."""

    def __init__(
        self, circuits: Circuits, deliver: Deliver, patience_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._circuits = circuits
        self._patience_s = min(patience_s, PATIENCE_S)
        self._clock = clock
        self._ill: dict[str, _Ill] = {}
        if patience_s:
            circuits.switch_on(lambda change: deliver(lambda: self._note(change)))

    def ill(self, hosts: Iterable[str]) -> str | None:
        """Return the first of an item's hosts that is left alone and waited for, None if it may be asked for."""
        return next((host for host in hosts if host in self._ill and not self._is_hopeless(host)), None)

    def try_one(self, host: str) -> bool:
        """Whether a host is to be tried now, by one request of the caller's."""
        if not self.is_due(host):
            return False
        ill = self._ill[host]
        ill.next_at = self._clock() + TRIAL_S
        self._tell()
        self._circuits.may_try(host)
        return True

    def is_due(self, host: str) -> bool:
        """Whether it is time to try a host."""
        return host in self._ill and self._ill[host].next_at <= self._clock()

    def tick(self) -> None:
        """Look whether a host was waited for long enough."""
        if self._ill:
            self._tell()

    def _note(self, change: Fall | str) -> None:
        now = self._clock()
        if isinstance(change, str):
            if (ill := self._ill.pop(change, None)) is not None:
                logger.info("%s serves again, after %.0f s: its items go on.", change, now - ill.since)
        elif (known := self._ill.get(change.host)) is None:
            pause_s = host_health.FIRST_PAUSE_S
            self._ill[change.host] = _Ill(change.reason, now, pause_s, now + _longer(pause_s, change))
            logger.warning("%s. Its items wait; those of others go on.", self._illness(change.host).sentence())
        else:
            known.pause_s = min(2 * known.pause_s, host_health.LONGEST_PAUSE_S)
            known.next_at, known.tries = now + _longer(known.pause_s, change), known.tries + 1
        self._tell()

    def _tell(self) -> None:
        told = {
            host: Told(self._illness(host).sentence(), ill.reason, ill.next_at, self._is_hopeless(host))
            for host, ill in self._ill.items()
        }
        self._circuits.heard(told, set())

    def _is_hopeless(self, host: str) -> bool:
        return self._clock() - self._ill[host].since > self._patience_s

    def _illness(self, host: str) -> Illness:
        ill, now = self._ill[host], self._clock()
        return Illness(host, ill.reason, now - ill.since, max(0.0, ill.next_at - now), ill.tries)


def _longer(pause_s: float, fall: Fall) -> float:
    return max(fall.pause_s, pause_s * random.uniform(1.0, 1.0 + _JITTER))
