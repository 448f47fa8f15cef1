"""Claims and acks per second on one connection, by batch size and by how many items wait.

``python benchmarks/queue_claims.py [--redis URL]``: without a URL the bundled Valkey is started on a unix socket, with
its append-only file on and synced every second. Prints a table: items per second (median of the runs), and the
longest single claim and ack in milliseconds, for which everybody else had to wait. The list ``chunkdl-bench:items`` is
emptied first and last.

With a million items waiting the longest, tens of milliseconds, is the fork that begins a rewrite of that file
and copies the page tables of all the data (``latest_fork_usec`` in INFO: 32 ms); next come writes to that file that the
disk holds up (LATENCY: aof-write). No script took more than 6 ms (SLOWLOG).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scrapy_chunkdl.queue import embedded
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.item_queue import ItemQueue

KEY = "chunkdl-bench:items"
PAYLOAD = 300  # bytes, about what an item with an attachment or two has
BATCHES = (1, 32, 100)
WAITING = (1_000, 1_000_000)
GOAL = 10_000  # items per second at a batch of 32
FILL = """
for i = 1, ARGV[1] do redis.call('RPUSH', KEYS[1], ARGV[2]) end
"""


def measure(queue: ItemQueue, batch: int, items: int) -> tuple[float, float, float]:
    """Claim and ack ``items``; return items per second, the longest claim and the longest ack in seconds."""
    numbers = itertools.count()
    claims, acks = [], []
    started = time.perf_counter()
    for _ in range(items // batch):
        before = time.perf_counter()
        claimed, _ = queue.claim(batch, f"{started}-{next(numbers)}")
        between = time.perf_counter()
        queue.ack([(item.id, None) for item in claimed])
        acks.append(time.perf_counter() - between)
        claims.append(between - before)
        assert len(claimed) == batch
    return items // batch * batch / (time.perf_counter() - started), max(claims), max(acks)


def settle(client: Any) -> None:
    """Wait until the server has no rewrite of its append-only file going, which the filling of the list set off."""
    while True:
        info = client.info("persistence")
        if not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"] or info.get("aof_pending_bio_fsync")):
            return
        time.sleep(0.1)


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The server to measure."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        with embedded.EmbeddedServer(Path(folder)) as running:
            yield running.url
        while (Path(folder) / "redis.sock").exists():  # it writes to the folder until it has ended
            time.sleep(0.05)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", help="URL of the server to measure; the bundled one by default")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with server(options.redis) as url:
        client = make_client({"REDIS_URL": url})
        info = client.info("server")
        name = f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
        print(f"{name}, one connection, payloads of {PAYLOAD} bytes, median of {options.runs} runs")
        print(f"{'waiting':>10} {'batch':>6} {'items/s':>10} {'claim max ms':>13} {'ack max ms':>11}")
        queue = ItemQueue(client, KEY)
        reached = True
        for waiting, batch in itertools.product(WAITING, BATCHES):
            items = min(20_000, waiting // 2, batch * 500)
            rates, claims, acks = [], [], []
            client.delete(KEY)
            client.eval(FILL, 1, KEY, waiting + items * options.runs + batch, b"x" * PAYLOAD)
            settle(client)
            measure(queue, batch, batch)
            for _ in range(options.runs):
                rate, claim, ack = measure(queue, batch, items)
                rates.append(rate)
                claims.append(claim)
                acks.append(ack)
            rate = statistics.median(rates)
            reached &= batch != 32 or rate >= GOAL
            print(f"{waiting:>10,} {batch:>6} {rate:>10,.0f} {max(claims) * 1e3:>13.2f} {max(acks) * 1e3:>11.2f}")
        print(f"goal of {GOAL:,} items/s at a batch of 32: {'reached' if reached else 'NOT reached'}")
        client.delete(KEY)
        queue.forget()
        queue.close()


if __name__ == "__main__":
    main()
