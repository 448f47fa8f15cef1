"""The leased queue on real servers; what is asserted is the raw state in Redis."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import pytest
import redis
from servers import Server

from scrapy_chunkdl.queue.item_queue import ItemQueue, key_prefix
from scrapy_chunkdl.queue.life import Claimed

LIST, LEASES, PAYLOAD, TRIES, OWNER = "s:items", *(f"{{s:items}}:{n}" for n in ("leases", "payload", "tries", "owner"))
DELAYED, DEAD, FAILED, CALLS = (f"{{s:items}}:{n}" for n in ("delayed", "dead", "failed", "calls"))

NewQueue = Callable[..., ItemQueue]


def claim(queue: ItemQueue, n: int = 10) -> list[bytes]:
    return [claimed.payload for claimed in take(queue, n, uuid.uuid4().hex)]


def take(queue: ItemQueue, n: int, prefix: str) -> list[Claimed]:
    batch, _ = queue.claim(n, prefix)
    return batch


def keys(client: redis.Redis) -> set[str]:
    """All keys but what processes that still live have called last."""
    return {key.decode() for key in client.keys("*")} - {CALLS}


def expire(client: redis.Redis) -> None:
    """Let all leases run out, as if their time had passed."""
    for item_id in client.zrange(LEASES, 0, -1):
        client.zadd(LEASES, {item_id: 1})


def test_claim_leases_the_oldest_and_leaves_the_rest(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a", "b", "c")
    queue = new_queue(lease=60)
    before = client.time()[0] * 1000

    first, second = take(queue, 2, "p")

    assert [(c.id, c.payload, c.deliveries) for c in (first, second)] == [("p:1", b"a", 1), ("p:2", b"b", 1)]
    assert client.lrange(LIST, 0, -1) == [b"c"]
    assert client.hgetall(PAYLOAD) == {b"p:1": b"a", b"p:2": b"b"}
    assert [client.hget(OWNER, item_id).split()[0] for item_id in ("p:1", "p:2")] == [queue.token.encode()] * 2
    assert client.hgetall(TRIES) == {b"p:1": b"1", b"p:2": b"1"}
    after = (client.time()[0] + 1) * 1000
    assert before + 60_000 <= client.zscore(LEASES, "p:1") == client.zscore(LEASES, "p:2") <= after + 60_000


def test_the_same_claim_sent_again_gives_the_same_batch(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *"abcdef")
    queue = new_queue()

    assert take(queue, 3, "p") == take(queue, 3, "p")

    assert client.lrange(LIST, 0, -1) == [b"d", b"e", b"f"]


def test_an_empty_list_gives_nothing_and_leaves_nothing(new_queue: NewQueue, client: redis.Redis) -> None:
    assert claim(new_queue()) == []
    assert keys(client) == set()


def test_payloads_are_bytes_and_come_back_as_they_are(new_queue: NewQueue, client: redis.Redis) -> None:
    payloads = [b"\x00\xff\xfe", b'{"n": 12345678901234567890.10}', b"", "年报".encode(), b"x" * 1_000_000]
    client.rpush(LIST, *payloads)

    assert claim(new_queue()) == payloads


def test_ack_forgets_everything(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a", "b")
    queue = new_queue()
    ids = [claimed.id for claimed in take(queue, 2, "p")]

    assert queue.ack([(item_id, None) for item_id in ids]) == ids

    queue.forget()
    assert client.keys("*") == []


def test_ack_pushes_the_finished_item_in_the_same_step_and_only_once(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a")
    queue = new_queue(done_key="{s:items}:finished")
    [claimed] = take(queue, 1, "p")

    for _ in range(2):  # the second says the same: the first may have lost its reply
        assert queue.ack([(claimed.id, b"done")]) == [claimed.id]

    assert client.lrange("{s:items}:finished", 0, -1) == [b"done"]


def test_an_ack_that_the_done_list_does_not_take_forgets_nothing(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *"abc")
    client.sadd("{s:items}:done", "no list")
    queue = new_queue(done_key="{s:items}:done")
    take(queue, 3, "p")

    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        queue.ack([("p:1", None), ("p:2", b"B"), ("p:3", b"C")])
    with pytest.raises(redis.exceptions.ResponseError, match="CHUNKDL_DONE_KEY"):
        queue.check()

    assert sorted(client.hvals(PAYLOAD)) == [b"a", b"b", b"c"]
    client.delete("{s:items}:done")
    assert queue.ack([("p:1", None), ("p:2", b"B"), ("p:3", b"C")]) == ["p:1", "p:2", "p:3"]
    assert client.lrange("{s:items}:done", 0, -1) == [b"B", b"C"]


def test_only_the_owner_can_ack_renew_retry_and_record(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a")
    owner, other = new_queue(), new_queue()
    [claimed] = take(owner, 1, "p")

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
    [lost] = take(slow, 1, "p")
    expire(client)

    [again], [fresh] = take(quick, 2, "q"), take(quick, 2, "r")

    assert [(c.payload, c.deliveries) for c in (again, fresh)] == [(b"a", 2), (b"b", 1)]
    assert slow.ack([(lost.id, None)]) == []
    assert slow.renew([lost.id]) == [lost.id]
    assert quick.ack([(again.id, None), (fresh.id, None)]) == [again.id, fresh.id]
    assert keys(client) == set()


def test_a_lease_that_ran_out_unnoticed_can_still_be_renewed(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a")
    queue = new_queue()
    [claimed] = take(queue, 1, "p")
    expire(client)

    assert queue.renew([claimed.id]) == []

    assert claim(new_queue()) == []


def test_a_retried_item_waits_for_its_delay_and_comes_before_the_list(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a", "b")
    queue = new_queue()
    [claimed] = take(queue, 1, "p")

    assert queue.retry(claimed.id, 3600) is True
    assert claim(queue, 1) == [b"b"]
    assert client.zcard(DELAYED) == 1
    client.zadd(DELAYED, {claimed.id: 1})
    client.rpush(LIST, "c")

    assert claim(queue, 2) == [b"a", b"c"]


def test_released_items_come_before_those_that_wait(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *"abcd")
    queue = new_queue()
    ids = [claimed.id for claimed in take(queue, 2, "p")]

    assert queue.release(ids) == ids

    assert claim(new_queue(), 3) == [b"a", b"b", b"c"]


def test_expired_leases_come_before_delayed_items_and_those_before_the_list(
    new_queue: NewQueue, client: redis.Redis
) -> None:
    client.rpush(LIST, "delayed", "expired", "waiting")
    queue = new_queue()
    delayed, expired = take(queue, 2, "p")
    queue.retry(delayed.id, 0)
    client.zadd(LEASES, {expired.id: 1})
    client.hset(TRIES, expired.id, 0)  # it brought bytes: no suspect

    assert claim(queue, 3) == [b"expired", b"delayed", b"waiting"]


def test_release_counts_no_delivery(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a")
    queue = new_queue(max_deliveries=1)

    for number in range(3):
        [claimed] = take(queue, 1, f"p{number}")
        assert claimed.deliveries == 1
        assert queue.release([claimed.id]) == [claimed.id]

    assert client.exists(DEAD) == 0


def test_an_item_put_back_is_the_last_of_the_list_as_if_never_claimed(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, b"\xffa", "b", "c")
    queue = new_queue(max_deliveries=1)
    first, second = take(queue, 2, "p")

    assert new_queue().put_back([first.id]) == []
    for _ in range(2):  # the second says the same: the first may have lost its reply
        assert queue.put_back([first.id, "none"]) == [first.id]

    assert client.lrange(LIST, 0, -1) == [b"c", b"\xffa"]
    assert client.hgetall(PAYLOAD) == {second.id.encode(): b"b"}
    assert client.hlen(TRIES) == client.hlen(OWNER) == client.zcard(LEASES) == 1
    assert claim(queue) == [b"c", b"\xffa"]


def test_an_item_that_was_delivered_before_is_not_put_back(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a")
    queue = new_queue()
    take(queue, 1, "p")
    expire(client)
    [again] = take(queue, 1, "q")

    assert queue.put_back([again.id]) == []

    assert client.hgetall(TRIES) == {b"q:1": b"2"}
    assert client.exists(LIST) == 0


def test_an_item_over_the_limit_is_dead_with_its_exact_bytes(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, b"\xffpoison", "good")
    queue = new_queue(max_deliveries=2)
    for prefix in ("p", "q"):
        assert [c.payload for c in take(queue, 1, prefix)] == [b"\xffpoison"]
        expire(client)

    batch, dead = queue.claim(2, "r")

    assert ([claimed.payload for claimed in batch], dead) == ([b"good"], 1)
    assert client.lrange(DEAD, 0, -1) == [b"\xffpoison"]
    assert client.hlen(PAYLOAD) == client.hlen(TRIES) == client.hlen(OWNER) == client.zcard(LEASES) == 1


def test_records_carry_the_item_and_can_be_bounded(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, '{"n": 12345678901234567890}')
    queue = new_queue(failed_max=2)
    [claimed] = take(queue, 1, "p")

    assert queue.fail(claimed.id, [{"url": str(n)} for n in range(3)]) is True

    assert client.lrange(FAILED, 0, -1) == [
        b'{"url": "1", "delivery": "p:1", "went_on": true}',
        b'{"url": "2", "delivery": "p:1", "went_on": true, "item": {"n": 12345678901234567890}}',
    ]
    assert queue.ack([(claimed.id, None)]) == [claimed.id]


def test_a_held_item_is_in_its_record_and_nowhere_else(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, '{"n": 1}')
    queue = new_queue()
    [claimed] = take(queue, 1, "p")

    assert queue.hold(claimed.id, [{"url": "u"}]) is True

    assert [json.loads(record) for record in client.lrange(FAILED, 0, -1)] == [
        {"url": "u", "delivery": "p:1", "item": {"n": 1}}
    ]
    assert keys(client) == {FAILED}


def test_a_buried_item_is_kept_byte_for_byte_with_the_reason(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, b"\xff no json")
    queue = new_queue()
    [claimed] = take(queue, 1, "p")

    assert queue.bury(claimed.id, {"reason": "bad_item"}) is True

    assert client.lrange(DEAD, 0, -1) == [b"\xff no json"]
    assert client.lrange(FAILED, 0, -1) == [b'{"reason": "bad_item", "delivery": "p:1"}']
    assert keys(client) == {DEAD, FAILED}


@pytest.mark.parametrize(
    ("ending", "left"),
    [
        (lambda queue, _: queue.ack([("p:1", None)]), set()),
        (lambda queue, _: queue.hold("p:1", [{"url": "u"}]), {FAILED}),
        (lambda queue, _: queue.bury("p:1", {"reason": "x"}), {DEAD, FAILED}),
        (lambda queue, _: (queue.fail("p:1", [{"url": "u"}]), queue.ack([("p:1", None)])), {FAILED}),
        (lambda queue, _: (queue.retry("p:1", 0), queue.claim(1, "q"), queue.ack([("q:1", None)])), set()),
        (lambda queue, _: (queue.release(["p:1"]), queue.claim(1, "q"), queue.ack([("q:1", None)])), set()),
        (lambda queue, _: (queue.put_back(["p:1"]), queue.claim(1, "q"), queue.ack([("q:1", None)])), set()),
        (lambda queue, other: (other.claim(1, "q"), queue.ack([("p:1", None)]), other.ack([("q:1", None)])), set()),
        (lambda queue, other: [other.claim(1, prefix) for prefix in "qrs"], {DEAD}),
    ],
    ids=["ack", "hold", "bury", "fail", "retry", "release", "put back", "lost lease", "never acknowledged"],
)
def test_no_derived_key_is_left_when_the_work_is_done(
    new_queue: NewQueue, client: redis.Redis, ending: Callable[[ItemQueue, ItemQueue], object], left: set[str]
) -> None:
    client.rpush(LIST, "1")
    queue, other = new_queue(lease=0.001, max_deliveries=3), new_queue(lease=0.001, max_deliveries=3)
    take(queue, 1, "p")
    ends = client.zscore(LEASES, "p:1") or 0
    while client.time()[0] * 1000 + client.time()[1] / 1000 <= ends + 1:
        pass

    ending(queue, other)
    while client.zcard(LEASES):  # what was claimed last runs out as well
        other.claim(1, uuid.uuid4().hex)
    queue.forget()
    other.forget()

    assert {key.decode() for key in client.keys("*")} == left


def test_a_push_sent_again_is_made_once(new_queue: NewQueue, client: redis.Redis) -> None:
    queue, other = new_queue(), new_queue()

    for number in (1, 1, 2):
        queue.push([b"x", b"y"], number)
    other.push([b"z"], 1)

    assert client.lrange(LIST, 0, -1) == [b"x", b"y", b"x", b"y", b"z"]
    queue.forget()
    other.forget()
    assert client.keys("*") == [LIST.encode()]


def test_a_claim_sent_again_late_gives_what_is_still_ours_and_overwrites_nothing(
    new_queue: NewQueue, client: redis.Redis
) -> None:
    client.rpush(LIST, *"abcdef")
    ours, theirs = new_queue(), new_queue()
    take(ours, 4, "p")
    ours.retry("p:2", 3600)
    client.zadd(LEASES, {"p:1": 1})
    assert claim(theirs, 1) == [b"a"]

    again = take(ours, 4, "p")

    assert [(claimed.id, claimed.payload) for claimed in again] == [("p:3", b"c"), ("p:4", b"d")]
    assert sorted(client.hvals(PAYLOAD)) == [b"a", b"b", b"c", b"d"]
    assert client.lrange(LIST, 0, -1) == [b"e", b"f"]


def test_a_claim_sent_again_renews_its_leases_and_is_nobody_elses(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a", "b")
    ours, theirs = new_queue(), new_queue()
    take(ours, 1, "p")
    expire(client)

    assert take(theirs, 1, "p") == []
    assert [claimed.payload for claimed in take(ours, 1, "p")] == [b"a"]

    assert claim(theirs, 2) == [b"b"]


def test_an_ack_sent_again_tells_the_same_as_the_first(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *"abc")
    queue, other = new_queue(), new_queue()
    take(queue, 3, "p")
    client.zadd(LEASES, {"p:2": 1})
    claim(other, 1)
    acks: list[tuple[str, bytes | None]] = [("p:1", None), ("p:2", None), ("p:3", None)]

    assert queue.ack(acks) == ["p:1", "p:3"]
    assert queue.ack(acks) == ["p:1", "p:3"]
    assert other.ack(acks) == []


def test_records_of_one_delivery_are_made_once(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "1", "2")
    queue = new_queue()
    first, second = take(queue, 2, "p")

    for item_id in (first.id, first.id, second.id):
        assert queue.fail(item_id, [{"url": "u"}]) is True

    assert [json.loads(record)["item"] for record in client.lrange(FAILED, 0, -1)] == [1, 2]


def test_the_clock_of_the_claimer_does_not_matter(
    new_queue: NewQueue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.rpush(LIST, "a")
    for clock in ("time", "monotonic"):
        monkeypatch.setattr(time, clock, lambda: 4e9)
    queue = new_queue(lease=60)

    def ends_in(key: str) -> float:
        return (client.zscore(key, "p:1") or 0) / 1000 - client.time()[0]

    take(queue, 1, "p")
    assert 58 < ends_in(LEASES) <= 61
    expire(client)
    assert queue.renew(["p:1"]) == []
    assert 58 < ends_in(LEASES) <= 61
    [lease] = queue.snapshot().leases
    assert 58 < lease.runs_out_in <= 60
    assert queue.retry("p:1", 600)
    assert 598 < ends_in(DELAYED) <= 601


def test_leases_tell_who_holds_what_since_when(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "a", "b")
    queue, other = new_queue(lease=60), new_queue(lease=60)
    take(queue, 1, "p")
    take(other, 1, "q")
    client.hset(OWNER, "q:1", f"{other.token} {(client.time()[0] - 500) * 1000}")
    client.zadd(LEASES, {"q:1": (client.time()[0] - 5) * 1000})

    old, young = queue.leases()

    assert (old.id, old.owner, young.id, young.owner) == ("q:1", other.token, "p:1", queue.token)
    assert 500 <= old.held_for < 560
    assert -60 < old.runs_out_in <= -5
    assert 0 < young.runs_out_in <= 60
    assert young.owner.split(":")[:2] == ["-".join(socket.gethostname().split()), str(os.getpid())]


def test_a_redis_out_of_memory_refuses_whole_calls_and_loses_nothing(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *"abcdef")
    queue = new_queue(done_key="{s:items}:done")
    take(queue, 3, "p")
    client.config_set("maxmemory", "1")
    try:
        for call in (
            lambda: take(queue, 3, "q"),
            lambda: queue.ack([("p:1", b"A")]),
            lambda: queue.renew(["p:2"]),
            lambda: queue.retry("p:2", 0),
            lambda: queue.push([b"g"], 1),
            lambda: queue.hold("p:3", [{"url": "u"}]),
        ):
            with suppress(redis.exceptions.ResponseError):
                call()
    finally:
        client.config_set("maxmemory", "0")

    places = [client.lrange(LIST, 0, -1), client.hvals(PAYLOAD), client.lrange("{s:items}:done", 0, -1)]
    records = [json.loads(record.replace(b": c}", b": 1}")) for record in client.lrange(FAILED, 0, -1)]
    found = [payload.lower() for place in places for payload in place] + [b"c" for _ in records]
    assert sorted(payload for payload in found if payload != b"g") == [b"a", b"b", b"c", b"d", b"e", b"f"]


def test_counts_tell_each_state(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *"abcdef")
    queue = new_queue()
    ids = [claimed.id for claimed in take(queue, 4, "p")]
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
    [first] = take(queue, 1, "p")

    client.script_flush()
    [second] = take(queue, 1, "q")
    server.kill()
    server.start()
    [third] = take(queue, 1, "r")

    assert queue.ack([(c.id, None) for c in (first, second, third)]) == ["p:1", "q:1", "r:1"]


def test_a_batch_is_one_round_trip_and_at_most_a_hundred(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *range(250))
    queue = new_queue()
    take(queue, 1, "warm")
    client.config_resetstat()

    assert len(take(queue, 1000, "p")) == 100

    calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    assert calls["cmdstat_evalsha"] == 1
    assert "cmdstat_eval" not in calls


@pytest.mark.parametrize("waiting", [10, 20_000])
def test_a_claim_does_the_same_work_whatever_waits(new_queue: NewQueue, client: redis.Redis, waiting: int) -> None:
    client.eval("for i = 1, ARGV[1] do redis.call('RPUSH', KEYS[1], i) end", 1, LIST, waiting)
    queue = new_queue()
    take(queue, 1, "warm")
    client.config_resetstat()

    assert [claimed.payload for claimed in take(queue, 5, "p")] == [b"2", b"3", b"4", b"5", b"6"]

    calls = {name.removeprefix("cmdstat_"): stats["calls"] for name, stats in client.info("commandstats").items()}
    assert {name: calls[name] for name in ("lindex", "lpop", "zadd", "hset", "hmget", "zrangebyscore", "time")} == {
        "lindex": 5,
        "lpop": 5,
        "zadd": 5,
        "hset": 15,
        "hmget": 2,
        "zrangebyscore": 3,
        "time": 1,
    }
    assert not calls.keys() & {"lrange", "lrem", "linsert", "hgetall", "zrange", "scan"}
    assert client.llen(LIST) == waiting - 6


def test_many_claimers_never_get_the_same_item(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *range(2000))
    got: list[list[bytes]] = []

    def work(queue: ItemQueue) -> None:
        mine: list[bytes] = []
        while batch := take(queue, 7, uuid.uuid4().hex):
            mine += [claimed.payload for claimed in batch]
            queue.ack([(claimed.id, None) for claimed in batch])
        got.append(mine)

    threads = [threading.Thread(target=work, args=(new_queue(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(int(payload) for mine in got for payload in mine) == list(range(2000))
    assert keys(client) == set()


@pytest.mark.parametrize("token", ["two words", " ", "line\n"])
def test_a_token_of_more_than_one_word_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="one word"):
        ItemQueue(redis.Redis(), "s:items", token=token)


@pytest.mark.parametrize(("key", "prefix"), [("s:items", "{s:items}"), ("{s}:items", "{s}:items"), ("a{b}c", "a{b}c")])
def test_derived_keys_hash_to_the_slot_of_the_list(key: str, prefix: str) -> None:
    assert key_prefix(key) == prefix


@pytest.mark.parametrize("key", ["a{b", "a}b", "{}items", "a{}b{c}"])
def test_braces_that_are_no_hash_tag_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="braces"):
        key_prefix(key)
