"""What limits over all processes cost where they are not reached: the same downloads with and without them, in turn.

``python benchmarks/cluster_limits.py [--pairs N]``: 2,000 files of 64 KiB and one of 512 MiB from nginx to memory, by a
downloader whose connections are leased from Redis, with a limit far above what it uses, and by one without.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import servers

from scrapy_chunkdl.download import Downloader, FileRequest, Limits, Options
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.hosts import HostShares
from scrapy_chunkdl.queue.share_keeper import ShareKeeper

OPTIONS = Options(chunks_per_file=16, chunks_per_host=32, probe="range")


async def fetch(urls: list[str], folder: Path, limits: Limits) -> None:
    """Fetch all, 32 at once."""
    gate = asyncio.Semaphore(32)
    async with Downloader(OPTIONS, limits) as downloader:

        async def one(url: str) -> None:
            async with gate:
                await downloader.fetch(FileRequest(url, folder, url.rpartition("/")[2]))

        await asyncio.gather(*map(one, urls))


def run(urls: list[str], folder: Path, redis_url: str | None) -> tuple[float, float]:
    """Return the wall and CPU seconds of one run."""
    shutil.rmtree(folder, ignore_errors=True)
    keeper = None
    if redis_url is not None:
        keeper = ShareKeeper(HostShares(make_client({"REDIS_URL": redis_url}), limit=1000, lease=60))
    limits = Limits(OPTIONS, keeper)
    wall, cpu = time.monotonic(), time.process_time()
    if keeper is not None:
        keeper.serve(limits.uses, limits.settled)
        keeper.start()
    asyncio.run(fetch(urls, folder, limits))
    taken = time.monotonic() - wall, time.process_time() - cpu
    if keeper is not None:
        keeper.stop()
    return taken


def main() -> None:
    """Print the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    pairs = parser.parse_args().pairs
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chunkdl-", dir=memory)))
        place.chmod(0o755)  # nginx reads as a user of its own
        nginx = stack.enter_context(servers.Nginx(place).running())
        redis_url = stack.enter_context(servers.redis_server(place))
        for n in range(2000):
            nginx.file(f"small/{n}.bin", 1 << 16)
        nginx.file("big.bin", 1 << 29)
        cases = {
            "2,000 files of 64 KiB": [nginx.url(f"small/{n}.bin") for n in range(2000)],
            "one file of 512 MiB": [nginx.url("big.bin")],
        }
        for name, urls in cases.items():
            runs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for turn in range(2 * pairs):
                shared = turn % 4 in (1, 2)  # each goes first as often
                runs[shared].append(run(urls, place / "out", redis_url if shared else None))
            for what, index in (("wall", 0), ("CPU", 1)):
                with_it, without = (statistics.median(each[index] for each in runs[shared]) for shared in (True, False))
                ratio = with_it / without
                print(f"{name}: {what} {with_it:.2f} s with, {without:.2f} s without, {ratio - 1:+.1%}")


if __name__ == "__main__":
    main()
