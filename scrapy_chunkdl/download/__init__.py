"""The downloader: asyncio and aiohttp only. Knows nothing of Scrapy, Twisted or Redis, and can be used alone."""

from scrapy_chunkdl.download.downloader import Downloader
from scrapy_chunkdl.download.errors import (
    DownloadError,
    Permanent,
    RangeIgnored,
    RangeMismatch,
    SourceChanged,
    Throttled,
    Transient,
)
from scrapy_chunkdl.download.limits import Limits
from scrapy_chunkdl.download.model import FileRequest, FileResult, Options, Progress

__all__ = [
    "DownloadError",
    "Downloader",
    "FileRequest",
    "FileResult",
    "Limits",
    "Options",
    "Permanent",
    "Progress",
    "RangeIgnored",
    "RangeMismatch",
    "SourceChanged",
    "Throttled",
    "Transient",
]
