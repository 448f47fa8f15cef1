"""Items in Scrapy's log, without what only requests need: an attachment's headers, proxy and cookie jar are masked.

Knows Scrapy's log formatter; nothing of attachments but the names of these fields. Called once, by the lifecycle.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from scrapy.crawler import Crawler

from scrapy_chunkdl.text.masking import MASK, masked

_SCRAPER = logging.getLogger("scrapy.core.scraper")

_SAID = ("scraped", "dropped", "item_error")
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_MAPPING = re.compile(rf"""(\bheaders['"]?\s*[:=]\s*)\{{(?:{_QUOTED}|[^{{}}'"])*\}}""")
_TEXT = re.compile(rf"""(\b(?:proxy|cookiejar)['"]?\s*[:=]\s*)(?:{_QUOTED})""")


class _Shown:
    """An item as it may be logged, made when it is."""

    def __init__(self, item: object) -> None:
        self._item = item

    def __str__(self) -> str:
        try:
            return shown(str(self._item))
        except Exception as error:  # noqa: BLE001 -- of the item's class, or of what is nested too deeply
            return f"<an item of type {type(self._item).__qualname__} without a text: {type(error).__name__}>"

    __repr__ = __str__


def shown(text: str) -> str:
    """Return the text of an item with secrets of URLs and request-only fields masked."""
    return masked(_TEXT.sub(rf"\g<1>{MASK}", _MAPPING.sub(rf"\g<1>{MASK}", text)))


def mask_items(crawler: Crawler) -> None:
    """Have the log formatter of the crawl, whichever it is, show items so. A second call does nothing.

    Nor is a record made of what no handler shows: with LOG_LEVEL = "INFO" that of each scraped item.
    """
    formatter: Any = crawler.logformatter
    for name in _SAID:
        say = getattr(formatter, name, None)
        if say is not None and not isinstance(say, _Masking):
            setattr(formatter, name, _Masking(say, may_be_silent=name != "item_error"))


class _Masking:
    """What a log formatter says of items, which Scrapy takes to be nothing where that ``may_be_silent``."""

    def __init__(self, say: Callable[..., Any], *, may_be_silent: bool) -> None:
        self._say = say
        self._may_be_silent = may_be_silent

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        said = self._say(*arguments, **keywords)
        if self._may_be_silent and isinstance(said, dict) and not _is_shown(said.get("level")):
            return None
        if isinstance(said, dict) and isinstance(said.get("args"), dict) and "item" in said["args"]:
            said["args"] = {**said["args"], "item": _Shown(said["args"]["item"])}
        return said


def _is_shown(level: Any) -> bool:
    """Whether any handler of Scrapy's scraper takes a record of that level: Scrapy leaves all loggers at NOTSET."""
    if not isinstance(level, int) or level >= logging.WARNING:
        return True
    if not _SCRAPER.isEnabledFor(level):
        return False
    place: logging.Logger | None = _SCRAPER
    while place is not None:
        if place.filters or any([handler.level <= level for handler in place.handlers]):
            return True
        place = place.parent if place.propagate else None
    return False
