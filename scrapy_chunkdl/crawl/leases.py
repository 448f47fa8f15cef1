"""The leases of this process's items: which are renewed, which are over, and whether an item is still ours to emit.

Knows the items that are held and their progress; the heartbeat decides when it is asked, the queue what is renewed. The
heartbeat calls ``moving``, ``on_disk`` and ``renewed`` on its thread; all else is on Scrapy's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from scrapy_chunkdl.bridge.bridge import Bridge, Deliver
from scrapy_chunkdl.crawl.claimed import ClaimedItem, Event, Held, State
from scrapy_chunkdl.crawl.item_files import ItemFiles
from scrapy_chunkdl.crawl.settling import Settling
from scrapy_chunkdl.queue.clock import lease_clock
from scrapy_chunkdl.queue.courier import Courier
from scrapy_chunkdl.queue.item_queue import ItemQueue


class Leases:
    """Those of one process, of ``lease_s`` seconds each."""

    def __init__(
        self,
        lease_s: float,
        held: Held,
        settling: Settling,
        bridge: Bridge,
        queue: ItemQueue,
        courier: Courier,
        deliver: Deliver,
    ) -> None:
        self._lease_s = lease_s
        self._held = held
        self._settling = settling
        self._bridge = bridge
        self._queue = queue
        self._courier = courier
        self._deliver = deliver
        self._ticked_at = time.monotonic()

    def tick(self) -> None:
        """Note that Scrapy's thread turns: items in pipelines are alive by that."""
        self._ticked_at = time.monotonic()

    def all_are_ours(self) -> bool:
        """Whether no lease is over by the clock. For any thread."""
        now = lease_clock()
        return all([not item.lost and now < item.lease_until for item in self._held.leased()])

    def may_emit(self, item: ClaimedItem) -> bool | Deferred[bool]:
        """Whether the item is still ours; after a standstill longer than the lease only Redis can tell, later."""
        if item.lost or item.is_ours():
            return not item.lost
        fired: Deferred[bool] = Deferred()

        def renew() -> tuple[float, Sequence[str]]:
            return lease_clock(), self._queue.renew([item.id])

        def renewed(answer: tuple[float, Sequence[str]]) -> None:
            asked_at, lost = answer
            self.renewed([item.id], lost, asked_at)
            fired.callback(not lost)

        self._courier.call(renew, renewed, refused=lambda: fired.callback(False))
        return fired

    def moving(self) -> list[str]:
        """Return the ids of items whose leases are to be renewed. What hangs past its lease is given up."""
        now = time.monotonic()
        items = [item for item in self._held.leased() if not item.lost]
        moving = [item for item in items if self._moves(item, now)]
        hung = {item.id for item in items if item not in moving and item.files is not None and not item.is_ours()}
        if hung:
            self._deliver(lambda: self._stop_lost(hung))
        return [item.id for item in moving]

    def on_disk(self) -> dict[str, int]:
        """Return the bytes there are of the files of items that are downloaded."""
        files = {item.id: item.files for item in list(self._held.work.values()) if not item.lost}
        return {item_id: _bytes_on_disk(of) for item_id, of in files.items() if of is not None}

    def renewed(self, ids: Sequence[str], lost: Sequence[str], asked_at: float) -> None:
        """Note that leases hold from ``asked_at`` on, by the lease clock, but for those that are ``lost``."""
        gone = set(lost)
        for item_id in ids:
            item = self._held.get(item_id)
            if item_id not in gone and item is not None:
                item.lease_until = asked_at + self._lease_s
        if gone:
            self._deliver(lambda: self._stop_lost(gone))

    def _moves(self, item: ClaimedItem, now: float) -> bool:
        files = item.files
        unfinished = [job for job in files.jobs if not job.is_done] if files is not None else []
        if not unfinished:  # in the pipelines, or on its way there or to Redis: as long as Scrapy's thread is well
            return now - self._ticked_at < self._lease_s
        return any(job.progress.is_alive(now, self._lease_s) for job in unfinished)

    def _stop_lost(self, ids: set[str]) -> None:
        for item in filter(None, map(self._held.get, ids)):
            item.lost = True
            if item.state is State.IN_FEEDS:
                self._settling.move(item, Event.LEASE_LOST)
            elif item.files is not None:
                self._bridge.cancel(item.files.jobs)


def _bytes_on_disk(files: ItemFiles) -> int:
    return sum(job.result.size if job.result is not None else job.progress.done for job in files.jobs)
