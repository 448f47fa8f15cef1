"""The downloader: from a URL to a whole, checked file. It can be used alone.

Knows asyncio, aiohttp and the disk; nothing of Scrapy, Twisted or Redis. The bridge and the crawl call it; stores know
its words.
"""

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.disk.store import Store
from scrapy_chunkdl.download.downloader import Downloader
from scrapy_chunkdl.download.errors import (
    DownloadError,
    HostIll,
    NoRoom,
    Permanent,
    Postponed,
    RangeIgnored,
    RangeMismatch,
    SourceChanged,
    Throttled,
    Transient,
)
from scrapy_chunkdl.download.http.identity import host_of
from scrapy_chunkdl.download.http.proxies import of_environment as proxies_of_environment
from scrapy_chunkdl.download.http.robots import Robots
from scrapy_chunkdl.download.http.tls import tls_context
from scrapy_chunkdl.download.http.urls import without_userinfo
from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.model import FileRequest, FileResult, Options, Progress, Renewed

__all__ = [
    "DownloadError",
    "Downloader",
    "FileRequest",
    "FileResult",
    "HostIll",
    "Limits",
    "NoRoom",
    "Options",
    "Permanent",
    "Postponed",
    "Progress",
    "Published",
    "RangeIgnored",
    "RangeMismatch",
    "Renewed",
    "Robots",
    "SourceChanged",
    "Store",
    "Throttled",
    "Transient",
    "host_of",
    "proxies_of_environment",
    "tls_context",
    "without_userinfo",
]
