"""A queue of several lists: items wait in that of their priority, and all are claimed from, shown and worked off."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
import redis
from origin import Origin
from patience import HANG
from project import Project, attachment, item
from servers import wait_for

OWN, URGENT, SOON = "files:items", "files:urgent", "files:soon"
LISTS = "%(spider)s:urgent, %(spider)s:soon, %(spider)s:items"


@pytest.fixture
def several(project: Project) -> Project:
    project.settings |= {"CHUNKDL_ITEMS_KEY": LISTS, "CHUNKDL_PRIORITY_FIELD": "about.rank"}
    return project


def ranked(origin: Origin, number: int, rank: object) -> dict[str, Any]:
    one = item(attachment(origin.url(f"{number}.bin", 2000), f"{number}.bin"), n=number)
    return {**one, "about": {"rank": rank}}


def test_items_wait_in_the_list_of_their_priority_and_all_come(
    several: Project, origin: Origin, client: redis.Redis
) -> None:
    ranks = [0, 1, 2, 9, -1, None, "1", "high", 1.5]
    several.items = [ranked(origin, n, rank) for n, rank in enumerate(ranks)]
    client.hset("{files:items}:control", "paused", 1)
    process = several.start()
    wait_for(lambda: sum(client.llen(key) for key in (URGENT, SOON, OWN)) == len(ranks), "it never came")
    process.send_signal(signal.SIGINT)
    log, _ = process.communicate(timeout=HANG)
    waiting = {key: sorted(json.loads(raw)["n"] for raw in client.lrange(key, 0, -1)) for key in (URGENT, SOON, OWN)}
    status = several.command("chunkdl", "status", "files").stdout
    client.delete("{files:items}:control")
    several.items = []

    crawl = several.crawl()

    assert waiting == {URGENT: [2, 3], SOON: [1, 6], OWN: [0, 4, 5, 7, 8]}
    assert "9 waiting (2 in files:urgent, 2 in files:soon, 5 in files:items)" in status
    assert "about.rank is 'high', not a whole number (CHUNKDL_PRIORITY_FIELD)" in log
    assert "about.rank is 1.5, not a whole number" in log
    assert sorted(found["n"] for found in several.scraped()) == list(range(len(ranks)))
    assert crawl.stats["chunkdl/items/finished"] == len(ranks)
    assert client.keys("*") == []


def test_the_first_list_is_worked_off_first_and_the_others_do_not_starve(
    several: Project, origin: Origin, client: redis.Redis
) -> None:
    for key, numbers in ((OWN, range(60)), (URGENT, range(100, 160))):
        client.rpush(key, *(json.dumps(ranked(origin, n, 0)) for n in numbers))
    several.settings |= {"CHUNKDL_BATCH_SIZE": 10, "CHUNKDL_THREADS": 1, "CHUNKDL_DONE_KEY": "done"}

    several.crawl()

    order = [json.loads(raw)["n"] for raw in client.lrange("done", 0, -1)]
    first = order[:60]
    assert sorted(order) == [*range(60), *range(100, 160)]
    assert 48 <= sum(number >= 100 for number in first) <= 58
    client.delete("done")


@pytest.mark.parametrize("others", [URGENT, OWN])
def test_a_pipeline_that_would_push_into_one_of_the_lists_is_refused(several: Project, others: str) -> None:
    several.settings |= {"REDIS_ITEMS_KEY": others}
    several.settings["ITEM_PIPELINES"] = {
        "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
        "scrapy_redis.pipelines.RedisPipeline": 900,
    }

    crawl = several.crawl()

    assert f"pushes finished items to {others}, the list they are claimed from" in crawl.log


def test_a_priority_without_lists_to_choose_from_is_refused(project: Project) -> None:
    project.settings |= {"CHUNKDL_PRIORITY_FIELD": "rank"}

    crawl = project.crawl()

    assert "CHUNKDL_PRIORITY_FIELD = 'rank' chooses among the lists of CHUNKDL_ITEMS_KEY, which names one" in crawl.log
