"""Which hosts this process leaves alone, as all processes on one Redis know it, and which of them it may try.

Stands between the circuits, which see the requests of this process, and :class:`HostHealth`, which joins those of all.
Everything happens on Scrapy's thread, but for what the circuits call; Redis is asked through the courier. Knows hosts;
nothing of items.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from scrapy_chunkdl.bridge.bridge import Deliver
from scrapy_chunkdl.download.limits.circuits import Circuits, Fall, Told
from scrapy_chunkdl.queue.courier import Courier
from scrapy_chunkdl.queue.host_health import FIRST_PAUSE_S, TRIAL_S, HostHealth, Illness
from scrapy_chunkdl.queue.item_queue import ItemQueue

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
LOOK_IF_ILL_EVERY_S = 1.0
"""Seconds between two looks at what other processes found out: while something runs, and while a host fails."""

MOST_WARNINGS = 20
"""Hosts whose illness is a warning: a crawl of many dead hosts would tell of nothing else."""


class HostWatch:
    """One process's. ``patience_s`` is how long an ill host is waited for; with 0 none ever is ill.

    ``waits_for_others`` says of a name that items are parked under that it is no host's which may be ill.
    """

    def __init__(
        self,
        circuits: Circuits,
        health: HostHealth,
        queue: ItemQueue,
        courier: Courier,
        deliver: Deliver,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
        waits_for_others: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._circuits = circuits
        self._health = health
        self._queue = queue
        self._courier = courier
        self._patience_s = patience_s
        self._waits_for_others = waits_for_others
        self._clock = clock
        self._untold: set[str] = set()
        self._asking: set[str] = set()
        self._ill: dict[str, tuple[Illness, float]] = {}
        self._looks = False
        self._looked_at = float("-inf")
        self._warnings = 0
        self.is_over = False
        """Whether the spider closes, so that nothing is tried any more."""
        if patience_s:
            circuits.switch_on(lambda change: deliver(lambda: self._note(change)))

    def ill(self, hosts: Iterable[str]) -> str | None:
        """Return the first of an item's hosts that is left alone and waited for, None if it may be asked for."""
        for host in hosts:
            told = self._circuits.ill(host)
            if told is not None and (not told.is_hopeless or self._may_be_tried(host)):
                return host
        return None

    def _may_be_tried(self, host: str) -> bool:
        told = self._circuits.ill(host)
        return told is not None and told.next_at <= self._clock() and host not in self._asking

    def wait_s(self, host: str) -> float:
        """Return the seconds until a host is tried again, as far as this process knows."""
        told = self._circuits.ill(host)
        wait_s = told.next_at - self._clock() if told is not None else 0.0
        return max(1.0, wait_s) if wait_s < float("inf") else FIRST_PAUSE_S

    def try_one(self, host: str, go_on: Callable[[], None], wait: Callable[[float], None]) -> bool:
        """Ask to try a host, if it is time: ``go_on`` is called if this process may, else ``wait`` with seconds.

        False if it is not time, and nothing follows.
        """
        if not self._may_be_tried(host):
            return False

        def answered(answer: tuple[str, float]) -> None:
            self._asking.discard(host)
            word, wait_s = answer
            if word == "wait":
                self._postpone(host, wait_s)
                wait(wait_s)
                return
            if word == "well":
                self._ill.pop(host, None)
                self._circuits.heard(self._told(), self._untold)
            else:
                self._postpone(host, TRIAL_S)
                self._circuits.may_try(host)
            go_on()

        def refused() -> None:
            self._asking.discard(host)
            wait(LOOK_IF_ILL_EVERY_S)

        self._asking.add(host)
        self._courier.call(lambda: self._health.may_try(host), answered, refused=refused)
        return True

    def tick(self, parked: int, *, is_busy: bool) -> None:
        """Look what others found out, if it is time. ``parked`` items wait for hosts."""
        if not self._patience_s or self._looks:
            return
        watches = bool(parked or self._circuits.hosts() or self._circuits.have_failed_lately)
        if not (watches or is_busy):
            return
        if self._clock() - self._looked_at < (LOOK_IF_ILL_EVERY_S if watches else LOOK_EVERY_S):
            return
        self._looks = True

        def look() -> dict[str, Illness]:
            ill = self._health.look()
            for host in self._queue.parked_hosts() if parked else ():
                if not self._waits_for_others(host) and (host not in ill or ill[host].since_s > self._patience_s):
                    self._queue.let_out(host)
            return ill

        def refused() -> None:
            self._looks = False

        self._courier.call(look, self._looked, refused=refused)

    def sentences(self) -> list[str]:
        """Return what is known of ill hosts, the longest ill first."""
        known = sorted((ill for ill, _ in self._ill.values()), key=lambda ill: -ill.since_s)
        return [ill.sentence() for ill in known]

    # --- what happens

    def _note(self, change: Fall | str) -> None:
        if isinstance(change, Fall):
            self._fell(change)
        else:
            self._recovered(change)

    def _fell(self, fall: Fall) -> None:
        host = fall.host
        is_news = host not in self._ill
        self._untold.add(host)

        def told(illness: Illness) -> None:
            self._untold.discard(host)
            self._ill[host] = illness, self._clock()
            self._circuits.heard(self._told(), self._untold)
            if is_news:
                self._warnings += 1
                level = logging.WARNING if self._warnings <= MOST_WARNINGS else logging.DEBUG
                logger.log(level, "%s. Its items wait, uncounted; those of others go on.", illness.sentence())

        def tell() -> Illness:
            illness = self._health.fell(host, fall.reason, fall.pause_s)
            self._queue.try_parked(host, illness.next_in_s)
            return illness

        self._courier.call(tell, told)

    def _recovered(self, host: str) -> None:
        self._untold.discard(host)
        self._ill.pop(host, None)

        def recovered() -> float | None:
            ill_for_s = self._health.recovered(host)
            self._queue.let_out(host)
            return ill_for_s

        def told(ill_for_s: float | None) -> None:
            if ill_for_s is not None and self._warnings <= MOST_WARNINGS:
                logger.info("%s serves again, after %.0f s: its items go on.", host, ill_for_s)

        self._courier.call(recovered, told)

    def _looked(self, ill: Mapping[str, Illness]) -> None:
        self._looks, self._looked_at = False, self._clock()
        now = self._clock()
        before = {host: self._ill[host] for host in self._untold if host in self._ill}
        self._ill = {**before, **{host: (illness, now) for host, illness in ill.items()}}
        self._circuits.heard(self._told(), self._untold)

    def _told(self) -> dict[str, Told]:
        return {
            host: Told(ill.sentence(), ill.reason, at + ill.next_in_s, ill.since_s > self._patience_s)
            for host, (ill, at) in self._ill.items()
        }

    def _postpone(self, host: str, wait_s: float) -> None:
        if host in self._ill:
            known, _ = self._ill[host]
            self._ill[host] = replace(known, next_in_s=wait_s), self._clock()
            self._circuits.heard(self._told(), self._untold)
