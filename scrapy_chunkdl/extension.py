"""``ChunkDownloader``, the extension: Scrapy's signals lead to the lifecycle of the downloads.

A face: it knows nothing but whom to call. The pipeline makes one where EXTENSIONS does not name it; a process that only
downloads derives from it.
"""

from __future__ import annotations

from scrapy import signals
from scrapy.crawler import Crawler

from scrapy_chunkdl.crawl.lifecycle import Lifecycle


class ChunkDownloader:
    """Downloads for one crawl, from ``spider_opened`` to ``spider_closed``."""

    ends = True
    """Whether the process is to end by itself some time."""

    starts_again = False
    """Whether such a process is started again and again on one list, so that it must not overwrite its feeds."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.lifecycle = lifecycle
        connect = lifecycle.crawler.signals.connect
        connect(self.spider_opened, signals.spider_opened)
        connect(self.spider_idle, signals.spider_idle)
        connect(self.spider_closed, signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> ChunkDownloader:
        """Read the settings. Raises ``NotConfigured`` when CHUNKDL_ENABLED is off, or in ``scrapy shell``.

        Where they cannot work, or ask for what is not there, that is told in a sentence, the crawl is closed before it
        begins, and ``ConfigError`` is raised.
        """
        return cls(Lifecycle.configured(crawler, ends=cls.ends, starts_again=cls.starts_again))

    @classmethod
    def of(cls, crawler: Crawler) -> ChunkDownloader:
        """Return the crawl's extension, creating it when EXTENSIONS does not name it."""
        return crawler.get_extension(cls) or cls.from_crawler(crawler)

    @property
    def items_key(self) -> str:
        """The Redis list items wait in."""
        return self.lifecycle.items_key

    def others_may_have_work(self) -> bool:
        """Whether other processes held items of the list when it was looked at last."""
        return self.lifecycle.others_may_have_work()

    def spider_opened(self) -> None:
        """Start the threads, and look for items. Whatever raises on the way closes the crawl."""
        self.lifecycle.open()

    def spider_idle(self) -> None:
        """Keep the spider open while the list, the delayed items or this process hold work."""
        self.lifecycle.idle()

    async def spider_closed(self, reason: str = "") -> None:
        """Stop everything that was started. What was claimed was finished or handed back before."""
        await self.lifecycle.close(reason)
