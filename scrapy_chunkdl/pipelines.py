"""``ChunkDownloadPipeline``, the face in ITEM_PIPELINES.

Sends items with attachments on their way and lets all others through. Knows Scrapy's pipeline interface; the work is
the extension's, which the pipeline creates when EXTENSIONS does not name it.
"""

from __future__ import annotations

import logging
from typing import Any

from scrapy import Request, Spider
from scrapy.crawler import Crawler
from scrapy.exceptions import DropItem
from scrapy.utils.defer import maybe_deferred_to_future

from scrapy_chunkdl import attachments, naming
from scrapy_chunkdl.engine import is_handed_on
from scrapy_chunkdl.extension import ChunkDownloader

logger = logging.getLogger(__name__)


class QueuedForDownload(DropItem):
    """Takes an item out of this pass through the pipelines: it waits in Redis and comes back with its files."""

    def __init__(self, key: str) -> None:
        super().__init__(f"queued in {key} until its attachments are downloaded", log_level="DEBUG")


class ChunkDownloadPipeline:
    """Downloads the attachments of items. It goes first: lowest number in ITEM_PIPELINES.

    In queue mode a scraped item is handed to Redis here and comes back, whole, for the pipelines behind, each of
    which sees it exactly once. In inline mode :meth:`process_item` returns the item when its files are there.
    """

    def __init__(self, downloader: ChunkDownloader) -> None:
        self._downloader = downloader
        self._config = downloader.config
        self._unknown_types: set[type] = set()
        if type(self).file_path is not ChunkDownloadPipeline.file_path:
            downloader.file_path = self.file_path

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> ChunkDownloadPipeline:
        """Build the pipeline. Raises ``NotConfigured`` when CHUNKDL_ENABLED is off, ``ConfigError`` on bad settings."""
        return cls(ChunkDownloader.of(crawler))

    def file_path(self, request: Request, response: None = None, info: None = None, *, item: Any = None) -> str:
        """Return where a file goes, relative to CHUNKDL_STORE. To be overridden; the signature is FilesPipeline's.

        ``request`` carries the URL and, in ``meta["filename"]``, the name the item wants; ``response`` and ``info`` are
        always None. A file of another URL that has this path already is not overwritten: this one gets a name of its
        own beside it. Raise ``ValueError`` to give the file up. As it stands here, the folder is made of the URL's hash
        and an attachment without a name gets the server's.
        """
        return naming.file_path(request.url, request.meta.get("filename"))

    async def process_item(self, item: Any, spider: Spider | None = None) -> Any:
        """Send the item on its way if it has attachments.

        Raises :class:`QueuedForDownload` in queue mode once Redis has the item, ``ValueError`` if it cannot be
        written as JSON.
        """
        if is_handed_on():
            return item
        found = attachments.find(item, self._config)
        if not found:
            self._warn_of_unknown_type(item)
            return item
        if self._config.mode == "inline":
            await maybe_deferred_to_future(self._downloader.download(item, found))
            return item
        await maybe_deferred_to_future(self._downloader.enqueue(item))
        raise QueuedForDownload(self._downloader.items_key)

    def _warn_of_unknown_type(self, item: object) -> None:
        if not attachments.is_item(item) and type(item) not in self._unknown_types:
            self._unknown_types.add(type(item))
            logger.warning(
                "Items of type %s have no attachments that could be found: yield a dict, Item, dataclass, attrs or "
                "pydantic object. They pass untouched.",
                type(item).__qualname__,
            )
