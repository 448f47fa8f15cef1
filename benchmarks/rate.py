"""How well the limit in bytes per second is kept, over all threads.

``python benchmarks/rate.py [--rate N] [--files N] [--hosts N] …``: two threads, each
with a downloader of its own, fetch from the tests' origin, a process of its own that sends as fast as it can. Counted
every 10 ms, headers and TLS included: what the process read from its sockets, and what had come to the machine by then
(Linux' ``tcpi_bytes_received``: what waits in the kernel's buffers, too).
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import socket
import struct
import tempfile
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import servers

from scrapy_chunkdl.download import Downloader, FileRequest, Limits, Options
from scrapy_chunkdl.download.model import Progress

_TCP_INFO, _BYTES_RECEIVED = 11, 128


class Meter:
    """Counts what comes by the sockets of this process."""

    def __init__(self) -> None:
        self.read = 0
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._gone = 0
        for name in ("recv", "recv_into"):
            setattr(socket.socket, name, self._counting(getattr(socket.socket, name)))
        close = socket.socket.close

        def closing(sock: socket.socket) -> None:
            if sock in self._sockets:
                self._sockets.discard(sock)
                self._gone += _received(sock)
            close(sock)

        socket.socket.close = closing  # type: ignore[method-assign]

    def _counting(self, method: Any) -> Any:
        def counted(sock: socket.socket, *arguments: Any) -> Any:
            got = method(sock, *arguments)
            if sock.family == socket.AF_INET:
                with self._lock:
                    self.read += got if isinstance(got, int) else len(got)
                    self._sockets.add(sock)
            return got

        return counted

    def came(self) -> int:
        """Bytes that have come to the machine for this process."""
        return self._gone + sum(map(_received, tuple(self._sockets)))


def _received(sock: socket.socket) -> int:
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 192)
    except OSError:
        return 0
    [received] = struct.unpack_from("Q", info, _BYTES_RECEIVED)
    return int(received)


def worst_second(samples: list[tuple[float, int]]) -> int:
    """Return the most bytes of any second, begun at whatever sample."""
    times = [at for at, _ in samples]
    worst = 0
    for number, (at, count) in enumerate(samples):
        end = bisect.bisect_right(times, at + 1.0) - 1
        worst = max(worst, samples[max(end, number)][1] - count)
    return worst


def main() -> None:
    """Print how far all of it is off, and the worst second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=20_000_000)
    parser.add_argument("--of-host", type=int, default=0, help="limit of one host instead")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--files", type=int, default=2)
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--connections", type=int, default=8, help="of each file")
    parser.add_argument("--size", type=int, default=0, help="of each file; none is ever done without it")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--each", action="store_true", help="print what was read in each second, too")
    parser.add_argument("--faults", default="", help="see tests/helpers/origin.py; framing:chunked, ranges:none, …")
    options = parser.parse_args()
    rate = options.of_host or options.rate
    settings = replace(
        Options(),
        max_rate=0 if options.of_host else rate,
        max_rate_per_host=options.of_host,
        chunks_per_file=options.connections,
        verify_tls=False,
    )
    limits = Limits(settings)
    stop, done, failed = threading.Event(), [0], [0]
    progresses: list[Progress] = []

    async def fetch(base: str, numbers: range, folder: Path) -> None:
        async def one(number: int, downloader: Downloader) -> None:
            again = 0
            while not stop.is_set():
                host = f"127.0.0.{1 + number % options.hosts}"
                size = options.size or 4 * rate * options.seconds
                url = servers.shaped(base.replace("127.0.0.1", host), f"{number}.{again}", size, options.faults, 0)
                progresses.append(mine := Progress())
                try:
                    result = await downloader.fetch(FileRequest(url, folder / str(number), "file"), mine)
                    result.path.unlink()
                    done[0] += 1
                except Exception as error:  # noqa: BLE001 - told, and counted
                    failed[0] += 1
                    print(repr(error))
                again += 1

        async with Downloader(settings, limits) as downloader:
            tasks = [asyncio.ensure_future(one(number, downloader)) for number in numbers]
            await asyncio.get_running_loop().run_in_executor(None, stop.wait)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with tempfile.TemporaryDirectory() as folder, servers.origin(*(["--tls"] if options.tls else [])) as base:
        meter = Meter()
        threads = []
        for number in range(2):
            work = fetch(base, range(number, options.files, 2), Path(folder))
            threads.append(threading.Thread(target=asyncio.run, args=(work,)))
        began, cpu = time.monotonic(), time.process_time()
        for thread in threads:
            thread.start()
        while not meter.read:
            time.sleep(0.001)
        began = time.monotonic()
        samples: list[tuple[float, int, int]] = [(began, 0, 0)]
        while time.monotonic() < began + options.seconds:
            time.sleep(0.01)
            samples.append((time.monotonic(), meter.read, meter.came()))
        cpu = time.process_time() - cpu
        stop.set()
        for thread in threads:
            thread.join()
    took, read, came = samples[-1]
    if options.each:
        marks = [0, *(bisect.bisect_right(samples, (began + n, 1 << 62, 0)) - 1 for n in range(1, options.seconds + 1))]
        sizes = [samples[after][1] - samples[before][1] for before, after in pairwise(marks)]
        print("MB in each second: " + " ".join(f"{size / 1e6:.3g}" for size in sizes))
    retries: dict[str, int] = {}
    for progress in progresses:
        for reason, count in progress.retries.items():
            retries[reason] = retries.get(reason, 0) + count
    worst_read = worst_second([(at, size) for at, size, _ in samples]) / rate
    worst_came = worst_second([(at, size) for at, _, size in samples]) / rate
    print(
        f"limit {rate / 1e6:g} MB/s: {read / rate / (took - began) - 1:+.2%} over {took - began:.0f} s, "
        f"worst second {worst_read:.2f} of it; came {came / rate / (took - began) - 1:+.2%}, worst {worst_came:.2f}; "
        f"{sum(mine.requests for mine in progresses)} requests, {done[0]} files, {failed[0]} failed, "
        f"retries {retries}, {cpu / options.seconds:.0%} CPU"
    )


if __name__ == "__main__":
    main()
