"""Whether the list is done: empty when it was looked at last, and nothing of it held by a process that may be dead.

Knows the counts of the queue and, of those who hold items, whether they tell of themselves. Asks Redis through the
courier. Called by the consumer, on Scrapy's thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from scrapy_chunkdl.crawl.strangers import Strangers
from scrapy_chunkdl.queue.courier import Courier
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.snapshot import Counts, Snapshot

LOOK_EVERY_S = 1.0
"""Seconds between looks at who holds items."""


class Emptiness:
    """What one process knows of it. ``wake`` has the engine look again whether the spider is idle."""

    def __init__(self, queue: ItemQueue, courier: Courier, wake: Callable[[], None]) -> None:
        self._queue = queue
        self._courier = courier
        self._wake = wake
        self._strangers = Strangers(queue.key, queue.token)
        self._snapshot_at = 0.0
        self.is_empty = False
        """Whether Redis said so last, and nothing came or went back since."""
        self.held_by_all = 0
        """Items that were leased, by whomever, when the list was looked at last."""

    def more_to_come(self) -> None:
        """Note that an item came or went back: a look may have come between."""
        self.is_empty = False

    def may_have_work(self) -> bool:
        """Whether items may come: the list is empty only once Redis said so, and done only without the dead's."""
        return not self.is_empty or bool(self._strangers.awaited)

    def looked(self, counts: Counts, held_here: int) -> None:
        """Take what a claim that brought nothing was told; ``held_here`` are at work in this process."""
        was = (self.is_empty, self.held_by_all)
        self.held_by_all = counts.leased
        self.is_empty = not (counts.waiting or counts.delayed or counts.parked)
        self._look_at_strangers(counts.leased - held_here)
        if self.is_empty and was != (True, counts.leased):
            self._wake()

    def _look_at_strangers(self, held: int) -> None:
        """See whether those who hold items are alive: the list is not done before these are."""
        if held <= 0:
            self._strangers.none()
        elif self.is_empty and time.monotonic() - self._snapshot_at >= LOOK_EVERY_S:
            self._snapshot_at = math.inf  # not again before the answer
            self._strangers.awaited = self._strangers.awaited or held  # until the answer
            self._courier.call(self._snapshot, self._seen)

    def _snapshot(self) -> Snapshot | None:
        """Called on the courier's thread."""
        try:
            return self._queue.snapshot()
        except (ValueError, TypeError, LookupError, AttributeError):  # odd entries: they hold up no crawl
            return None

    def _seen(self, snapshot: Snapshot | None) -> None:
        self._snapshot_at = time.monotonic()
        if snapshot is not None:
            self._strangers.note(snapshot)
        else:
            self._strangers.none()
        if not self._strangers.awaited:
            self._wake()
