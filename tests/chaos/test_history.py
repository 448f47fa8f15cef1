"""The history that chaos runs are judged by says what the queue did, and notices what it must never do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from history import History, read_log
from servers import Server, any_binary, wait_for

from scrapy_chunkdl.queue.item_queue import ItemQueue

KEY, DONE_KEY = "q", "done"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(any_binary(), "--auto-aof-rewrite-percentage", "0") as server:
        yield server


@pytest.fixture
def queue(server: Server) -> Iterator[ItemQueue]:
    queue = ItemQueue(server.client(), KEY, lease=0.01, max_deliveries=2, done_key=DONE_KEY, token="host:42:x")
    yield queue
    queue.close()


def history_of(server: Server) -> History:
    return History(KEY, DONE_KEY).replay(read_log(server.folder))


def claim(queue: ItemQueue, prefix: str) -> str:
    [claimed], _ = queue.claim(1, prefix)
    return claimed.id


def test_every_end_of_a_delivery_is_told(server: Server, queue: ItemQueue) -> None:
    queue.push([b"a"], 1)
    queue.retry(claim(queue, "1"), 0)
    queue.release([claim(queue, "2")])
    queue.ack([(claim(queue, "3"), b"a, finished")])
    queue.push([b"b"], 2)
    queue.bury(claim(queue, "4"), {"reason": "bad_item"})

    history = history_of(server)

    assert [(each.id, each.ended, each.pid) for each in history.of(b"a")] == [
        ("1:1", "retried", 42),
        ("2:1", "released", 42),
        ("3:1", "acked", 42),
    ]
    assert [each.ended for each in history.of(b"b")] == ["buried"]
    assert history.done == [b"a, finished"]
    assert history.acked == {b"a": 1}
    assert history.dead == {b"b": 1}
    assert history.broken == []


def test_a_lease_that_ran_out_is_told_with_its_times(server: Server, queue: ItemQueue) -> None:
    queue.push([b"a"], 1)
    claim(queue, "1")
    wait_for(lambda: bool(queue.claim(1, "2")[0]), "the lease never ends")
    wait_for(lambda: queue.claim(1, "3")[1] == 1, "the lease never ends")

    first, second = history_of(server).of(b"a")

    assert (first.ended, second.ended) == ("ran out", "ran out")
    assert first.ended_at == second.began >= first.runs_out
    assert (first.count, second.count) == (1, 2)
    assert history_of(server).dead == {b"a": 1}


def test_the_log_is_read_across_a_crash(server: Server, queue: ItemQueue) -> None:
    queue.push([b"a"], 1)
    server.kill()
    server.start()
    queue.ack([(claim(queue, "1"), None)])

    assert history_of(server).acked == {b"a": 1}


def test_deliveries_whose_claim_was_sent_again_too_late_are_kept_apart(server: Server, queue: ItemQueue) -> None:
    other = ItemQueue(server.client(), KEY, token="host:43:y")
    queue.push([b"a"], 1)
    claim(queue, "1")
    wait_for(lambda: bool(other.claim(1, "2")[0]), "the lease never ends")
    queue.push([b"b"], 2)
    claim(queue, "1")
    other.close()

    history = history_of(server)

    assert [(each.pid, each.ended) for each in history.of(b"a")] == [(42, "ran out"), (43, None)]
    assert [(each.id, each.ended) for each in history.of(b"b")] == [("1:1", None)]
    assert history.broken == []


def test_an_item_in_two_places_is_noticed(server: Server, queue: ItemQueue) -> None:
    queue.push([b"a"], 1)
    claim(queue, "1")
    with server.client() as client:
        client.rpush(KEY, b"a")

    assert history_of(server).broken == ["in 2 places after a step of Redis: b'a'"]


def test_an_item_that_vanishes_is_noticed(server: Server, queue: ItemQueue) -> None:
    queue.push([b"a"], 1)
    with server.client() as client:
        client.lpop(KEY)

    assert history_of(server).broken == ["in 0 places after a step of Redis: b'a'"]


def test_a_lease_taken_too_early_is_noticed(server: Server, queue: ItemQueue) -> None:
    queue.push([b"a"], 1)
    claim(queue, "1")
    with server.client() as client, client.pipeline() as pipe:
        now = client.zscore("{q}:leases", "1:1") - 3
        pipe.zrem("{q}:leases", "1:1").hdel("{q}:payload", "1:1")
        pipe.zadd("{q}:leases", {"2:1": now + 10}).hset("{q}:payload", "2:1", "a")
        pipe.hset("{q}:owner", "2:1", f"host:43:y {now:.0f}").execute()

    assert history_of(server).broken == ["the lease 1:1 was taken over 3 ms before it ran out"]
