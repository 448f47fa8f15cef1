"""The downloader alone: plain asyncio, no Scrapy, no Redis. ``python plain_asyncio.py URL [FOLDER]``"""

import asyncio
import sys
from pathlib import Path

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest


async def main(url: str, folder: str = ".") -> None:
    async with Downloader() as downloader:
        try:
            result = await downloader.fetch(FileRequest(url, Path(folder)))
        except DownloadError as error:
            sys.exit(f"{error.reason}: {error}")
    print(f"{result.path} ({result.size} bytes in {result.elapsed:.1f} s, {result.requests} requests)")


asyncio.run(main(*sys.argv[1:]))
