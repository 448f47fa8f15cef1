"""The producer: a scraped item goes into the list, or, if it cannot wait there, what can be written of it to the dead.

Knows items as JSON and the queue's pushes; nothing of claims or of what an item is for. Called by the queue mode, on
Scrapy's thread.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable

from twisted.internet.defer import Deferred

from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.crawl.traced import Tracing
from scrapy_chunkdl.items.priority import priority_of
from scrapy_chunkdl.items.types import ItemTypes
from scrapy_chunkdl.queue.courier import Courier, TooLarge
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

_MOST_WARNINGS = 10


class Producer:
    """That of one process. ``pushed`` is called when Redis has an item, ``when_there_is_room`` calls when it may go."""

    def __init__(
        self,
        spider_name: str,
        queue: ItemQueue,
        courier: Courier,
        item_types: ItemTypes,
        stats: Stats,
        *,
        priority_field: str | None,
        problem_of_type: Callable[[object], str | None],
        pushed: Callable[[], None],
        when_there_is_room: Callable[[Callable[[], None]], None],
        tracing: Tracing | None = None,
    ) -> None:
        self._spider_name = spider_name
        self._queue = queue
        self._courier = courier
        self._item_types = item_types
        self._stats = stats
        self._priority_field = priority_field
        self._odd_priorities = 0
        self._problem_of_type = problem_of_type
        self._pushed = pushed
        self._when_there_is_room = when_there_is_room
        self._tracing = tracing
        self.pushing = 0
        """Items on their way to Redis."""

    def enqueue(self, item: object) -> Deferred[None]:
        """Append a scraped item to the list of its priority. Fires when Redis has it.

        Fails with ValueError for an item that cannot be written, when what can be written of it is among the dead.
        """
        fired: Deferred[None] = Deferred()
        try:
            if (problem := self._problem_of_type(item)) is not None:
                raise ValueError(problem)
            payload = self._item_types.write(item)
            if self._tracing is not None:
                payload = self._tracing.queued(payload)
        except (TypeError, ValueError) as error:
            self._keep_unwritable(item, printable(str(error)), fired)
            return fired

        def done(problem: BaseException | None) -> None:
            self.pushing -= 1
            if problem is not None:
                fired.errback(ValueError(str(problem)) if isinstance(problem, TooLarge) else problem)
                return
            self._stats.inc_value("chunkdl/items/queued")
            fired.callback(None)
            self._pushed()

        self.pushing += 1
        priority = self._priority_of(item)
        self._when_there_is_room(lambda: self._courier.push(payload, done, priority))
        return fired

    def _priority_of(self, item: object) -> int:
        if self._priority_field is None:
            return 0
        try:
            return priority_of(item, self._priority_field)
        except ValueError as error:
            self._odd_priorities += 1
            if self._odd_priorities <= _MOST_WARNINGS:
                logger.warning(
                    "An item waits in %s: %s (CHUNKDL_PRIORITY_FIELD)%s.",
                    *(self._queue.key, printable(str(error))),
                    "; further ones are not told of" if self._odd_priorities == _MOST_WARNINGS else "",
                )
            return 0

    def _keep_unwritable(self, item: object, problem: str, fired: Deferred[None]) -> None:
        told = f"An item cannot wait in Redis: {problem}."
        record = {"reason": "bad_item", "message": told, "spider": self._spider_name}
        payload, call_id = self._item_types.salvage(item), uuid.uuid4().hex

        def kept(_: None) -> None:
            self.pushing -= 1
            self._stats.inc_value("chunkdl/items/dead")
            fired.errback(ValueError(f"{told} What could be written of it is kept in {self._queue.dead_key}."))

        def refused() -> None:
            self.pushing -= 1
            fired.errback(ValueError(f"{told} Redis is away: it is not kept."))

        self.pushing += 1
        self._courier.call(lambda: self._queue.keep(payload, record, call_id), kept, refused)
