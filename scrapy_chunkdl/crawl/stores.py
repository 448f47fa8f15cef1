"""Where the files of this crawl end up, by CHUNKDL_STORE: a local folder, or a store, which may be the project's own.

Knows Scrapy's settings and stores; nothing of items or downloads. Called once, by the lifecycle.
"""

from __future__ import annotations

import os
from pathlib import Path

from scrapy.crawler import Crawler
from scrapy.utils.misc import build_from_crawler, load_object

from scrapy_chunkdl.crawl.folders import work_folder
from scrapy_chunkdl.crawl.refusal import STORE_UNUSABLE, Unusable
from scrapy_chunkdl.download import FileResult, Store
from scrapy_chunkdl.settings.config import Config
from scrapy_chunkdl.storage import MissingExtra, StoreUnusable, open_store
from scrapy_chunkdl.storage.content import ContentStore

PARTS_FOLDER = "chunkdl-parts"
"""Folder under .scrapy where files wait and grow until they are in a store that is not a local folder."""


class Place:
    """Where files go: ``store``, None for a local folder, and ``root``, where they are while they are incomplete.

    In a plain local store they stay in ``root``. Making one raises ConfigError.
    """

    def __init__(self, crawler: Crawler, config: Config) -> None:
        self.store = _open_store(crawler, config)
        self.root = _local_root(config, self.store)
        self._below = os.path.join(self.root, "")

    def relative(self, result: FileResult) -> str:
        """Return where in the store a file is."""
        if isinstance(self.store, ContentStore):
            return Path(result.uri or "").relative_to(self.store.folder).as_posix()
        path = os.fspath(result.path)
        if path.startswith(self._below):  # as most are; pathlib takes 15 µs
            return path[len(self._below) :].replace(os.sep, "/")
        return result.path.relative_to(self.root).as_posix()


def _open_store(crawler: Crawler, config: Config) -> Store | None:
    scheme, is_uri, _ = config.store.partition("://")
    if not is_uri:
        return ContentStore(Path(config.store)) if config.naming == "content" else None
    if (own := (config.stores or {}).get(scheme.lower())) is not None:
        try:
            store: Store = build_from_crawler(load_object(own), crawler, config.store)
        except Exception as error:
            kind = type(error).__name__
            raise Unusable(
                f"CHUNKDL_STORES: the store of {scheme}:// cannot be made ({kind}: {error}).", STORE_UNUSABLE
            ) from error
        return store
    try:
        return open_store(config.store, crawler.settings)
    except MissingExtra as error:
        raise Unusable(f"CHUNKDL_STORE: {error}", STORE_UNUSABLE) from error
    except StoreUnusable as error:
        raise Unusable(f"CHUNKDL_STORE: {error}.", STORE_UNUSABLE) from error


def _local_root(config: Config, store: Store | None) -> Path:
    if store is None:
        return Path(config.store).absolute()
    return store.parts if isinstance(store, ContentStore) else work_folder(PARTS_FOLDER, config.work_folder)
