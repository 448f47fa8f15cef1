"""The consumer: claims items from the queue, has their files downloaded, hands them on, and acknowledges them.

Everything happens on Scrapy's thread; the courier talks to Redis, the bridge to servers, the heartbeat keeps leases.
Knows what becomes of a claimed item in every case; nothing of Lua, HTTP or of when the spider opens and closes.

States of a claimed item: downloading -> handed on -> settled (acked, retried, held, released or buried). A lease lost
in between ends it where it is: another process has the item now.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrapy.crawler import Crawler
from twisted.internet.defer import Deferred, succeed

from scrapy_chunkdl import __version__, signals
from scrapy_chunkdl.bridge.bridge import Bridge, Deliver
from scrapy_chunkdl.crawl import breaker, refusal
from scrapy_chunkdl.crawl.breaker import Breaker, delay_s, place_of
from scrapy_chunkdl.crawl.disk_gate import DiskGate
from scrapy_chunkdl.crawl.feeds import FeedAcks
from scrapy_chunkdl.crawl.folders import work_folder
from scrapy_chunkdl.crawl.guard import Steps
from scrapy_chunkdl.crawl.item_files import ItemFiles
from scrapy_chunkdl.crawl.mode import Mode
from scrapy_chunkdl.crawl.passage import Admit, Admitted, Delivery, Passage
from scrapy_chunkdl.crawl.polling import Polling
from scrapy_chunkdl.crawl.snapshot import Details
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.crawl.strangers import Strangers
from scrapy_chunkdl.download import Limits, NoRoom, Postponed
from scrapy_chunkdl.items import attachments
from scrapy_chunkdl.items.types import ItemTypes, plain_json
from scrapy_chunkdl.queue.client import check_policy, make_client
from scrapy_chunkdl.queue.clock import lease_clock
from scrapy_chunkdl.queue.courier import Courier, TooLarge
from scrapy_chunkdl.queue.errors import Way
from scrapy_chunkdl.queue.heartbeat import Heartbeat
from scrapy_chunkdl.queue.item_queue import FAILED_MOST_BYTES, Claimed, Counts, ItemQueue, Orders, Snapshot, Suspects
from scrapy_chunkdl.queue.refused import Refused
from scrapy_chunkdl.queue.status import PaceMeter, Report
from scrapy_chunkdl.queue.totals import Totals
from scrapy_chunkdl.settings.config import Config
from scrapy_chunkdl.text.masking import printable
from scrapy_chunkdl.text.units import size_text

logger = logging.getLogger(__name__)


MOST_UNREADABLE = 10
"""Entries that may be unreadable before the first that can be read: another program writes them in another format."""

_LONGEST_REASON = 120

LOOK_EVERY = 1.0
"""Seconds an item waits for its host before others may come forward, and between two looks for others."""


ALONE_FOR_S = 10.0
"""Seconds for which nothing is claimed beside a suspect of which no byte comes: what kills its process does so soon."""

WAITS_TOLD_EVERY_S = 60.0
"""Seconds between two lines that say what is waited for."""

_REFUSED_FOLDER = "chunkdl-refused"


def _warn(text: str | None) -> None:
    if text is not None:
        logger.warning("%s", text)


@dataclass(slots=True, eq=False)
class _Work:
    """A claimed item. ``claimed_at`` and ``lease_until`` are of the lease clock; ``download`` is None once it is over.

    ``lost``: Redis said that the item is another's, or its download hung for so long that it should be.
    """

    claimed: Claimed
    claimed_at: float
    lease_until: float
    item: Any = None
    download: ItemFiles | None = None
    lost: bool = False
    makes_way: bool = False
    records: Sequence[Mapping[str, Any]] = ()

    def is_ours(self) -> bool:
        """Whether the lease still holds. A process that was frozen past its lease finds out here, by the clock."""
        return not self.lost and lease_clock() < self.lease_until


class Consumer(Mode):
    """One process's share of the work in the list."""

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
        new_download: Callable[..., ItemFiles],
        wake: Callable[[], None],
        feeds: FeedAcks | None,
        admit: Admit | None,
        disk: DiskGate,
        root: Path,
    ) -> None:
        self.fate = f"their items go back to {items_key}"
        self._crawler = crawler
        self._config = config
        self._key = items_key
        self._bridge = bridge
        self._limits = limits
        self._deliver = deliver
        self._item_types = item_types
        self._problem_of_type = problem_of_type
        self._announce = announce
        self._new_download = new_download
        self._wake = wake
        self._feeds = feeds
        self._in_feeds: dict[str, _Work] = {}
        self._flushing = False
        self._stats = stats
        self._root = root
        self._disk_gate = disk
        self._told_waits_at = 0.0
        self._passage = Passage(crawler, admit)
        self._most = config.batch_size * config.threads
        self._works: dict[str, _Work] = {}
        self._pushing = 0
        self._asking = False
        self._claims = True
        self._orders = Orders()
        self._found_empty = False
        self._held_by_all = 0
        self._snapshot_at = 0.0
        self._finished = 0
        self._looked_at = time.monotonic()
        self._making_way = 0
        self._made_way = False
        self._pace = PaceMeter(time.monotonic())
        self._ticked_at = time.monotonic()
        client = make_client(crawler.settings)
        self._queue = ItemQueue(
            client,
            items_key,
            lease=config.lease,
            max_deliveries=config.max_deliveries,
            done_key=config.done_key,
            failed_max=config.failed_max,
        )
        self._totals = Totals(client, items_key, self._queue.token)
        stats.tally.follow(lambda: {"received": bridge.bytes_fetched()})
        self._strangers = Strangers(items_key, self._queue.token)
        self._unreadable: dict[str, tuple[_Work, str]] | None = {} if self._most > MOST_UNREADABLE else None
        self._breaker = Breaker(items_key)
        self._polling = Polling()
        self._is_checked = self._has_told_of_dropped = False
        self._refused = Refused(work_folder(_REFUSED_FOLDER, config.work_folder))
        self._courier = Courier(
            self._queue,
            deliver=deliver,
            patience=config.redis_wait,
            on_unreachable=self._redis_is_unreachable,
            way=Way.of(crawler.settings),
            refused=self._refused,
        )
        self._heartbeat = Heartbeat(
            self._queue,
            config.lease,
            self._moving,
            self._renewed,
            self._report,
            details=Details(bridge, limits).encode,
            ordered=self._ordered,
            on_disk=self._on_disk,
            tally=self._tell_counts,
        )
        self._check_policy = lambda: check_policy(client)

    def open(self) -> None:
        """Start the threads and begin to claim."""
        self._courier.start()
        self._heartbeat.start()
        self._claim_more()  # first: a Redis that lets us look but not claim must not pass for one that answered
        self._courier.call(self._check_policy, _warn)

    def enqueue(self, item: object) -> Deferred[None]:
        """Append a scraped item to the list. Fires when Redis has it.

        Fails with ValueError for an item that cannot be written, when what can be written of it is among the dead.
        """
        fired: Deferred[None] = Deferred()
        try:
            if (problem := self._problem_of_type(item)) is not None:
                raise ValueError(problem)
            payload = self._item_types.write(item)
        except (TypeError, ValueError) as error:
            self._keep_unwritable(item, printable(str(error)), fired)
            return fired

        def done(problem: BaseException | None) -> None:
            self._pushing -= 1
            self._found_empty = False
            if problem is not None:
                fired.errback(ValueError(str(problem)) if isinstance(problem, TooLarge) else problem)
                return
            self._stats.inc_value("chunkdl/items/queued")
            fired.callback(None)
            self._claim_more()

        self._pushing += 1
        self._courier.push(payload, done)
        return fired

    def _keep_unwritable(self, item: object, problem: str, fired: Deferred[None]) -> None:
        told = f"An item cannot wait in Redis: {problem}."
        record = {"reason": "bad_item", "message": told, "spider": self._spider_name}
        payload, call_id = self._item_types.salvage(item), uuid.uuid4().hex

        def kept(_: None) -> None:
            self._pushing -= 1
            self._stats.inc_value("chunkdl/items/dead")
            fired.errback(ValueError(f"{told} What could be written of it is kept in {self._queue.dead_key}."))

        def refused() -> None:
            self._pushing -= 1
            fired.errback(ValueError(f"{told} Redis is away: it is not kept."))

        self._pushing += 1
        self._courier.call(lambda: self._queue.keep(payload, record, call_id), kept, refused)

    def arrival(self, item: object) -> Delivery | Admitted | None:
        """Return what is known of an item that our pipeline meets. Raises why a scraped one is not queued."""
        return self._passage.take(item)

    def redis_heard_at(self) -> float:
        """Return when Redis answered a report last, by the monotonic clock."""
        return self._heartbeat.heard_at

    def tick(self) -> None:
        """Look for work. Called a few times a second."""
        self._ticked_at = time.monotonic()
        self._disk_gate.tick(lambda: sum(job.progress.needs_bytes for job in self._bridge.jobs_running()))
        self._tell_waits()
        if self._passage.rest():
            self._wake()
        if self._polling.is_due():
            self._claim_more()
        self._look_past_slow_hosts()
        self._flush_feeds()

    def end_outage(self) -> None:
        """Close a spider that has nothing to do but wait for what later pipelines need, and did so for long."""
        if self._breaker.open_for_s > breaker.GIVE_UP_S and self._claims:
            logger.error(
                "All items of %s have failed for %.0f min. The crawl ends, and nothing is lost: they wait for another.",
                *(self._key, self._breaker.open_for_s / 60),
            )
            self._claims = False
            refusal.close(self._crawler, "chunkdl_pipelines_fail")

    def may_have_work(self) -> bool:
        """Whether this process holds items, or may claim some: the list is empty only once Redis said so."""
        may_claim = self._claims and (self._orders.paused or not self._found_empty or bool(self._strangers.awaited))
        return bool(self._works or self._pushing or may_claim)

    @property
    def downloading(self) -> int:
        """How many items have files that are not done."""
        return sum(work.download is not None for work in self._works.values())

    def ask_queued(self, then: Callable[[int], None]) -> None:
        """Have ``then`` called with the number of items that wait in the list, or come back to it later."""
        self._courier.call(self._queue.counts, lambda counts: then(counts.waiting + counts.delayed + counts.parked))

    def others_may_have_work(self) -> bool:
        """Whether another process held items when the list was looked at last: they may come back."""
        return self._held_by_all > len(self._works) + len(self._in_feeds)

    def stop_claiming(self) -> None:
        """Claim no more, and give back the items none of whose files has begun."""
        self._claims = False
        self._release_unreadable()
        for work in list(self._works.values()):
            if work.download is not None and not any(self._bridge.is_running(job) for job in work.download.jobs):
                self._bridge.cancel(work.download.jobs)

    def hand_back(self) -> None:
        """Stop the files that still run: their items are released, their part files stay for the next process."""
        for work in self._works.values():
            if work.download is not None:
                self._bridge.cancel(work.download.jobs)

    def is_settled(self, grace_is_over: bool) -> bool:
        """Whether the spider may close: nothing is held, or Redis is away and cannot be told before the lease ends."""
        self._ticked_at = time.monotonic()
        self._passage.rest()
        if self._courier.gave_up:
            return True
        if grace_is_over and self._courier.in_trouble and not any(work.download for work in self._works.values()):
            self._courier.give_up()
        return not self._works and not self._asking

    def close(self) -> None:
        """Say what is left, send what is left to Redis, and stop the threads."""
        steps = Steps()
        steps.add("connections to Redis", self._queue.close)
        steps.add("courier", self._courier.stop)
        steps.add("report", lambda: self._courier.call(self._leave, lambda _: None))
        steps.add("heartbeat", self._heartbeat.stop)
        steps.undo()

    def _leave(self) -> None:
        """Called on the courier's thread."""
        counts = self._queue.counts()
        left = {"waiting": counts.waiting, "to come back later": counts.delayed, "held by processes": counts.leased}
        left["for hosts that are ill"] = counts.parked
        if any(left.values()):
            told = ", ".join(f"{number} {state}" for state, number in left.items() if number)
            logger.info("Left in %s: %s. The next crawl or worker goes on with them.", self._key, told)
        self._tell_counts()
        self._queue.forget()

    # --- claiming

    def _claim_more(self) -> None:
        room = self._breaker.room(min(self._config.batch_size, self._most - len(self._works)), len(self._works))
        room = self._disk_gate.room(room, len(self._works))
        if not self._claims or self._orders.paused or self._asking or self._is_full:
            return
        if not room or self._is_alone():
            return
        self._asking, self._made_way = True, False
        prefix, asked_at, suspects = uuid.uuid4().hex, lease_clock(), self._suspects()

        def claim() -> tuple[Sequence[Claimed], int, Counts]:
            self._check_once()
            if not all(work.is_ours() for work in self._leased()):
                self._heartbeat.beat()  # Redis was away, or we stood still: else we would claim what is still ours
            batch, dead = self._queue.claim(room, prefix, suspects)
            return batch, dead, self._queue.counts()

        def claimed(answer: tuple[Sequence[Claimed], int, Counts]) -> None:
            batch, dead, counts = answer
            self._claimed(batch, dead, counts, asked_at, full=len(batch) + dead == room)

        self._courier.call(claim, claimed)

    def _claimed(self, batch: Sequence[Claimed], dead: int, counts: Counts, asked_at: float, *, full: bool) -> None:
        self._asking = False
        works = [_Work(claimed, asked_at, asked_at + self._config.lease) for claimed in batch]
        self._works.update((work.claimed.id, work) for work in works)  # first: they are leased, whatever fails here
        self._polling.looked(found=bool(batch or dead))
        took = lease_clock() - asked_at
        self._stats.inc_value("chunkdl/claims")
        self._stats.inc_value("chunkdl/claim_seconds", took)
        self._stats.max_value("chunkdl/claim_seconds_max", took)
        self._stats.tally.observe("claim", took)
        if dead:
            self._stats.inc_value("chunkdl/items/dead", dead)
            logger.warning(
                "%d item(s) of %s were delivered %d times, and each time the process died: they are kept in %s.",
                dead,
                self._key,
                self._config.max_deliveries,
                self._queue.dead_key,
            )
        self._stats.set_value("chunkdl/queue/waiting", counts.waiting)
        self._stats.max_value("chunkdl/queue/waiting_max", counts.waiting)
        if batch:
            self._found_empty = False
            self._stats.inc_value("chunkdl/items/claimed", len(batch))
        else:
            self._look_at(counts)
        if not self._claims:
            for work in works:
                self._release(work)
            return
        begun: list[_Work] = []
        for work in works:
            self._guarded(work, self._begin, begun)
        self._bridge.submit(job for work in begun if work.download for job in work.download.jobs)
        for work in begun:
            if work.download is not None and work.download.is_done:
                self._guarded(work, self._downloaded, work.download)
        if full:
            self._claim_more()

    def _check_once(self) -> None:
        if not self._is_checked:
            self._queue.check_types()
            self._is_checked = True

    def _suspects(self) -> Suspects:
        """Say which suspects may come: one at a time, and beside other items only where it has waited for long."""
        if any(work.claimed.is_suspect for work in self._works.values()):
            return "none"
        return "overdue" if self._works else "due"

    def _is_alone(self) -> bool:
        """Whether a suspect is held beside which nothing is claimed, as it may take this process with it."""
        before = lease_clock() - ALONE_FOR_S
        return any(
            work.claimed.is_suspect and work.claimed_at > before and not _bytes_came(work)
            for work in self._works.values()
        )

    @property
    def _is_full(self) -> bool:
        return self._most - len(self._works) < (1 if self._made_way else self._config.batch_size // 2 + 1)

    def _look_past_slow_hosts(self) -> None:
        """Put items that only wait for a slow host behind all others in the list, a batch at a time.

        What is claimed is bounded, so a host that hangs could fill it all and nothing else would ever be claimed.
        """
        now = time.monotonic()
        if not self._claims or self._orders.paused or self._asking or not self._is_full:
            return
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        if not self._waiting_for_a_host():
            self._made_way = True  # all has begun: the places that are left need not wait to be half a batch
            self._claim_more()
            return

        def looked(counts: Counts) -> None:
            self._asking = False
            if not counts.waiting or not self._claims:
                return
            makes_way = self._waiting_for_a_host()[-self._config.batch_size :]  # the oldest are the host's next
            self._making_way += len(makes_way)
            for work in makes_way:
                assert work.download is not None
                work.makes_way = True
                self._bridge.cancel(work.download.jobs)

        self._asking = True
        self._courier.call(self._queue.counts, looked)

    def _waiting_for_a_host(self) -> list[_Work]:
        before = lease_clock() - LOOK_EVERY
        return [
            work
            for work in self._works.values()
            if _is_fresh(work.claimed) and work.claimed_at <= before and self._waits(work.download)
        ]

    def _waits(self, download: ItemFiles | None) -> bool:
        return download is not None and not any(job.is_done or self._bridge.is_running(job) for job in download.jobs)

    def _look_at(self, counts: Counts) -> None:
        was = (self._found_empty, self._held_by_all)
        self._held_by_all = counts.leased
        self._found_empty = not (counts.waiting or counts.delayed or counts.parked)
        if self._found_empty and self._unreadable:
            self._bury_unreadable()  # they are all there is
            self._unreadable = {}
        self._look_at_strangers(counts.leased - len(self._works))
        if self._found_empty and was != (True, counts.leased):
            self._wake()

    def _look_at_strangers(self, held: int) -> None:
        """See whether those who hold items are alive: the list is not done before these are."""
        now = time.monotonic()
        if held <= 0:
            self._strangers.none()
        elif self._found_empty and now - self._snapshot_at >= LOOK_EVERY:
            self._snapshot_at = math.inf  # not again before the answer

            def look() -> Snapshot | None:
                try:
                    return self._queue.snapshot()
                except (ValueError, TypeError, LookupError, AttributeError):  # odd entries: they hold up no crawl
                    return None

            def seen(snapshot: Snapshot | None) -> None:
                self._snapshot_at = time.monotonic()
                if snapshot is not None:
                    self._strangers.note(snapshot, self._snapshot_at)
                else:
                    self._strangers.none()
                if not self._strangers.awaited:
                    self._wake()

            self._strangers.awaited = self._strangers.awaited or held  # until the answer
            self._courier.call(look, seen)

    def _begin(self, work: _Work, begun: list[_Work]) -> None:
        """Read the item and plan its files; one that makes sense is added to ``begun``."""
        try:
            work.item = self._item_types.read(work.claimed.payload)
        except ValueError as error:
            self._cannot_read(work, f"not JSON: {error}")
            return
        if not attachments.is_item(work.item):
            self._cannot_read(work, f"not a JSON object but {type(work.item).__name__}")
            return
        self._bury_unreadable()
        if (problem := self._problem_of_type(work.item)) is not None:
            self._bury(work, f"one that cannot take its files: {problem}")
            return
        self._announce(signals.item_claimed, item=work.item)
        try:
            work.download = self._new_download(
                work.item,
                on_done=lambda download: self._guarded(work, self._downloaded, download),
                may_publish=work.is_ours,
            )
        except Exception as error:  # of get_media_requests, which is the project's
            logger.error("The files of an item of %s cannot be asked for: %r", self._key, error, exc_info=error)
            self._retry(work, f"before its downloads ({place_of(error)})")
            return
        begun.append(work)

    def _cannot_read(self, work: _Work, reason: str) -> None:
        """Bury what cannot be read; but where nothing else was ever found, first see whether anything can."""
        reason = printable(reason)[:_LONGEST_REASON]
        if self._unreadable is None:
            self._bury(work, reason)
            return
        self._unreadable[work.claimed.id] = (work, reason)
        if len(self._unreadable) == MOST_UNREADABLE and self._claims:
            logger.error(
                "The first %d entries of %s are no JSON objects (one is %s). Nothing was buried, all goes back. Does "
                "another program write them (REDIS_ITEMS_SERIALIZER)? Have it write JSON, or set CHUNKDL_ITEMS_KEY.",
                *(MOST_UNREADABLE, self._key, reason),
            )
            self._claims = False
            refusal.close(self._crawler, "chunkdl_unreadable_items")

    def _bury_unreadable(self) -> None:
        """Bury what was found unreadable so far: the list is not one of another format."""
        if self._unreadable is None or not self._claims:
            return
        unreadable, self._unreadable = self._unreadable, None
        for work, reason in unreadable.values():
            self._bury(work, reason)

    def _release_unreadable(self) -> None:
        unreadable, self._unreadable = self._unreadable or {}, {}
        for work, _ in unreadable.values():
            self._release(work)

    # --- the way of one item

    def _guarded(self, work: _Work, step: Callable[[_Work, Any], object], argument: object) -> None:
        """Take a step; what it raises costs this item a delivery, and the others of the burst nothing."""
        try:
            step(work, argument)
        except Exception as error:
            logger.error("An item of %s cannot go on: %r", self._key, error, exc_info=error)
            work.download = None
            self._retry(work, "by an error of its own")

    def _downloaded(self, work: _Work, download: ItemFiles) -> None:
        work.download = None
        download.strip()
        if download.has_written and not download.postponed:
            self._disk_gate.passed()
        if work.lost:
            self._drop_lost(work)
        elif download.cancelled or not work.is_ours():
            self._release(work)
        elif download.failed is not None:
            raise download.failed
        elif download.unwritable is not None:
            self._bury(work, f"an item that cannot take its results: {download.unwritable}")
        elif download.postponed:
            self._postpone(work, download.postponed)
        elif download.given_up and self._config.on_failure == "hold":
            self._stats.inc_value("chunkdl/items/held")
            self._hold(work, self._records(work, download))
        else:
            work.records = self._records(work, download)
            self._hand_on(work, download)

    def _hold(self, work: _Work, records: Sequence[Mapping[str, Any]]) -> None:
        def keep_aside(reason: str) -> bool:
            self._refused.keep("records", _as_json(records), reason)
            short = {"reason": "too_large", "message": reason, "spider": self._spider_name}
            return self._queue.hold(work.claimed.id, [short])

        item_id = work.claimed.id
        self._courier.call(lambda: self._queue.hold(item_id, records), lambda _: self._settled(work), aside=keep_aside)

    def _record(self, work: _Work) -> None:
        """Record the files given up of an item that is about to be acknowledged."""

        def keep_aside(reason: str) -> bool:
            self._refused.keep("records", _as_json(work.records), reason)
            return True

        def recorded(_: bool) -> None:
            if self._queue.records_dropped and not self._has_told_of_dropped:
                self._has_told_of_dropped = True
                logger.warning(
                    "%s is full: its oldest records make room for new ones (CHUNKDL_FAILED_MAX = %d, and %d MiB).",
                    *(self._queue.failed_key, self._config.failed_max, FAILED_MOST_BYTES >> 20),
                )

        item_id, records = work.claimed.id, work.records
        if records:
            self._courier.call(lambda: self._queue.fail(item_id, records), recorded, aside=keep_aside)

    def _hand_on(self, work: _Work, download: ItemFiles) -> None:
        delivery = Delivery(work.item, download.results(), lambda: self._may_emit(work))
        self._passage.send(delivery).addCallback(lambda _: self._guarded(work, self._handed_on, delivery))

    def _may_emit(self, work: _Work) -> Deferred[bool]:
        """Whether the item is still ours; after a standstill longer than the lease only Redis can tell."""
        if work.lost or work.is_ours():
            return succeed(not work.lost)
        fired: Deferred[bool] = Deferred()

        def renew() -> tuple[float, Sequence[str]]:
            return lease_clock(), self._queue.renew([work.claimed.id])

        def renewed(answer: tuple[float, Sequence[str]]) -> None:
            asked_at, lost = answer
            self._renewed([work.claimed.id], lost, asked_at)
            fired.callback(not lost)

        self._courier.call(renew, renewed, refused=lambda: fired.callback(False))
        return fired

    def _handed_on(self, work: _Work, delivery: Delivery) -> None:
        outcome = delivery.outcome
        if outcome == "lost" or (work.lost and outcome != "scraped"):
            self._drop_lost(work)
            return
        if outcome == "error":
            place = f" ({place_of(delivery.error)})" if delivery.error is not None else ""
            self._retry(work, f"in a later pipeline{place}")
            return
        if outcome == "scraped":
            self._breaker.passed()
        finished = None
        if outcome == "scraped" and self._config.done_key:
            try:
                finished = plain_json(delivery.output)
            except (TypeError, ValueError) as error:
                self._bury(work, f"finished, but not for {self._config.done_key}, which takes JSON: {error}")
                return
        item = delivery.output if outcome == "scraped" else work.item

        def ack() -> None:
            self._record(work)
            asked_at = time.monotonic()

            def acked(kept: bool) -> None:
                self._stats.tally.observe("ack", time.monotonic() - asked_at)
                self._acked(work, item, kept)

            self._courier.ack(work.claimed.id, finished, acked)

        if outcome == "scraped" and self._feeds is not None:
            self._hold_for_feeds(work, ack)
        else:
            ack()

    def _hold_for_feeds(self, work: _Work, ack: Callable[[], None]) -> None:
        """Acknowledge an item when all feeds have it. Until then it is leased, and in nobody's way."""
        assert self._feeds is not None
        item_id = work.claimed.id

        def safe() -> None:
            if self._in_feeds.pop(item_id, None) is not None:
                self._works[item_id] = work
                ack()

        def lost() -> None:
            if self._in_feeds.pop(item_id, None) is not None:
                self._works[item_id] = work
                self._release(work)

        self._in_feeds[item_id] = work
        self._settled(work)
        self._feeds.scraped(safe, lost)

    def feeds_closed(self) -> None:
        """Give back what no feed has, now that there will be no more."""
        if self._feeds is not None:
            if len(self._feeds):
                logger.error(
                    "%d items of %s are not safe in the feeds: they go back to the list.", len(self._feeds), self._key
                )
            self._feeds.give_up()

    def _flush_feeds(self) -> None:
        if self._feeds is None or self._flushing or not self._feeds.may_flush:
            return

        def flushed(error: OSError | None) -> None:
            self._flushing = False
            assert self._feeds is not None
            self._feeds.flushed(error)

        self._flushing = True
        self._courier.call(self._feeds.flush(), flushed)

    def _retry(self, work: _Work, where: str) -> None:
        """Give back an item with which the project's code failed; one that fails again and again alone is buried."""
        was_open = self._breaker.is_open
        counts = self._breaker.failed(work.claimed.payload, where)
        errors = work.claimed.errors + counts
        if counts and errors >= self._config.max_deliveries:
            self._bury(work, f"failed {errors} times, now {where}", reason="pipeline_failed")
            return
        item_id, first = work.claimed.id, self._config.retry_delay
        delay = delay_s(first, work.claimed.errors) if counts else first
        self._stats.inc_value("chunkdl/items/retried")
        logger.log(
            logging.DEBUG if was_open else logging.WARNING,
            "An item of %s failed %s (%d of %d times); it comes back in %.3g s.",
            *(self._key, where, errors, self._config.max_deliveries, delay),
        )
        self._courier.call(lambda: self._queue.retry(item_id, delay, is_error=counts), lambda _: self._went_back(work))

    def _acked(self, work: _Work, item: object, kept: bool) -> None:
        if kept:
            self._finished += 1
            self._stats.inc_value("chunkdl/items/finished")
            self._announce(signals.item_finished, item=item)
        else:
            self._stats.inc_value("chunkdl/items/lease_lost")
            logger.warning(
                "The lease of an item of %s ran out before its ack: another process may emit it again.", self._key
            )
        self._settled(work)

    def _release(self, work: _Work) -> None:
        def released(back: Sequence[str]) -> None:
            if back:
                self._stats.inc_value(f"chunkdl/items/{'put_back' if work.makes_way else 'released'}")
                self._went_back(work)
            else:
                self._drop_lost(work)

        give_back = self._queue.put_back if work.makes_way else self._queue.release
        self._courier.call(lambda: give_back([work.claimed.id]), released)

    def _postpone(self, work: _Work, why: Sequence[Postponed]) -> None:
        """Give back an item with which nothing is wrong, uncounted, to come when what it waits for may be there."""
        for problem in why:
            self._stats.inc_value(f"chunkdl/postponed/{problem.reason}")
            if isinstance(problem, NoRoom):
                self._disk_gate.refused(problem)
        self._stats.inc_value("chunkdl/items/postponed")
        item_id, delay = work.claimed.id, self._disk_gate.delay_s
        self._courier.call(lambda: self._queue.release([item_id], delay), lambda _: self._went_back(work))

    def _tell_waits(self) -> None:
        """Say now and then what a process waits for that does nothing else."""
        now = time.monotonic()
        if now - self._told_waits_at < WAITS_TOLD_EVERY_S or self._works or not self._claims:
            return
        for sentence in self.waits():
            self._told_waits_at = now
            logger.info("Items of %s wait. %s.", self._key, sentence)

    def waits(self) -> list[str]:
        """Return why less is claimed than could be, a sentence each. Called from any thread."""
        return [because for because in (self._disk_gate.because,) if because is not None]

    def _bury(self, work: _Work, told: str, reason: str = "bad_item") -> None:
        self._stats.inc_value("chunkdl/items/dead")
        logger.warning(
            "An entry of %s %s. It is kept, byte for byte, in %s.",
            *(self._key, told if reason != "bad_item" else f"is {told}", self._queue.dead_key),
        )
        record = {"reason": reason, "message": told, "spider": self._spider_name}
        item_id, records = work.claimed.id, [*work.records, record]

        def keep_aside(why: str) -> bool:
            self._refused.keep("records", _as_json(records), why)
            return self._queue.bury(item_id)

        self._courier.call(lambda: self._queue.bury(item_id, *records), lambda _: self._settled(work), aside=keep_aside)

    def _went_back(self, work: _Work) -> None:
        self._found_empty = False  # a look may have come between: there is more to come
        self._settled(work)

    def _settled(self, work: _Work) -> None:
        self._works.pop(work.claimed.id, None)
        if work.makes_way:
            work.makes_way = False
            self._making_way -= 1
            self._made_way = not self._making_way
        self._claim_more()
        if not self._works:
            self._passage.rest()
            self._wake()

    def _drop_lost(self, work: _Work) -> None:
        self._stats.inc_value("chunkdl/items/lease_lost")
        logger.warning(
            "The lease of an item of %s was lost: it goes no further here, another process has it or will.", self._key
        )
        self._went_back(work)

    def _records(self, work: _Work, download: ItemFiles) -> list[dict[str, Any]]:
        return [given_up.record(self._spider_name) for given_up in download.given_up]

    @property
    def _spider_name(self) -> str:
        assert self._crawler.spider is not None
        return self._crawler.spider.name

    # --- what people ask for

    def _obey(self, orders: Orders) -> None:
        before, self._orders = self._orders, orders
        if orders.max_rate != before.max_rate:
            limit = self._config.max_rate if orders.max_rate is None else orders.max_rate
            self._limits.rates.change(limit)
            told = f"at most {size_text(limit)}/s" if limit else "as fast as they come"
            logger.info("Files are fetched %s now, as was asked for.", told)
        if orders.paused != before.paused:
            if orders.paused:
                logger.info(
                    "Claiming from %s is paused, as was asked for: 'scrapy chunkdl dashboard' ends it. Running files "
                    "go on.",
                    self._key,
                )
            else:
                logger.info("Claiming from %s goes on.", self._key)
                self._found_empty = False
                self._claim_more()

    # --- reports and leases (heartbeat thread)

    def _report(self) -> bytes:
        connections = self._limits.connections()
        disk = self._disk()
        report = Report(
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            state="closing" if not self._claims else "paused" if self._orders.paused else "claiming",
            files=self._bridge.running(),
            connections=connections,
            pace=self._pace.note(self._finished, self._bridge.bytes_fetched(), connections, time.monotonic()),
            disk_free=disk[0],
            disk_size=disk[1],
            waits=tuple(self.waits()),
        )
        return report.encode()

    def _disk(self) -> tuple[int | None, int | None]:
        try:
            usage = shutil.disk_usage(self._root)
        except OSError:
            return None, None
        return usage.free, usage.total

    def _tell_counts(self) -> None:
        """Add what this process counted to the totals in Redis. Raises as the queue's calls do."""
        self._totals.mark()
        for _ in range(2):  # what was not heard before, and what is new
            part = self._stats.tally.part()
            if part is not None and (self._totals.add(part) or self._totals.add(part)):  # again: a new day has begun
                self._stats.tally.has(part)

    def _ordered(self, orders: Orders) -> None:
        self._deliver(lambda: self._obey(orders))

    def _moving(self) -> list[str]:
        now = time.monotonic()
        works = [work for work in self._leased() if not work.lost]
        moving = [work for work in works if self._moves(work, now)]
        hung = {work.claimed.id for work in works if work not in moving and work.download and not work.is_ours()}
        if hung:
            self._deliver(lambda: self._stop_lost(hung))
        return [work.claimed.id for work in moving]

    def _on_disk(self) -> dict[str, int]:
        """Return the bytes there are of the files of items that are downloaded."""
        works = [work for work in list(self._works.values()) if not work.lost]
        return {work.claimed.id: _bytes_on_disk(work.download) for work in works if work.download is not None}

    def _moves(self, work: _Work, now: float) -> bool:
        download = work.download
        unfinished = [job for job in download.jobs if not job.is_done] if download is not None else []
        if not unfinished:  # in the pipelines, or on its way there or to Redis: as long as Scrapy's thread is well
            return now - self._ticked_at < self._config.lease
        return any(job.progress.is_alive(now, self._config.lease) for job in unfinished)

    def _renewed(self, ids: Sequence[str], lost: Sequence[str], asked_at: float) -> None:
        gone = set(lost)
        for item_id in ids:
            work = self._works.get(item_id) or self._in_feeds.get(item_id)
            if item_id not in gone and work is not None:
                work.lease_until = asked_at + self._config.lease
        if gone:
            self._deliver(lambda: self._stop_lost(gone))

    def _leased(self) -> list[_Work]:
        return [*self._works.values(), *self._in_feeds.values()]

    def _stop_lost(self, ids: set[str]) -> None:
        for item_id in ids:
            if (held := self._in_feeds.pop(item_id, None)) is not None:
                self._drop_lost(held)
            if (work := self._works.get(item_id)) is not None:
                work.lost = True
                if work.download is not None:
                    self._bridge.cancel(work.download.jobs)

    def _redis_is_unreachable(self, reason: str) -> None:
        logger.error("%s Closing the spider.", reason)
        self._courier.give_up()
        refusal.close(self._crawler, refusal.REDIS_UNREACHABLE)


def _is_fresh(claimed: Claimed) -> bool:
    return claimed.deliveries == 1 and not claimed.errors


def _bytes_came(work: _Work) -> bool:
    download = work.download
    return download is not None and any(job.progress.fetched for job in download.jobs)


def _bytes_on_disk(download: ItemFiles) -> int:
    return sum(job.result.size if job.result is not None else job.progress.done for job in download.jobs)


def _as_json(records: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps(list(records), ensure_ascii=False).encode(errors="backslashreplace")
