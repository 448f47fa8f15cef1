"""What a crawl or a worker prints of its downloads: bars on a terminal, else a line now and then, and one at the end.

Reads the stats, the bridge and the length of the list; changes nothing.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from scrapy.crawler import Crawler

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.items.shown import about
from scrapy_chunkdl.progress.supervised import MOST_ROWS, Snapshot, supervised
from scrapy_chunkdl.progress.totals import RunningFile, Totals, summary
from scrapy_chunkdl.settings.config import Config
from scrapy_chunkdl.text.masking import printable
from scrapy_chunkdl.text.naming import name_from_url
from scrapy_chunkdl.text.units import size_text

if TYPE_CHECKING:
    from scrapy_chunkdl.progress.bars import Bars

logger = logging.getLogger(__name__)

AskQueued = Callable[[Callable[[int], None]], None]
"""Calls its argument with the number of items that wait in Redis, soon."""

_ASK_EVERY = 1.0

_NAMED_BY = ("id", "_id", "item_id", "sku", "uid")
"""Fields that tell an item apart which has no title."""

_LONGEST_TITLE = 60


class ProgressReport:
    """Tells of files, bytes and rate while something moves, and of the whole at the end."""

    def __init__(
        self,
        crawler: Crawler,
        config: Config,
        bridge: Bridge,
        ask_queued: AskQueued | None,
        items: Callable[[], Mapping[Job, object]],
    ) -> None:
        assert crawler.stats is not None
        self._stats = crawler.stats
        self._attachments = config.attachments
        self._bridge = bridge
        self._ask_queued = ask_queued
        self._items = items
        self._interval = crawler.settings.getfloat("LOGSTATS_INTERVAL") if config.progress != "off" else 0.0
        self._began_at = self._said_at = time.monotonic()
        self._said_bytes = 0
        self._asked_at = 0.0
        self._queued: int | None = None
        self._bars: Bars | None = None
        self._supervised = supervised()
        if self._supervised is not None:
            self._supervised.begin()
        elif config.progress == "auto" and sys.stderr.isatty():
            self._bars = _bars()

    def tick(self, *, is_closing: bool = False) -> None:
        """Draw the bars anew, or log a line if one is due and something happened since the last.

        Of a closing spider the list is not asked any more: nothing new may go to a Redis that may be away.
        """
        if not is_closing and (self._supervised is not None or self._bars is not None):
            self._ask_now_and_then()
        if self._supervised is not None:
            self._supervised.tell(Snapshot(self._totals(), self.running_files()))
            return
        if self._bars is not None:
            self._bars.show(self._totals(), self.running_files())
            return
        now = time.monotonic()
        if not self._interval or now - self._said_at < self._interval:
            return
        fetched = self._bridge.bytes_fetched()
        if fetched != self._said_bytes or self._bridge.running():
            rate = (fetched - self._said_bytes) / (now - self._said_at)
            logger.info("%s; %d running, %s/s", summary(self._totals()), self._bridge.running(), size_text(rate))
        self._said_at, self._said_bytes = now, fetched

    def finish(self) -> None:
        """Take the bars away and log the summary of the crawl's downloads, if there were any."""
        if self._supervised is not None:
            self._supervised.tell(Snapshot(self._totals(), ()))
            return
        if self._bars is not None:
            self._bars.stop()
        self._report_items()
        totals = self._totals()
        if (self._interval or self._bars is not None) and (totals.fetched or totals.failed):
            rate = totals.fetched / (time.monotonic() - self._began_at)
            logger.info("Downloads: %s, %s/s over the whole crawl", summary(totals), size_text(rate))

    def running_files(self) -> list[RunningFile]:
        """Return the files that run, by names that tell them apart; of as many as are shown, what item they are of."""
        jobs = self._bridge.jobs_running()
        names = [printable(job.request.name or name_from_url(job.request.url) or job.request.url) for job in jobs]
        items = self._items()
        often = {name for name, count in Counter(names).items() if count > 1}
        return [
            RunningFile(
                key=id(job),
                name=f"{name} ({printable(job.request.url)})" if name in often else name,
                done=job.progress.done,
                size=job.progress.size,
                item=_title_of(items.get(job)) if number < MOST_ROWS else "",
            )
            for number, (name, job) in enumerate(zip(names, jobs, strict=True))
        ]

    def _totals(self) -> Totals:
        jobs = self._bridge.jobs_running()
        return Totals(
            done=self._files("downloaded") + self._files("uptodate"),
            failed=self._files("failed"),
            left=len(jobs) + self._bridge.waiting(),
            fetched=self._bridge.bytes_fetched(),
            retries=self._retries() + sum(sum(job.progress.retries.values()) for job in jobs),
            queued=self._queued,
            files_per_item=self._files_per_item(),
        )

    def _ask_now_and_then(self) -> None:
        now = time.monotonic()
        if self._ask_queued is not None and now - self._asked_at >= _ASK_EVERY:
            self._asked_at = float("inf")  # not again before the answer: Redis may be away

            def answered(queued: int) -> None:
                self._queued, self._asked_at = queued, time.monotonic()

            self._ask_queued(answered)

    def _files_per_item(self) -> float:
        claimed = self._count("chunkdl/items/claimed")
        files = sum(self._files(status) for status in ("downloaded", "uptodate", "failed"))
        return max(1.0, files / claimed) if claimed else 1.0

    def _report_items(self) -> None:
        """Say what became of the items: nothing was downloaded for a reason that is seen here first."""
        scraped, wanting = self._count("chunkdl/items/scraped"), self._count("chunkdl/items/with_attachments")
        claimed = self._count("chunkdl/items/claimed")
        if scraped and not wanting and not claimed:
            logger.warning(
                "Items: %d scraped, none with attachments: nothing was downloaded. CHUNKDL_ATTACHMENTS = %r.",
                scraped,
                ", ".join(self._attachments),
            )
        elif scraped or claimed:
            taken = f", {claimed} claimed" if claimed else ""
            logger.info("Items: %d scraped, %d of them with attachments%s", scraped, wanting, taken)

    def _count(self, name: str) -> int:
        return int(self._stats.get_value(name, 0))

    def _files(self, status: str) -> int:
        return int(self._stats.get_value(f"chunkdl/files/{status}", 0))

    def _retries(self) -> int:
        stats = self._stats.get_stats()
        return sum(int(value) for name, value in stats.items() if name.startswith("chunkdl/retries/"))


def _bars() -> Bars | None:
    """Begin to show bars, if they can be shown. Imported here: it takes 30 ms, and most crawls have no terminal."""
    try:
        from scrapy_chunkdl.progress import bars
    except ModuleNotFoundError:  # without the extra "progress"
        logger.debug("For bars: pip install 'scrapy-chunkdl[progress]'")
        return None
    if not bars.can_be_shown():
        return None
    shown = bars.Bars()
    shown.start()
    return shown


def _title_of(item: object) -> str:
    """Return what a person knows an item by: its title, else its id; "" where it has neither."""
    if title := about(item)["title"]:
        return title[:_LONGEST_TITLE]
    fields = item if isinstance(item, Mapping) else {}
    told = next((fields[name] for name in _NAMED_BY if isinstance(fields.get(name), (str, int))), "")
    return printable(str(told))[:_LONGEST_TITLE]
