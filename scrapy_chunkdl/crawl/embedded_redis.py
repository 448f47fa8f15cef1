"""The embedded server of a crawl, by CHUNKDL_EMBEDDED_REDIS: whether there is one and where, its start and its end.

Knows Scrapy's settings and the crawl that it is for; of the server only how it is started, watched and left. Called by
the add-on, and by commands that look at queues. Light to import: Scrapy loads add-ons for every command.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.settings import SETTINGS_PRIORITIES, BaseSettings

from scrapy_chunkdl.crawl import refusal, scrapy_engine
from scrapy_chunkdl.crawl.folders import require_writable, work_folder
from scrapy_chunkdl.settings.config import Config

logger = logging.getLogger(__name__)

EMBEDDED_FOLDER = "chunkdl-redis"


def embedded_folder(settings: BaseSettings) -> Path | None:
    """Return where the embedded server keeps its data; None where it is not wanted, or a Redis of one's own is set."""
    config = Config.read(settings)
    wanted = config.embedded_redis
    has_own = settings.get("REDIS_URL") and (settings.getpriority("REDIS_URL") or 0) > SETTINGS_PRIORITIES["addon"]
    if not wanted or has_own:  # a Redis of the project's own wins, as all its settings do
        return None
    return work_folder(EMBEDDED_FOLDER, config.work_folder) if wanted is True else Path(wanted).absolute()


def reach_redis(settings: BaseSettings) -> None:
    """Point scrapy-redis at the embedded server, and have it speak protocol 2, which Redis 5 knows (redis-py 8: 3)."""
    if folder := embedded_folder(settings):
        from scrapy_chunkdl.queue import embedded

        settings.set("REDIS_URL", embedded.url_for(folder), priority="addon")
    params: dict[str, Any] = {"protocol": 2, **settings.getdict("REDIS_PARAMS")}
    settings.set("REDIS_PARAMS", params, priority=settings.getpriority("REDIS_PARAMS") or "addon")


def start_for(crawler: Crawler, settings: BaseSettings) -> None:
    """Start the server for as long as the crawl runs, if it is wanted. Raises ConfigError where it cannot be.

    One that ends before its time closes the crawl.
    """
    from scrapy_chunkdl.queue import embedded

    folder = embedded_folder(settings)
    if folder is None:
        return
    require_writable(folder, "CHUNKDL_WORK_FOLDER, or CHUNKDL_EMBEDDED_REDIS")
    server = embedded.EmbeddedServer(folder)
    try:
        server.start()
    except embedded.EmbeddedError as error:
        raise refusal.Unusable(str(error), refusal.REDIS_UNREACHABLE) from error

    def watch() -> None:
        call = scrapy_engine.thread_caller()
        server.watch(lambda reason: call(lambda: close(reason)))

    def close(reason: str) -> None:
        logger.error("%s", reason)
        refusal.close(crawler, refusal.REDIS_UNREACHABLE)

    crawler.signals.connect(watch, signals.spider_opened, weak=False)
    crawler.signals.connect(server.stop, signals.engine_stopped, weak=False)
