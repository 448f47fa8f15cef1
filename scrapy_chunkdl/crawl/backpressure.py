"""Back-pressure: how many items may be claimed now, which of them make way for others, and who may say no.

A slow server, a slow pipeline and a suspect all show as items that are claimed and not settled. Knows those items, the
bridge, the breaker, the disk, the clock and the budgets; never talks to Redis itself, and changes no item but that it
may have to make way. Called by the consumer, on Scrapy's thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.crawl.breaker import Breaker
from scrapy_chunkdl.crawl.budget_watch import BudgetWatch
from scrapy_chunkdl.crawl.claimed import ClaimedItem, Held
from scrapy_chunkdl.crawl.disk_gate import DiskGate
from scrapy_chunkdl.crawl.host_watch import HostWatch
from scrapy_chunkdl.crawl.item_files import ItemFiles
from scrapy_chunkdl.crawl.memory_gate import MemoryGate
from scrapy_chunkdl.crawl.orders import OperatorOrders
from scrapy_chunkdl.crawl.schedule import ScheduleGate
from scrapy_chunkdl.queue.clock import lease_clock
from scrapy_chunkdl.queue.item_queue import Suspects
from scrapy_chunkdl.queue.life import Claimed
from scrapy_chunkdl.settings.config import Config

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""Seconds an item waits for its host before others may come forward, and between two looks for others."""

ALONE_FOR_S = 10.0
"""Seconds for which nothing is claimed beside a suspect of which no byte comes: what kills its process does so soon."""


MOST_HOSTS_TOLD = 3

WAITS_TOLD_EVERY_S = 60.0
"""Seconds between two lines that say what is waited for."""


class Backpressure:
    """That of one process: at most CHUNKDL_BATCH_SIZE × CHUNKDL_THREADS items are claimed and not settled."""

    def __init__(
        self,
        config: Config,
        items_key: str,
        held: Held,
        bridge: Bridge,
        breaker: Breaker,
        disk: DiskGate,
        hosts: HostWatch,
        schedule: ScheduleGate,
        budget: BudgetWatch,
        orders: OperatorOrders,
        memory: MemoryGate,
    ) -> None:
        self._key = items_key
        self.disk = disk
        self._memory = memory
        self._hosts = hosts
        self._schedule = schedule
        self.budget = budget
        self.parked = 0
        """Items that waited for hosts when the list was looked at last."""
        self._told_waits_at = 0.0
        self._batch_size = config.batch_size
        self._most = config.batch_size * config.threads
        self._held = held
        self._bridge = bridge
        self._breaker = breaker
        self._orders = orders
        self._looked_at = time.monotonic()
        self._making_way = 0
        self._made_way = False

    @property
    def is_paused(self) -> bool:
        """Whether operators want nothing to be claimed."""
        return self._orders.paused

    def room(self) -> int:
        """Return how many items may be claimed now, 0 for none. Whoever may say no has a line here."""
        if self._orders.paused or self._schedule.is_paused:
            return 0
        if self._is_full:
            return 0
        if self._is_alone():
            return 0
        held = len(self._held.work)
        wanted = self._breaker.room(min(self._batch_size, self._most - held), held)
        return self.budget.room(self.disk.room(self._memory.room(wanted, held) if wanted else 0, held))

    def tick(self) -> bool:
        """Have the disk, the hosts, the clock and the budgets looked at, if it is time: whether a pause has begun."""
        self._hosts.tick(self.parked, is_busy=bool(self._held.work))
        self.disk.tick(lambda: sum(job.progress.needs_bytes for job in self._bridge.jobs_running()))
        self.budget.tick(self.parked)
        return self._schedule.tick()

    def waits(self) -> list[str]:
        """Return why less is claimed than could be, a sentence each. Called from any thread."""
        gates = (self._schedule.because, self.disk.because, self._memory.because)
        return [*(because for because in gates if because is not None), *self.budget.waits()]

    def tell_waits(self) -> None:
        """Say now and then what a process waits for that does nothing else."""
        now = time.monotonic()
        if now - self._told_waits_at < WAITS_TOLD_EVERY_S:
            return
        hosts = self._hosts.sentences() if self.parked else []
        if len(hosts) > MOST_HOSTS_TOLD:
            hosts[MOST_HOSTS_TOLD:] = [f"So do {len(hosts) - MOST_HOSTS_TOLD} other hosts"]
        for sentence in [*self.waits(), *hosts]:
            self._told_waits_at = now
            logger.info("Items of %s wait. %s.", self._key, sentence)

    def suspects(self) -> Suspects:
        """Say which suspects may come: one at a time, and beside other items only where it has waited for long."""
        if self._held.suspects:
            return "none"
        return "overdue" if self._held.work else "due"

    def claiming(self) -> None:
        """Note that a claim is on its way."""
        self._made_way = False

    def settled(self, item: ClaimedItem) -> None:
        """Note that an item is not ours any more."""
        if item.makes_way:
            item.makes_way = False
            self._making_way -= 1
            self._made_way = not self._making_way

    def is_time_to_look(self) -> bool:
        """Whether nothing more can be claimed, and it is time to see whether some items should make way."""
        if self._orders.paused or not self._is_full or time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return False
        self._looked_at = time.monotonic()
        return True

    def waiting_for_a_host(self) -> Sequence[ClaimedItem]:
        """Return the items none of whose files has begun for a while, and that may go behind all others in the list."""
        before = lease_clock() - LOOK_EVERY_S
        return [
            item
            for item in self._held.work.values()
            if _is_fresh(item.claimed) and item.claimed_at <= before and self._waits(item.files)
        ]

    def use_all_places(self) -> None:
        """Note that all has begun: the places that are left need not wait to be half a batch."""
        self._made_way = True

    def make_way(self) -> None:
        """Stop a batch of the items that only wait for a slow host.

        What is claimed is bounded, so a host that hangs could fill it all and nothing else would ever be claimed.
        """
        makes_way = self.waiting_for_a_host()[-self._batch_size :]  # the oldest are the host's next
        self._making_way += len(makes_way)
        for item in makes_way:
            assert item.files is not None
            item.makes_way = True
            self._bridge.cancel(item.files.jobs)

    @property
    def _is_full(self) -> bool:
        return self._most - len(self._held.work) < (1 if self._made_way else self._batch_size // 2 + 1)

    def _is_alone(self) -> bool:
        """Whether a suspect is held beside which nothing is claimed, as it may take this process with it."""
        if not self._held.suspects:
            return False
        before = lease_clock() - ALONE_FOR_S
        return any(item.claimed_at > before and not _bytes_came(item) for item in self._held.suspects.values())

    def _waits(self, files: ItemFiles | None) -> bool:
        return files is not None and not any(job.is_done or self._bridge.is_running(job) for job in files.jobs)


def _is_fresh(claimed: Claimed) -> bool:
    return claimed.deliveries == 1 and not claimed.errors


def _bytes_came(item: ClaimedItem) -> bool:
    return item.files is not None and any(job.progress.fetched for job in item.files.jobs)
