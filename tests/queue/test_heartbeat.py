"""The heartbeat: it renews what moves and nothing else, tells what is lost, and outlives a Redis that goes away."""

from __future__ import annotations

import logging
import queue as queues
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import redis
from patience import HANG
from servers import Server, any_binary

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.heartbeat import Heartbeat, pause_after
from scrapy_chunkdl.queue.item_queue import ItemQueue

LIST, LEASES = "s:items", "{s:items}:leases"
SOON, LONG = 0.15, 3600.0


class Beats:
    """What the heartbeat is told to renew, and what it tells."""

    def __init__(self) -> None:
        self.moving: list[str] = []
        self.problem: Exception | None = None
        self.asked: queues.Queue[None] = queues.Queue()
        self.told: queues.Queue[tuple[list[str], list[str], float]] = queues.Queue()

    def which(self) -> Sequence[str]:
        self.asked.put(None)
        if self.problem is not None:
            raise self.problem
        return self.moving

    def renewed(self, ids: Sequence[str], lost: Sequence[str], asked_at: float) -> None:
        self.told.put((list(ids), list(lost), asked_at))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of this module alone: its tests end it."""
    with Server(any_binary()) as server:
        yield server


@pytest.fixture
def queue(server: Server, client: redis.Redis) -> Iterator[ItemQueue]:
    """A queue whose process has leased p:1, p:2 and p:3."""
    queue = ItemQueue(make_client({"REDIS_URL": server.url}), LIST, lease=LONG)
    queue.push([b"a", b"b", b"c"], 1)
    queue.claim(3, "p")
    yield queue
    queue.close()


@pytest.fixture
def beats() -> Beats:
    return Beats()


@pytest.fixture
def start(queue: ItemQueue, beats: Beats) -> Iterator[Callable[[], Heartbeat]]:
    started: list[Heartbeat] = []

    def make() -> Heartbeat:
        heartbeat = Heartbeat(queue, SOON, beats.which, beats.renewed)
        heartbeat.start()
        started.append(heartbeat)
        return heartbeat

    yield make
    for heartbeat in started:
        heartbeat.stop()
        assert not heartbeat.is_alive()


def test_what_moves_is_renewed_and_nothing_else(queue: ItemQueue, beats: Beats, client: redis.Redis) -> None:
    client.zadd(LEASES, {"p:1": 1, "p:2": 2, "p:3": 3})
    beats.moving = ["p:1", "p:3"]
    before = time.monotonic()

    Heartbeat(queue, LONG, beats.which, beats.renewed).beat()

    ids, lost, asked_at = beats.told.get_nowait()
    assert (ids, lost) == (["p:1", "p:3"], [])
    assert before <= asked_at <= time.monotonic()
    now = client.time()[0] * 1000
    assert client.zscore(LEASES, "p:2") == 2
    assert all((client.zscore(LEASES, item_id) or 0) > now + LONG * 900 for item_id in beats.moving)


def test_with_nothing_that_moves_redis_is_not_asked(queue: ItemQueue, beats: Beats, client: redis.Redis) -> None:
    client.config_resetstat()

    Heartbeat(queue, LONG, beats.which, beats.renewed).beat()

    assert beats.told.empty()
    assert "cmdstat_evalsha" not in client.info("commandstats")


def test_leases_that_another_process_has_are_told(
    queue: ItemQueue, beats: Beats, client: redis.Redis, server: Server
) -> None:
    client.zadd(LEASES, {"p:2": 1})
    other = ItemQueue(make_client({"REDIS_URL": server.url}), LIST, lease=LONG)
    other.claim(1, "q")
    beats.moving = ["p:1", "p:2"]

    Heartbeat(queue, LONG, beats.which, beats.renewed).beat()

    ids, lost, _ = beats.told.get_nowait()
    assert (ids, lost) == (["p:1", "p:2"], ["p:2"])
    assert client.zscore(LEASES, "q:1") is not None
    other.close()


def test_who_asks_for_a_beat_hears_that_redis_is_away(beats: Beats, tmp_path: Path) -> None:
    beats.moving = ["p:1"]
    away = ItemQueue(make_client({"REDIS_URL": f"unix://{tmp_path}/nobody"}), LIST, lease=LONG)

    with pytest.raises(redis.ConnectionError):
        Heartbeat(away, LONG, beats.which, beats.renewed).beat()

    assert beats.told.empty()
    away.close()


def test_it_beats_by_itself_until_it_is_stopped(start: Callable[[], Heartbeat], beats: Beats) -> None:
    beats.moving = ["p:1"]
    heartbeat = start()
    for _ in range(3):
        beats.told.get(timeout=HANG)

    heartbeat.stop()

    assert not heartbeat.is_alive()


def test_it_goes_on_when_redis_was_away_and_says_nothing(
    start: Callable[[], Heartbeat], beats: Beats, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    beats.moving = ["p:1"]
    start()
    beats.told.get(timeout=HANG)

    server.kill()
    while not beats.told.empty():
        beats.told.get_nowait()
    for _ in range(3):
        beats.asked.get(timeout=HANG)
    server.start()
    ids, lost, _ = beats.told.get(timeout=HANG)

    assert (ids, lost) == (["p:1"], [])
    assert caplog.records == []  # the courier meets the same trouble and is the one to tell


def test_a_bug_is_logged_and_the_next_beat_comes(
    start: Callable[[], Heartbeat], beats: Beats, caplog: pytest.LogCaptureFixture
) -> None:
    beats.problem, beats.moving = RuntimeError("a bug"), ["p:1"]
    start()
    for _ in range(2):
        beats.asked.get(timeout=HANG)
    beats.problem = None

    ids, _, _ = beats.told.get(timeout=HANG)

    assert ids == ["p:1"]
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(
    ("cpu_time", "watched", "pause"),
    [(0.0, True, 2.0), (0.02, True, 2.0), (0.026, True, 2.6), (1.0, True, 5.0), (0.0, False, 5.0), (1.0, False, 5.0)],
)
def test_reports_take_one_percent_of_a_core_unless_they_would_come_too_rarely(
    cpu_time: float, watched: bool, pause: float
) -> None:
    assert pause_after(cpu_time, watched=watched) == pytest.approx(pause)
