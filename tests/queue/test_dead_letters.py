"""Items in ``:failed`` and ``:dead``: seen, put back or dropped, one by one, with no crawl running."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis

from scrapy_chunkdl.queue.dead_letters import PAGE, DeadLetter, DeadLetters
from scrapy_chunkdl.queue.item_queue import MOST_BYTES, ItemQueue

LIST, FAILED, DEAD = "s:items", "{s:items}:failed", "{s:items}:dead"

NewQueue = Callable[..., ItemQueue]


@pytest.fixture
def failed(client: redis.Redis) -> DeadLetters:
    return DeadLetters.failed(client, LIST)


@pytest.fixture
def dead(client: redis.Redis) -> DeadLetters:
    return DeadLetters.dead(client, LIST)


def hold(queue: ItemQueue, client: redis.Redis, payload: bytes, *urls: str) -> None:
    """Have an item wait in its records, one per URL."""
    client.rpush(LIST, payload)
    [claimed], _ = queue.claim(1, f"claim-{client.incr('claims')}")
    queue.hold(claimed.id, [{"url": url} for url in urls])


def test_the_records_of_one_item_are_one(new_queue: NewQueue, client: redis.Redis, failed: DeadLetters) -> None:
    queue = new_queue()
    hold(queue, client, b'{"n": 1}', "a", "b")
    hold(queue, client, b'{"n": 1}', "c")

    first, second = failed

    assert [record["url"] for record in first.records] == ["a", "b"]
    assert [record["url"] for record in second.records] == ["c"]
    assert first.payload == second.payload == b'{"n": 1}'


def test_a_held_item_goes_back_once_and_byte_for_byte(
    new_queue: NewQueue, client: redis.Redis, failed: DeadLetters
) -> None:
    payload = '{"n":12345678901234567890, "item": {"a": ", \\"item\\": }"},  "t": "年报"}'.encode()
    hold(new_queue(), client, payload, "a", "b", 'c", "item": ')

    assert failed.put_back() == 1
    assert failed.put_back() == 0

    assert client.lrange(LIST, 0, -1) == [payload]
    assert client.exists(FAILED) == 0


def test_what_is_not_wanted_stays_in_its_order(new_queue: NewQueue, client: redis.Redis, failed: DeadLetters) -> None:
    queue = new_queue()
    for n in range(6):
        hold(queue, client, str(n).encode(), f"http://h/{n % 2}", "http://h/always")

    assert failed.put_back(lambda item: item.mentions("http://h/1")) == 3

    assert client.lrange(LIST, 0, -1) == [b"1", b"3", b"5"]
    assert [item.payload for item in failed] == [b"0", b"2", b"4"]
    assert failed.drop(lambda item: item.payload == b"2") == 1
    assert [item.payload for item in failed] == [b"0", b"4"]
    assert failed.drop() == 2
    assert client.lrange(LIST, 0, -1) == [b"1", b"3", b"5"]


def test_pages_end_between_items_however_many_records_they_have(
    new_queue: NewQueue, client: redis.Redis, failed: DeadLetters
) -> None:
    queue = new_queue()
    sizes = [PAGE - 1, 3, 5 * PAGE, 1, PAGE, 2]
    for n, size in enumerate(sizes):
        hold(queue, client, str(n).encode(), *map(str, range(size)))

    assert [len(item.records) for item in failed] == sizes
    assert failed.put_back(lambda item: item.payload != b"1") == 5

    assert client.lrange(LIST, 0, -1) == [b"0", b"2", b"3", b"4", b"5"]
    assert [len(item.records) for item in failed] == [3]


def test_items_that_fail_again_meanwhile_are_not_taken_twice(
    new_queue: NewQueue, client: redis.Redis, failed: DeadLetters
) -> None:
    queue = new_queue()
    for n in range(3):
        hold(queue, client, str(n).encode(), "a")

    def fail_again(_: object) -> bool:
        hold(queue, client, b"another", "b")
        return True

    assert failed.put_back(fail_again) == 3

    assert len(list(failed)) == 3


def test_two_that_put_back_at_once_do_it_once(new_queue: NewQueue, client: redis.Redis, failed: DeadLetters) -> None:
    queue = new_queue()
    for n in range(5):
        hold(queue, client, str(n).encode(), "a")
    other = DeadLetters.failed(client, LIST)

    taken_by_other: list[int] = []
    taken = failed.put_back(lambda _: bool(taken_by_other or taken_by_other.append(other.put_back()) or True))

    assert (taken, taken_by_other) == (0, [5])
    assert client.lrange(LIST, 0, -1) == [b"0", b"1", b"2", b"3", b"4"]


def test_the_record_of_a_buried_item_cannot_go_back_but_the_item_can(
    new_queue: NewQueue, client: redis.Redis, failed: DeadLetters, dead: DeadLetters
) -> None:
    client.rpush(LIST, b"\xff no json", b"\xff no json")
    queue = new_queue()
    for n in range(2):
        queue.claim(1, f"p{n}")
        queue.bury(f"p{n}:1", {"reason": "bad_item"})

    assert failed.put_back() == 0
    assert [(item.payload, item.records) for item in dead] == [(b"\xff no json", ())] * 2
    assert dead.put_back(lambda item: item.mentions("no json")) == 2
    assert failed.drop() == 2

    assert client.lrange(LIST, 0, -1) == [b"\xff no json"] * 2
    assert client.exists(DEAD, FAILED) == 0


def test_an_entry_of_foreign_make_can_be_seen_and_dropped(client: redis.Redis, failed: DeadLetters) -> None:
    client.rpush(FAILED, b"\xff", "[1]", json.dumps({"url": "u"}))

    assert failed.put_back() == 0
    assert [item.records for item in failed] == [(), (), ({"url": "u"},)]
    assert failed.drop() == 3


def test_items_that_moved_because_another_was_dropped_meanwhile_are_still_taken(
    new_queue: NewQueue, client: redis.Redis, failed: DeadLetters
) -> None:
    queue = new_queue()
    for n in range(5):
        hold(queue, client, str(n).encode(), "a", "b")
    other = DeadLetters.failed(client, LIST)

    def drop_the_second(item: DeadLetter) -> bool:
        if item.payload == b"4":
            assert other.drop(lambda item: item.payload == b"1") == 1
        return item.payload != b"2"

    assert failed.put_back(drop_the_second) == 3

    assert client.lrange(LIST, 0, -1) == [b"0", b"3", b"4"]
    assert [item.payload for item in failed] == [b"2"]


@pytest.mark.parametrize("text", ["年报", 'say "hi"', "http_404"])
def test_a_text_is_found_however_json_writes_it(client: redis.Redis, failed: DeadLetters, text: str) -> None:
    for record in ({"title": text, "url": "u"}, {"title": "other"}):
        client.rpush(FAILED, json.dumps(record), json.dumps(record, ensure_ascii=False))

    assert [item.mentions(text) for item in failed] == [True, True, False, False]


def test_large_items_go_back_in_requests_that_are_taken(
    new_queue: NewQueue, client: redis.Redis, failed: DeadLetters, dead: DeadLetters
) -> None:
    payloads = [b'{"n": %d, "text": "%s"}' % (n, b"x" * 200_000) for n in range(12)]
    client.rpush(DEAD, *payloads)
    for payload in payloads:
        hold(new_queue(), client, payload, "a", "b")
    largest = max(len(payload) for payload in payloads)
    client.config_resetstat()

    assert dead.put_back(lambda item: item.payload not in payloads[3:5]) == 10
    assert failed.put_back(lambda item: item.payload != payloads[7]) == 11

    assert client.lrange(DEAD, 0, -1) == payloads[3:5]
    assert client.lrange(LIST, 0, -1) == payloads[:3] + payloads[5:] + payloads[:7] + payloads[8:]
    calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls >= 22 * largest // (MOST_BYTES + largest)
