"""Where finished files end up when that is not a local folder: ``s3://``, ``gs://``, ``az://``, all of fsspec.

Knows URIs, the settings that Scrapy has for them, and the downloader's protocol for a store; nothing of Scrapy itself,
of items or of downloads. The crawl calls it. Libraries are imported only for the store that
needs them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scrapy_chunkdl.download.disk.store import Store
from scrapy_chunkdl.download.extras import needed
from scrapy_chunkdl.storage.errors import MissingExtra, StoreUnusable
from scrapy_chunkdl.storage.record import without_password

if TYPE_CHECKING:
    from scrapy_chunkdl.download import Limits, Options
    from scrapy_chunkdl.download.source import Opener

__all__ = ["MissingExtra", "Store", "StoreUnusable", "object_openers", "open_store", "without_password"]

_CLOUD = frozenset({"s3", "gs", "az"})


def open_store(uri: str, settings: Mapping[Any, Any]) -> Store:
    """Return the store a URI names, set up by Scrapy's settings. Nothing is sent yet.

    Raises :class:`StoreUnusable` for a URI or a setting that cannot work, :class:`MissingExtra` for a missing library.
    """
    scheme = urlsplit(uri).scheme.lower()
    if scheme in _CLOUD:
        try:
            from scrapy_chunkdl.storage import cloud
        except ImportError as error:
            extra = "s3" if scheme == "s3" else "cloud"
            raise MissingExtra(f"{scheme}:// needs obstore: pip install 'scrapy-chunkdl[{extra}]'") from error
        return cloud.open_store(uri, settings)
    try:
        from scrapy_chunkdl.storage import filesystem
    except ImportError as error:
        raise MissingExtra(f"{scheme}:// needs fsspec: pip install 'scrapy-chunkdl[fsspec]'") from error
    return filesystem.open_store(uri, settings)


def object_openers(settings: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what opens sources of objects, by URL scheme: none where obstore is not installed.

    Imported when the first object is wanted: it takes 10 ms and 4 MB.
    """
    if importlib.util.find_spec("obstore") is None:
        return {}

    def opened(options: Options, limits: Limits) -> Opener:
        objects = needed("scrapy_chunkdl.storage.objects", "s3", "s3://, gs:// and az://")
        made: Opener = objects.opener_of(settings)(options, limits)
        return made

    return dict.fromkeys(_CLOUD, opened)
