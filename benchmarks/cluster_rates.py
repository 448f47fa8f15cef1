"""How well rates over all processes are kept: five processes, each with a downloader, and one Redis between them.

``python benchmarks/cluster_rates.py [--processes N] [--seconds N] [--rate BYTES] [--delay S]``: first all want as much
as they can get, in all and of each of two hosts; then four of them want little; then one is killed; then Redis is; then
requests are begun ``--delay`` apart. Counted every 10 ms: what the processes read from
their sockets, and the requests they begin; and the round trips to Redis, by Redis itself.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from bench import servers
from rate import Meter

from scrapy_chunkdl.download import Downloader, FileRequest, Limits, Options
from scrapy_chunkdl.download.limits.shares import SharedLimits
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.hosts import HostShares
from scrapy_chunkdl.queue.rate_shares import RateShares
from scrapy_chunkdl.queue.share_keeper import ShareKeeper
from scrapy_chunkdl.queue.start_shares import StartShares


@dataclass(frozen=True)
class Case:
    """What the processes share, and how much each may want by itself, in bytes per second; 0: all it can get."""

    shared: SharedLimits
    own: tuple[float, ...]
    hosts: int = 1
    size: int = 0


def work(
    case: Case, number: int, base: str, redis_url: str, read: Synchronized[int], starts: Any, go: Event, over: Event
) -> None:
    """Download as much as this process may, and count the bytes in ``read``, and when requests began in ``starts``."""
    settings = replace(Options(), max_rate=case.own[number], chunks_per_file=4, chunks_per_host=32, probe="range")
    shared = case.shared
    client = make_client({"REDIS_URL": redis_url})
    rates, delays = RateShares(shared.rate, shared.rate_per_host), StartShares(shared.delay_s)
    keeper = ShareKeeper(HostShares(client, limit=0, lease=60, rates=rates, starts=delays))
    limits = Limits(settings, keeper, shared)
    keeper.serve(limits.uses, limits.settled, limits.paces)
    keeper.start()
    meter = Meter()
    pace = limits.wait_for_pace

    async def noted(host: str) -> None:
        await pace(host)
        starts.put(time.time())

    if shared.delay_s:
        limits.wait_for_pace = noted  # type: ignore[method-assign]

    async def run(folder: Path) -> None:
        async def one(task: int) -> None:
            again = 0
            while not over.is_set():
                host = f"127.0.0.{1 + task % case.hosts}"
                name = f"{number}.{task}.{again}"
                url = servers.shaped(base.replace("127.0.0.1", host), name, case.size or 1 << 30, "", 0)
                result = await downloader.fetch(FileRequest(url, folder, name))
                result.path.unlink()
                again += 1

        async with Downloader(settings, limits) as downloader:
            tasks = [asyncio.ensure_future(one(task)) for task in range(16 if case.size else 2 * case.hosts)]
            while not over.is_set():
                await asyncio.sleep(0.01)
                read.value = meter.read
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    go.wait()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
    keeper.stop()


class Run:
    """One case with all its processes."""

    def __init__(self, case: Case, base: str, url: str) -> None:
        self.case = case
        self._go, self._over = multiprocessing.Event(), multiprocessing.Event()
        self.starts: Any = multiprocessing.Queue()
        self.read = [multiprocessing.Value("q", 0) for _ in case.own]
        self.processes = [
            multiprocessing.Process(
                target=work,
                args=(case, number, base, url, self.read[number], self.starts, self._go, self._over),
                daemon=True,
            )
            for number in range(len(case.own))
        ]
        for process in self.processes:
            process.start()
        self._go.set()
        while not all(counted.value for counted in self.read):
            time.sleep(0.05)
        time.sleep(2.0)

    def watch(self, seconds: float) -> list[tuple[float, list[int]]]:
        """Return the bytes each has read, every 10 ms."""
        began, samples = time.monotonic(), []
        while (now := time.monotonic()) < began + seconds:
            samples.append((now, [counted.value for counted in self.read]))
            time.sleep(0.01)
        return samples

    def end(self) -> list[float]:
        """Stop all; return when requests began."""
        self._over.set()
        starts: list[float] = []
        reader = threading.Thread(target=lambda: starts.extend(iter(self.starts.get, None)))
        reader.start()
        for process in self.processes:
            process.join(20)
            process.kill()
        self.starts.put(None)
        reader.join()
        return sorted(starts)


def fullest_second(samples: list[tuple[float, int]]) -> int:
    """Return the most of any second."""
    times = [at for at, _ in samples]
    return max(
        samples[max(bisect.bisect_right(times, at + 1.0) - 1, number)][1] - count
        for number, (at, count) in enumerate(samples)
    )


def told(what: str, limit: float, samples: list[tuple[float, list[int]]]) -> None:
    """Print how well a limit was kept."""
    took = samples[-1][0] - samples[0][0]
    each = [after - before for before, after in zip(samples[0][1], samples[-1][1], strict=True)]
    fullest = fullest_second([(at, sum(counts)) for at, counts in samples])
    shares = " ".join(f"{size / took / limit:.0%}" for size in each)
    print(
        f"{what}: {sum(each) / took / limit - 1:+.1%} over {took:.0f} s, fullest second {fullest / limit:.2f}, "
        f"each process {shares}",
        flush=True,
    )


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=int, default=10_000_000)
    parser.add_argument("--delay", type=float, default=0.05)
    options = parser.parse_args()
    number, rate, seconds = options.processes, options.rate, options.seconds
    multiprocessing.set_start_method("spawn")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chunkdl-"))
        base = stack.enter_context(servers.origin())
        url = stack.enter_context(servers.redis_server(Path(folder)))
        client = make_client({"REDIS_URL": url})

        def calls() -> int:
            return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))

        run = Run(Case(SharedLimits(rate), (0,) * number), base, url)
        before = calls()
        told("all want all", rate, run.watch(seconds))
        print(f"round trips a second of each process: {(calls() - before) / seconds / number:.2f}")
        os.kill(run.processes[0].pid or 0, signal.SIGKILL)
        run.watch(6)
        told("one killed, 6 s later", rate, run.watch(seconds / 2))
        client.config_set("requirepass", "away")
        client.client_kill_filter(_type="normal", skipme=True)
        told("Redis away", rate, run.watch(seconds / 2))
        client.config_set("requirepass", "")
        told("Redis back", rate, run.watch(seconds / 2))
        run.end()

        run = Run(Case(SharedLimits(rate), (0, *(rate / 20 for _ in range(number - 1)))), base, url)
        told("one wants all, the others 5 % each", rate, run.watch(seconds))
        run.end()

        run = Run(Case(SharedLimits(0, rate / 2), (0,) * number, hosts=2), base, url)
        told("two hosts, half of it from each", rate, run.watch(seconds))
        run.end()

        run = Run(Case(SharedLimits(0, 0, options.delay), (0,) * number, size=2000), base, url)
        before, began = calls(), time.time()
        run.watch(seconds)
        trips, ended = (calls() - before) / seconds / number, time.time()
        starts = [at for at in run.end() if began <= at < ended]
        gaps = sorted(after - at for at, after in pairwise(starts))
        fullest = fullest_second([(at, count) for count, at in enumerate(starts)])
        found = len(starts) * options.delay / (ended - began) - 1
        print(
            f"a request every {options.delay:g} s: {found:+.1%}, fullest second {fullest * options.delay:.2f}, "
            f"gaps {gaps[len(gaps) // 20] * 1000:.0f} to "
            f"{gaps[-len(gaps) // 20] * 1000:.0f} ms, {trips:.2f} round trips a second"
        )


if __name__ == "__main__":
    main()
