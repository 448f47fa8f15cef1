"""The downloader alone, as a program: fetches the URLs of a file, or one, and prints what it took as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import socket
import time
from pathlib import Path
from typing import Any

from scrapy_chunkdl.download import Downloader, FileRequest, Options


def cpu() -> float:
    """Return the CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def fetch(options: argparse.Namespace) -> dict[str, Any]:
    """Fetch all, and tell seconds without the start of the interpreter, and bytes received beyond those needed."""
    urls = Path(options.urls).read_text().split() if options.urls else [options.url]
    resolved: list[Any] = []
    resolve = socket.getaddrinfo

    def counted(*arguments: Any, **more: Any) -> Any:
        resolved.append(arguments[0])
        return resolve(*arguments, **more)

    socket.getaddrinfo = counted
    settings = Options(
        chunks_per_file=options.connections,
        chunks_per_host=max(options.connections, options.files),
        files=options.files,
        probe=options.probe,
        ca_file=options.ca,
    )
    gate = asyncio.Semaphore(options.files)
    async with Downloader(settings) as downloader:

        async def one(url: str) -> Any:
            async with gate:
                name = url.partition("?")[0].rpartition("/")[2]
                return await downloader.fetch(FileRequest(url, Path(options.folder), name))

        burnt, began = cpu(), time.monotonic()
        results = await asyncio.gather(*map(one, urls))
        took = time.monotonic() - began
    size = sum(result.size for result in results)
    return {
        "fetch": took,
        "cpu of fetch": cpu() - burnt,
        "twice": sum(result.fetched for result in results) / size - 1,
        "requests": sum(result.requests for result in results),
        "resolved": len(resolved),
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--urls")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--probe", default="head")
    parser.add_argument("--ca")
    print(json.dumps(asyncio.run(fetch(parser.parse_args()))))


if __name__ == "__main__":
    main()
