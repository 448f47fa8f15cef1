"""``ChunkDownloadPipeline``, the face in ITEM_PIPELINES.

Sends items with attachments on their way and lets all others through. Knows Scrapy's pipeline interface; the work is
the extension's, which the pipeline creates when EXTENSIONS does not name it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import takewhile
from typing import Any

from scrapy import Request, Spider
from scrapy.crawler import Crawler
from scrapy.exceptions import DropItem, NotConfigured
from scrapy.pipelines.files import FilesPipeline
from scrapy.pipelines.media import MediaPipeline
from scrapy.utils.conf import build_component_list
from scrapy.utils.defer import maybe_deferred_to_future
from scrapy.utils.misc import load_object

from scrapy_chunkdl.crawl.hooks import Hooks, warn_of_unused
from scrapy_chunkdl.crawl.item_files import Results
from scrapy_chunkdl.crawl.passage import Delivery
from scrapy_chunkdl.crawl.refusal import refusing
from scrapy_chunkdl.crawl.requests import as_request
from scrapy_chunkdl.extension import ChunkDownloader
from scrapy_chunkdl.items import attachments
from scrapy_chunkdl.items.shape import fields_like_urls, leads_nowhere
from scrapy_chunkdl.settings.config import Config, ConfigError
from scrapy_chunkdl.text import naming

logger = logging.getLogger(__name__)

SpiderInfo = MediaPipeline.SpiderInfo

_MOST_SHAPES = 10
_LONGEST_FIELDS = 120


class QueuedForDownload(DropItem):
    """Takes an item out of this pass through the pipelines: it waits in Redis and comes back with its files."""

    def __init__(self, key: str) -> None:
        super().__init__(f"queued in {key} until its attachments are downloaded", log_level="DEBUG")


class NotQueued(DropItem):
    """Takes out an item that cannot wait in Redis, or cannot take its files. In queue mode it is among the dead."""

    def __init__(self, problem: str, *, is_news: bool = True) -> None:
        super().__init__(problem, log_level="ERROR" if is_news else "DEBUG")


def _pipelines(crawler: Crawler) -> dict[type, int]:
    """Return the classes in ITEM_PIPELINES with their numbers, in the order in which items meet them.

    Of equal numbers, those come first that ITEM_PIPELINES names first.
    """
    named = crawler.settings.getwithbase("ITEM_PIPELINES")
    loaded = {load_object(path): named[path] for path in build_component_list(named)}
    return {cls: order for cls, order in loaded.items() if isinstance(cls, type)}


def _refuse_second_sight(ours: type, pipelines: Mapping[type, int], config: Config) -> None:
    """Two of us would both claim from the list; in queue mode, pipelines before us would see items twice."""
    rivals = [cls for cls in pipelines if issubclass(cls, ChunkDownloadPipeline) and not issubclass(ours, cls)]
    if rivals:
        raise ConfigError(
            f"ITEM_PIPELINES has both {ours.__qualname__} and {rivals[0].__qualname__}, and each would download the "
            "attachments of all items: keep one of them. CHUNKDL_ATTACHMENTS may name several places."
        )
    before = list(takewhile(lambda cls: cls is not ours, pipelines)) if ours in pipelines else []
    before = [cls for cls in before if cls is not ChunkDownloadPipeline]
    if before and config.mode == "queue":
        raise ConfigError(
            f"ITEM_PIPELINES has {before[0].__qualname__} before {ours.__qualname__} ({pipelines[ours]}): it would see "
            "each item twice, when it is scraped and when it comes back with its files. Give "
            f"{ours.__qualname__} the lowest number. What must be done before items wait, filters among it, goes into "
            "its method before_queueing."
        )


class ChunkDownloadPipeline:
    """Downloads the attachments of items. It goes first: lowest number in ITEM_PIPELINES.

    In queue mode a scraped item is handed to Redis here and comes back, whole, for the pipelines behind, each of
    which sees it exactly once. In inline mode :meth:`process_item` returns the item when its files are there.
    """

    def __init__(self, downloader: ChunkDownloader) -> None:
        self._downloader = downloader
        self._config = downloader.config
        self._unknown_types: set[type] = set()
        self._unfit_types: set[type] = set()
        self._told_shapes: set[type] = set()
        self.crawler = downloader.crawler
        self.spiderinfo = self._info = MediaPipeline.SpiderInfo(downloader.spider)
        self.files_urls_field = self._config.attachments[0]
        self.files_result_field = self._config.files_field
        self.expires = self._config.expires
        warn_of_unused(type(self), ChunkDownloadPipeline, mode=self._config.mode)
        self._hooks = downloader.hooks = Hooks(self, ChunkDownloadPipeline, self._info)
        if self._config.mode == "queue" and not self._hooks.processes_itself:
            downloader.admit = self._admit

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> ChunkDownloadPipeline:
        """Build the pipeline. Raises ``NotConfigured`` when CHUNKDL_ENABLED is off, ``ConfigError`` on bad settings.

        Also raises ``NotConfigured``, without a word, where a subclass is in ITEM_PIPELINES, too: the add-on names this
        class alone, since it runs when no pipeline of the project may be imported yet.
        """
        others = _pipelines(crawler)
        if any(other is not cls and issubclass(other, cls) for other in others):
            raise NotConfigured
        downloader = ChunkDownloader.of(crawler)
        with refusing(crawler):
            _refuse_second_sight(cls, others, downloader.config)
            return cls(downloader)

    def open_spider(self, spider: Spider | None = None) -> None:
        """Do nothing: all is opened with the spider. There for subclasses that call it, as FilesPipeline's do."""

    @cached_property
    def store(self) -> Any:
        """Scrapy's own store of FilesPipeline at CHUNKDL_STORE, for subclasses that look at files or add some.

        Downloads do not go through it. Raises AttributeError where Scrapy has none for the place.
        """
        scheme = self._config.store.partition("://")[0] if "://" in self._config.store else "file"
        make = FilesPipeline.STORE_SCHEMES.get(scheme)
        if make is None:
            raise AttributeError(f"store: Scrapy has none for {scheme}://. The results have the path of each file.")
        FilesPipeline._update_stores(self.crawler.settings)
        return make(self._config.store)

    def inc_stats(self, *arguments: Any) -> None:
        """Count a file in FilesPipeline's stats. There for subclasses that call it; nothing here does."""
        FilesPipeline.inc_stats(self, *arguments)  # type: ignore[arg-type]  # it needs no more of us than crawler

    # --- hooks, with FilesPipeline's names and signatures where it has them

    async def before_queueing(self, item: Any, info: SpiderInfo) -> Any:
        """Return the item that is to be downloaded, or raise DropItem. To be overridden, also by a plain method.

        Called once for each item a spider yields, in both modes, before anything else is done with it: for filters,
        defaults and checks that must not wait for files. What comes from Redis was here before, or is others' work.
        """
        return item

    def file_path(
        self, request: Request, response: None = None, info: SpiderInfo | None = None, *, item: Any = None
    ) -> str:
        """Return where a file goes, relative to CHUNKDL_STORE. To be overridden.

        ``request`` carries the URL and, in ``meta["filename"]``, the name the item wants; ``response`` is
        always None. A file of another URL that has this path already is not overwritten: this one gets a name of its
        own beside it. Raise ``ValueError`` to give the file up. As it stands here, the folder is made of the URL's hash
        and an attachment without a name gets the server's.
        """
        return naming.file_path(request.url, request.meta.get("filename"))

    def get_media_requests(self, item: Any, info: SpiderInfo) -> Iterable[Request]:
        """Return what to fetch for an item. To be overridden.

        As it stands here, a request for each attachment, with its ``headers`` and, in ``meta``, ``filename``,
        ``checksum``, ``mirrors``, ``proxy`` and ``cookiejar``. Leave out those that are not wanted: their attachments
        stay as they are. Change them with ``request.replace(...)`` or in their ``meta``. A request of your own fills no
        attachment; its file is in the ``results`` of :meth:`item_completed`. In queue mode this is called twice: when
        the item is scraped, to see whether it wants files at all, and before they are downloaded.
        """
        requests = []
        for attachment in attachments.find(item, self._config):
            if attachment.problem is None:
                requests.append(as_request(attachment))
        return requests

    def item_completed(self, results: Results, item: Any, info: SpiderInfo) -> Any:
        """Return the item that goes on to the pipelines behind, or raise DropItem. To be overridden.

        ``results`` has for each file (True, a dict of ``url``, ``path`` relative to CHUNKDL_STORE, ``checksum`` in hex
        and ``status``) or (False, a Failure whose ``value`` is a ``DownloadError``). As it stands here, it fills
        CHUNKDL_FILES_FIELD. Called for items without files, too, with no results.
        """
        if results or attachments.is_item(item):
            attachments.write_files(item, self._config, [file for ok, file in results if ok])
        return item

    async def renew_url(
        self, request: Request, info: SpiderInfo | None = None, *, item: Any = None
    ) -> str | Request | None:
        """Return a fresh URL for one that has expired (401, 403, 404 or 410), None to give the file up.

        To be overridden. A ``scrapy.Request`` has the headers to be sent from now on, too; its URL may be the same.
        Runs on Scrapy's thread, at most three times for a file; the download waits, and goes on from the byte it
        reached. The file keeps its name, which is made of the URL the item has.
        """
        return None

    async def process_item(self, item: Any, spider: Spider | None = None) -> Any:
        """Send the item on its way if it has attachments.

        Raises :class:`QueuedForDownload` in queue mode once Redis has the item, :class:`NotQueued` if it holds what
        cannot wait there. Items are queued in front of all pipelines as a rule, and come here when they come back; here
        they are queued where a subclass overrides this.
        """
        if self._downloader.is_trial and self._config.mode == "queue":
            return self._hooks.completed([], await self._hooks.before_queueing(item))
        arrived = self._downloader.arrival(item)
        if isinstance(arrived, Delivery):
            return self._hooks.completed(list(arrived.results), item)
        wants_files = False
        if arrived is None:
            item, wants_files = await self._looked_at(item)
        if not wants_files:
            self._warn_of_unknown_type(item)
            return self._hooks.completed([], item)
        if self._config.mode == "inline":
            results = await maybe_deferred_to_future(self._downloader.download(item))
            return self._hooks.completed(results, item)
        await self._queue(item)
        raise QueuedForDownload(self._downloader.items_key)

    async def _admit(self, item: Any) -> tuple[Any, bool]:
        """Queue a scraped item. Returns what ``before_queueing`` made of it, and whether it was queued."""
        item, wants_files = await self._looked_at(item)
        if wants_files:
            await self._queue(item)
        return item, wants_files

    async def _looked_at(self, item: Any) -> tuple[Any, bool]:
        item = await self._hooks.before_queueing(item)
        wants_files = bool(self._downloader.wanted(item))
        self._downloader.note_scraped(item, wants_files)
        if not wants_files and not self._hooks.selects:
            self._warn_of_shape(item)
        problem = self._downloader.problem_of_type(item) if wants_files and self._config.mode == "inline" else None
        if problem is not None:
            raise NotQueued(problem, is_news=self._is_news(item))
        return item, wants_files

    async def _queue(self, item: Any) -> None:
        try:
            await maybe_deferred_to_future(self._downloader.enqueue(item))
        except ValueError as error:
            raise NotQueued(str(error), is_news=self._is_news(item)) from error

    def _is_news(self, item: object) -> bool:
        """Whether this is the first item of a class that cannot take its files, or one with a problem of its own."""
        if self._downloader.problem_of_type(item) is None:
            return True
        is_news = type(item) not in self._unfit_types
        self._unfit_types.add(type(item))
        return is_news

    def _warn_of_shape(self, item: object) -> None:
        """Tell once per class of an item in which none of the places of attachments is there."""
        kind = type(item)
        if kind in self._told_shapes or len(self._told_shapes) >= _MOST_SHAPES or not attachments.is_item(item):
            return
        if all(leads_nowhere(item, path.split(".")) for path in self._config.attachments):
            self._told_shapes.add(kind)
            urls = ", ".join(fields_like_urls(item))[:_LONGEST_FIELDS]
            logger.warning(
                "No attachments in an item (%s): CHUNKDL_ATTACHMENTS = %r names no field of it. %s. Told once.",
                kind.__qualname__,
                ", ".join(self._config.attachments),
                f"Its fields with URLs: {urls}" if urls else "None of its fields has a URL",
            )

    def _warn_of_unknown_type(self, item: object) -> None:
        if not attachments.is_item(item) and type(item) not in self._unknown_types:
            self._unknown_types.add(type(item))
            logger.warning(
                "Items of type %s have no attachments that could be found: yield a dict, Item, dataclass, attrs or "
                "pydantic object. They pass untouched.",
                type(item).__qualname__,
            )
