"""Why a crawl cannot download, and how it ends for that: one sentence, a finish reason of ours, exit code 1.

Going on would let items out as if their files were there. Knows Scrapy's crawler; nothing of what was refused.
Called by the faces, the lifecycle and the queue mode.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured

from scrapy_chunkdl.crawl import scrapy_engine
from scrapy_chunkdl.settings.config import ConfigError
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

BAD_SETTING = "chunkdl_bad_setting"
CANNOT_START = "chunkdl_cannot_start"
STORE_UNUSABLE = "chunkdl_store_unusable"
REDIS_UNREACHABLE = "chunkdl_redis_unreachable"
DATA_GONE = "chunkdl_queue_data_gone"
FEED_TAKEN = "chunkdl_feed_taken"
FEED_UNUSABLE = "chunkdl_feed_unusable"

_LONGEST = 600
"""Characters of an error that is not ours. Sentences of ours are shorter."""

_refused: WeakKeyDictionary[Crawler, str] = WeakKeyDictionary()


class Unusable(ConfigError):
    """Something that was asked for cannot be had; ``reason`` is the finish reason of the crawl for it."""

    def __init__(self, sentence: str, reason: str = BAD_SETTING) -> None:
        super().__init__(sentence)
        self.reason = reason


class Refused(ConfigError, NotConfigured):
    """Leaves a component out of a crawl that closes. Scrapy says nothing of it, as it has no arguments."""

    def __init__(self, sentence: str) -> None:
        super().__init__()
        self._sentence = sentence

    def __str__(self) -> str:
        return self._sentence


@contextmanager
def refusing(crawler: Crawler) -> Iterator[None]:
    """Have the crawl closed for a :class:`ConfigError` in the body, which becomes :class:`Refused`.

    Where there is no spider, in ``scrapy shell``, nothing can be closed: Scrapy's own line says why we are not there.
    """
    try:
        yield
    except NotConfigured:
        raise
    except ConfigError as error:
        if crawler.spider is None:
            raise NotConfigured(str(error)) from error
        refuse(crawler, error)
        raise Refused(str(error)) from None


def refuse(crawler: Crawler, error: Exception) -> None:
    """Say why nothing is downloaded, in one sentence, and have the crawl closed before it requests anything."""
    if crawler in _refused:
        return
    reason = error.reason if isinstance(error, Unusable) else BAD_SETTING if isinstance(error, ConfigError) else None
    _refused[crawler] = reason or CANNOT_START
    logger.error("%s The crawl is closed.", sentence_of(error))
    if (running := _engine_of(crawler)) is not None and running.spider is not None:
        _close_at_once(crawler)
    else:
        crawler.signals.connect(lambda: _close_at_once(crawler), signals.spider_opened, weak=False)


def is_refused(crawler: Crawler) -> bool:
    """Whether the crawl is about to close without having begun."""
    return crawler in _refused


def sentence_of(error: Exception) -> str:
    """Return what an error says, masked and in one line; of one that is not ours its type, too."""
    if isinstance(error, ConfigError):
        return printable(str(error))
    text = printable(f"Downloads could not start: {type(error).__name__}: {error}")
    return (text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…").rstrip(".") + "."


def close(crawler: Crawler, reason: str) -> None:
    """Have the spider closed, from any time after it was opened, and its process end with exit code 1."""
    crawler.signals.connect(lambda: _count_as_failed(crawler), signals.engine_stopped, weak=False)
    scrapy_engine.close_spider(crawler, reason)


def _close_at_once(crawler: Crawler) -> None:
    scrapy_engine.begin_nothing(crawler)
    close(crawler, _refused[crawler])


def _count_as_failed(crawler: Crawler) -> None:
    """Crawls without a spider count as failed ones in Scrapy's CrawlerRunner: ``scrapy crawl`` goes by that."""
    crawler.spider = None


def _engine_of(crawler: Crawler) -> Any:
    return vars(crawler).get("_engine") or vars(crawler).get("engine")  # Scrapy 2.19; before
