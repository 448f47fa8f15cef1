"""What is in hand when a queue's data are deleted: FLUSHALL, or a Redis that starts without what it had."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from scrapy_chunkdl.queue.item_queue import ItemQueue

LIST = "s:items"


@pytest.fixture
def make_queue(new_queue: Callable[..., ItemQueue]) -> Callable[[], ItemQueue]:
    def make() -> ItemQueue:
        queue = new_queue()
        queue.check()
        return queue

    return make


def claim(queue: ItemQueue, client: redis.Redis, *items: str) -> list[str]:
    client.rpush(LIST, *items)
    batch, _ = queue.claim(len(items), "p")
    return [claimed.id for claimed in batch]


VERBS: dict[str, tuple[Callable[[ItemQueue, list[str]], object], object, dict[str, int]]] = {
    "renew": (lambda queue, ids: queue.renew(ids), [], {"leased": 2}),
    "ack": (lambda queue, ids: queue.ack([(ids[0], None)]), ["p:1"], {"leased": 1}),
    "retry": (lambda queue, ids: queue.retry(ids[0], 60), True, {"leased": 1, "delayed": 1}),
    "release": (lambda queue, ids: queue.release(ids), ["p:1", "p:2"], {"delayed": 2}),
    "put_back": (lambda queue, ids: queue.put_back(ids), ["p:1", "p:2"], {"waiting": 2}),
    "park": (lambda queue, ids: queue.park("h:80", 60, ids), ["p:1", "p:2"], {"parked": 2}),
    "fail": (lambda queue, ids: queue.fail(ids[0], [{"url": "u", "reason": "r"}]), True, {"leased": 2, "failed": 1}),
    "hold": (lambda queue, ids: queue.hold(ids[0], [{"url": "u"}]), True, {"leased": 1, "failed": 1}),
    "bury": (lambda queue, ids: queue.bury(ids[0], {"reason": "r"}), True, {"leased": 1, "dead": 1, "failed": 1}),
    "counts": (lambda queue, ids: queue.counts().leased, 0, {"leased": 2}),
}


@pytest.mark.parametrize("lost", ["FLUSHALL", "all keys but the list", "another life began"])
@pytest.mark.parametrize(("verb", "answer", "counts"), VERBS.values(), ids=VERBS)
def test_whatever_is_done_with_an_item_in_hand_is_done_though_the_data_are_gone(
    make_queue: Callable[[], ItemQueue],
    client: redis.Redis,
    verb: Callable[[ItemQueue, list[str]], object],
    answer: object,
    counts: dict[str, int],
    lost: str,
) -> None:
    queue = make_queue()
    told: list[int] = []
    queue.life.on_loss = told.append
    ids = claim(queue, client, "a", "b")
    client.delete(*client.keys("{s:items}*"), "{s:items}:totals")  # whose keys() leaves totals out
    if lost == "FLUSHALL":
        client.flushall()
    elif lost == "another life began":
        make_queue()

    answered = verb(queue, ids)

    assert answered == answer
    assert {name: number for name in _NAMES if (number := getattr(queue.counts(), name))} == counts
    assert told == [2]


_NAMES = ("waiting", "leased", "delayed", "dead", "failed", "parked")


def test_what_was_done_before_does_not_come_back(make_queue: Callable[[], ItemQueue], client: redis.Redis) -> None:
    queue = make_queue()
    ids = claim(queue, client, *"abcdef")
    queue.ack([(ids[0], None)])
    queue.release([ids[1]])
    queue.hold(ids[2], [{"url": "u"}])
    queue.bury(ids[3], {"reason": "r"})
    queue.park("h:80", 60, [ids[4]])
    client.flushall()

    assert queue.renew([ids[5]]) == []

    assert client.hvals("{s:items}:payload") == [b"f"]


def test_an_item_that_another_process_has_is_not_leased_anew(
    make_queue: Callable[[], ItemQueue], client: redis.Redis
) -> None:
    slow, quick = make_queue(), make_queue()
    ids = claim(slow, client, "a")
    client.zadd("{s:items}:leases", {ids[0]: 1})
    quick.claim(1, "q")
    assert slow.renew(ids) == ids
    client.flushall()

    assert (slow.renew(ids), quick.renew(["q:1"])) == (ids, [])
    assert client.hvals("{s:items}:payload") == [b"a"]


def test_two_processes_find_it_out_each_for_itself(make_queue: Callable[[], ItemQueue], client: redis.Redis) -> None:
    one, other = make_queue(), make_queue()
    ids = claim(one, client, "a")
    client.rpush(LIST, "b")
    other.claim(1, "q")
    client.flushall()

    assert one.ack([(ids[0], None)]) == ids
    assert other.ack([("q:1", None)]) == ["q:1"]
    assert client.keys("*") == [b"{s:items}:calls"]


def test_a_queue_that_was_never_checked_looks_at_nothing(
    new_queue: Callable[..., ItemQueue], client: redis.Redis
) -> None:
    new_queue().counts()

    assert client.exists("{s:items}:totals") == 0


def test_errors_that_were_counted_count_on(make_queue: Callable[[], ItemQueue], client: redis.Redis) -> None:
    queue = make_queue()
    ids = claim(queue, client, "a")
    queue.retry(ids[0], 0)
    queue.claim(1, "q")
    client.flushall()

    queue.retry("q:1", 0)

    [again], _ = queue.claim(1, "r")
    assert again.errors == 2
