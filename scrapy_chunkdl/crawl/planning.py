"""The files that waiting items want, without a crawl: what each would be asked for by, and which are there already.

Knows a spider's settings, its items and the hooks of its pipeline; servers are asked when told to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from scrapy import Spider
from scrapy.crawler import Crawler
from scrapy.settings import BaseSettings

from scrapy_chunkdl.crawl import scrapy_engine
from scrapy_chunkdl.crawl.download_options import options_of
from scrapy_chunkdl.crawl.file_requests import FileRequests
from scrapy_chunkdl.crawl.hooks import Hooks
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.crawl.stores import Place
from scrapy_chunkdl.download import FileRequest, Options
from scrapy_chunkdl.download.plan.small import may_be_there
from scrapy_chunkdl.download.survey import Told, survey
from scrapy_chunkdl.items import attachments
from scrapy_chunkdl.items.types import known_types
from scrapy_chunkdl.settings.config import Config

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Planned:
    """``to_ask`` are files nobody has yet, ``there`` how many are; ``refused`` counts why others are not asked for."""

    options: Options
    to_ask: list[FileRequest] = field(default_factory=list)
    there: int = 0
    refused: dict[str, int] = field(default_factory=dict)


def ask_servers(found: Planned, told: Callable[[Told], None]) -> None:
    """Ask for each file that nobody has, by HEAD alone; ``told`` gets each answer as it comes."""
    asyncio.run(survey(found.to_ask, found.options, told))


def planned(
    spidercls: type[Spider],
    settings: BaseSettings,
    config: Config,
    payloads: Iterable[bytes],
    hooks_of: Callable[[Crawler], Hooks],
) -> Planned:
    """Read items and say what they want, each file once, as the project's hooks choose and name it.

    Raises ConfigError for settings that cannot work.
    """
    crawler = scrapy_engine.crawler_to_read(spidercls, settings)
    assert crawler.stats is not None
    config = replace(config, cookies=False)  # those of a session that nobody has begun
    options = options_of(crawler, config)
    types = known_types(spidercls, config.item_classes)
    requests = FileRequests(crawler, config, options, Place(crawler, config), hooks_of(crawler), Stats(crawler.stats))
    found, seen = Planned(options), set()

    def refuse(reason: str) -> None:
        found.refused[reason] = found.refused.get(reason, 0) + 1

    for payload in payloads:
        try:
            item = types.read(payload)
        except (TypeError, ValueError):
            refuse("bad_item")
            continue
        try:
            wanted = requests.wanted(item)
        except Exception:
            logger.debug("get_media_requests fails with an item", exc_info=True)
            refuse("hook_failed" if attachments.is_item(item) else "bad_item")
            continue
        for attachment in wanted:
            if attachment.problem is not None:
                refuse("bad_attachment")
                continue
            try:
                request = requests.build(item, attachment, None)
            except ValueError:
                refuse("bad_path")
                continue
            except Exception:
                logger.debug("file_path fails with an item", exc_info=True)
                refuse("hook_failed")
                continue
            if (request.url, request.name) in seen:
                continue
            seen.add((request.url, request.name))
            if may_be_there(request, options):
                found.there += 1
            else:
                found.to_ask.append(request)
    return found
