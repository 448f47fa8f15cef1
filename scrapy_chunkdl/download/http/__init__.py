"""HTTP as servers speak it: what goes over the wire and what it means. Knows no files on disk, items or queues."""

from scrapy_chunkdl.download.http.authorities import import_aiohttp

import_aiohttp()  # before any module here does
