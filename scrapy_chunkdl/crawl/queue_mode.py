"""The queue mode, put together: who claims, who pushes, who renews, who reports, and the one courier they all send by.

Knows all parts of it and what the lifecycle asks of a mode; decides nothing of items. The lifecycle calls it, on
Scrapy's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from scrapy.crawler import Crawler
from twisted.internet.defer import Deferred

from scrapy_chunkdl.bridge.bridge import Bridge, Deliver
from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.crawl import refusal
from scrapy_chunkdl.crawl.backpressure import Backpressure
from scrapy_chunkdl.crawl.breaker import Breaker
from scrapy_chunkdl.crawl.budget import Budget
from scrapy_chunkdl.crawl.budget_watch import MARK, BudgetWatch
from scrapy_chunkdl.crawl.claimed import ClaimedItem, Held
from scrapy_chunkdl.crawl.consumer import Consumer
from scrapy_chunkdl.crawl.disk_gate import DiskGate
from scrapy_chunkdl.crawl.feeds import FeedAcks
from scrapy_chunkdl.crawl.folders import work_folder
from scrapy_chunkdl.crawl.guard import Steps
from scrapy_chunkdl.crawl.host_watch import HostWatch
from scrapy_chunkdl.crawl.item_files import NewItemFiles
from scrapy_chunkdl.crawl.leases import Leases
from scrapy_chunkdl.crawl.memory_gate import MemoryGate
from scrapy_chunkdl.crawl.mode import Mode
from scrapy_chunkdl.crawl.orders import FileOrders, HostOrders, OperatorOrders
from scrapy_chunkdl.crawl.passage import Admit, Admitted, Delivery, Passage
from scrapy_chunkdl.crawl.postponing import Postponing
from scrapy_chunkdl.crawl.producer import Producer
from scrapy_chunkdl.crawl.reports import Reports
from scrapy_chunkdl.crawl.schedule import ScheduleGate
from scrapy_chunkdl.crawl.settling import Settling
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.crawl.traced import Tracing
from scrapy_chunkdl.download import Limits
from scrapy_chunkdl.items.types import ItemTypes
from scrapy_chunkdl.queue.asked import AskedOfProcesses
from scrapy_chunkdl.queue.budgets import SharedBudgets
from scrapy_chunkdl.queue.client import check_policy, make_client
from scrapy_chunkdl.queue.courier import Courier
from scrapy_chunkdl.queue.errors import Way
from scrapy_chunkdl.queue.heartbeat import Heartbeat
from scrapy_chunkdl.queue.host_health import HostHealth
from scrapy_chunkdl.queue.host_limits import HostLimits
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.memory import look_at_memory
from scrapy_chunkdl.queue.recent import Recent
from scrapy_chunkdl.queue.refused import Refused
from scrapy_chunkdl.queue.totals import Totals
from scrapy_chunkdl.settings.config import Config

logger = logging.getLogger(__name__)

_REFUSED_FOLDER = "chunkdl-refused"


class QueueMode(Mode):
    """One process's part of the work in the list. Making one raises ValueError for settings that cannot be used."""

    def __init__(
        self,
        crawler: Crawler,
        config: Config,
        items_key: str,
        bridge: Bridge,
        limits: Limits,
        deliver: Deliver,
        *,
        stats: Stats,
        item_types: ItemTypes,
        problem_of_type: Callable[[object], str | None],
        announce: Callable[..., None],
        new_files: NewItemFiles,
        wake: Callable[[], None],
        feeds: FeedAcks | None,
        admit: Admit | None,
        disk: DiskGate,
        url_fields: Sequence[str],
        tracing: Tracing | None = None,
    ) -> None:
        assert crawler.spider is not None
        self.fate = f"their items go back to {items_key}"
        self._crawler = crawler
        self._config = config
        self._wake = wake
        self._feeds = feeds
        self._flushing = False
        self._client = client = make_client(crawler.settings)
        above = config.lists_of(crawler.spider.name)[:-1]
        self._queue = queue = ItemQueue(
            client,
            items_key,
            above=above,
            lease=config.lease,
            max_deliveries=config.max_deliveries,
            done_key=config.done_key,
            failed_max=config.failed_max,
            url_fields=url_fields,
        )
        queue.life.on_loss = lambda in_hand: deliver(lambda: self._data_are_gone(in_hand))
        self._stats, self._has_lost_data = stats, False
        refused = Refused(work_folder(_REFUSED_FOLDER, config.work_folder))
        self._courier = courier = Courier(
            queue,
            deliver=deliver,
            patience=config.redis_wait,
            on_unreachable=self._redis_is_unreachable,
            way=Way.of(crawler.settings),
            refused=refused,
        )
        spider = crawler.spider.name
        self._held = held = Held()
        self._orders = OperatorOrders(config, items_key, limits, deliver, lambda: self._consumer.go_on())
        settling = Settling(
            config,
            spider,
            held,
            queue,
            courier,
            refused,
            stats,
            announce=announce,
            settled=lambda item: self._settled(item),
        )
        self._leases = Leases(config.lease, held, settling, bridge, queue, courier, deliver)
        self._passage = Passage(crawler, admit)
        breaker = Breaker(items_key)
        health = HostHealth(client, queue.token)
        budget = self._budget = BudgetWatch(
            Budget(config.budget or {}),
            SharedBudgets(client, queue.token),
            bridge,
            courier.call,
            begun=lambda: (job for item in held.work.values() if item.files is not None for job in item.files.jobs),
            parked=queue.parked_hosts,
            let_out=queue.let_out,
        )
        hosts = self._hosts = HostWatch(
            limits.circuits,
            health,
            queue,
            courier,
            deliver,
            config.host_patience,
            waits_for_others=lambda name: bool(config.budget) and name.endswith(MARK),
        )
        schedule = ScheduleGate(config.schedule or (), config.max_rate, self._orders.limit_rate)
        memory = self._memory = MemoryGate(lambda: look_at_memory(client, items_key))
        pressure = Backpressure(
            config, items_key, held, bridge, breaker, disk, hosts, schedule, budget, self._orders, memory
        )
        self._consumer = Consumer(
            config,
            spider,
            held,
            settling,
            Postponing(settling, bridge, disk, hosts, budget, stats),
            self._leases,
            pressure,
            breaker,
            self._passage,
            bridge,
            queue,
            courier,
            stats=stats,
            tracing=tracing,
            item_types=item_types,
            problem_of_type=problem_of_type,
            announce=announce,
            new_files=new_files,
            feeds=feeds,
            beat=lambda: self._heartbeat.beat(),
            wake=wake,
            give_up=lambda reason: refusal.close(crawler, reason),
        )
        self._producer = Producer(
            spider,
            queue,
            courier,
            item_types,
            stats,
            priority_field=config.priority_field,
            problem_of_type=problem_of_type,
            pushed=self._consumer.more_to_come,
            when_there_is_room=memory.push,
            tracing=tracing,
        )
        self._reports = Reports(
            bridge,
            limits,
            stats.tally,
            Totals(client, items_key, queue.token, above),
            state=self._state,
            finished=lambda: settling.finished,
            waits=pressure.waits,
            items=self.items,
            disk=lambda: disk.seen,
            tell=self._tell_and_ask,
        )
        self._finished, self._recent = stats.finished, Recent(client, items_key)
        self._host_orders = HostOrders(HostLimits(client), limits)
        self._asked, self._file_orders = AskedOfProcesses(client, items_key), FileOrders(held, bridge)
        self._deliver = deliver
        self._heartbeat = Heartbeat(
            queue,
            config.lease,
            self._leases.moving,
            self._leases.renewed,
            self._reports.report,
            details=self._reports.details,
            ordered=self._orders.changed,
            on_disk=self._leases.on_disk,
            tally=self._reports.tell_counts,
            look=self._look,
        )

    def open(self) -> None:
        """Start the threads and begin to claim."""
        self._courier.start()
        self._heartbeat.start()
        self._consumer.claim_more()  # first: a Redis that can be looked at but not claimed from is none that answered
        self._courier.call(lambda: check_policy(self._client), _warn)

    def redis_heard_at(self) -> float:
        """Return when Redis answered a report last, by the monotonic clock."""
        return self._heartbeat.heard_at

    def enqueue(self, item: object) -> Deferred[None]:
        """Append a scraped item to the list. Fires when Redis has it, fails with ValueError for what cannot wait."""
        return self._producer.enqueue(item)

    def arrival(self, item: object) -> Delivery | Admitted | None:
        """Return what is known of an item that our pipeline meets. Raises why a scraped one is not queued."""
        return self._passage.take(item)

    def refused_by_a_feed(self, output: object, error: Exception) -> None:
        """Note that a feed did not take what came of an item, and why: it has not come out."""
        self._passage.refused(output, error)

    def ask_queued(self, then: Callable[[int], None]) -> None:
        """Have ``then`` called with the number of items that wait in the list, or come back to it later."""
        self._courier.call(self._queue.counts, lambda counts: then(counts.waiting + counts.delayed + counts.parked))

    def items(self) -> Mapping[Job, object]:
        """Return which item each file belongs to. For any thread."""
        return {job: item.item for item in self._held.leased() if item.files for job in item.files.jobs}

    @property
    def downloading(self) -> int:
        """How many items have files that are not done."""
        return self._held.downloading

    def tick(self) -> None:
        """Look for work, and let go of what is done."""
        self._leases.tick()
        if self._passage.rest():
            self._wake()
        self._memory.tick()
        self._consumer.tick()
        self._flush_feeds()

    def rest(self, *, ends: bool) -> None:
        """See what is left when the spider has nothing to do; close one that ``ends`` and would wait in vain."""
        self._consumer.rest(ends=ends)
        if ends and self._has_lost_data and not self.may_have_work():
            self._has_lost_data = False
            refusal.close(self._crawler, refusal.DATA_GONE)

    def may_have_work(self) -> bool:
        """Whether this process holds items, or may claim some."""
        return bool(self._held.work or self._producer.pushing or self._consumer.may_claim_some())

    def others_may_have_work(self) -> bool:
        """Whether another process held items when the list was looked at last: they may come back."""
        return self._consumer.held_by_all > len(self._held.leased())

    def stop_claiming(self) -> None:
        """Claim no more, and give back the items none of whose files has begun."""
        self._hosts.is_over = True
        self._memory.send_all()
        self._consumer.stop_claiming()

    def hand_back(self) -> None:
        """Stop the files that still run: their items are released, their part files stay for the next process."""
        self._consumer.hand_back()

    def is_settled(self, grace_is_over: bool) -> bool:
        """Whether the spider may close: nothing is held, or Redis is away and cannot be told before the lease ends."""
        self._leases.tick()
        self._passage.rest()
        if self._courier.gave_up:
            return True
        if grace_is_over and self._courier.in_trouble and not self._held.downloading:
            self._courier.give_up()
        return not self._held.work and not self._consumer.is_asking

    def feeds_closed(self) -> None:
        """Give back what no feed has, now that there will be no more."""
        if self._feeds is not None:
            if len(self._feeds):
                logger.error(
                    "%d items of %s are not safe in the feeds: they go back to the list.",
                    *(len(self._feeds), self._queue.key),
                )
            self._feeds.give_up()

    def close(self) -> None:
        """Say what is left, send what is left to Redis, and stop the threads."""
        steps = Steps()
        steps.add("connections to Redis", self._queue.close)
        steps.add("courier", self._courier.stop)
        steps.add("budgets", self._budget.leave)
        steps.add("report", lambda: self._courier.call(self._leave, lambda _: None))
        steps.add("heartbeat", self._heartbeat.stop)
        steps.undo()

    def _leave(self) -> None:
        """Called on the courier's thread."""
        counts = self._queue.counts()
        left = {"waiting": counts.waiting, "to come back later": counts.delayed, "held by processes": counts.leased}
        left["for hosts that are ill or over their budget"] = counts.parked
        if any(left.values()):
            told = ", ".join(f"{number} {state}" for state, number in left.items() if number)
            logger.info("Left in %s: %s. The next crawl or worker goes on with them.", self._queue.key, told)
        self._reports.tell_counts()
        self._queue.forget()

    def _tell_and_ask(self) -> None:
        """Tell of the files that were finished, and hear what is asked of one that runs. On the heartbeat's thread."""
        if files := self._finished.take():
            self._recent.add(files)
        if asked := self._asked.take(self._queue.token):
            self._deliver(lambda: self._file_orders.obey(asked))

    def _look(self) -> None:
        """Look at what is asked for hosts, and how full Redis is. On the heartbeat's thread."""
        self._host_orders.look()
        self._memory.look()

    def _settled(self, item: ClaimedItem) -> None:
        self._consumer.settled(item)
        if not self._held.work:
            self._passage.rest()
            self._wake()

    def _flush_feeds(self) -> None:
        feeds = self._feeds
        if feeds is None or self._flushing or not feeds.may_flush:
            return

        def flushed(error: OSError | None) -> None:
            self._flushing = False
            feeds.flushed(error)

        self._flushing = True
        self._courier.call(feeds.flush(), flushed)

    def _state(self) -> str:
        return "closing" if not self._consumer.claims else "paused" if self._orders.paused else "claiming"

    def _data_are_gone(self, in_hand: int) -> None:
        self._has_lost_data = True
        self._stats.inc_value("chunkdl/queue/data_gone")
        logger.error(
            "Redis has lost all data of %s (FLUSHALL, or a start without persistence?). %d items in hand are put back "
            "into it and go on; what waited there, %d items when they were counted last, is gone.",
            *(self._queue.key, in_hand, self._consumer.waited_last),
        )

    def _redis_is_unreachable(self, reason: str) -> None:
        logger.error("%s Closing the spider.", reason)
        self._courier.give_up()
        refusal.close(self._crawler, refusal.REDIS_UNREACHABLE)


def _warn(text: str | None) -> None:
    if text is not None:
        logger.warning("%s", text)
