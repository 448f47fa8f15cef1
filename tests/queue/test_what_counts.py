"""What counts towards the limit of deliveries, and who is delivered alone because a process died of it, or with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
import redis

from scrapy_chunkdl.queue import item_queue
from scrapy_chunkdl.queue.item_queue import MOST_BYTES, ItemQueue
from scrapy_chunkdl.queue.life import Claimed

LIST, LEASES, DEAD, FAILED, PAST, TRIES, DELAYED = (
    "s:items",
    *(f"{{s:items}}:{name}" for name in ("leases", "dead", "failed", "past", "tries", "delayed")),
)

NewQueue = Callable[..., ItemQueue]


def dies(client: redis.Redis, at: Sequence[str] = ()) -> None:
    """Let the leases run out, as those of a dead process do."""
    for item_id in at or client.zrange(LEASES, 0, -1):
        client.zadd(LEASES, {item_id: 1}, xx=True)


def soon(client: redis.Redis) -> None:
    """Let all delays be over."""
    for item_id in client.zrange(DELAYED, 0, -1):
        client.zadd(DELAYED, {item_id: 1})


def die(queue: ItemQueue, client: redis.Redis, claimed: Claimed) -> None:
    dies(client)


def die_after_bytes(queue: ItemQueue, client: redis.Redis, claimed: Claimed) -> None:
    queue.renew([claimed.id], {claimed.id: 1000 * client.incr("more")})
    dies(client)


def die_after_the_same_bytes(queue: ItemQueue, client: redis.Redis, claimed: Claimed) -> None:
    queue.renew([claimed.id], {claimed.id: 1000})
    dies(client)


def release(queue: ItemQueue, client: redis.Redis, claimed: Claimed) -> None:
    queue.release([claimed.id])


def release_after_bytes(queue: ItemQueue, client: redis.Redis, claimed: Claimed) -> None:
    queue.renew([claimed.id], {claimed.id: 1000 * client.incr("more")})
    queue.release([claimed.id])


def fail(queue: ItemQueue, client: redis.Redis, claimed: Claimed) -> None:
    queue.retry(claimed.id, 0)


def fail_after_bytes(queue: ItemQueue, client: redis.Redis, claimed: Claimed) -> None:
    queue.renew([claimed.id], {claimed.id: 1000 * client.incr("more")})
    queue.retry(claimed.id, 0)


def fail_with_all_others(queue: ItemQueue, client: redis.Redis, claimed: Claimed) -> None:
    queue.retry(claimed.id, 0, is_error=False)


@pytest.mark.parametrize(
    ("ends", "counted", "errors"),
    [
        ([die, die], 3, 0),
        ([die_after_bytes] * 9, 1, 0),
        ([die_after_the_same_bytes] * 2, 2, 0),
        ([release] * 9, 1, 0),
        ([release_after_bytes] * 9, 1, 0),
        ([die, release, die_after_bytes], 2, 0),
        ([fail] * 9, 1, 9),
        ([fail_after_bytes, fail], 1, 2),
        ([fail_with_all_others] * 9, 1, 0),
        ([die, die, fail], 1, 1),
        ([fail, die, release], 2, 1),
        ([fail, die_after_bytes, die], 2, 1),
    ],
    ids=lambda value: "-".join(end.__name__ for end in value)[:60] if isinstance(value, list) else None,
)
def test_a_claim_counts_if_its_process_died_and_nothing_came_of_it(
    new_queue: NewQueue,
    client: redis.Redis,
    ends: Sequence[Callable[[ItemQueue, redis.Redis, Claimed], None]],
    counted: int,
    errors: int,
) -> None:
    client.rpush(LIST, b"\xffa")
    queue = new_queue(max_deliveries=3)

    for number, end in enumerate(ends):
        [claimed], _ = queue.claim(1, f"p{number}")
        end(queue, client, claimed)
    soon(client)
    batch, dead = queue.claim(1, "last")

    assert [(claimed.payload, claimed.deliveries, claimed.errors) for claimed in batch] == [(b"\xffa", counted, errors)]
    assert dead == 0


def test_deaths_without_progress_end_among_the_dead(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, b"\xffa")
    queue = new_queue(max_deliveries=2)
    for number in range(3):  # the first brings bytes, the others begin anew
        [claimed], _ = queue.claim(1, f"p{number}")
        die_after_the_same_bytes(queue, client, claimed)

    assert queue.claim(1, "last") == ([], 1)

    queue.forget()
    assert client.lrange(DEAD, 0, -1) == [b"\xffa"]
    assert client.keys("*") == [DEAD.encode()]


def test_poison_takes_nobody_with_it(new_queue: NewQueue, client: redis.Redis) -> None:
    """A process that dies whenever it has the poison, started again and again."""
    client.rpush(LIST, *(b"%d" % n for n in range(10)))
    done: list[bytes] = []
    for start in range(40):
        queue = new_queue(max_deliveries=2)
        batch, _ = queue.claim(10, f"start{start}")
        if not any(claimed.payload == b"5" for claimed in batch):
            done += [claimed.payload for claimed in batch]
            queue.ack([(claimed.id, None) for claimed in batch])
        dies(client, [claimed.id for claimed in batch])

    assert sorted(done) == [b"%d" % n for n in range(10) if n != 5]
    assert client.lrange(DEAD, 0, -1) == [b"5"]


def test_a_suspect_comes_alone_and_others_wait_for_a_process_that_may_have_it(
    new_queue: NewQueue, client: redis.Redis
) -> None:
    client.rpush(LIST, *"abcd")
    queue = new_queue(lease=60)
    queue.claim(2, "p")
    now = client.time()[0] * 1000
    client.zadd(LEASES, {"p:1": now - 30_000, "p:2": now - 20_000})

    def claim(prefix: str, suspects: str) -> list[tuple[bytes, int]]:
        batch, _ = queue.claim(4, prefix, suspects)  # type: ignore[arg-type]
        return [(claimed.payload, claimed.deliveries) for claimed in batch]

    assert claim("q", "none") == [(b"c", 1), (b"d", 1)]
    assert claim("r", "overdue") == []
    client.zadd(LEASES, {"p:1": now - 60_000})
    assert claim("s", "overdue") == [(b"a", 2)]
    assert claim("t", "due") == [(b"b", 2)]


def test_suspects_that_may_not_come_do_not_keep_others(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *"abcdef")
    queue = new_queue()
    queue.claim(4, "p")
    dies(client)

    batch, _ = queue.claim(2, "q", "none")

    assert [claimed.payload for claimed in batch] == [b"e", b"f"]


def test_many_records_of_an_item_go_in_requests_that_are_taken_and_stand_side_by_side(
    new_queue: NewQueue, client: redis.Redis
) -> None:
    client.rpush(LIST, b'{"n": 1}', b'{"n": 2}')
    queue, other = new_queue(), new_queue()
    queue.claim(1, "p")
    other.claim(1, "q")
    records = [{"url": f"http://h/{n:04}" + "x" * 1000} for n in range(3 * MOST_BYTES // 1000)]

    assert queue.fail("p:1", records) is True
    assert queue.fail("p:1", records) is True
    assert other.hold("q:1", records) is True

    found = [json.loads(raw) for raw in client.lrange(FAILED, 0, -1)]
    assert [record["url"] for record in found] == [record["url"] for record in [*records, *records]]
    assert [record["item"] for record in found if "item" in record] == [{"n": 1}, {"n": 2}]
    assert [record["delivery"] for record in found] == ["p:1"] * len(records) + ["q:1"] * len(records)
    queue.forget()
    other.forget()
    assert not client.keys("*parts*")


def test_an_item_that_comes_again_is_recorded_once(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, b'{"n": 1}')
    queue = new_queue()
    for number in range(3):
        [claimed], _ = queue.claim(1, f"p{number}")
        queue.fail(claimed.id, [{"url": "u"}])
        queue.retry(claimed.id, 0)
        soon(client)

    assert client.llen(FAILED) == 1


@pytest.mark.parametrize(
    ("verb", "records", "left"),
    [
        ("fail", [{"url": "v", "reason": "status_404"}], 2),
        ("fail", [{"url": "u", "reason": "status_404"}, {"url": "v", "reason": "status_404"}], 3),
        ("fail", [{"url": "u", "reason": "no_space"}], 2),
        ("hold", [{"url": "u", "reason": "status_404"}], 2),
        ("bury", [{"url": "u", "reason": "status_404"}, {"reason": "pipeline_failed"}], 3),
    ],
)
def test_what_a_later_delivery_tells_anew_of_an_item_is_recorded_too(
    new_queue: NewQueue, client: redis.Redis, verb: str, records: list[dict[str, str]], left: int
) -> None:
    client.rpush(LIST, b'{"n": 1}')
    queue = new_queue()
    [first], _ = queue.claim(1, "p1")
    queue.fail(first.id, [{"url": "u", "reason": "status_404"}])
    queue.retry(first.id, 0)
    soon(client)
    [second], _ = queue.claim(1, "p2")

    if verb == "bury":
        queue.bury(second.id, *records)
    else:
        getattr(queue, verb)(second.id, records)

    found = [json.loads(raw) for raw in client.lrange(FAILED, 0, -1)]
    assert len(found) == left
    assert [record.get("url") for record in found if record["delivery"] == second.id] == [r.get("url") for r in records]


def test_the_oldest_records_are_dropped_but_never_those_an_item_waits_in(
    new_queue: NewQueue, client: redis.Redis
) -> None:
    client.rpush(LIST, *range(6))
    queue = new_queue(failed_max=3)
    for n in range(6):
        [claimed], _ = queue.claim(1, f"p{n}")
        (queue.hold if n in (0, 2) else queue.fail)(claimed.id, [{"url": str(n)}])

    assert [json.loads(raw)["url"] for raw in client.lrange(FAILED, 0, -1)] == ["0", "2", "5"]
    assert queue.records_dropped == 3


def test_records_are_bounded_in_bytes_too(
    new_queue: NewQueue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_queue, "FAILED_MOST_BYTES", 1 << 20)
    queue = new_queue(failed_max=10_000)
    client.rpush(LIST, *(b'{"n": %d, "text": "%s"}' % (n, b"x" * 78_000) for n in range(20)))
    for n in range(20):
        [claimed], _ = queue.claim(1, f"p{n}")
        queue.fail(claimed.id, [{"url": str(n)}])
        queue.ack([(claimed.id, None)])

    left = [json.loads(raw)["url"] for raw in client.lrange(FAILED, 0, -1)]
    assert client.memory_usage(FAILED, samples=0) <= 1 << 20
    assert left == [str(n) for n in range(20)][-len(left) :]
    assert len(left) >= 8
