"""The consumer: claims items from the list, has their files downloaded, hands them on, and has them settled.

The loop and nothing else: it says which event befell an item; what that means stands in the table of ``claimed``, and
``settling`` does it. How much may be claimed is told by ``backpressure``, whether an item is still ours by ``leases``.
Knows items, the bridge and the passage through the pipelines; nothing of Lua, HTTP or of when the spider opens and
closes. The queue mode calls it, on Scrapy's thread.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from scrapy_chunkdl import signals
from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.crawl.backpressure import Backpressure
from scrapy_chunkdl.crawl.breaker import Breaker, delay_s, place_of
from scrapy_chunkdl.crawl.claimed import CAN_FAIL, ClaimedItem, Event, Held, State
from scrapy_chunkdl.crawl.emptiness import Emptiness
from scrapy_chunkdl.crawl.feeds import FeedAcks, may_pass
from scrapy_chunkdl.crawl.item_files import ItemFiles, NewItemFiles
from scrapy_chunkdl.crawl.leases import Leases
from scrapy_chunkdl.crawl.passage import Delivery, Passage
from scrapy_chunkdl.crawl.polling import Polling
from scrapy_chunkdl.crawl.postponing import Postponing
from scrapy_chunkdl.crawl.settling import Settling
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.crawl.traced import Tracing, traceparent_of
from scrapy_chunkdl.crawl.unreadable import Unreadable
from scrapy_chunkdl.items import attachments, trace_field
from scrapy_chunkdl.items.types import ItemTypes, plain_json
from scrapy_chunkdl.queue.clock import lease_clock
from scrapy_chunkdl.queue.courier import Courier
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.life import Claimed
from scrapy_chunkdl.queue.snapshot import Counts
from scrapy_chunkdl.settings.config import Config
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

_LONGEST_REASON = 120


class Consumer:
    """One process's share of the work in the list. ``beat`` renews the leases now, on the courier's thread; ``give_up``
    closes the crawl with a finish reason.
    """

    def __init__(
        self,
        config: Config,
        spider_name: str,
        held: Held,
        settling: Settling,
        postponing: Postponing,
        leases: Leases,
        pressure: Backpressure,
        breaker: Breaker,
        passage: Passage,
        bridge: Bridge,
        queue: ItemQueue,
        courier: Courier,
        *,
        stats: Stats,
        tracing: Tracing | None,
        item_types: ItemTypes,
        problem_of_type: Callable[[object], str | None],
        announce: Callable[..., None],
        new_files: NewItemFiles,
        feeds: FeedAcks | None,
        beat: Callable[[], None],
        wake: Callable[[], None],
        give_up: Callable[[str], None],
    ) -> None:
        self._config = config
        self._spider_name = spider_name
        self._key = queue.key
        self._held = held
        self._settling = settling
        self._postponing = postponing
        self._leases = leases
        self._pressure = pressure
        self._breaker = breaker
        self._passage = passage
        self._bridge = bridge
        self._queue = queue
        self._courier = courier
        self._stats = stats
        self._tracing = tracing
        self._item_types = item_types
        self._problem_of_type = problem_of_type
        self._announce = announce
        self._new_files = new_files
        self._feeds = feeds
        self._beat = beat
        self._give_up = give_up
        self._emptiness = Emptiness(queue, courier, wake)
        self._unreadable = Unreadable(
            self._key, config.batch_size * config.threads, settling, lambda: self._end("chunkdl_unreadable_items")
        )
        self._polling = Polling()
        self._is_checked = False
        self.is_asking = False
        """Whether an answer of Redis is waited for that may bring items, or move some."""
        self.waited_last = 0
        """Items that waited, in whatever state, when they were counted last."""
        self.claims = True
        """Whether items are claimed at all, as long as the spider does not close."""

    def tick(self) -> None:
        """Look for work. Called a few times a second."""
        if self._pressure.tick() and self.claims:
            self._give_back_unbegun()
        if self.claims and not self._held.work:
            self._pressure.tell_waits()
        if self._polling.is_due():
            self.claim_more()
        self._look_past_slow_hosts()

    def may_claim_some(self) -> bool:
        """Whether there may be something to claim."""
        return self.claims and (self._pressure.is_paused or self._emptiness.may_have_work())

    @property
    def held_by_all(self) -> int:
        """Items that were leased, by whomever, when the list was looked at last."""
        return self._emptiness.held_by_all

    def more_to_come(self) -> None:
        """Note that an item was pushed: it may be claimed."""
        self._emptiness.more_to_come()
        self.claim_more()

    def go_on(self) -> None:
        """Claim again after a pause."""
        self.more_to_come()

    def rest(self, *, ends: bool) -> None:
        """See what is left when the spider has nothing to do. One that ``ends`` gives up where it would wait in vain.

        That is where all items have failed behind the downloads for long, or the list has nothing that can be read.
        """
        if self.claims and self._emptiness.is_empty and len(self._unreadable) == len(self._held.work):
            self._unreadable.these_are_all(ends=ends)
        if ends and self._breaker.gives_up and self.claims:
            logger.error(
                "All items of %s have failed for %.0f min. The crawl ends, and nothing is lost: they wait for another.",
                *(self._key, self._breaker.open_for_s / 60),
            )
            self._end("chunkdl_pipelines_fail")

    def stop_claiming(self) -> None:
        """Claim no more, and give back the items none of whose files has begun."""
        self.claims = False
        self._unreadable.release()
        self._give_back_unbegun()

    def _give_back_unbegun(self) -> None:
        for item in list(self._held.work.values()):
            if item.files is not None and not any(self._bridge.is_running(job) for job in item.files.jobs):
                self._bridge.cancel(item.files.jobs)

    def hand_back(self) -> None:
        """Stop the files that still run: their items are released."""
        for item in self._held.work.values():
            if item.files is not None:
                self._bridge.cancel(item.files.jobs)

    def settled(self, item: ClaimedItem) -> None:
        """Note that an item is in nobody's way any more, and claim others in its place."""
        if item.state in (State.BACK, State.LOST):
            self._emptiness.more_to_come()
        self._pressure.settled(item)
        self.claim_more()

    def _end(self, reason: str) -> None:
        self.claims = False
        self._give_up(reason)

    # --- claim

    def claim_more(self) -> None:
        """Claim a batch, if nothing is in the way: who may say no stands in :meth:`Backpressure.room`."""
        if not self.claims or self.is_asking:
            return
        if not (room := self._pressure.room()):
            self._look_whether_anything_waits()
            return
        self.is_asking = True
        self._pressure.claiming()
        prefix, asked_at, suspects = uuid.uuid4().hex, lease_clock(), self._pressure.suspects()

        def claim() -> tuple[Sequence[Claimed], int, int, Counts]:
            self._check_once()
            if not self._leases.all_are_ours():  # Redis was away, or we stood still: else we would claim what is ours
                self._beat()
            before = self._queue.passed_by
            batch, dead = self._queue.claim(room, prefix, suspects)
            return batch, dead, self._queue.passed_by - before, self._queue.counts()

        def claimed(answer: tuple[Sequence[Claimed], int, int, Counts]) -> None:
            batch, dead, passed_by, counts = answer
            if passed_by:
                self._stats.inc_value("chunkdl/items/postponed", passed_by)
            more = len(batch) + dead == room or (passed_by > 0 and counts.waiting > 0)
            self._claimed(batch, dead, counts, asked_at, more=more)

        self._courier.call(claim, claimed)

    def _look_whether_anything_waits(self) -> None:
        """Look now and then at the list though nothing may be claimed: an empty one is nothing to stay for."""
        if self._held.work or self._pressure.is_paused or not self._polling.is_due():
            return

        def looked(counts: Counts) -> None:
            self.is_asking = False
            self._polling.looked(found=False)
            self._pressure.parked = counts.parked
            self._emptiness.looked(counts, len(self._held.work))

        self.is_asking = True
        self._courier.call(self._queue.counts, looked)

    def _check_once(self) -> None:
        if not self._is_checked:
            self._queue.check()
            self._is_checked = True

    def _claimed(self, batch: Sequence[Claimed], dead: int, counts: Counts, asked_at: float, *, more: bool) -> None:
        self.is_asking = False
        items = [ClaimedItem(claimed, asked_at, asked_at + self._config.lease) for claimed in batch]
        self._held.add(items)  # first: they are leased, whatever fails here
        self._polling.looked(found=bool(batch or dead) or more)
        self._count(batch, dead, counts, lease_clock() - asked_at)
        if batch:
            self._emptiness.more_to_come()
        else:
            self._emptiness.looked(counts, len(self._held.work))
        if not self.claims:
            for item in items:
                self._settling.give_back(item, Event.STOPPED)
            return
        begun: list[ClaimedItem] = []
        for item in items:
            self._guarded(item, self._begin, begun)
        self._postponing.submit(begun)
        for item in begun:
            if item.files is not None and item.files.is_done:
                self._guarded(item, self._downloaded, item.files)
        if more:
            self.claim_more()

    def _count(self, batch: Sequence[Claimed], dead: int, counts: Counts, took_s: float) -> None:
        self._stats.inc_value("chunkdl/claims")
        self._stats.inc_value("chunkdl/claim_seconds", took_s)
        self._stats.max_value("chunkdl/claim_seconds_max", took_s)
        self._stats.observe("claim", took_s)
        self._pressure.parked = counts.parked
        self.waited_last = counts.waiting + counts.delayed + counts.parked
        self._stats.set_value("chunkdl/queue/waiting", counts.waiting)
        self._stats.max_value("chunkdl/queue/waiting_max", counts.waiting)
        if batch:
            self._stats.inc_value("chunkdl/items/claimed", len(batch))
        if dead:
            self._stats.inc_value("chunkdl/items/dead", dead)
            logger.warning(
                "%d item(s) of %s were delivered %d times, and each time the process died: they are kept in %s.",
                *(dead, self._key, self._config.max_deliveries, self._queue.dead_key),
            )

    def _look_past_slow_hosts(self) -> None:
        """Where items that wait for a slow host are all that can be claimed, have some make way for others."""
        if not self.claims or self.is_asking or not self._pressure.is_time_to_look():
            return
        if not self._pressure.waiting_for_a_host():
            self._pressure.use_all_places()
            self.claim_more()
            return

        def looked(counts: Counts) -> None:
            self.is_asking = False
            if counts.waiting and self.claims:
                self._pressure.make_way()

        self.is_asking = True
        self._courier.call(self._queue.counts, looked)

    # --- download

    def _guarded(self, item: ClaimedItem, step: Callable[[ClaimedItem, Any], object], argument: object) -> None:
        """Take a step; what it raises costs this item a delivery, and the others of the burst nothing."""
        try:
            step(item, argument)
        except Exception as error:
            logger.error("An item of %s cannot go on: %r", self._key, error, exc_info=error)
            item.files = None
            if item.state in CAN_FAIL:
                self._failed(item, "by an error of its own", error)

    def _begin(self, item: ClaimedItem, begun: list[ClaimedItem]) -> None:
        """Read the item and plan its files; one that makes sense is added to ``begun``."""
        try:
            item.item = self._item_types.read(item.claimed.payload)
        except ValueError as error:
            self._unreadable.note(item, f"not JSON: {error}")
            return
        if not attachments.is_item(item.item):
            self._unreadable.note(item, f"not a JSON object but {type(item.item).__name__}")
            return
        self._unreadable.one_was_read()
        if self._tracing is not None:
            traceparent = trace_field.split(item.claimed.payload)[1] or traceparent_of(item.item)
            item.trace = self._tracing.claimed(traceparent, item.claimed.deliveries)
        if (problem := self._problem_of_type(item.item)) is not None:
            self._settling.bury(item, Event.UNFIT, f"one that cannot take its files: {problem}")
            return
        self._announce(signals.item_claimed, item=item.item)
        try:
            item.files = self._new_files(
                item.item,
                on_done=lambda files: self._guarded(item, self._downloaded, files),
                may_publish=item.is_ours,
                trace=item.trace,
            )
        except Exception as error:  # of get_media_requests, which is the project's
            logger.error("The files of an item of %s cannot be asked for: %r", self._key, error, exc_info=error)
            self._failed(item, f"before its downloads ({place_of(error)})", error)
            return
        self._settling.move(item, Event.READ)
        begun.append(item)

    def _downloaded(self, item: ClaimedItem, files: ItemFiles) -> None:
        item.files = None
        self._pressure.budget.finished(files.jobs)
        files.strip()
        if files.has_written and not files.postponed:
            self._pressure.disk.passed()
        if item.lost:
            self._settling.move(item, Event.LEASE_LOST)
        elif files.cancelled or not item.is_ours():
            self._settling.give_back(item, Event.MADE_WAY if item.makes_way else Event.STOPPED)
        elif files.failed is not None:
            raise files.failed
        elif files.unwritable is not None:
            self._settling.bury(item, Event.UNFIT, f"an item that cannot take its results: {files.unwritable}")
        elif files.postponed:
            self._postponing.postpone(item, files.postponed)
        elif files.given_up and self._config.on_failure == "hold":
            item.records = self._records(files)
            self._settling.hold(item)
        else:
            item.records = self._records(files)
            self._hand_on(item, files)

    def _records(self, files: ItemFiles) -> list[dict[str, Any]]:
        return [given_up.record(self._spider_name) for given_up in files.given_up]

    # --- hand on

    def _hand_on(self, item: ClaimedItem, files: ItemFiles) -> None:
        delivery = Delivery(item.item, files.results(), lambda: self._leases.may_emit(item))
        self._settling.move(item, Event.DOWNLOADED)
        self._passage.send(delivery, lambda: self._guarded(item, self._handed_on, delivery))

    def _handed_on(self, item: ClaimedItem, delivery: Delivery) -> None:
        outcome = delivery.outcome
        if outcome == "lost" or (item.lost and outcome != "scraped"):
            self._settling.move(item, Event.LEASE_LOST)
        elif outcome == "error":
            place = f" ({place_of(delivery.error)})" if delivery.error is not None else ""
            self._failed(item, f"in a later pipeline{place}", delivery.error)
        elif outcome == "refused":
            self._refused(item, delivery.error)
        elif outcome == "dropped":
            self._settling.ack(item, Event.CAME_OUT, item.item, None)
        else:
            self._scraped(item, delivery.output)

    def _scraped(self, item: ClaimedItem, output: object) -> None:
        self._breaker.passed()
        finished = None
        if self._config.done_key:
            try:
                finished = plain_json(output)
            except (TypeError, ValueError) as error:
                told = f"finished, but not for {self._config.done_key}, which takes JSON: {error}"
                self._settling.bury(item, Event.UNFIT, told)
                return
        if self._feeds is None:
            self._settling.ack(item, Event.CAME_OUT, output, finished)
            return
        self._settling.move(item, Event.CAME_OUT_FOR_FEEDS)
        self._feeds.scraped(
            lambda: self._safe_in_feeds(item, output, finished),
            lambda: self._lost_by_a_feed(item),
        )

    def _refused(self, item: ClaimedItem, error: BaseException | None) -> None:
        """Keep an item that a feed did not take: for another try where the disk was at fault, else among the dead."""
        if may_pass(error):
            self._failed(item, f"in a feed ({type(error).__name__})", error)
            return
        why = printable(f"{type(error).__name__}: {error}")[:_LONGEST_REASON]
        self._settling.bury(item, Event.UNFIT, f"finished, but a feed does not take it: {why}")

    def _safe_in_feeds(self, item: ClaimedItem, output: object, finished: bytes | None) -> None:
        if item.state is State.IN_FEEDS:  # else its lease was lost meanwhile
            self._settling.ack(item, Event.SAFE_IN_FEEDS, output, finished)

    def _lost_by_a_feed(self, item: ClaimedItem) -> None:
        if item.state is State.IN_FEEDS:
            self._settling.give_back(item, Event.LOST_BY_A_FEED)

    def _failed(self, item: ClaimedItem, where: str, error: BaseException | None) -> None:
        """Give back an item with which the project's code failed; one that fails again and again alone is buried."""
        as_all_do = self._breaker.is_open
        counts = self._breaker.failed(item.claimed.payload, where, error)
        errors = item.claimed.errors + counts
        most, first_s = self._config.max_deliveries, self._config.retry_delay
        if counts and errors >= most:
            told = f"failed {errors} times, now {where}"
            self._settling.bury(item, Event.FAILED_TOO_OFTEN, told, reason="pipeline_failed")
            return
        event = Event.FAILED_AS_ALL_DO if as_all_do and not counts else Event.FAILED
        delay = delay_s(first_s, item.claimed.errors) if counts else first_s
        self._settling.give_back_later(item, event, delay, is_error=counts, where=where, errors=errors, most=most)
