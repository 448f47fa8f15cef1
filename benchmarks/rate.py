"""How well the limit in bytes per second is kept: what was read in each second, over all threads.

``python benchmarks/rate.py [--rate N] [--seconds N]``: 16 connections and two threads, each with a downloader of its
own, fetch from the tests' origin, which is a process of its own and sends as fast as it can.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from bench import servers

from scrapy_chunkdl.download import Downloader, FileRequest, Limits, Options
from scrapy_chunkdl.download.model import Progress


def main() -> None:
    """Print the bytes of each second, how far all of it is off, and the worst second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=20_000_000)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    settings = replace(Options(), max_rate=options.rate, chunks_per_file=8)
    limits = Limits(settings)
    progress = [Progress(), Progress()]
    stop = threading.Event()

    async def fetch(url: str, folder: Path, mine: Progress) -> None:
        async with Downloader(settings, limits) as downloader:
            fetching = asyncio.ensure_future(downloader.fetch(FileRequest(url, folder, "file"), mine))
            await asyncio.get_running_loop().run_in_executor(None, stop.wait)
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)

    with tempfile.TemporaryDirectory() as folder, servers.origin() as base:
        threads = []
        for number, mine in enumerate(progress):
            url = servers.shaped(base, f"{number}.bin", 4 * options.rate * options.seconds, "", 0)
            work = fetch(url, Path(folder) / str(number), mine)
            threads.append(threading.Thread(target=asyncio.run, args=(work,)))
        for thread in threads:
            thread.start()
        while not any(mine.fetched for mine in progress):
            time.sleep(0.01)
        began, seconds = time.monotonic(), [0]
        while len(seconds) <= options.seconds:
            time.sleep(max(0.0, began + len(seconds) - time.monotonic()))
            seconds.append(sum(mine.fetched for mine in progress))
        stop.set()
        for thread in threads:
            thread.join()
    each = [after - before for before, after in pairwise(seconds)]
    print("MB in each second: " + " ".join(f"{size / 1e6:.2f}" for size in each))
    off = sum(each) / options.seconds / options.rate - 1
    worst = max(each) / options.rate
    print(f"limit {options.rate / 1e6:g} MB/s: {off:+.2%} over {options.seconds} s, worst second {worst:.2f} of it")


if __name__ == "__main__":
    main()
