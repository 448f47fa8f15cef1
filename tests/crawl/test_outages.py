"""Outages behind the downloads, poison, downloads of many lives: nothing is buried for what is not its fault."""

from __future__ import annotations

import json
import signal
import textwrap

import pytest
import redis
from origin import Origin
from origin_content import content
from project import Crawl, Project, attachment, item, paths

WAITING, LEASES, DEAD, FAILED, PAYLOAD = (
    "files:items",
    *(f"{{files:items}}:{name}" for name in ("leases", "dead", "failed", "payload")),
)

QUICK = """
from scrapy_chunkdl.crawl import breaker

breaker.FIRST_PAUSE_S = breaker.LONGEST_PAUSE_S = 0.05
"""


def behind_ours(project: Project, *pipelines: str) -> None:
    project.settings["ITEM_PIPELINES"] = {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1} | {
        f"probe.support.{name}": 2 + number for number, name in enumerate(pipelines)
    }


def numbers(project: Project) -> list[int]:
    return sorted(found["n"] for found in project.scraped())


@pytest.mark.long
@pytest.mark.parametrize("retry_delay", [0, 0.05])
@pytest.mark.parametrize("where", ["pipeline", "hook"])
def test_an_outage_that_all_items_meet_costs_none_its_life(
    project: Project, origin: Origin, client: redis.Redis, retry_delay: float, where: str
) -> None:
    project.settings |= {"CHUNKDL_RETRY_DELAY": retry_delay, "CHUNKDL_MAX_DELIVERIES": 2}
    if where == "pipeline":
        behind_ours(project, "Database")
    else:
        project.settings["ITEM_PIPELINES"] = {"probe.support.Hooked": 1}
    project.support = QUICK + textwrap.dedent("""
    from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

    def ask(calls=[0]):
        calls[0] += 1
        if calls[0] <= 40:
            raise ConnectionError("the database is away")

    class Database:
        def process_item(self, item, spider=None):
            ask()
            return item

    class Hooked(ChunkDownloadPipeline):
        def get_media_requests(self, item, info):
            if "queued" in item:
                ask()
            return super().get_media_requests(item, info)
    """)
    client.rpush(WAITING, *(json.dumps(item(attachment(origin.url(f"{n}", 10)), n=n, queued=1)) for n in range(20)))

    crawl = project.crawl()

    assert numbers(project) == list(range(20))
    assert client.keys("*") == []
    whose = "Database" if where == "pipeline" else "Hooked"
    [opened] = [line for line in crawl.log.splitlines() if "all failed" in line]
    assert f"ConnectionError in probe.support.{whose}" in opened
    assert crawl.log.count("claiming goes on as before") == 1


@pytest.mark.parametrize("raised", ["ConnectionError", "KeyError"])
@pytest.mark.parametrize("command", [("crawl", "files"), ("chunkdl", "worker", "files", "--until-empty")])
def test_an_outage_without_end_ends_the_crawl_with_a_reason_and_keeps_the_items(
    project: Project, origin: Origin, client: redis.Redis, command: tuple[str, ...], raised: str
) -> None:
    project.settings |= {"CHUNKDL_RETRY_DELAY": 0.05, "CHUNKDL_MAX_DELIVERIES": 2}
    behind_ours(project, "Broken")
    project.support = QUICK + textwrap.dedent(f"""
    breaker.GIVE_UP_S = breaker.GIVE_UP_CODE_S = 0.5

    class Broken:
        def process_item(self, item, spider=None):
            raise {raised}("the database is away")
    """)
    client.rpush(WAITING, *(json.dumps(item(attachment(origin.url(f"{n}", 10)), n=n)) for n in range(10)))

    crawl = project.finish(project.begin(*command))

    assert crawl.stats["finish_reason"] == "chunkdl_pipelines_fail"
    assert crawl.returncode == 1
    assert "Left in files:items: " in crawl.log
    left = [*client.lrange(WAITING, 0, -1), *client.hvals(PAYLOAD)]
    assert sorted(json.loads(payload)["n"] for payload in left) == list(range(10))
    assert client.exists(DEAD, LEASES) == 0


def test_an_item_that_fails_while_others_pass_ends_among_the_dead_and_is_told_why(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_RETRY_DELAY": 0.01, "CHUNKDL_MAX_DELIVERIES": 3}
    behind_ours(project, "Picky")
    project.support = """
    class Picky:
        def process_item(self, item, spider=None):
            if item["n"] == 3:
                raise KeyError("title")
            return item
    """
    project.items = [item(attachment(origin.url(f"{n}", 10)), n=n) for n in range(12)]

    crawl = project.crawl()

    assert numbers(project) == [n for n in range(12) if n != 3]
    assert [json.loads(dead)["n"] for dead in client.lrange(DEAD, 0, -1)] == [3]
    [record] = [json.loads(raw) for raw in client.lrange(FAILED, 0, -1)]
    assert record["reason"] == "pipeline_failed"
    assert "KeyError in probe.support.Picky" in record["message"]
    assert crawl.stats["chunkdl/items/retried"] == 2


def test_an_item_that_kills_its_process_takes_nobody_with_it(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_MAX_DELIVERIES": 2}
    behind_ours(project, "Poisoned")
    project.support = """
    import os

    class Poisoned:
        def process_item(self, item, spider=None):
            if item["n"] == 3:
                os._exit(137)
            return item
    """
    project.settings["FEEDS"] = {}
    project.settings["CHUNKDL_DONE_KEY"] = "done"
    client.rpush(WAITING, *(json.dumps(item(attachment(origin.url(f"{n}", 10)), n=n)) for n in range(10)))

    codes = []
    while not codes or codes[-1] == 137:
        codes.append(project.crawl().returncode)
        for item_id in client.zrange(LEASES, 0, -1):
            client.zadd(LEASES, {item_id: 1})  # their time has passed

    assert len(codes) <= 4
    assert sorted(json.loads(done)["n"] for done in client.lrange("done", 0, -1)) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert [json.loads(dead)["n"] for dead in client.lrange(DEAD, 0, -1)] == [3]


def test_a_file_may_take_more_lives_than_an_item_has(project: Project, origin: Origin, client: redis.Redis) -> None:
    size, part, lives = 6_000_000, 1_000_000, 5
    project.settings |= {
        "CHUNKDL_MAX_DELIVERIES": 2,
        "CHUNKDL_CHUNK_SIZE": 65_536,
        "CHUNKDL_CONCURRENT_CHUNKS_PER_FILE": 1,
        "CHUNKDL_LEASE": 3600,
    }
    url = origin.url("big.bin", size, f"hold:gate:{part}@get")
    client.rpush(WAITING, json.dumps(item(attachment(url, "big.bin"))))

    for life in range(1, lives):
        half_way = origin.when("big.bin", lambda stats, life=life: stats.sent >= life * part)
        process = project.start()
        half_way.result(60)
        [item_id] = client.zrange(LEASES, 0, -1)
        told = b"0 0 0 0"
        while told.split()[2] != b"1":  # its first bytes were told
            told = client.hget("{files:items}:past", item_id) or told
        process.send_signal(signal.SIGKILL)
        process.communicate()
        client.zadd(LEASES, {item_id: 1})  # its time has passed
    origin.release("gate")
    crawl: Crawl = project.crawl()

    [path] = paths(project.scraped()[0])
    with open(path, "rb") as file:
        assert file.read() == content("big.bin", size)
    assert crawl.stats["chunkdl/bytes/resumed"] > 0
    assert client.exists(DEAD) == 0
