"""The heartbeat: a thread that renews the leases of work that moves, tells which leases are lost, and sends reports.

Knows the queue and ids; what "moves" means, and what a report says, is decided by whoever starts it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence

from scrapy_chunkdl.queue.clock import lease_clock
from scrapy_chunkdl.queue.errors import REDIS_ERRORS
from scrapy_chunkdl.queue.item_queue import ItemQueue, Orders
from scrapy_chunkdl.services.thread import ServiceThread

logger = logging.getLogger(__name__)

REPORT_EVERY = 5.0
"""Seconds between reports: nothing next to the downloads."""

WATCHED_EVERY = 2.0
"""Seconds between reports while somebody watches."""

MOST_OF_A_CORE = 0.01
"""Share of a core that reports may take while somebody watches: one of 200 running files takes 26 ms."""

PROGRESS_EVERY = 1.0
"""Seconds between looks for items whose first bytes came: a process killed soon after has not claimed them in vain."""

LOOK_EVERY = 0.5
"""Seconds between looks at what is asked for hosts, so that it holds within a second."""

_SOON = 0.25
"""Seconds after which a process that was asked for something tells that it does it."""


class Heartbeat(ServiceThread):
    """Every third of the lease, renew ``moving()`` and hand the outcome to ``renewed(ids, lost, asked_at)``.

    ``asked_at`` is the lease clock's time before the call: from then on the kept leases are good for a full lease.
    ``on_disk`` tells the bytes there are of items' files by now. ``report`` is what the process tells of itself, asked
    for at the start and every :data:`REPORT_EVERY` seconds, and ``details`` what it tells besides while somebody
    watches. ``look`` is called every :data:`LOOK_EVERY` seconds. What people ask of it goes to ``ordered`` when it
    changes. ``tally`` tells what it counted; see :attr:`heard_at`.
    All callables run on this thread. A Redis that does not answer is asked again at the next beat: the courier,
    which meets the same trouble, is the one that reports it.
    """

    def __init__(
        self,
        queue: ItemQueue,
        lease: float,
        moving: Callable[[], Sequence[str]],
        renewed: Callable[[Sequence[str], Sequence[str], float], None],
        report: Callable[[], bytes] | None = None,
        details: Callable[[], bytes] = bytes,
        ordered: Callable[[Orders], None] = lambda _: None,
        on_disk: Callable[[], Mapping[str, int]] = dict,
        tally: Callable[[], None] = lambda: None,
        look: Callable[[], None] | None = None,
    ) -> None:
        super().__init__("chunkdl-heartbeat")
        self._queue = queue
        self._interval = lease / 3
        self._moving = moving
        self._renewed = renewed
        self._report = report
        self._details = details
        self._ordered = ordered
        self._on_disk = on_disk
        self._tally = tally
        self._look = look
        self.heard_at = -math.inf
        """When Redis answered a report last, by the monotonic clock."""
        self._told: frozenset[str] = frozenset()
        self._orders = Orders()

    def run(self) -> None:
        now = time.monotonic()
        beat_at, progress_at = now + self._interval, now + PROGRESS_EVERY
        report_at = now if self._report is not None else math.inf
        look_at = now if self._look is not None else math.inf
        while not self.stopping.wait(max(0.0, min(beat_at, progress_at, report_at, look_at) - time.monotonic())):
            now = time.monotonic()
            try:  # the next time is moved on before the work: what fails again costs one line and a pause
                if now >= beat_at:  # first: a report that has to wait for Redis must not cost a lease
                    beat_at = now + self._interval
                    self._beat_or_miss()
                if now >= progress_at:
                    progress_at = now + PROGRESS_EVERY
                    self.tell_progress()
                if now >= look_at:
                    look_at = now + LOOK_EVERY
                    self.look()
                if now >= report_at:
                    report_at = now + REPORT_EVERY
                    before, began = self._orders, time.thread_time()
                    self.send_report()
                    pause = pause_after(time.thread_time() - began, watched=self._orders.watched)
                    report_at = time.monotonic() + (pause if self._orders == before else _SOON)
            except Exception as error:  # without a heart every lease would be lost, one after the other, unsaid
                logger.error("A heartbeat failed by a bug", exc_info=error)

    def beat(self) -> None:
        """Renew once, now. Raises what :data:`.errors.REDIS_ERRORS` names: who asks for it relies on it."""
        if ids := self._moving():
            self._renew(ids, self._on_disk())

    def _beat_or_miss(self) -> None:
        try:
            self.beat()
        except REDIS_ERRORS as error:
            logger.debug("Heartbeat missed: %s", error)

    def tell_progress(self) -> None:
        """Tell Redis once, now, of items whose first bytes came; further bytes are told with each beat."""
        on_disk = self._on_disk()
        new = {item_id: size for item_id, size in on_disk.items() if size and item_id not in self._told}
        self._told &= on_disk.keys()
        if not new:
            return
        try:
            self._renew([*new], new)
            self._told |= new.keys()
        except REDIS_ERRORS as error:
            logger.debug("Progress is told later: %s", error)

    def _renew(self, ids: Sequence[str], on_disk: Mapping[str, int]) -> None:
        asked_at = lease_clock()
        self._renewed(ids, self._queue.renew(ids, on_disk), asked_at)

    def look(self) -> None:
        """Look once, now."""
        if self._look is None:
            return
        try:
            self._look()
        except REDIS_ERRORS as error:
            logger.debug("A look missed: %s", error)

    def send_report(self) -> None:
        """Tell of the process once, now."""
        if self._report is None:
            return
        try:
            orders = self._queue.report(self._report(), self._details() if self._orders.watched else b"")
            self.heard_at = time.monotonic()
        except REDIS_ERRORS as error:
            logger.debug("Report missed: %s", error)
            return
        if orders.odd and orders.odd != self._orders.odd:
            logger.warning(
                "max_rate in %s is %s, not a number of bytes per second: it is ignored.",
                *(self._queue.control_key, ascii(orders.odd)),
            )
        if orders != self._orders:
            self._orders = orders
            self._ordered(orders)
        try:
            self._tally()
        except REDIS_ERRORS as error:
            logger.debug("Counts are told next time: %s", error)


def pause_after(cpu_time: float, *, watched: bool) -> float:
    """Return the seconds until the next report, after one that took so many seconds of CPU."""
    return min(max(WATCHED_EVERY, cpu_time / MOST_OF_A_CORE), REPORT_EVERY) if watched else REPORT_EVERY
