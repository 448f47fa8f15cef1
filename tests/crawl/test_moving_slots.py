"""A crawl on a Redis Cluster whose slots move from node to node meanwhile, as when a node is added or taken away."""

from __future__ import annotations

import itertools
import json

import pytest
import redis
from origin import Origin
from project import Project, attachment, item
from redis.cluster import key_slot
from servers import Cluster

ITEMS = 40


@pytest.mark.long
@pytest.mark.parametrize("command", [("crawl", "files"), ("chunkdl", "worker", "files", "--until-empty")], ids=" ".join)
@pytest.mark.parametrize("moved", ["files:items", "{chunkdl}:x"])
def test_each_item_comes_out_once_while_slots_move(
    project: Project, origin: Origin, command: tuple[str, ...], moved: str
) -> None:
    with Cluster() as cluster:
        port, slot = cluster.nodes[0].port, key_slot(moved.encode())
        project.settings |= {"REDIS_URL": f"redis://127.0.0.1:{port}", "CHUNKDL_BATCH_SIZE": 2, "CHUNKDL_THREADS": 1}
        project.settings |= {"REDIS_PARAMS": {"redis_cls": "redis.cluster.RedisCluster"}}
        items = [item(attachment(origin.url(f"{n}", 1000, "delay:0.05@get")), n=n) for n in range(ITEMS)]
        client = redis.RedisCluster(host="127.0.0.1", port=port)
        client.rpush("files:items", *map(json.dumps, items))
        owner = slot * 3 // 16384

        process = project.begin(*command)
        for _ in itertools.takewhile(lambda _: process.poll() is None, itertools.count()):
            cluster.move_slot(slot, owner, (owner + 1) % 3)
            owner = (owner + 1) % 3
        crawl = project.finish(process)

        assert sorted(found["n"] for found in project.scraped()) == list(range(ITEMS)), crawl.log
        assert crawl.stats["finish_reason"] == "finished"
        assert "Traceback" not in crawl.log
        assert "lost all data" not in crawl.log
        assert client.exists("{files:items}:leases") == client.exists("{files:items}:dead") == 0
        client.close()
