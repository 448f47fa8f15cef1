"""A reply that is lost makes redis-py send the command again: nothing may happen twice, and nothing be lost."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator

import pytest
import redis
from lossy_proxy import LossyProxy
from servers import Server

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.dead_letters import DeadLetters
from scrapy_chunkdl.queue.item_queue import ItemQueue

LIST, DONE = "s:items", "{s:items}:done"
LEASES, PAYLOAD, FAILED, DEAD, DELAYED, TRIES, PAST = (
    f"{{s:items}}:{name}" for name in ("leases", "payload", "failed", "dead", "delayed", "tries", "past")
)


@pytest.fixture
def proxy(server: Server, client: redis.Redis) -> Iterator[LossyProxy]:
    with LossyProxy(str(server.socket)) as proxy:
        yield proxy


@pytest.fixture
def queue(proxy: LossyProxy) -> Iterator[ItemQueue]:
    """A queue that has been used: scripts are loaded and a connection is open."""
    queue = ItemQueue(make_client({"REDIS_URL": proxy.url}), LIST, done_key=DONE)
    queue.claim(1, "warm")
    queue.push([], 0)
    for call in (queue.ack, queue.renew):
        call([])
    queue.release([])
    queue.put_back([])
    queue.fail("none", [])
    yield queue
    queue.close()


def test_of_a_push(queue: ItemQueue, proxy: LossyProxy, client: redis.Redis) -> None:
    proxy.lose_reply_to(b"my item")
    queue.push([b"my item", b"another"], 1)

    assert proxy.lost.is_set()
    assert client.lrange(LIST, 0, -1) == [b"my item", b"another"]


def test_of_a_claim(queue: ItemQueue, proxy: LossyProxy, client: redis.Redis) -> None:
    client.rpush(LIST, *"abcdef")
    prefix = uuid.uuid4().hex
    proxy.lose_reply_to(prefix.encode())

    batch, _ = queue.claim(3, prefix)

    assert proxy.lost.is_set()
    assert [(claimed.payload, claimed.deliveries) for claimed in batch] == [(b"a", 1), (b"b", 1), (b"c", 1)]
    assert client.lrange(LIST, 0, -1) == [b"d", b"e", b"f"]
    assert client.zcard(LEASES) == client.hlen(PAYLOAD) == 3


def test_of_an_ack(queue: ItemQueue, proxy: LossyProxy, client: redis.Redis) -> None:
    client.rpush(LIST, "a", "b")
    batch, _ = queue.claim(2, "p")
    proxy.lose_reply_to(b"the finished one")

    acked = queue.ack([(claimed.id, b"the finished one") for claimed in batch])

    assert proxy.lost.is_set()
    assert acked == ["p:1", "p:2"]
    assert client.lrange(DONE, 0, -1) == [b"the finished one"] * 2


def test_of_keeping_what_was_never_in_the_list(queue: ItemQueue, proxy: LossyProxy, client: redis.Redis) -> None:
    queue.keep(b"first", {"reason": "a"}, "call-0")
    proxy.lose_reply_to(b"my item")
    queue.keep(b"my item", {"reason": "b"}, "call-1")

    assert proxy.lost.is_set()
    assert client.lrange(DEAD, 0, -1) == [b"first", b"my item"]
    assert [json.loads(raw)["delivery"] for raw in client.lrange(FAILED, 0, -1)] == ["call-0", "call-1"]


@pytest.mark.parametrize("what", ["fail", "hold", "bury"])
def test_of_records(queue: ItemQueue, proxy: LossyProxy, client: redis.Redis, what: str) -> None:
    client.rpush(LIST, "7")
    queue.claim(1, "p")
    record = {"reason": "my reason"}
    proxy.lose_reply_to(b"my reason")

    if what == "fail":
        assert queue.fail("p:1", [record]) is True
    elif what == "hold":
        assert queue.hold("p:1", [record]) is True
    else:
        assert queue.bury("p:1", record) is True

    assert proxy.lost.is_set()
    assert [json.loads(raw)["reason"] for raw in client.lrange(FAILED, 0, -1)] == ["my reason"]
    assert (client.llen(DEAD), client.hlen(PAYLOAD)) == {"fail": (0, 1), "hold": (0, 0), "bury": (1, 0)}[what]


@pytest.mark.parametrize(
    ("call", "told", "past"),
    [
        (lambda queue, item_id: queue.release([item_id]), ["p-marked:1"], None),
        (lambda queue, item_id: queue.retry(item_id, 0), True, b"1 0 1 0"),
        (lambda queue, item_id: queue.retry(item_id, 0, is_error=False), True, None),
    ],
    ids=["release", "error", "retry"],
)
def test_of_giving_back(
    queue: ItemQueue,
    proxy: LossyProxy,
    client: redis.Redis,
    call: Callable[[ItemQueue, str], object],
    told: object,
    past: bytes | None,
) -> None:
    client.rpush(LIST, "a")
    queue.claim(1, "p-marked")
    proxy.lose_reply_to(b"p-marked:1")

    assert call(queue, "p-marked:1") == told

    assert proxy.lost.is_set()
    assert client.zrange(DELAYED, 0, -1) == [b"p-marked:1"]
    assert client.hgetall(TRIES) == {b"p-marked:1": b"0"}
    assert client.hget(PAST, "p-marked:1") == past


def test_of_progress(queue: ItemQueue, proxy: LossyProxy, client: redis.Redis) -> None:
    client.rpush(LIST, "a")
    queue.claim(1, "p-marked")
    proxy.lose_reply_to(b"p-marked:1")

    assert queue.renew(["p-marked:1"], {"p-marked:1": 100}) == []

    assert proxy.lost.is_set()
    assert client.hgetall(TRIES) == {b"p-marked:1": b"0"}


def test_of_putting_back_behind_all_others(queue: ItemQueue, proxy: LossyProxy, client: redis.Redis) -> None:
    client.rpush(LIST, "a", "b")
    queue.claim(1, "p-marked")
    proxy.lose_reply_to(b"p-marked:1")

    assert queue.put_back(["p-marked:1"]) == ["p-marked:1"]

    assert proxy.lost.is_set()
    assert client.lrange(LIST, 0, -1) == [b"b", b"a"]
    assert client.exists(PAYLOAD, TRIES, LEASES) == 0


def test_of_putting_back_a_held_item(proxy: LossyProxy, queue: ItemQueue, client: redis.Redis) -> None:
    client.rpush(LIST, '{"n": 1}')
    queue.claim(1, "p")
    queue.hold("p:1", [{"url": "u"}, {"url": "marked"}])
    with make_client({"REDIS_URL": proxy.url}) as connection:
        failed = DeadLetters.failed(connection, LIST)
        connection.script_load(failed._take_out.script)
        [item] = failed
        proxy.lose_reply_to(b"EVALSHA")
        failed.put_back(lambda found: found == item)

    assert proxy.lost.is_set()
    assert client.lrange(LIST, 0, -1) == [b'{"n": 1}']
    assert client.exists(FAILED) == 0
