"""The queue on a Redis Cluster, and over the failover of a primary that Sentinel watches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster
from servers import Cluster, Watched, wait_for

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.dead_letters import DeadLetters
from scrapy_chunkdl.queue.errors import REDIS_ERRORS, explain, judge
from scrapy_chunkdl.queue.host_limits import AskedLimits, HostLimits
from scrapy_chunkdl.queue.hosts import Demand, HostShares
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.memory import look_at_memory
from scrapy_chunkdl.queue.rate_shares import RateShares
from scrapy_chunkdl.queue.start_shares import StartShares
from scrapy_chunkdl.queue.totals import Totals
from scrapy_chunkdl.queue.waiting import Waiting

CLUSTER_CLS = "redis.cluster.RedisCluster"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(params=["host and port", "url"])
def client(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client made of settings that know one node only."""
    settings: dict[str, Any] = {"REDIS_PARAMS": {"redis_cls": CLUSTER_CLS}}
    if request.param == "url":
        settings["REDIS_URL"] = f"redis://127.0.0.1:{cluster.nodes[1].port}"
    else:
        settings |= {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": cluster.nodes[1].port}
    client = make_client(settings)
    client.flushall(target_nodes=RedisCluster.PRIMARIES)
    yield client
    client.close()


@pytest.mark.parametrize("key", ["a:items", "b:items", "{tag}:items", "crawl{7}x"])
def test_every_call_works_on_a_cluster(client: Any, key: str) -> None:
    prefix = key if "{" in key else f"{{{key}}}"
    queue = ItemQueue(client, key, max_deliveries=1, done_key=f"{prefix}:done")
    failed, dead = DeadLetters.failed(client, key), DeadLetters.dead(client, key)

    queue.push([b"0"], 0)
    queue.claim(1, "first")
    assert queue.put_back(["first:1"]) == ["first:1"]
    queue.ack([(claimed.id, None) for claimed in queue.claim(1, "again")[0]])
    queue.push([b"1", b"2", b"3", b"4", b"5", b"6"], 1)
    batch, _ = queue.claim(6, "p")
    assert queue.renew([claimed.id for claimed in batch]) == []
    assert len(queue.leases()) == 6
    assert queue.ack([("p:1", b"one")]) == ["p:1"]
    assert queue.retry("p:2", 3600)
    assert queue.release(["p:3"]) == ["p:3"]
    assert queue.fail("p:4", [{"url": "u"}])
    assert queue.hold("p:5", [{"url": "u"}])
    assert queue.bury("p:6", {"reason": "x"})

    counts = queue.counts()
    assert (counts.waiting, counts.leased, counts.delayed, counts.dead, counts.failed) == (0, 1, 2, 1, 3)
    assert (failed.put_back(lambda item: item.payload == b"5"), dead.put_back(), failed.drop()) == (1, 1, 2)
    assert client.lrange(f"{prefix}:done", 0, -1) == [b"one"]
    assert client.lrange(key, 0, -1) == [b"5", b"6"]
    queue.forget()
    assert not client.exists(queue.calls_key)


@pytest.mark.parametrize(
    ("key", "above"),
    [("{tag}:items", ["{tag}:urgent", "a{tag}"]), ("a:items", ["{a:items}:urgent"])],
)
def test_several_lists_with_one_hash_tag_work_on_a_cluster(client: Any, key: str, above: list[str]) -> None:
    queue, page, totals = (
        ItemQueue(client, key, above=above),
        Waiting(client, key, above),
        Totals(client, key, "", above),
    )
    for priority in range(3):
        queue.push([b"%d" % priority], priority, priority)

    totals.mark()
    assert sorted(item.payload for item in page.page(0, 9)[0]) == [b"0", b"1", b"2"]
    first, *_ = queue.claim(3, "p")[0]
    assert queue.put_back([first.id]) == [first.id]
    assert queue.hold("p:2", [{"url": "u"}])
    assert DeadLetters.failed(client, key, above).put_back() == 1
    assert page.move_to_front([(page.page(0, 9)[0][-1].id, 1)]) == 1
    assert queue.counts().waiting == len(page) == sum(queue.snapshot().lists.values()) == 2
    assert totals.read().oldest_waits is not None


@pytest.mark.parametrize(("key", "above"), [("s:items", ["s:urgent"]), ("{a}:items", ["{a}:urgent", "{b}:soon"])])
def test_lists_in_different_slots_are_refused_before_anything_is_claimed(
    client: Any, key: str, above: list[str]
) -> None:
    with pytest.raises(ValueError, match="another slot of the Redis Cluster") as raised:
        ItemQueue(client, key, above=above)

    assert repr(above[-1]) in str(raised.value)
    assert len(str(raised.value)) <= 300


def test_lists_in_different_slots_are_explained_where_the_client_is_that_of_one_server(cluster: Cluster) -> None:
    with redis.Redis(port=cluster.nodes[0].port) as single, pytest.raises(REDIS_ERRORS) as raised:
        ItemQueue(single, "s:items", above=["s:urgent"]).claim(1, "p")

    assert "CHUNKDL_ITEMS_KEY need one and the same" in explain(raised.value)


def test_host_shares_work_on_a_cluster(client: Any) -> None:
    shares = HostShares(client, limit=4, lease=60)

    assert {host: share.slots for host, share in shares.settle({"a": Demand(0, 9), "b": Demand(0, 1)}).items()} == {
        "a": 4,
        "b": 1,
    }
    shares.close()


def test_scripts_survive_a_flush_on_all_nodes(client: Any) -> None:
    queue = ItemQueue(client, "a:items")
    queue.push([b"1", b"2"], 1)
    queue.claim(1, "p")

    client.script_flush()

    assert [claimed.payload for claimed in queue.claim(1, "q")[0]] == [b"2"]


def test_a_done_key_in_another_slot_is_explained(client: Any) -> None:
    queue = ItemQueue(client, "a:items", done_key="elsewhere")
    queue.push([b"1"], 1)
    queue.claim(1, "p")

    with pytest.raises(REDIS_ERRORS) as raised:
        queue.ack([("p:1", b"done")])

    assert "CHUNKDL_DONE_KEY needs the hash tag" in explain(raised.value)
    assert queue.counts().leased == 1


def test_a_cluster_that_is_not_there_is_explained() -> None:
    client = make_client({"REDIS_URL": "redis://127.0.0.1:1", "REDIS_PARAMS": {"redis_cls": CLUSTER_CLS}})

    with pytest.raises(REDIS_ERRORS) as raised:
        client.ping()

    assert "cluster cannot be reached" in explain(raised.value)


def test_the_queue_goes_on_with_the_new_primary_after_a_failover() -> None:
    with Watched() as watched:
        params = {
            "redis_cls": "scrapy_chunkdl.queue.client.sentinel_primary",
            "sentinels": [("127.0.0.1", watched.sentinel.port)],
            "service_name": watched.NAME,
        }
        client = make_client({"REDIS_PARAMS": params})
        queue = ItemQueue(client, "s:items")
        queue.push([b"1", b"2", b"3"], 1)
        queue.claim(1, "p")
        assert client.wait(1, 5000) == 1
        with pytest.raises(redis.RedisError) as raised:
            make_client({"REDIS_PARAMS": params | {"service_name": "wrong"}}).ping()
        assert "is service_name right?" in explain(raised.value)

        watched.primary.kill()
        wait_for(lambda: bool(queue.renew(["p:1"]) == []), "no new primary")

        assert [claimed.payload for claimed in queue.claim(2, "q")[0]] == [b"2", b"3"]
        assert queue.ack([("p:1", None), ("q:1", None), ("q:2", None)]) == ["p:1", "q:1", "q:2"]
        with watched.replica.client() as look:
            assert look.info("replication")["role"] == "master"
            assert look.exists("{s:items}:leases", "s:items") == 0
        queue.close()


def test_a_client_that_is_made_for_one_server_is_told_of_the_cluster(cluster: Cluster) -> None:
    said = set()
    for node in cluster.nodes:
        with make_client({"REDIS_URL": f"redis://127.0.0.1:{node.port}"}) as client:
            try:
                ItemQueue(client, "a:items").claim(1, "p")
            except REDIS_ERRORS as error:
                verdict = judge(error)
                said.add((verdict.waiting_helps, "redis.cluster.RedisCluster" in verdict.sentence))

    assert said == {(False, True)}


def test_limits_of_all_processes_and_what_is_asked_of_hosts_work_on_a_cluster(client: Any) -> None:
    rates, starts = RateShares(1000, 500), StartShares(0.1)
    shares = HostShares(client, limit=4, lease=60, rates=rates, starts=starts)
    rates.tell({"": (10, True), "a:80": (10, True)}, 1.0)
    starts.tell({"a:80": (0, 2)})

    shares.settle({"a:80": Demand(0, 2)})
    HostLimits(client).ask("a:80", AskedLimits(2))

    assert shares.given_rates == {"": 1000.0, "a:80": 500.0}
    assert len(shares.given_moments["a:80"][0]) == 2
    assert HostLimits(client).look() == {"a:80": AskedLimits(2)}
    assert look_at_memory(client, "s:items").used_bytes > 0
    HostLimits(client).take_back("a:80")
    shares.close()
