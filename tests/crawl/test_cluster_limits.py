"""Limits and pauses of a host hold over all processes on one Redis."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from origin import Origin
from origin_content import content
from project import Project, attachment, item, paths

pytestmark = pytest.mark.usefixtures("client")

WAITING = "files:items"
WORKERS = 4


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin of its own: requests left of other tests would count."""
    with Origin() as origin:
        yield origin


def push(client: redis.Redis, urls: list[str]) -> None:
    items = [item(attachment(url, f"{n}.bin"), n=n) for n, url in enumerate(urls)]
    client.rpush(WAITING, *map(json.dumps, items))


def all_are_right(project: Project, number: int, size: int) -> None:
    found = {found["n"]: paths(found)[0] for found in project.scraped()}
    assert sorted(found) == list(range(number))
    assert all(Path(path).read_bytes() == content(f"{n}.bin", size) for n, path in found.items())


def test_four_processes_together_never_ask_a_host_for_more_than_the_limit(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_CLUSTER_CONCURRENT_CHUNKS_PER_HOST": 5, "CHUNKDL_BATCH_SIZE": 10}
    push(client, [origin.url(f"{n}.bin", 1000, "delay:0.02") for n in range(200)])

    processes = [project.start() for _ in range(WORKERS)]
    crawls = [project.finish(process) for process in processes]

    assert origin.peak <= 5
    assert sum(crawl.stats.get("chunkdl/files/downloaded", 0) > 0 for crawl in crawls) >= 2
    all_are_right(project, 200, 1000)
    assert client.keys("*") == []


@pytest.mark.long
def test_one_process_asked_for_a_pause_stops_all(project: Project, origin: Origin, client: redis.Redis) -> None:
    pause = 6
    project.settings |= {"CHUNKDL_CLUSTER_CONCURRENT_CHUNKS_PER_HOST": 8, "CHUNKDL_BATCH_SIZE": 4}
    faults = ["delay:0.05"] * 120
    faults[60] = f"status:429:{pause}@get@1"
    push(client, [origin.url(f"{n}.bin", 1000, fault) for n, fault in enumerate(faults)])

    processes = [project.start() for _ in range(WORKERS)]
    for process in processes:
        project.finish(process)

    [refused] = [seen for seen in origin.stats("60.bin").seen if seen.status == 429]
    within = [
        seen.at - refused.at
        for n in range(120)
        for seen in origin.stats(f"{n}.bin").seen
        if refused.at + pause * 3 / 4 < seen.at < refused.at + pause  # a busy machine tells the others late
    ]
    assert within == []
    all_are_right(project, 120, 1000)


@pytest.mark.long
@pytest.mark.parametrize(
    ("setting", "limit", "least_s"),
    [
        ("CHUNKDL_CLUSTER_MAX_RATE", 1_000_000, 2.0),
        ("CHUNKDL_CLUSTER_MAX_RATE_PER_HOST", 1_000_000, 2.0),
        ("CHUNKDL_CLUSTER_DOWNLOAD_DELAY", 0.05, 1.95),
    ],
)
def test_four_processes_together_are_no_faster_than_the_limit_of_all(
    project: Project, origin: Origin, client: redis.Redis, setting: str, limit: float, least_s: float
) -> None:
    project.settings |= {setting: limit, "CHUNKDL_BATCH_SIZE": 10, "CHUNKDL_PROBE": "range"}
    push(client, [origin.url(f"{n}.bin", 50_000) for n in range(40)])

    processes = [project.start() for _ in range(WORKERS)]
    for process in processes:
        project.finish(process)

    first = min(seen.at for n in range(40) for seen in origin.stats(f"{n}.bin").seen)
    began = time.time() - (time.monotonic() - first)
    named = [Path(paths(found)[0]).stat().st_ctime for found in project.scraped()]
    assert max(named) - began >= 0.75 * least_s, "never sooner, however slow the machine"
    all_are_right(project, 40, 50_000)
    assert client.keys("{chunkdl}:*") == [] or setting == "CHUNKDL_CLUSTER_DOWNLOAD_DELAY"
    assert all(client.pttl(key) > 0 for key in client.keys("{chunkdl}:*"))


def test_the_slots_of_a_killed_process_come_free(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.settings |= {"CHUNKDL_CLUSTER_CONCURRENT_CHUNKS_PER_HOST": 2, "CHUNKDL_LEASE": 1}
    push(client, [origin.url(f"{n}.bin", 1000, "hold:gate:500@get@1") for n in range(2)])
    held = [origin.when(f"{n}.bin", lambda stats: stats.sent >= 500) for n in range(2)]

    process = project.start()
    for each in held:
        each.result(60)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    origin.release("gate")
    lease = client.zrange("{files:items}:leases", 0, -1)
    client.zadd("{files:items}:leases", dict.fromkeys(lease, 1))  # their time has passed
    project.finish(project.start())

    all_are_right(project, 2, 1000)
