"""A Redis that refuses, or fails over to another: each state has its own sentence, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from origin import Origin
from project import Project, attachment, item
from relay import Relay
from servers import Node, Server, Watched, any_binary, free_port, wait_for


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


def with_done_of_another_type(client: redis.Redis) -> None:
    client.sadd("files:done", "x")


def test_at_start_it_is_waited_for_and_then_the_crawl_closes_with_a_sentence(
    project: Project, own_server: Server
) -> None:
    with own_server.client() as client:
        as_replica(client)
    project.settings |= {"REDIS_URL": own_server.url, "CHUNKDL_REDIS_WAIT": 0.3}

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "chunkdl_redis_unreachable"
    assert crawl.stats["log_count/ERROR"] == 1
    [warning, error] = [line for line in crawl.log.splitlines() if "read-only replica" in line]
    assert "Waiting for it" in warning
    assert "Waited 0.3 s (CHUNKDL_REDIS_WAIT)" in error
    assert "Traceback" not in crawl.log


@pytest.mark.parametrize(
    ("make_it", "settings", "sentence"),
    [
        (with_password, {}, "wants a password"),
        (with_password, {"REDIS_PARAMS": {"password": "wrong"}}, "refuses the user name or password"),
        (without_scripts, {}, "its ACL needs"),
        (with_another_type, {}, "CHUNKDL_ITEMS_KEY = 'files:items' is a string in Redis"),
        (with_done_of_another_type, {"CHUNKDL_DONE_KEY": "files:done"}, "CHUNKDL_DONE_KEY = 'files:done' is a set in"),
    ],
)
def test_what_waiting_does_not_cure_closes_the_crawl_at_once(
    project: Project,
    own_server: Server,
    make_it: Callable[[redis.Redis], None],
    settings: dict[str, object],
    sentence: str,
) -> None:
    with own_server.client() as client:
        make_it(client)
    project.settings |= {"REDIS_URL": own_server.url, "CHUNKDL_REDIS_WAIT": 3600} | settings

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "chunkdl_redis_unreachable"
    [error] = [line for line in crawl.log.splitlines() if sentence in line]
    assert "ERROR" in error
    assert "Waiting" not in crawl.log
    assert "Traceback" not in crawl.log


def test_out_of_memory_is_waited_for(project: Project, own_server: Server, origin: Origin) -> None:
    project.settings |= {"REDIS_URL": own_server.url}
    project.items = [item(attachment(origin.url("a", 10)))]
    with own_server.client() as client:
        client.config_set("maxmemory", "1")
        process = project.start()
        for line in process.stdout or ():
            if "out of memory" in line or "of its maxmemory" in line:  # refused, or not asked any more
                break
        client.config_set("maxmemory", "0")
        crawl = project.finish(process)

        assert crawl.stats["chunkdl/items/finished"] == len(project.scraped()) == 1
        assert client.keys("*") == []


def test_a_crawl_goes_on_behind_one_address_when_the_primary_is_demoted(tmp_path: Path, origin: Origin) -> None:
    """As HAProxy, a service of Kubernetes and managed Redis do: old connections stay at the former primary."""
    with Node() as first, Node("--replicaof", f"127.0.0.1 {first.port}") as second, Relay(first.port) as relay:
        with second.client() as look:
            wait_for(lambda: look.info("replication")["master_link_status"] == "up", "the replica gets no data")
        project = Project(tmp_path / "project", {"REDIS_URL": relay.url})
        project.settings["CHUNKDL_CLUSTER_CONCURRENT_CHUNKS_PER_HOST"] = 8
        project.items = [item(attachment(origin.url(f"{n}", 5000, "hold:gate:1000@get")), n=n) for n in range(3)]
        begun = [origin.when(f"{n}", lambda stats: stats.sent >= 1000) for n in range(3)]

        process = project.start()
        for future in begun:
            future.result(60)
        with first.client() as one, second.client() as other:
            assert one.wait(1, 5000) == 1
            other.replicaof("NO", "ONE")  # type: ignore[no-untyped-call]
            relay.target = second.port
            one.replicaof("127.0.0.1", str(second.port))  # type: ignore[no-untyped-call]
            origin.release("gate")
            crawl = project.finish(process)

            assert sorted(found["n"] for found in project.scraped()) == [0, 1, 2]
            assert crawl.stats["chunkdl/items/finished"] == 3
            assert other.keys("*") == []


@pytest.fixture(params=["redis", "service"])
def small_requests(request: pytest.FixtureRequest) -> Iterator[tuple[str, redis.Redis]]:
    """A Redis that ends connections whose request is above 1 MiB, and one behind a service that refuses it."""
    with Node("--client-query-buffer-limit", "1mb") as node, node.client() as client:
        if request.param == "redis":
            yield f"redis://127.0.0.1:{node.port}", client
        else:
            client.config_set("client-query-buffer-limit", "1gb")
            with Relay(node.port, largest_bytes=1 << 20) as relay:
                yield relay.url, client


def test_an_item_too_large_for_redis_is_kept_in_a_file_and_the_rest_goes_on(
    tmp_path: Path, origin: Origin, small_requests: tuple[str, redis.Redis]
) -> None:
    url, client = small_requests
    project = Project(tmp_path / "project", {"REDIS_URL": url, "LOG_LEVEL": "WARNING"})
    project.settings["CHUNKDL_WORK_FOLDER"] = str(tmp_path / "work")
    project.items = [item(attachment(origin.url(f"{n}", 10)), n=n) for n in range(12)]
    project.items[5]["text"] = "x" * 3_000_000

    crawl = project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == [n for n in range(12) if n != 5]
    [kept] = (tmp_path / "work").glob("chunkdl-refused/item-*.json")
    assert json.loads(kept.read_bytes()) == project.items[5]
    assert str(kept) in crawl.log
    assert client.keys("*") == []


def test_groups_of_items_and_acks_go_in_requests_that_are_taken(
    tmp_path: Path, origin: Origin, small_requests: tuple[str, redis.Redis]
) -> None:
    url, client = small_requests
    project = Project(tmp_path / "project", {"REDIS_URL": url, "CHUNKDL_DONE_KEY": "done"})
    project.items = [item(attachment(origin.url(f"{n}", 10)), n=n, text="x" * 50_000) for n in range(60)]

    crawl = project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == list(range(60))
    assert client.llen("done") == 60
    assert "Waiting" not in crawl.log


def test_what_pipelines_made_too_large_is_kept_in_a_file_and_acknowledged(
    tmp_path: Path, origin: Origin, small_requests: tuple[str, redis.Redis]
) -> None:
    url, client = small_requests
    project = Project(tmp_path / "project", {"REDIS_URL": url, "CHUNKDL_DONE_KEY": "done", "FEEDS": {}})
    project.settings["ITEM_PIPELINES"] = {
        "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
        "probe.support.Grow": 2,
    }
    project.support = """
    class Grow:
        def process_item(self, item, spider=None):
            return {**item, "text": "x" * 3_000_000} if item["n"] == 3 else item
    """
    project.items = [item(attachment(origin.url(f"{n}", 10)), n=n) for n in range(6)]

    project.crawl()

    [kept] = project.folder.glob(".scrapy/chunkdl-refused/finished-*.json")
    assert json.loads(kept.read_bytes())["n"] == 3
    assert sorted(json.loads(done)["n"] for done in client.lrange("done", 0, -1)) == [0, 1, 2, 4, 5]
    assert client.keys("*") == [b"done"]


def test_many_records_of_one_item_go_in_requests_that_are_taken(
    tmp_path: Path, small_requests: tuple[str, redis.Redis]
) -> None:
    url, client = small_requests
    project = Project(tmp_path / "project", {"REDIS_URL": url, "LOG_LEVEL": "ERROR"})
    project.items = [item(*(attachment(f"nothing://h/{n}/{'x' * 200}") for n in range(2000)))]

    project.crawl()

    records = [json.loads(raw) for raw in client.lrange("{files:items}:failed", 0, -1)]
    assert len(records) == 2000
    assert [record["item"] for record in records if "item" in record] == [project.items[0]]
    assert len({record["delivery"] for record in records}) == 1


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
