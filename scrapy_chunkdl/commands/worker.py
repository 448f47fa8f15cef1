"""``scrapy chunkdl worker``: a crawl without its crawling half.

Knows what makes a spider ask for pages, and prevents it. What becomes of items is the extension's, as in any crawl.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NoReturn

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.exceptions import DontCloseSpider
from scrapy.utils.misc import load_object

from scrapy_chunkdl.commands.console import WITHOUT_SOME, CommandError, no_such_spider
from scrapy_chunkdl.crawl import scrapy_engine
from scrapy_chunkdl.extension import ChunkDownloader
from scrapy_chunkdl.settings.config import Config, ConfigError, attributes_of

logger = logging.getLogger(__name__)

ALONE: Mapping[str, Any] = {
    "SCHEDULER": "scrapy.core.scheduler.Scheduler",
    "DUPEFILTER_CLASS": "scrapy.dupefilters.RFPDupeFilter",
    "JOBDIR": None,
}
"""What keeps requests that wait elsewhere, in Redis or on disk, for the crawls they belong to."""

_LEFT_OUT = ("chunkdl/files/failed", "chunkdl/items/dead")

_PRIORITY = 50  # above the command line's: these are what the command means


class Worker(ChunkDownloader):
    """The extension of a process that only downloads. It stays until it is stopped."""

    starts_again = True
    ends = False
    _has_said_why_it_stays = False

    def spider_idle(self) -> None:
        """Keep the spider open."""
        super().spider_idle()
        self._stay("it waits for more until it is stopped")

    def _stay(self, why: str) -> NoReturn:
        if not self._has_said_why_it_stays:
            self._has_said_why_it_stays = True
            logger.info("Nothing left in %s for this worker: %s.", self.items_key, why)
        raise DontCloseSpider


class UntilEmpty(Worker):
    """One that ends with the work, other processes' included: what they hold may come back."""

    ends = True

    def spider_idle(self) -> None:
        """Keep the spider open while anything waits, is delayed, or is held by anybody."""
        ChunkDownloader.spider_idle(self)
        if self.others_may_have_work():
            self._stay("it waits for what other processes hold")


def run(process: Any, spider: str, arguments: dict[str, Any], *, until_empty: bool) -> int:
    """Work until stopped, or done, and return the exit code. ``process`` is a CrawlerProcess or AsyncCrawlerProcess.

    That is 0, 1 for what kept it from working, or, ``until_empty``, ``WITHOUT_SOME``.

    Raises :class:`CommandError` if there is no such spider, or its settings leave a worker nothing to do.
    """
    if spider not in process.spider_loader.list():
        raise CommandError(no_such_spider(spider, process.spider_loader.list()))
    crawler = process.create_crawler(spider)
    _refuse_if_nothing_waits(crawler, arguments)
    extension = UntilEmpty if until_empty else Worker
    _set_up(crawler, extension)
    reasons: list[str] = []

    def spider_opened() -> None:
        if crawler.get_extension(extension) is None:  # NotConfigured, or an add-on replaced EXTENSIONS as a whole
            logger.error("%s could not be loaded, see above: without it this process is no worker.", extension)
            scrapy_engine.close_spider(crawler, "chunkdl_no_worker")

    def engine_started() -> None:
        scrapy_engine.make_no_requests(crawler)

    def spider_closed(reason: str) -> None:
        reasons.append(reason)

    crawler.signals.connect(spider_opened, signals.spider_opened)
    crawler.signals.connect(engine_started, signals.engine_started)
    crawler.signals.connect(spider_closed, signals.spider_closed)
    process.crawl(crawler, **arguments)
    process.start()
    failed = not reasons or any(reason.startswith("chunkdl_") for reason in reasons)  # none: it was never opened
    if process.bootstrap_failed or failed:
        return 1
    return WITHOUT_SOME if until_empty and _has_left_some_out(crawler) else 0


def _has_left_some_out(crawler: Crawler) -> bool:
    assert crawler.stats is not None
    return any(crawler.stats.get_value(stat) for stat in _LEFT_OUT)


def _refuse_if_nothing_waits(crawler: Crawler, arguments: Mapping[str, Any]) -> None:
    try:
        config = Config.read(crawler.settings, {**attributes_of(crawler.spidercls), **arguments})
    except ConfigError as error:
        raise CommandError(str(error)) from error
    if not config.enabled:
        raise CommandError("CHUNKDL_ENABLED is off: a worker would do nothing.")
    if config.mode != "queue":
        raise CommandError(
            f'CHUNKDL_MODE = "{config.mode}": nothing waits in Redis, each crawl downloads its own files. '
            'Workers need CHUNKDL_MODE = "queue".'
        )


def _set_up(crawler: Crawler, extension: type[Worker]) -> None:
    settings = crawler.settings
    extensions = settings.getdict("EXTENSIONS")
    others = {path: order for path, order in extensions.items() if load_object(path) is not ChunkDownloader}
    settings.setdict({**ALONE, "EXTENSIONS": {**others, extension: 0}}, priority=_PRIORITY)
