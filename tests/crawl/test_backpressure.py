"""What is claimed and not finished is bounded, whatever is slow; and what is slow does not starve the rest."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import redis
from origin import Origin
from patience import HANG
from project import Project, attachment, item

WAITING, LEASES, DELAYED, TRIES = "files:items", *(f"{{files:items}}:{name}" for name in ("leases", "delayed", "tries"))

SLOW = """
import asyncio
from pathlib import Path

class Slow:
    async def process_item(self, item, spider=None):
        with open("began", "a") as file:
            file.write("x")
        while not Path("go").exists():
            await asyncio.sleep(0.02)
        return item
"""


def watch(client: redis.Redis, until: int, most: int) -> None:
    """Wait until so many items are done, and see that never more than ``most`` are leased."""
    deadline = time.monotonic() + HANG
    while client.llen("done") < until:
        assert client.zcard(LEASES) <= most
        assert time.monotonic() < deadline, f"only {client.llen('done')} of {until} were done"
        time.sleep(0.01)


@pytest.mark.parametrize("most_in_pipelines", [100, 3])
def test_a_slow_later_pipeline_slows_the_claims(project: Project, client: redis.Redis, most_in_pipelines: int) -> None:
    bound, items = 2 * 4, 30
    project.settings |= {
        "CHUNKDL_BATCH_SIZE": 4,
        "CHUNKDL_DONE_KEY": "done",
        "CONCURRENT_ITEMS": most_in_pipelines,
        "ITEM_PIPELINES": {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1, "probe.support.Slow": 2},
    }
    project.support = SLOW
    client.rpush(WAITING, *(json.dumps(item(n=n)) for n in range(items)))
    began = project.folder / "began"

    process = project.start()
    deadline = time.monotonic() + HANG
    while client.zcard(LEASES) < bound or not began.exists() or began.stat().st_size < min(bound, most_in_pipelines):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ticks = time.monotonic() + 1
    while time.monotonic() < ticks:  # it looks four times a second, and each time finds no room
        assert (client.zcard(LEASES), client.llen(WAITING)) == (bound, items - bound)
        assert began.stat().st_size == min(bound, most_in_pipelines)
        time.sleep(0.01)
    Path(project.folder / "go").touch()
    watch(client, items, bound)
    crawl = project.finish(process)

    assert sorted(found["n"] for found in project.scraped()) == list(range(items))
    assert crawl.stats["chunkdl/items/finished"] == items


@pytest.mark.parametrize(("threads", "slow"), [(2, 200), (1, 44)])
def test_a_host_that_hangs_does_not_keep_the_items_behind_from_others(
    project: Project, origin: Origin, client: redis.Redis, threads: int, slow: int
) -> None:
    quick, bound = 20, 32 * threads
    project.settings["CHUNKDL_THREADS"] = threads
    project.settings |= {"CHUNKDL_DONE_KEY": "done", "CHUNKDL_SHUTDOWN_GRACE": 0, "CHUNKDL_STALL_TIMEOUT": 120}
    hanging = [item(attachment(origin.url(f"s{n}", 10, "hold:gate@get"))) for n in range(slow)]
    others = [item(attachment(origin.url(f"q{n}", 10, host="localhost")), n=n) for n in range(quick)]
    client.rpush(WAITING, *map(json.dumps, hanging + others))

    process = project.start()
    watch(client, quick, bound)
    process.send_signal(signal.SIGINT)
    crawl = project.finish(process)

    assert sorted(found["n"] for found in project.scraped()) == list(range(quick))
    assert crawl.stats["chunkdl/items/put_back"] >= slow - bound
    assert client.llen(WAITING) + client.zcard(DELAYED) == slow
    assert set(client.hvals(TRIES)) == {b"0"}  # neither putting nor handing back counts
    origin.release("gate")
