"""What 90 days of history, counts and reports take in Redis: 300 spiders, 60 workers, every hour of them busy.

Starts a server of its own; prints bytes. ``.venv/bin/python benchmarks/history_memory.py [spiders] [workers]``
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))

from servers import Server, any_binary

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.metrics_table import HISTORY, METRICS, SIZE_CLASSES
from scrapy_chunkdl.queue.status import Pace, Report
from scrapy_chunkdl.queue.tally import Part
from scrapy_chunkdl.queue.totals import HISTORY_DAYS, Totals

DAY = 86400


def part() -> Part:
    """Return counts of every kind there is."""
    counts: dict[str, float] = {f"failures/reason_{n}": 12345 for n in range(40)}
    counts |= {f"retries/reason_{n}": 12345 for n in range(20)}
    counts |= dict.fromkeys(HISTORY, 123456789)
    for metric in METRICS:
        if metric.kind == "histogram":
            for label in SIZE_CLASSES if metric.labels else [""]:
                start = f"{metric.source}/{label}/" if label else f"{metric.source}/"
                counts |= {f"{start}{n}": 123456 for n in range(len(metric.buckets) + 1)} | {f"{start}sum": 1234.567}
    return Part(1, counts)


def main(spiders: int = 300, workers: int = 60) -> None:
    """Fill a server and tell what it takes."""
    pace = Pace(30.0, (1000,) * 61, (123456789,) * 61, (64,) * 61)
    report = Report("worker-0123456789", 4711, "0.1.0", "claiming", 32, 64, pace, 1 << 40, 1 << 42).encode()
    with Server(any_binary()) as server, server.client() as client:
        before = client.info("memory")["used_memory"]
        today = int(time.time()) // DAY
        for n in range(spiders):
            key = f"spider_number_{n}:items"
            queue = ItemQueue(make_client({"REDIS_URL": server.url}), key)
            totals = Totals(queue.client, key, "x")
            totals.add(part())
            pipe = client.pipeline(transaction=False)
            for day in range(today - HISTORY_DAYS, today):
                fields = {f"{hour:02}{letter}": 3_000 for hour in range(24) for letter in "idux"}
                fields |= {f"{hour:02}b": 12_345_678_901 for hour in range(24)}
                pipe.hset(totals.history_key(day), mapping=fields)
                pipe.expire(totals.history_key(day), 91 * DAY)
            pipe.execute()
            for token in range(workers // 10 if n else workers):  # each worker works for some spiders
                queue.token = f"worker-{token}:4711:01234567"
                queue.report(report)
            queue.close()
        told = client.info("memory")["used_memory"] - before
        history = sum(client.memory_usage(key) for key in client.scan_iter("*history*", 1000))
        totals_bytes = sum(client.memory_usage(key) for key in client.scan_iter("*:totals", 1000))
        reports = sum(client.memory_usage(key) for key in client.scan_iter("*:workers", 1000))
        print(f"{spiders} spiders, {workers} workers, {HISTORY_DAYS} days: {told / 1e6:.1f} MB in all")
        print(f"history {history / 1e6:.1f} MB, counts {totals_bytes / 1e6:.1f} MB, reports {reports / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
