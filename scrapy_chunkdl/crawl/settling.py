"""How a claimed item goes from one state to the next: does what the row of the table says, in Redis, stats and log.

Knows the table, the courier and the verbs of the queue; nothing of why something happened, which the consumer tells,
nor of files or pipelines. Called by the consumer, the leases and ``unreadable``, on Scrapy's thread.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scrapy_chunkdl import signals
from scrapy_chunkdl.crawl.claimed import ENDS, ClaimedItem, Event, Held, Row, State
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.queue.courier import Courier
from scrapy_chunkdl.queue.item_queue import FAILED_MOST_BYTES, ItemQueue
from scrapy_chunkdl.queue.refused import Refused
from scrapy_chunkdl.settings.config import Config

logger = logging.getLogger(__name__)

_ERRORS = frozenset({State.RETRYING, State.DEAD, State.HELD, State.LOST})
"""Ends of an item that a trace tells as errors."""


class Settling:
    """The transitions of one process's items. ``settled`` is called with each that is not ours any more."""

    def __init__(
        self,
        config: Config,
        spider_name: str,
        held: Held,
        queue: ItemQueue,
        courier: Courier,
        refused: Refused,
        stats: Stats,
        *,
        announce: Callable[..., None],
        settled: Callable[[ClaimedItem], None],
    ) -> None:
        self._config = config
        self._spider_name = spider_name
        self._held = held
        self._queue = queue
        self._courier = courier
        self._refused = refused
        self._stats = stats
        self._announce = announce
        self._settled = settled
        self._has_told_of_dropped = False
        self.finished = 0
        """Items acked so far."""

    def move(self, item: ClaimedItem, event: Event, **said: object) -> Row:
        """Note an event: the next state, its stat, its line with ``said`` filled in. Raises :class:`Undeclared`.

        What goes to Redis for it is sent by the methods below, which call this first.
        """
        row = item.take(event)
        self._held.moved(item)
        if row.stat is not None:
            self._stats.inc_value(f"chunkdl/items/{row.stat}")
        if row.line is not None:
            told = {"key": self._queue.key, "dead_key": self._queue.dead_key, **said}
            logger.log(row.line.level, row.line.text, told)
        if row.to in ENDS and item.trace is not None:
            came_to = row.state if row.to is State.BACK else row.to
            item.trace.end(came_to.name.lower(), is_error=came_to in _ERRORS)
        if row.to in ENDS or row.to is State.IN_FEEDS:
            self._settled(item)
        return row

    def ack(self, item: ClaimedItem, event: Event, output: object, finished: bytes | None) -> None:
        """Acknowledge an item that came out as ``output``, its files given up recorded before, if there are any.

        ``finished`` is what goes to CHUNKDL_DONE_KEY, if that is set.
        """
        self.move(item, event)
        if item.records:
            self._record(item)

        def acked(kept: bool) -> None:
            self._stats.observe("ack", time.monotonic() - asked_at)
            if kept:
                self.finished += 1
            self.move(item, Event.DONE if kept else Event.NOT_OURS)
            if kept:
                self._announce(signals.item_finished, item=output)

        asked_at = time.monotonic()
        self._courier.ack(item.id, finished, acked)

    def give_back(self, item: ClaimedItem, event: Event) -> None:
        """Give an item back, uncounted, to be claimed at once, or behind all others: as the row of the event says."""
        row = self.move(item, event)
        assert row.verb is not None
        verb = getattr(self._queue, row.verb.value)

        def given_back(ours: Sequence[str]) -> None:
            self.move(item, Event.DONE if ours else Event.NOT_OURS)

        self._courier.call(lambda: verb([item.id]), given_back)

    def give_back_later(
        self, item: ClaimedItem, event: Event, delay_s: float, *, is_error: bool, **said: object
    ) -> None:
        """Give an item back, to be claimed after ``delay_s`` seconds. Only ``is_error`` counts against it."""
        self.move(item, event, delay_s=delay_s, **said)
        self._courier.call(lambda: self._queue.retry(item.id, delay_s, is_error=is_error), self._done(item))

    def postpone(self, item: ClaimedItem, event: Event, delay_s: float) -> None:
        """Give an item back with which nothing is wrong, uncounted, to be claimed after ``delay_s`` seconds."""
        self.move(item, event)
        self._courier.call(lambda: self._queue.release([item.id], delay_s), self._done(item))

    def park(self, items: Sequence[ClaimedItem], host: str, delay_s: float) -> None:
        """Set items aside, uncounted, until ``host`` serves again; one may be claimed after ``delay_s`` seconds."""
        for item in items:
            item.files = None
            self.move(item, Event.HOST_ILL)
        ids = [item.id for item in items]

        def parked(_: object) -> None:
            for item in items:
                self.move(item, Event.DONE)

        self._courier.call(lambda: self._queue.park(host, delay_s, ids), parked)

    def bury(self, item: ClaimedItem, event: Event, message: str, *, reason: str = "bad_item", **said: object) -> None:
        """Move an item to the dead letters, with a record that says why, and those of its files."""
        self.move(item, event, told=message, **said)
        records = [*item.records, {"reason": reason, "message": message, "spider": self._spider_name}]

        def keep_aside(why: str) -> bool:
            self._refused.keep("records", _as_json(records), why)
            return self._queue.bury(item.id)

        self._courier.call(lambda: self._queue.bury(item.id, *records), self._done(item), aside=keep_aside)

    def hold(self, item: ClaimedItem) -> None:
        """Keep an item in the records of its files given up."""
        self.move(item, Event.GIVEN_UP)

        def keep_aside(reason: str) -> bool:
            self._refused.keep("records", _as_json(item.records), reason)
            short = {"reason": "too_large", "message": reason, "spider": self._spider_name}
            return self._queue.hold(item.id, [short])

        self._courier.call(lambda: self._queue.hold(item.id, item.records), self._done(item), aside=keep_aside)

    def _done(self, item: ClaimedItem) -> Callable[[object], None]:
        """Return what takes an answer that makes no difference: an item of another's was left alone by the script."""

        def done(_: object) -> None:
            self.move(item, Event.DONE)

        return done

    def _record(self, item: ClaimedItem) -> None:
        """Record the files given up of an item that is about to be acknowledged."""

        def keep_aside(reason: str) -> bool:
            self._refused.keep("records", _as_json(item.records), reason)
            return True

        def recorded(_: bool) -> None:
            if self._queue.records_dropped and not self._has_told_of_dropped:
                self._has_told_of_dropped = True
                logger.warning(
                    "%s is full: its oldest records make room for new ones (CHUNKDL_FAILED_MAX = %d, and %d MiB).",
                    *(self._queue.failed_key, self._config.failed_max, FAILED_MOST_BYTES >> 20),
                )

        self._courier.call(lambda: self._queue.fail(item.id, item.records), recorded, aside=keep_aside)


def _as_json(records: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps(list(records), ensure_ascii=False).encode(errors="backslashreplace")
