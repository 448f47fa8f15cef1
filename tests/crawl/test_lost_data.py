"""A queue whose data are deleted while items are in hand: they go on, and no crawl ends as if all were done."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis
from origin import Origin
from project import Project, attachment, item
from servers import Server, any_binary

HELD, WAITING = range(4), range(100, 106)


def flush_all(server: Server) -> None:
    with server.client() as client:
        client.flushall()


def delete_its_keys(server: Server) -> None:
    with server.client() as client:
        client.delete(*redis.Redis.keys(client, "*files:items*"))


def start_without_data(server: Server) -> None:
    server.kill()
    for path in server.folder.rglob("appendonly*"):
        path.unlink() if path.is_file() else None
    server.start()


LOSSES: dict[str, Callable[[Server], None]] = {
    "FLUSHALL": flush_all,
    "DEL": delete_its_keys,
    "a start without persistence": start_without_data,
}


@pytest.mark.parametrize("fails", [False, True], ids=["passes", "fails once"])
@pytest.mark.parametrize("command", [("crawl", "files"), ("chunkdl", "worker", "files", "--until-empty")], ids=" ".join)
@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_items_in_hand_go_on_and_what_waited_is_told(
    project: Project, origin: Origin, lose: Callable[[Server], None], command: tuple[str, ...], fails: bool
) -> None:
    with Server(any_binary()) as server, server.client() as client:
        project.settings |= {"REDIS_URL": server.url, "CHUNKDL_BATCH_SIZE": 4, "CHUNKDL_THREADS": 1}
        project.settings |= {"CHUNKDL_RETRY_DELAY": 0.05}
        project.settings["ITEM_PIPELINES"] = {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1}
        if fails:
            project.settings["ITEM_PIPELINES"]["probe.support.FailsOnce"] = 2
        project.support = """
        class FailsOnce:
            failed = frozenset()

            def process_item(self, item, spider=None):
                if item["n"] not in self.failed:
                    self.failed |= {item["n"]}
                    raise RuntimeError("not today")
                return item
        """
        held = [item(attachment(origin.url(f"{n}", 1000, "hold:gate:100@get"), f"{n}"), n=n) for n in HELD]
        waiting = [item(attachment(origin.url(f"{n}", 10)), n=n) for n in WAITING]
        client.rpush("files:items", *map(json.dumps, held + waiting))
        begun = [origin.when(f"{n}", lambda stats: stats.sent >= 100) for n in HELD]

        process = project.begin(*command)
        for each in begun:
            each.result(60)
        lose(server)
        origin.release("gate")
        crawl = project.finish(process)

        assert sorted(found["n"] for found in project.scraped()) == list(HELD), crawl.log
        assert crawl.log.count("Redis has lost all data of files:items") == 1
        assert "4 items in hand are put back" in crawl.log
        assert "another process" not in crawl.log
        assert crawl.stats["finish_reason"] == "chunkdl_queue_data_gone"
        assert crawl.returncode == 1
        assert client.keys("*") == []
