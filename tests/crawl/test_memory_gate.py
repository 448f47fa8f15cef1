"""A Redis that is nearly full: pushes and claims slow down before it refuses, and nothing is lost where it does."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import pytest
import redis
from clocks import Clock
from origin import Origin
from project import Project, attachment, item

from scrapy_chunkdl.crawl.memory_gate import MemoryGate
from scrapy_chunkdl.queue.memory import Memory, look_at_memory

MOST = 100_000_000
ITEMS = 80


@pytest.fixture
def limit(client: redis.Redis) -> Iterator[Callable[[int], None]]:
    """Let Redis have so many bytes more than it has now; without an end after the test."""

    def give(more_bytes: int) -> None:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + more_bytes)

    yield give
    client.config_set("maxmemory", 0)


def gate(clock: Clock) -> MemoryGate:
    return MemoryGate(lambda: Memory(0, MOST), clock)


@pytest.mark.parametrize(
    ("used", "free", "with_some_held"),
    [(0.5, 32, 32), (0.899, 32, 32), (0.92, 22, 22), (0.96, 4, 4), (0.97, 1, 0), (1.1, 1, 0)],
)
def test_less_is_claimed_the_fuller_it_is_and_one_at_a_time_in_the_end(
    used: float, free: int, with_some_held: int
) -> None:
    memory = gate(Clock())
    memory.note(Memory(round(used * MOST), MOST))

    assert (memory.room(32, 0), memory.room(32, 5)) == (free, with_some_held)


@pytest.mark.parametrize(("used", "a_second"), [(0.5, 300), (0.934, 51), (0.97, 0)])
def test_less_is_pushed_the_fuller_it_is_and_nothing_in_the_end(used: float, a_second: int) -> None:
    clock, sent = Clock(), []
    memory = gate(clock)
    memory.note(Memory(round(used * MOST), MOST))
    for number in range(300):
        memory.push(lambda number=number: sent.append(number))

    clock.now += 1.0
    memory.tick()

    assert sent == list(range(a_second))
    memory.send_all()
    assert sent == list(range(300)), "in order"


def test_it_is_said_once_that_it_is_full_and_once_that_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    memory = gate(clock)
    with caplog.at_level(logging.INFO):
        for used in (0.95, 0.99, 0.93, 0.5, 0.95, 0.5):
            clock.now += 1
            memory.note(Memory(round(used * MOST), MOST))

    said = [record.getMessage() for record in caplog.records]
    assert said[0] == (
        "Redis has 95 MB of its maxmemory of 100 MB in use: pushes and claims slow down, until it has room; "
        "nothing is lost."
    )
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO, logging.INFO]


def test_a_redis_that_makes_room_by_itself_or_has_no_limit_is_never_near(client: redis.Redis) -> None:
    assert look_at_memory(client, "files:items").share == 0.0
    client.config_set("maxmemory", 1)
    try:
        assert look_at_memory(client, "files:items").share > 1
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert look_at_memory(client, "files:items").share == 0.0
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


def test_it_is_looked_at_with_the_reports_and_once_a_second_while_it_is_nearly_full() -> None:
    clock, looks = Clock(), []
    shares = iter([0.5, 0.5, 0.95, 0.95, 0.95, 0.5, 0.5])

    def look() -> Memory:
        looks.append(clock.now - 1000)
        return Memory(round(next(shares) * MOST), MOST)

    memory = MemoryGate(look, clock)
    for _ in range(40):
        memory.look()
        clock.now += 0.5

    assert looks == [0, 5, 10, 11, 12, 13, 18]


def test_a_crawl_of_more_than_redis_takes_loses_nothing_and_says_so_in_a_line(
    project: Project, origin: Origin, client: redis.Redis, limit: Callable[[int], None]
) -> None:
    urls = [origin.url(f"{n}.bin", 1000) for n in range(ITEMS)]
    project.items = [item(attachment(urls[n], f"{n}.bin"), n=n, text="x" * 100_000) for n in range(ITEMS)]
    project.settings |= {"LOG_LEVEL": "INFO", "CHUNKDL_MAX_DELIVERIES": 1}
    limit(3_000_000)

    crawl = project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == list(range(ITEMS))
    assert crawl.log.count("of its maxmemory") + crawl.log.count("Redis is out of memory") >= 1
    assert client.keys("*") == []


def test_a_list_that_fills_redis_is_worked_off_all_the_same(
    project: Project, origin: Origin, client: redis.Redis, limit: Callable[[int], None]
) -> None:
    items = [item(attachment(origin.url(f"{n}.bin", 1000), f"{n}.bin"), n=n, text="x" * 50_000) for n in range(ITEMS)]
    client.rpush("files:items", *map(json.dumps, items))
    limit(-100_000)

    project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == list(range(ITEMS))
    assert client.keys("*") == []
