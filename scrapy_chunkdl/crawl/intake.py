"""What becomes of an item that reaches our pipeline: a scraped one goes on its way, one that comes back is completed.

A scraped item passes ``before_queueing`` and is then let through, put into the list, or kept here until its files are
there. Knows the project's hooks and the shape of items; nothing of Redis, threads or of when things open. Called by the
pipeline and, for items that are queued in front of all pipelines, by the passage; on Scrapy's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from scrapy.exceptions import DropItem
from scrapy.utils.defer import maybe_deferred_to_future

from scrapy_chunkdl.crawl.file_requests import FileRequests
from scrapy_chunkdl.crawl.hooks import Hooks
from scrapy_chunkdl.crawl.mode import Mode
from scrapy_chunkdl.crawl.passage import Admit, Delivery
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.items import attachments
from scrapy_chunkdl.items.shape import fields_like_urls, leads_nowhere
from scrapy_chunkdl.settings.config import Config

logger = logging.getLogger(__name__)

_MOST_SHAPES = 10
_LONGEST_FIELDS = 120


class QueuedForDownload(DropItem):
    """Takes an item out of this pass through the pipelines: it waits in Redis and comes back with its files."""

    def __init__(self, key: str) -> None:
        super().__init__(f"queued in {key} until its attachments are downloaded", log_level="DEBUG")


class NotQueued(DropItem):
    """Takes out an item that cannot wait in Redis, or cannot take its files. In queue mode it is among the dead."""

    def __init__(self, problem: str, *, is_news: bool = True) -> None:
        super().__init__(problem, log_level="ERROR" if is_news else "DEBUG")


class Intake:
    """The way in of one crawl's items. ``mode`` is asked for the mode that is open, each time."""

    def __init__(
        self,
        mode: Callable[[], Mode],
        hooks: Hooks,
        requests: FileRequests,
        config: Config,
        stats: Stats,
        *,
        items_key: str,
        is_trial: bool,
    ) -> None:
        self._mode = mode
        self._hooks = hooks
        self._requests = requests
        self._config = config
        self._stats = stats
        self._items_key = items_key
        self._is_trial = is_trial
        self._unknown_types: set[type] = set()
        self._unfit_types: set[type] = set()
        self._told_shapes: set[type] = set()

    @property
    def admit(self) -> Admit | None:
        """What queues a scraped item in front of all pipelines; None where our pipeline does that itself."""
        return self._admit if self._config.mode == "queue" and self._hooks.queues_in_front else None

    async def process(self, item: Any) -> Any:
        """Send an item on its way if it has attachments, and return it when it is to go on to the pipelines behind.

        Raises :class:`QueuedForDownload` once Redis has the item, :class:`NotQueued` if it holds what cannot wait.
        """
        if self._is_trial and self._config.mode == "queue":
            return self._hooks.completed([], await self._hooks.before_queueing(item))
        arrived = self._mode().arrival(item)
        if isinstance(arrived, Delivery):
            return self._hooks.completed(list(arrived.results), item)
        wants_files = False
        if arrived is None:
            item, wants_files = await self._looked_at(item)
        if not wants_files:
            self._warn_of_unknown_type(item)
            return self._hooks.completed([], item)
        if self._config.mode == "inline":
            results = await maybe_deferred_to_future(self._mode().download(item))
            return self._hooks.completed(results, item)
        await self._queue(item)
        raise QueuedForDownload(self._items_key)

    async def _admit(self, item: Any) -> tuple[Any, bool]:
        item, wants_files = await self._looked_at(item)
        if wants_files:
            await self._queue(item)
        return item, wants_files

    async def _looked_at(self, item: Any) -> tuple[Any, bool]:
        """Return what ``before_queueing`` made of a scraped item, and whether that wants files."""
        item = await self._hooks.before_queueing(item)
        wants_files = bool(self._requests.wanted(item))
        self._stats.inc_value("chunkdl/items/scraped")
        if wants_files:
            self._stats.inc_value("chunkdl/items/with_attachments")
        elif not self._hooks.selects:
            self._warn_of_shape(item)
        problem = self._requests.problem_of_type(item) if wants_files and self._config.mode == "inline" else None
        if problem is not None:
            raise NotQueued(problem, is_news=self._is_news(item))
        return item, wants_files

    async def _queue(self, item: Any) -> None:
        try:
            await maybe_deferred_to_future(self._mode().enqueue(item))
        except ValueError as error:
            raise NotQueued(str(error), is_news=self._is_news(item)) from error

    def _is_news(self, item: object) -> bool:
        """Whether this is the first item of a class that cannot take its files, or one with a problem of its own."""
        if self._requests.problem_of_type(item) is None:
            return True
        is_news = type(item) not in self._unfit_types
        self._unfit_types.add(type(item))
        return is_news

    def _warn_of_shape(self, item: object) -> None:
        """Tell once per class of an item in which none of the places of attachments is there."""
        kind = type(item)
        if kind in self._told_shapes or len(self._told_shapes) >= _MOST_SHAPES or not attachments.is_item(item):
            return
        if all(leads_nowhere(item, path.split(".")) for path in self._config.attachments):
            self._told_shapes.add(kind)
            urls = ", ".join(fields_like_urls(item))[:_LONGEST_FIELDS]
            logger.warning(
                "No attachments in an item (%s): CHUNKDL_ATTACHMENTS = %r names no field of it. %s. Told once.",
                kind.__qualname__,
                ", ".join(self._config.attachments),
                f"Its fields with URLs: {urls}" if urls else "None of its fields has a URL",
            )

    def _warn_of_unknown_type(self, item: object) -> None:
        if not attachments.is_item(item) and type(item) not in self._unknown_types:
            self._unknown_types.add(type(item))
            logger.warning(
                "Items of type %s have no attachments that could be found: yield a dict, Item, dataclass, attrs or "
                "pydantic object. They pass untouched.",
                type(item).__qualname__,
            )
