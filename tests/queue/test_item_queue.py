"""The leased queue on real servers; what is asserted is the raw state in Redis."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable

import pytest
import redis
from servers import Server

from scrapy_chunkdl.queue.item_queue import ItemQueue, key_prefix

LIST, LEASES, PAYLOAD, TRIES, OWNER = "s:items", *(f"{{s:items}}:{n}" for n in ("leases", "payload", "tries", "owner"))
DELAYED, DEAD, FAILED = (f"{{s:items}}:{n}" for n in ("delayed", "dead", "failed"))

NewQueue = Callable[..., ItemQueue]


def claim(queue: ItemQueue, n: int = 10) -> list[bytes]:
    return [claimed.payload for claimed in queue.claim(n, uuid.uuid4().hex)]


def expire(client: redis.Redis) -> None:
    """Let all leases run out, as if their time had passed."""
    for item_id in client.zrange(LEASES, 0, -1):
        client.zadd(LEASES, {item_id: 1})


def test_claim_leases_the_oldest_and_leaves_the_rest(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a", "b", "c")
    queue = new_queue(lease=60)
    before = client.time()[0] * 1000

    first, second = queue.claim(2, "p")

    assert [(c.id, c.payload, c.deliveries) for c in (first, second)] == [("p:1", b"a", 1), ("p:2", b"b", 1)]
    assert client.lrange(LIST, 0, -1) == [b"c"]
    assert client.hgetall(PAYLOAD) == {b"p:1": b"a", b"p:2": b"b"}
    assert client.hgetall(OWNER) == {b"p:1": queue.token.encode(), b"p:2": queue.token.encode()}
    assert before + 60_000 <= client.zscore(LEASES, "p:1") <= before + 62_000 + 60_000


def test_the_same_claim_sent_again_gives_the_same_batch(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *"abcdef")
    queue = new_queue()

    assert queue.claim(3, "p") == queue.claim(3, "p")

    assert client.lrange(LIST, 0, -1) == [b"d", b"e", b"f"]


def test_an_empty_list_gives_nothing_and_leaves_nothing(new_queue: NewQueue, client: redis.Redis) -> None:
    assert claim(new_queue()) == []
    assert client.keys("*") == []


def test_payloads_are_bytes_and_come_back_as_they_are(new_queue: NewQueue, client: redis.Redis) -> None:
    payloads = [b"\x00\xff\xfe", b'{"n": 12345678901234567890.10}', b"", "年报".encode(), b"x" * 1_000_000]
    client.rpush(LIST, *payloads)

    assert claim(new_queue()) == payloads


def test_ack_forgets_everything(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a", "b")
    queue = new_queue()
    ids = [claimed.id for claimed in queue.claim(2, "p")]

    assert queue.ack([(item_id, None) for item_id in ids]) == ids

    assert client.keys("*") == []


def test_ack_pushes_the_finished_item_in_the_same_step_and_only_once(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a")
    queue = new_queue(done_key="{s:items}:finished")
    [claimed] = queue.claim(1, "p")

    assert queue.ack([(claimed.id, b"done")]) == [claimed.id]
    assert queue.ack([(claimed.id, b"done")]) == []

    assert client.lrange("{s:items}:finished", 0, -1) == [b"done"]


def test_only_the_owner_can_ack_renew_retry_and_record(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a")
    owner, other = new_queue(), new_queue()
    [claimed] = owner.claim(1, "p")

    assert other.ack([(claimed.id, None)]) == []
    assert other.renew([claimed.id]) == [claimed.id]
    assert other.retry(claimed.id, 0) is False
    assert other.release([claimed.id]) == []
    assert other.fail(claimed.id, [{"reason": "x"}]) is False
    assert other.hold(claimed.id, [{"reason": "x"}]) is False
    assert other.bury(claimed.id, {"reason": "x"}) is False

    assert owner.renew([claimed.id]) == []
    assert client.exists(FAILED, DEAD, DELAYED) == 0


def test_a_lease_that_ran_out_goes_to_the_next_and_the_former_owner_can_do_nothing(
    new_queue: NewQueue, client: redis.Redis
) -> None:
    client.rpush(LIST, "a", "b")
    slow, quick = new_queue(), new_queue()
    [lost] = slow.claim(1, "p")
    expire(client)

    again, fresh = quick.claim(2, "q")

    assert [(c.payload, c.deliveries) for c in (again, fresh)] == [(b"a", 2), (b"b", 1)]
    assert slow.ack([(lost.id, None)]) == []
    assert slow.renew([lost.id]) == [lost.id]
    assert quick.ack([(again.id, None), (fresh.id, None)]) == [again.id, fresh.id]
    assert client.keys("*") == []


def test_a_lease_that_ran_out_unnoticed_can_still_be_renewed(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a")
    queue = new_queue()
    [claimed] = queue.claim(1, "p")
    expire(client)

    assert queue.renew([claimed.id]) == []

    assert claim(new_queue()) == []


def test_a_retried_item_waits_for_its_delay_and_comes_before_the_list(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a", "b")
    queue = new_queue()
    [claimed] = queue.claim(1, "p")

    assert queue.retry(claimed.id, 3600) is True
    assert claim(queue, 1) == [b"b"]
    assert client.zcard(DELAYED) == 1
    client.zadd(DELAYED, {claimed.id: 1})
    client.rpush(LIST, "c")

    assert claim(queue, 2) == [b"a", b"c"]


def test_release_counts_no_delivery(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a")
    queue = new_queue(max_deliveries=1)

    for number in range(3):
        [claimed] = queue.claim(1, f"p{number}")
        assert claimed.deliveries == 1
        assert queue.release([claimed.id]) == [claimed.id]

    assert client.exists(DEAD) == 0


def test_an_item_over_the_limit_is_dead_with_its_exact_bytes(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, b"\xffpoison", "good")
    queue = new_queue(max_deliveries=2)
    for prefix in ("p", "q"):
        assert [c.payload for c in queue.claim(1, prefix)] == [b"\xffpoison"]
        expire(client)

    assert claim(queue, 2) == [b"good"]

    assert client.lrange(DEAD, 0, -1) == [b"\xffpoison"]
    assert client.hlen(PAYLOAD) == client.hlen(TRIES) == client.hlen(OWNER) == client.zcard(LEASES) == 1


def test_records_carry_the_item_and_can_be_bounded(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, '{"n": 12345678901234567890}')
    queue = new_queue(failed_max=2)
    [claimed] = queue.claim(1, "p")

    assert queue.fail(claimed.id, [{"url": str(n)} for n in range(3)]) is True

    assert client.lrange(FAILED, 0, -1) == [
        b'{"url": "1", "item": {"n": 12345678901234567890}}',
        b'{"url": "2", "item": {"n": 12345678901234567890}}',
    ]
    assert queue.ack([(claimed.id, None)]) == [claimed.id]


def test_a_held_item_is_in_its_record_and_nowhere_else(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, '{"n": 1}')
    queue = new_queue()
    [claimed] = queue.claim(1, "p")

    assert queue.hold(claimed.id, [{"url": "u"}]) is True

    assert [json.loads(record) for record in client.lrange(FAILED, 0, -1)] == [{"url": "u", "item": {"n": 1}}]
    assert client.keys("*") == [FAILED.encode()]


def test_a_buried_item_is_kept_byte_for_byte_with_the_reason(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, b"\xff no json")
    queue = new_queue()
    [claimed] = queue.claim(1, "p")

    assert queue.bury(claimed.id, {"reason": "bad_item"}) is True

    assert client.lrange(DEAD, 0, -1) == [b"\xff no json"]
    assert client.lrange(FAILED, 0, -1) == [b'{"reason": "bad_item"}']
    assert sorted(client.keys("*")) == [DEAD.encode(), FAILED.encode()]


def test_a_push_sent_again_is_made_once(new_queue: NewQueue, client: redis.Redis) -> None:
    queue, other = new_queue(), new_queue()

    for number in (1, 1, 2):
        queue.push([b"x", b"y"], number)
    other.push([b"z"], 1)

    assert client.lrange(LIST, 0, -1) == [b"x", b"y", b"x", b"y", b"z"]
    queue.forget()
    other.forget()
    assert client.keys("*") == [LIST.encode()]


def test_counts_tell_each_state(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *"abcdef")
    queue = new_queue()
    ids = [claimed.id for claimed in queue.claim(4, "p")]
    queue.retry(ids[0], 60)
    queue.bury(ids[1], {"reason": "x"})

    counts = queue.counts()

    assert (counts.waiting, counts.leased, counts.delayed, counts.dead, counts.failed) == (2, 2, 1, 1, 1)
    assert queue.has_work() is True


def test_scripts_survive_a_flush_and_a_restart_of_the_server(
    new_queue: NewQueue, client: redis.Redis, server: Server
) -> None:
    client.rpush(LIST, *"abc")
    queue = new_queue()
    [first] = queue.claim(1, "p")

    client.script_flush()
    [second] = queue.claim(1, "q")
    server.kill()
    server.start()
    [third] = queue.claim(1, "r")

    assert queue.ack([(c.id, None) for c in (first, second, third)]) == ["p:1", "q:1", "r:1"]


def test_a_batch_is_one_round_trip_and_at_most_a_hundred(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *range(250))
    queue = new_queue()
    queue.claim(1, "warm")
    client.config_resetstat()

    assert len(queue.claim(1000, "p")) == 100

    calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    assert calls["cmdstat_evalsha"] == 1
    assert "cmdstat_eval" not in calls


@pytest.mark.parametrize("waiting", [10, 100_000])
def test_a_claim_does_the_same_work_whatever_waits(new_queue: NewQueue, client: redis.Redis, waiting: int) -> None:
    for start in range(0, waiting, 10_000):
        client.rpush(LIST, *range(start, min(waiting, start + 10_000)))
    queue = new_queue()
    queue.claim(1, "warm")
    client.config_resetstat()

    assert len(queue.claim(5, "p")) == 5

    calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    assert (calls["cmdstat_lpop"], calls["cmdstat_zadd"], calls["cmdstat_hset"]) == (5, 5, 15)
    assert client.llen(LIST) == waiting - 6


def test_many_claimers_never_get_the_same_item(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *range(2000))
    got: list[list[bytes]] = []

    def work(queue: ItemQueue) -> None:
        mine: list[bytes] = []
        while batch := queue.claim(7, uuid.uuid4().hex):
            mine += [claimed.payload for claimed in batch]
            queue.ack([(claimed.id, None) for claimed in batch])
        got.append(mine)

    threads = [threading.Thread(target=work, args=(new_queue(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(int(payload) for mine in got for payload in mine) == list(range(2000))
    assert client.keys("*") == []


@pytest.mark.parametrize(("key", "prefix"), [("s:items", "{s:items}"), ("{s}:items", "{s}:items"), ("a{b}c", "a{b}c")])
def test_derived_keys_hash_to_the_slot_of_the_list(key: str, prefix: str) -> None:
    assert key_prefix(key) == prefix


@pytest.mark.parametrize("key", ["a{b", "a}b", "{}items", "a{}b{c}"])
def test_braces_that_are_no_hash_tag_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="braces"):
        key_prefix(key)
