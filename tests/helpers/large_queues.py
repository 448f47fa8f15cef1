"""Queues of the size of real projects: 300 spiders, 60 workers, a million waiting items, 100,000 failed records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from scrapy_chunkdl.dashboard.board import Board
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.recent import Recent
from scrapy_chunkdl.queue.status import Pace, Report
from scrapy_chunkdl.queue.tally import Part
from scrapy_chunkdl.queue.totals import Totals
from scrapy_chunkdl.settings.config import Config

SPIDERS, WORKERS, WAITING, FAILED, RUNNING = 300, 60, 1_000_000, 100_000, 200


def key_of(n: int) -> str:
    """Return the list of spider ``n``."""
    return f"spider{n:03}:items"


@contextmanager
def large_board(url: str) -> Iterator[Board]:
    """Give a board of all spiders on the Redis at ``url``."""
    board, client = Board(), make_client({"REDIS_URL": url})
    for n in range(SPIDERS):
        board.add(f"spider{n:03}", key_of(n), client, Config())
    yield board
    client.close()


def fill(client: redis.Redis) -> None:
    """Spider 250 has the million, and nobody at work; 121 the failed; the first 100 are at work, the rest is idle."""
    now = client.time()[0] * 1000
    hour, since = now + 3_600_000, now - 600_000  # at work for ten minutes
    for n in range(100):
        for worker in range(6):
            machine = (n + worker) % WORKERS
            client.hset(f"{{{key_of(n)}}}:workers", f"machine-{machine}:4711:{n:08}", _told(hour, since, machine))
        client.rpush(key_of(n), *range(50))
    one = json.dumps({"title": "report %d", "url": "https://site/page/%d", "files": ["https://site/%d.pdf"]})
    for start in range(0, WAITING, 10_000):
        client.rpush(key_of(250), *(one.replace("%d", str(n)) for n in range(start, start + 10_000)))
    for start in range(0, FAILED, 10_000):
        client.rpush(f"{{{key_of(121)}}}:failed", *(_failed(n) for n in range(start, start + 10_000)))
    for worker in range(WORKERS):
        client.hset(f"{{{key_of(0)}}}:workers", f"machine-{worker}:4711:all", _told(hour, since, worker))
    _run(client, hour)
    _did(client)


def _told(until: int, since: int, n: int) -> bytes:
    pace = Pace(30.0, (30,) * 61, (3_000_000,) * 61, (7,) * 61)
    report = Report(f"machine-{n}", 4711, "0.1.0", "claiming", 3, 7, pace, 1 << 40, 1 << 42)
    return b"%d %d %s" % (until, since, report.encode())


def _failed(n: int) -> bytes:
    told = {"url": f"http://h/{n}", "filename": f"{n}.bin", "reason": "http_404", "message": "404 Not Found"}
    told |= {"time": "2026-01-01T00:00:00+00:00", "status": 404, "attempts": 1, "bytes_done": 0, "delivery": f"d:{n}"}
    return f'{json.dumps(told)[:-1]}, "item": {{"n": {n}}}}}'.encode()


def _run(client: redis.Redis, until: int) -> None:
    """Have spider 0 run files of chunks in every state, from many hosts."""
    for worker in range(4):
        files: list[dict[str, Any]] = [
            {
                "id": f"{worker}-{n}",
                "url": f"https://host{n}.example/archive/{worker}/{n}.nc",
                "name": f"observations-{worker}-{n}.nc",
                "size": 250 << 20,
                "done": (100 + n) << 20,
                "bytes_per_second": 1_000_000 + n,
                "eta": 150,
                "chunks": 250,
                "retries": n % 3,
                "doing": "receiving",
                "doing_for": 0.1,
                "map": "100d8r2h1t" + "3d1r" * 10 + "99m",
                "title": f"report {n}",
                "page": f"https://site/page/{n}",
            }
            for n in range(RUNNING // 4)
        ]
        hosts = [
            {"host": f"host{n}.example", "connections": 4, "limit": 8, "bytes_per_second": 1e6, "errors": {}}
            for n in range(RUNNING)
        ]
        told = json.dumps({"running": len(files), "files": files, "hosts": hosts})
        client.hset(f"{{{key_of(0)}}}:details", f"machine-{worker}:4711:all", f"{until} {told}")


def _did(client: redis.Redis) -> None:
    """Have spider 0 be at it for 90 days."""
    done = {"files/downloaded": 12_345, "received": 9e12, "items/finished": 12_000}
    Totals(client, key_of(0), "x").add(Part(1, done))
    Recent(client, key_of(0)).add([{"name": f"{n}.pdf", "url": f"https://site/{n}", "size": n} for n in range(100)])
    today = client.time()[0] // 86400
    for day in range(today - 89, today):
        hours = {f"{hour:02}{letter}": 3_000 + hour for hour in range(24) for letter in "idx"}
        client.hset(
            f"{{{key_of(0)}}}:history {day}", mapping=hours | {f"{hour:02}b": 12_345_678_901 for hour in range(24)}
        )
