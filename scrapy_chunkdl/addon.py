"""``Addon``: everything in one line of ADDONS. Writes settings and starts the embedded server; does no work itself.

Light to import: Scrapy loads add-ons for every command, ``scrapy list`` included.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrapy import signals
from scrapy.settings import SETTINGS_PRIORITIES

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings

    from scrapy_chunkdl.queue.embedded import EmbeddedServer

logger = logging.getLogger(__name__)

EMBEDDED_FOLDER = "chunkdl-redis"


class Addon:
    """Puts the pipeline first, sets protocol 2 for Redis, and starts the embedded server if asked.

    What the project sets itself wins over what is set here.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._server: EmbeddedServer | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Addon:
        """Build the add-on for one crawl."""
        return cls(crawler)

    @classmethod
    def update_pre_crawler_settings(cls, settings: BaseSettings) -> None:
        """Set what must stand before the spider is made: a RedisSpider makes its Redis client while it is built."""
        with suppress(ValueError):  # told by the crawl that it concerns, when there is one to be closed
            _reach_redis(settings)

    def update_settings(self, settings: BaseSettings) -> None:
        """Set the components, and start the embedded server. Where that cannot be, the crawl is closed."""
        from scrapy_chunkdl.crawl.refusal import refusing
        from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

        with refusing(self._crawler):
            if folder := embedded_folder(settings):
                self._server = _started(folder)
                self._crawler.signals.connect(self._watch_server, signals.spider_opened)
                self._crawler.signals.connect(self._leave_server, signals.engine_stopped)
        orders = [order for order in settings.getwithbase("ITEM_PIPELINES").values() if order is not None]
        first = min([1, *(order - 1 for order in orders)])
        settings.setdefault_in_component_priority_dict("ITEM_PIPELINES", ChunkDownloadPipeline, first)
        with suppress(ValueError):  # the extension tells it
            _reach_redis(settings)

    def _watch_server(self) -> None:
        from scrapy_chunkdl.crawl import refusal, scrapy_engine

        call = scrapy_engine.thread_caller()

        def close(reason: str) -> None:
            logger.error("%s", reason)
            refusal.close(self._crawler, refusal.REDIS_UNREACHABLE)

        if self._server is not None:
            self._server.watch(lambda reason: call(lambda: close(reason)))

    def _leave_server(self) -> None:
        if self._server is not None:
            self._server.stop()


def _started(folder: Path) -> EmbeddedServer:
    from scrapy_chunkdl.crawl.folders import require_writable
    from scrapy_chunkdl.crawl.refusal import REDIS_UNREACHABLE, Unusable
    from scrapy_chunkdl.queue import embedded

    require_writable(folder, "CHUNKDL_WORK_FOLDER, or CHUNKDL_EMBEDDED_REDIS")
    server = embedded.EmbeddedServer(folder)
    try:
        server.start()
    except embedded.EmbeddedError as error:
        raise Unusable(str(error), REDIS_UNREACHABLE) from error
    return server


def _reach_redis(settings: BaseSettings) -> None:
    """Point scrapy-redis at the embedded server, and have it speak protocol 2, which Redis 5 knows (redis-py 8: 3)."""
    if folder := embedded_folder(settings):
        from scrapy_chunkdl.queue import embedded

        settings.set("REDIS_URL", embedded.url_for(folder), priority="addon")
    params: dict[str, Any] = {"protocol": 2, **settings.getdict("REDIS_PARAMS")}
    settings.set("REDIS_PARAMS", params, priority=settings.getpriority("REDIS_PARAMS") or "addon")


def embedded_folder(settings: BaseSettings) -> Path | None:
    from scrapy_chunkdl.crawl.folders import work_folder
    from scrapy_chunkdl.settings.config import Config

    config = Config.read(settings)
    wanted = config.embedded_redis
    has_own = settings.get("REDIS_URL") and (settings.getpriority("REDIS_URL") or 0) > SETTINGS_PRIORITIES["addon"]
    if not wanted or has_own:  # a Redis of the project's own wins, as all its settings do
        return None
    return work_folder(EMBEDDED_FOLDER, config.work_folder) if wanted is True else Path(wanted).absolute()
