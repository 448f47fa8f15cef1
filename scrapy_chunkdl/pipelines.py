"""``ChunkDownloadPipeline``, the face in ITEM_PIPELINES, with the hooks as they stand.

Knows Scrapy's pipeline interface and FilesPipeline's names; what becomes of an item is the intake's, which the
lifecycle of the extension gives for the hooks. The extension is made here when EXTENSIONS does not name it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from scrapy import Request, Spider
from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured
from scrapy.pipelines.files import FilesPipeline
from scrapy.pipelines.media import MediaPipeline

from scrapy_chunkdl.crawl.checks import pipelines_of, refuse_second_sight
from scrapy_chunkdl.crawl.hook_requests import as_request
from scrapy_chunkdl.crawl.hooks import Hooks, warn_of_unused
from scrapy_chunkdl.crawl.intake import NotQueued, QueuedForDownload
from scrapy_chunkdl.crawl.item_files import Results
from scrapy_chunkdl.crawl.refusal import refusing
from scrapy_chunkdl.extension import ChunkDownloader
from scrapy_chunkdl.items import attachments
from scrapy_chunkdl.text import naming

__all__ = ["ChunkDownloadPipeline", "NotQueued", "QueuedForDownload"]

SpiderInfo = MediaPipeline.SpiderInfo


class ChunkDownloadPipeline:
    """Downloads the attachments of items. It goes first: lowest number in ITEM_PIPELINES.

    In queue mode a scraped item is handed to Redis here and comes back, whole, for the pipelines behind, each of
    which sees it exactly once. In inline mode :meth:`process_item` returns the item when its files are there.
    """

    def __init__(self, downloader: ChunkDownloader) -> None:
        lifecycle = downloader.lifecycle
        self._downloader = downloader  # which signals know weakly
        self._config = lifecycle.config
        self.crawler = lifecycle.crawler
        assert self.crawler.spider is not None
        self.spiderinfo = MediaPipeline.SpiderInfo(self.crawler.spider)
        self.files_urls_field = self._config.attachments[0]
        self.files_result_field = self._config.files_field
        self.expires = self._config.expires
        warn_of_unused(type(self), ChunkDownloadPipeline, mode=self._config.mode)
        self._intake = lifecycle.take(Hooks(self, ChunkDownloadPipeline, self.spiderinfo))

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> ChunkDownloadPipeline:
        """Build the pipeline. Raises ``NotConfigured`` when CHUNKDL_ENABLED is off, ``ConfigError`` on bad settings.

        Also raises ``NotConfigured``, without a word, where a subclass is in ITEM_PIPELINES, too: the add-on names this
        class alone, since it runs when no pipeline of the project may be imported yet.
        """
        others = pipelines_of(crawler)
        if any(other is not cls and issubclass(other, cls) for other in others):
            raise NotConfigured
        downloader = ChunkDownloader.of(crawler)
        with refusing(crawler):
            refuse_second_sight(cls, ChunkDownloadPipeline, others, downloader.lifecycle.config)
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
        """Count a file in FilesPipeline's stats. There for subclasses that call it; nothing here does.

        Called with the status alone, or with the spider before it as in Scrapy 2.13: either counts, whichever runs.
        """
        assert self.crawler.stats is not None
        self.crawler.stats.inc_value("file_count")
        self.crawler.stats.inc_value(f"file_status_count/{arguments[-1]}")

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
        return await self._intake.process(item)
