"""Waiting items are looked at a page at a time, searched, moved to the front and taken out; nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from scrapy_chunkdl.queue.asked import MOST, Asked, AskedOfProcesses
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.recent import MOST as MOST_RECENT
from scrapy_chunkdl.queue.recent import Finished, Recent
from scrapy_chunkdl.queue.waiting import SEARCHED_AT_ONCE, Waiting, id_of

LIST, DEAD = "s:items", "{s:items}:dead"

NewQueue = Callable[..., ItemQueue]


@pytest.fixture
def waiting(new_queue: NewQueue) -> Waiting:
    return Waiting(new_queue().client, LIST)


def test_pages_follow_each_other(waiting: Waiting, client: redis.Redis) -> None:
    client.rpush(LIST, *range(250))

    first, second = waiting.page(0, 120)
    rest, end = waiting.page(second, 500)

    assert [int(item.payload) for item in [*first, *rest]] == list(range(250))
    assert [item.at for item in [*first, *rest]] == list(range(250))
    assert (second, end, len(waiting)) == (120, 250, 250)


def test_a_search_looks_at_so_many_and_says_where_it_goes_on(waiting: Waiting, client: redis.Redis) -> None:
    client.rpush(LIST, *(f"ü{n}" for n in range(SEARCHED_AT_ONCE + 1000)))

    found, end = waiting.page(0, 10, f"ü{SEARCHED_AT_ONCE + 500}")
    later, _ = waiting.page(end, 10, f"ü{SEARCHED_AT_ONCE + 500}")

    assert (found, end) == ([], SEARCHED_AT_ONCE)
    assert [item.at for item in later] == [SEARCHED_AT_ONCE + 500]


@pytest.mark.parametrize("claimed", [0, 3, 150])
def test_what_moved_meanwhile_is_found(
    waiting: Waiting, new_queue: NewQueue, client: redis.Redis, claimed: int
) -> None:
    client.rpush(LIST, *range(500))
    [item] = [item for item in waiting.page(0, 500)[0] if item.payload == b"300"]
    for n in range(0, claimed, 100):
        new_queue().claim(min(100, claimed - n), f"p{n}")

    assert waiting.move_to_front([(item.id, item.at)]) == 1

    assert client.lindex(LIST, 0) == b"300"
    assert client.llen(LIST) == 500 - claimed


def test_several_come_to_the_front_in_their_order(waiting: Waiting, client: redis.Redis) -> None:
    client.rpush(LIST, *range(10))

    assert waiting.move_to_front([(id_of(b"4"), 4), (id_of(b"7"), 7)]) == 2

    assert client.lrange(LIST, 0, -1) == [b"4", b"7", b"0", b"1", b"2", b"3", b"5", b"6", b"8", b"9"]


def test_what_is_taken_out_is_among_the_dead_byte_for_byte(waiting: Waiting, client: redis.Redis) -> None:
    odd = b'\xff{"a": 1}\x00'
    client.rpush(LIST, "1", odd, "3", odd)

    assert waiting.take_out([(id_of(odd), 1)]) == 1

    assert client.lrange(LIST, 0, -1) == [b"1", b"3", odd]
    assert client.lrange(DEAD, 0, -1) == [odd]
    assert waiting.take_out([(id_of(b"gone"), 0)]) == 0


# --- what is asked of one process


def test_a_request_reaches_its_process_once(new_queue: NewQueue, client: redis.Redis) -> None:
    asked = AskedOfProcesses(new_queue().client, LIST)
    asked.ask("a:1:x", Asked("give_up", "f1"))
    asked.ask("b:2:y", Asked("retry", "f2"))
    client.rpush("{s:items}:asked a:1:x", b"\xff", "no such", "give_up ", "retry f3")

    assert client.ttl("{s:items}:asked b:2:y") > 0
    assert asked.take("a:1:x") == [Asked("give_up", "f1"), Asked("retry", "f3")]
    assert asked.take("a:1:x") == []


def test_requests_nobody_reads_are_bounded(new_queue: NewQueue, client: redis.Redis) -> None:
    asked = AskedOfProcesses(new_queue().client, LIST)
    for n in range(MOST + 5):
        asked.ask("a:1:x", Asked("retry", str(n)))

    assert client.llen("{s:items}:asked a:1:x") == MOST


# --- the last files


def test_the_last_files_are_kept_the_newest_first(new_queue: NewQueue, client: redis.Redis) -> None:
    finished, recent = Finished(), Recent(new_queue().client, LIST)
    for n in range(MOST_RECENT + 50):
        finished.note(lambda n=n: {"name": str(n), "size": n})
    recent.add(finished.take())
    client.lpush("{s:items}:finished", "no JSON", '{"name": 7, "size": "x"}')

    files = recent.files()

    assert [file["name"] for file in files[:2]] == ["7", str(MOST_RECENT + 49)]
    assert files[0]["size"] is None
    assert len(files) <= MOST_RECENT
    assert finished.take() == []
