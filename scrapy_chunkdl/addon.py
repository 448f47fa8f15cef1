"""``Addon``: everything in one line of ADDONS.

A face: writes settings, and has the embedded server started. Light to import: Scrapy loads add-ons for every command,
``scrapy list`` included.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings


class Addon:
    """Puts the pipeline first, sets protocol 2 for Redis, and starts the embedded server if asked.

    What the project sets itself wins over what is set here.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Addon:
        """Build the add-on for one crawl."""
        return cls(crawler)

    @classmethod
    def update_pre_crawler_settings(cls, settings: BaseSettings) -> None:
        """Set what must stand before the spider is made: a RedisSpider makes its Redis client while it is built."""
        from scrapy_chunkdl.crawl.embedded_redis import reach_redis

        with suppress(ValueError):  # told by the crawl that it concerns, when there is one to be closed
            reach_redis(settings)

    def update_settings(self, settings: BaseSettings) -> None:
        """Set the components, and start the embedded server. Where that cannot be, the crawl is closed."""
        from scrapy_chunkdl.crawl.embedded_redis import reach_redis, start_for
        from scrapy_chunkdl.crawl.refusal import refusing
        from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

        with refusing(self._crawler):
            start_for(self._crawler, settings)
        orders = [order for order in settings.getwithbase("ITEM_PIPELINES").values() if order is not None]
        first = min([1, *(order - 1 for order in orders)])
        settings.setdefault_in_component_priority_dict("ITEM_PIPELINES", ChunkDownloadPipeline, first)
        with suppress(ValueError):  # the extension tells it
            reach_redis(settings)
