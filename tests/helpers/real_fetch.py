"""One download with quick options, in this process or as a program that can be killed: ``fetch.py URL FOLDER [CA]``."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from scrapy_chunkdl.download import Downloader, FileRequest, FileResult, Limits, Options

CHUNK = 64 * 1024
NAME = "file.bin"

QUICK = Options(chunk_size=CHUNK, chunks_per_file=4, connect_timeout=20.0, backoff_base=0.02, backoff_max=0.2)


async def fetch(url: str, folder: Path, ca: Path | None, name: str = NAME) -> FileResult:
    """Download one file. Raises :class:`scrapy_chunkdl.download.DownloadError`."""
    options = replace(QUICK, ca_file=str(ca)) if ca is not None else QUICK
    async with Downloader(options, Limits(options)) as downloader:
        return await downloader.fetch(FileRequest(url, folder, name))


if __name__ == "__main__":
    asyncio.run(fetch(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None))
