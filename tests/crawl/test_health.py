"""``/healthz`` and ``/readyz`` of a crawl or worker: what is wrong with it, on a port of its own."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from origin import Origin
from patience import HANG
from project import Project, attachment, item
from servers import Server, any_binary, wait_for

from scrapy_chunkdl.crawl.health import Health

WAITING = "files:items"

BLOCKS = """
import os, time
from pathlib import Path

class Blocks:
    def process_item(self, item, spider=None):
        Path("blocked").write_text("")
        while not Path("go on").exists():
            time.sleep(0.05)
        return item
"""

SOON = """
from scrapy_chunkdl.crawl import health
from scrapy_chunkdl.queue import heartbeat

heartbeat.REPORT_EVERY, health.SILENT_AFTER = 0.2, 3.0
"""
"""Silence is told after 3 s, not 15."""


def probe(url: str, path: str) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(url + path, timeout=HANG) as answer:
            return answer.status, json.load(answer)["checks"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["checks"]


@contextmanager
def worker(project: Project, **settings: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Give a worker and the address of its probes."""
    project.settings |= {"CHUNKDL_HEALTH": "127.0.0.1:0", "CHUNKDL_THREADS": 2, **settings}
    process = project.begin("chunkdl", "worker", "files")
    assert process.stdout is not None
    try:
        line = next(line for line in process.stdout if "Health at " in line)
        yield process, line.split("Health at ")[1].strip()
    finally:
        process.send_signal(signal.SIGTERM)
        project.finish(process)


def test_a_worker_that_is_well_says_so(project: Project) -> None:
    with worker(project) as (_, url):
        wait_for(lambda: probe(url, "readyz")[0] == 200, "it is never ready")

        assert probe(url, "healthz") == (200, {"scrapy": "ok", "loop 0": "ok", "loop 1": "ok"})
        assert probe(url, "readyz")[1].keys() == {"scrapy", "loop 0", "loop 1", "claiming", "redis"}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url + "api/status", timeout=HANG)


def test_a_pipeline_that_blocks_scrapys_thread_beyond_the_lease_is_told(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.support = BLOCKS + SOON
    pipelines = {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1, "probe.support.Blocks": 300}
    client.rpush(WAITING, json.dumps(item(attachment(origin.url("a.bin", 10)))))
    with worker(project, ITEM_PIPELINES=pipelines, CHUNKDL_LEASE=1.0) as (_, url):
        wait_for((project.folder / "blocked").exists, "no item came to the pipeline")

        wait_for(lambda: probe(url, "healthz")[0] == 503, "it is well all the same")
        status, checks = probe(url, "healthz")
        (project.folder / "go on").write_text("")
        wait_for(lambda: probe(url, "healthz")[0] == 200, "it is not well again")

    assert status == 503
    assert checks["scrapy"].startswith("Scrapy's thread has not turned for ")


def test_a_redis_that_is_away_makes_it_unready_and_not_dead(tmp_path: Path) -> None:
    with Server(any_binary()) as server:
        project = Project(tmp_path / "project", {"REDIS_URL": server.url}, support=SOON)
        with worker(project) as (_, url):
            wait_for(lambda: probe(url, "readyz")[0] == 200, "it is never ready")

            server.kill()
            wait_for(lambda: probe(url, "readyz")[0] == 503, "it is ready without Redis")

            assert probe(url, "readyz")[1]["redis"].startswith("Redis has not answered for ")
            assert probe(url, "healthz")[0] == 200
            server.start()
            wait_for(lambda: probe(url, "readyz")[0] == 200, "it is not ready again")


def test_a_worker_that_closes_is_alive_and_takes_nothing_more(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    client.rpush(WAITING, json.dumps(item(attachment(origin.url("a.bin", 100_000, "stall")))))
    with worker(project, CHUNKDL_SHUTDOWN_GRACE=600.0) as (process, url):
        wait_for(lambda: origin.stats("a.bin").requests > 0, "nothing is asked for")
        process.send_signal(signal.SIGTERM)

        wait_for(lambda: probe(url, "readyz")[0] == 503, "it is ready while it closes")

        assert probe(url, "readyz")[1]["claiming"] == "the spider closes"
        assert probe(url, "healthz")[0] == 200


def now(ago: float = 0.0) -> float:
    return time.monotonic() - ago


@pytest.mark.parametrize(
    ("scrapy", "loops", "heard", "closing", "live", "ready"),
    [
        (0, [0, 0], 0, False, set(), set()),
        (0, [0, 0], 14, False, set(), set()),
        (0, [0, 0], 16, False, set(), {"redis"}),
        (0, [0, 0], math.inf, False, set(), {"redis"}),
        (0, [0, 61], 0, False, {"loop 1"}, {"loop 1"}),
        (61, [0], 0, False, {"scrapy"}, {"scrapy"}),
        (59, [59], 0, False, set(), set()),
        (0, [0], 0, True, set(), {"claiming"}),
        (61, [61, 61], 99, True, {"scrapy", "loop 0", "loop 1"}, {"scrapy", "loop 0", "loop 1", "redis", "claiming"}),
        (0, [0], None, False, set(), set()),
    ],
)
def test_what_stands_still_for_longer_than_it_may_is_wrong(
    scrapy: float, loops: list[float], heard: float | None, closing: bool, live: set[str], ready: set[str]
) -> None:
    redis_heard = (lambda: now(heard)) if heard is not None else None
    health = Health(lambda: now(scrapy), lambda: [now(ago) for ago in loops], redis_heard, lambda: closing, 60.0)

    assert {name for name, wrong in health.live().items() if wrong} == live
    assert {name for name, wrong in health.ready().items() if wrong} == ready
    assert ("redis" in health.ready()) == (heard is not None)
