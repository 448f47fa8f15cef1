"""How many workers one Redis carries: processes that claim, renew and acknowledge at once, as fast as they can.

``python benchmarks/queue_workers.py [--redis URL]``: without a URL the bundled Valkey is started on a unix socket, with
its append-only file on and synced every second. Prints, for each number of processes, items per second in all, and
the median and 99th percentile of one call in milliseconds. A worker that downloads asks far less often than these.
The list ``chunkdl-bench:items`` is emptied first and last.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
import uuid
from multiprocessing.synchronize import Barrier
from typing import Any

from queue_claims import FILL, KEY, PAYLOAD, server, settle

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.item_queue import ItemQueue

PROCESSES = (1, 2, 4, 8, 16, 32)
BATCH = 32


def work(url: str, seconds: float, start: Barrier, outcomes: Any) -> None:
    """Claim, renew and acknowledge batches; hand over the items done and how long each call took."""
    queue = ItemQueue(make_client({"REDIS_URL": url}), KEY)
    items, calls = 0, []

    def timed(function: Any, *arguments: Any) -> Any:
        before = time.perf_counter()
        answer = function(*arguments)
        calls.append(time.perf_counter() - before)
        return answer

    queue.claim(0, "warm")
    start.wait()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        batch, _ = timed(queue.claim, BATCH, uuid.uuid4().hex)
        ids = [claimed.id for claimed in batch]
        timed(queue.renew, ids)
        timed(queue.ack, [(item_id, None) for item_id in ids])
        items += len(batch)
    outcomes.put((items, calls))
    queue.forget()
    queue.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", help="URL of the server to measure; the bundled one by default")
    parser.add_argument("--seconds", type=float, default=3.0, help="per row")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with server(options.redis) as url:
        client = make_client({"REDIS_URL": url})
        print(f"claim, renew and ack of {BATCH} items at once, payloads of {PAYLOAD} bytes")
        print(f"{'processes':>9} {'items/s':>10} {'call median ms':>15} {'call p99 ms':>12}")
        for processes in PROCESSES:
            client.delete(KEY)
            for _ in range(round(6 * options.seconds)):
                client.eval(FILL, 1, KEY, 10_000, b"x" * PAYLOAD)
            settle(client)
            start, outcomes = context.Barrier(processes), context.Queue()
            workers = [
                context.Process(target=work, args=(url, options.seconds, start, outcomes)) for _ in range(processes)
            ]
            for worker in workers:
                worker.start()
            told = [outcomes.get() for _ in workers]
            for worker in workers:
                worker.join()
            calls = sorted(call * 1e3 for _, calls in told for call in calls)
            rate = sum(items for items, _ in told) / options.seconds
            p99 = calls[len(calls) * 99 // 100]
            print(f"{processes:>9} {rate:>10,.0f} {statistics.median(calls):>15.2f} {p99:>12.2f}", flush=True)
        client.delete(KEY)
        client.close()


if __name__ == "__main__":
    main()
