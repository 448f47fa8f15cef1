"""A Redis that refuses, or fails over to another: each state has its own sentence, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from origin import Origin
from project import Project, attachment, item
from servers import Server, Watched, any_binary, free_port


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that a test may set up as it likes."""
    with Server(any_binary()) as server:
        yield server


def as_replica(client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", str(free_port()))  # type: ignore[no-untyped-call]


def with_password(client: redis.Redis) -> None:
    client.config_set("requirepass", "secret")


def without_scripts(client: redis.Redis) -> None:
    client.execute_command("ACL", "SETUSER", "default", "-eval", "-evalsha")


def with_another_type(client: redis.Redis) -> None:
    client.set("files:items", "no list")


@pytest.mark.parametrize(
    ("make_it", "sentence"),
    [
        (as_replica, "read-only replica"),
        (with_password, "wants a password"),
        (without_scripts, "its ACL needs"),
        (with_another_type, "WRONGTYPE"),
    ],
)
def test_at_start_it_is_waited_for_and_then_the_crawl_closes_with_a_sentence(
    project: Project, own_server: Server, make_it: Callable[[redis.Redis], None], sentence: str
) -> None:
    with own_server.client() as client:
        make_it(client)
    project.settings |= {"REDIS_URL": own_server.url, "CHUNKDL_REDIS_WAIT": 0.3}

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "chunkdl_redis_unreachable"
    assert crawl.stats["log_count/ERROR"] == 1
    [warning, error] = [line for line in crawl.log.splitlines() if sentence in line]
    assert "Waiting for it" in warning
    assert "Waited 0.3 s (CHUNKDL_REDIS_WAIT)" in error
    assert "Traceback" not in crawl.log


def test_out_of_memory_is_waited_for(project: Project, own_server: Server, origin: Origin) -> None:
    project.settings |= {"REDIS_URL": own_server.url}
    project.items = [item(attachment(origin.url("a", 10)))]
    with own_server.client() as client:
        client.config_set("maxmemory", "1")
        process = project.start()
        for line in process.stdout or ():
            if "out of memory" in line:
                break
        client.config_set("maxmemory", "0")
        crawl = project.finish(process)

        assert crawl.stats["chunkdl/items/finished"] == len(project.scraped()) == 1
        assert client.keys("*") == []


def test_a_crawl_goes_on_with_the_new_primary_after_a_failover(tmp_path: Path, origin: Origin) -> None:
    with Watched() as watched:
        params = {
            "redis_cls": "scrapy_chunkdl.queue.client.sentinel_primary",
            "sentinels": [("127.0.0.1", watched.sentinel.port)],
            "service_name": watched.NAME,
        }
        project = Project(tmp_path / "project", {"REDIS_PARAMS": params})
        project.items = [item(attachment(origin.url(f"{n}", 5000, "hold:gate:1000@get")), n=n) for n in range(3)]
        begun = [origin.when(f"{n}", lambda stats: stats.sent >= 1000) for n in range(3)]

        process = project.start()
        for future in begun:
            future.result(60)
        with watched.primary.client() as client:
            assert client.wait(1, 5000) == 1
        watched.primary.kill()
        origin.release("gate")
        crawl = project.finish(process)

        assert sorted(found["n"] for found in project.scraped()) == [0, 1, 2]
        assert crawl.stats["chunkdl/items/finished"] == 3
        assert crawl.log.count("Waiting for it") == crawl.log.count("Redis is back") == 1
        with watched.replica.client() as look:
            assert look.info("replication")["role"] == "master"
            assert look.keys("*") == []
