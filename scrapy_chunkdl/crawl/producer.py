"""The producer: a scraped item goes into the list, or, if it cannot wait there, what can be written of it to the dead.

Knows items as JSON and the queue's pushes; nothing of claims or of what an item is for. Called by the queue mode, on
Scrapy's thread.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from twisted.internet.defer import Deferred

from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.items.types import ItemTypes
from scrapy_chunkdl.queue.courier import Courier, TooLarge
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.text.masking import printable


class Producer:
    """That of one process. ``pushed`` is called when Redis has an item."""

    def __init__(
        self,
        spider_name: str,
        queue: ItemQueue,
        courier: Courier,
        item_types: ItemTypes,
        stats: Stats,
        *,
        problem_of_type: Callable[[object], str | None],
        pushed: Callable[[], None],
    ) -> None:
        self._spider_name = spider_name
        self._queue = queue
        self._courier = courier
        self._item_types = item_types
        self._stats = stats
        self._problem_of_type = problem_of_type
        self._pushed = pushed
        self.pushing = 0
        """Items on their way to Redis."""

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
            self.pushing -= 1
            if problem is not None:
                fired.errback(ValueError(str(problem)) if isinstance(problem, TooLarge) else problem)
                return
            self._stats.inc_value("chunkdl/items/queued")
            fired.callback(None)
            self._pushed()

        self.pushing += 1
        self._courier.push(payload, done)
        return fired

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
