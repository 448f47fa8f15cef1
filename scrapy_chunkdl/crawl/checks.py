"""What is refused before a crawl starts, each with one sentence: rivals, another serializer, an endless loop, and more.

Knows Scrapy's settings and pipelines, and the settings of ours; starts nothing. Called by the lifecycle and, for the
order of pipelines, by the pipeline's ``from_crawler``. All raise :class:`ConfigError`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

from scrapy.crawler import Crawler
from scrapy.pipelines.files import FilesPipeline
from scrapy.utils.conf import build_component_list
from scrapy.utils.misc import load_object
from scrapy_redis.pipelines import RedisPipeline

from scrapy_chunkdl.crawl.folders import answer_of, require_writable
from scrapy_chunkdl.crawl.refusal import STORE_UNUSABLE, Unusable
from scrapy_chunkdl.crawl.spider_identity import has_cookies
from scrapy_chunkdl.download import Store
from scrapy_chunkdl.settings.config import Config, ConfigError
from scrapy_chunkdl.storage import without_password

logger = logging.getLogger(__name__)

_OURS = "scrapy_chunkdl."

CHECK_KEY = "chunkdl-check"
"""Asked for once, to see that a store answers; there need not be such a file."""


def lists_of(crawler: Crawler, config: Config) -> tuple[str, ...]:
    """Return the Redis lists the items of this spider wait in, the first to be claimed first; the last is its own."""
    assert crawler.spider is not None
    return config.lists_of(crawler.spider.name)


def refuse_bad_settings(crawler: Crawler, config: Config) -> None:
    """See whether the settings fit each other, and those of Scrapy and scrapy-redis."""
    if config.cookies and not crawler.settings.getbool("COOKIES_ENABLED"):
        raise ConfigError("CHUNKDL_COOKIES = True, but COOKIES_ENABLED is off: there are none. Change one of them.")
    if config.mode == "queue":
        _refuse_no_add_on(crawler, config)
        _refuse_endless_loop(crawler, config)
        _refuse_another_serializer(crawler, config)
    if config.dashboard:
        _refuse_open_dashboard(config)


def pipelines_of(crawler: Crawler) -> dict[type, int]:
    """Return the classes in ITEM_PIPELINES with their numbers, in the order in which items meet them.

    Of equal numbers, those come first that ITEM_PIPELINES names first.
    """
    named = crawler.settings.getwithbase("ITEM_PIPELINES")
    loaded = {load_object(path): named[path] for path in build_component_list(named)}
    return {cls: order for cls, order in loaded.items() if isinstance(cls, type)}


def refuse_second_sight(ours: type, base: type, pipelines: Mapping[type, int], config: Config) -> None:
    """Two of us would both claim from the list; in queue mode, pipelines before us would see items twice.

    ``ours`` is the pipeline of this crawl, ``base`` the class that it is, or is derived from.
    """
    rivals = [cls for cls in pipelines if issubclass(cls, base) and not issubclass(ours, cls)]
    if rivals:
        raise ConfigError(
            f"ITEM_PIPELINES has both {ours.__qualname__} and {rivals[0].__qualname__}, and each would download the "
            "attachments of all items: keep one of them. CHUNKDL_ATTACHMENTS may name several places."
        )
    before = list(takewhile(lambda cls: cls is not ours, pipelines)) if ours in pipelines else []
    before = [cls for cls in before if not issubclass(ours, cls)]  # those stand aside
    if before and config.mode == "queue":
        raise ConfigError(
            f"ITEM_PIPELINES has {before[0].__qualname__} before {ours.__qualname__} ({pipelines[ours]}): it would see "
            "each item twice, when it is scraped and when it comes back with its files. Give "
            f"{ours.__qualname__} the lowest number. What must be done before items wait, filters among it, goes into "
            "its method before_queueing."
        )


def refuse_rivals(crawler: Crawler, config: Config) -> None:
    """A FilesPipeline or ImagesPipeline on our fields would meet our results in place of URLs, or write over them."""
    assert crawler.engine is not None
    for pipeline in getattr(crawler.engine.scraper.itemproc, "middlewares", ()):
        if not isinstance(pipeline, FilesPipeline) or pipeline.process_item.__module__.startswith(_OURS):
            continue  # ours may be derived from it, too
        for kind in ("files", "images"):
            name = type(pipeline).__qualname__
            if getattr(pipeline, f"{kind}_urls_field", None) in config.attachments:
                field = getattr(pipeline, f"{kind}_urls_field")
                raise Unusable(
                    f"ITEM_PIPELINES has {name}, which takes the URLs of the field {field!r}, as CHUNKDL_ATTACHMENTS "
                    "does: remove it, or give one of them another field."
                )
            if config.files_field is not None and getattr(pipeline, f"{kind}_result_field", None) == config.files_field:
                raise Unusable(
                    f"ITEM_PIPELINES has {name}, which writes its results into the field {config.files_field!r}, as "
                    f"CHUNKDL_FILES_FIELD says: remove it, or give one of them another field."
                )


def refuse_unusable_store(config: Config, root: Path, store: Store | None) -> None:
    """Find out before the first item whether files can be kept, or all of them would be given up one by one."""
    setting = "CHUNKDL_WORK_FOLDER" if "://" in config.store else f"CHUNKDL_STORE = {config.store!r}"
    try:
        require_writable(root, setting)
        if config.work_folder:  # what is refused, reports and the embedded server's data go there, too
            require_writable(Path(config.work_folder).absolute(), "CHUNKDL_WORK_FOLDER")
    except ConfigError as error:
        raise Unusable(str(error), STORE_UNUSABLE) from error
    if store is not None:
        try:
            answer_of(lambda: store.find(CHECK_KEY))
        except Exception as error:
            raise Unusable(
                f"CHUNKDL_STORE = {without_password(config.store)!r} cannot be used: {error}.", STORE_UNUSABLE
            ) from error


def warn_of_no_cookies(crawler: Crawler, config: Config) -> None:
    """Say that there are no cookies to be sent, where they were asked for."""
    asked_for = crawler.settings.get("CHUNKDL_COOKIES") or getattr(crawler.spider, "chunkdl_cookies", None)
    if config.cookies and asked_for and not has_cookies(crawler):
        logger.warning(
            "CHUNKDL_COOKIES is on, but DOWNLOADER_MIDDLEWARES has no CookiesMiddleware: no cookies are sent."
        )


def _refuse_no_add_on(crawler: Crawler, config: Config) -> None:
    """It is the add-on that starts the embedded server and sets REDIS_URL."""
    if config.embedded_redis and not crawler.settings.get("REDIS_URL") and not crawler.settings.get("REDIS_HOST"):
        raise ConfigError(
            f"CHUNKDL_EMBEDDED_REDIS = {config.embedded_redis!r}, but what starts it is the add-on: set "
            'ADDONS = {"scrapy_chunkdl.Addon": 100}.'
        )


def _refuse_open_dashboard(config: Config) -> None:
    from scrapy_chunkdl.dashboard import guard  # a crawl without a page need not load a web server

    try:
        guard.check(config.dashboard_address[0], config.dashboard_token)
    except guard.Unusable as error:
        raise ConfigError(f"CHUNKDL_DASHBOARD = {config.dashboard!r}: {error}.") from error


def _refuse_another_serializer(crawler: Crawler, config: Config) -> None:
    """What scrapy-redis' RedisPipeline would write into the list has to be JSON: else all of it would be unreadable."""
    name, key = crawler.settings.get("REDIS_ITEMS_SERIALIZER"), _redis_items_key(crawler)
    if not name or key not in lists_of(crawler, config):
        return
    try:
        is_json = json.loads(load_object(name)({"a": [1]})) == {"a": [1]}
    except Exception:  # noqa: BLE001 -- the project's: whatever it raises, it is no JSON
        is_json = False
    if not is_json:
        raise ConfigError(
            f"REDIS_ITEMS_SERIALIZER = {name!r} does not write JSON, and items wait in {key} as JSON: remove it, or "
            "set CHUNKDL_ITEMS_KEY to a list of its own."
        )


def _redis_items_key(crawler: Crawler) -> str:
    assert crawler.spider is not None
    key: str = crawler.settings.get("REDIS_ITEMS_KEY", "%(spider)s:items") % {"spider": crawler.spider.name}
    return key


def _refuse_endless_loop(crawler: Crawler, config: Config) -> None:
    """scrapy-redis' RedisPipeline behind us would push each finished item to the list it was claimed from."""
    items_key = _redis_items_key(crawler)
    for path, order in crawler.settings.getwithbase("ITEM_PIPELINES").items():
        if order is None or not issubclass(load_object(path), RedisPipeline):
            continue
        if items_key in lists_of(crawler, config):
            raise ConfigError(
                f"ITEM_PIPELINES has {path}, which pushes finished items to {items_key}, the list they are claimed "
                "from: they would go round for ever. Remove it (ChunkDownloadPipeline queues items itself), or set "
                "CHUNKDL_DONE_KEY to collect finished items, or CHUNKDL_ITEMS_KEY to another list."
            )
