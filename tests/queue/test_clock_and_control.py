"""Redis' clock that was set back, ours that stood still, and wishes in ``:control`` that are none."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import redis

from scrapy_chunkdl.queue.clock import LeaseClock
from scrapy_chunkdl.queue.heartbeat import Heartbeat
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.status import look

LIST, LEASES, DELAYED, WORKERS, CONTROL = (
    "s:items",
    *(f"{{s:items}}:{name}" for name in ("leases", "delayed", "workers", "control")),
)
HOUR_MS = 3_600_000

NewQueue = Callable[..., ItemQueue]


@pytest.mark.parametrize(
    ("steady_s", "wall_s", "counted_s"),
    [
        pytest.param(10, 10, 10, id="nothing happens"),
        pytest.param(3600, 3600, 3600, id="sleep that the steady clock counts"),
        pytest.param(0, 3600, 3600, id="held by a hypervisor"),
        pytest.param(5, 65, 65, id="held for a minute between two looks"),
        pytest.param(10, 10.005, 10, id="slewed by NTP"),
        pytest.param(10, -3590, 10, id="wall clock set back"),
        pytest.param(10, 10.9, 10, id="less than a jump"),
    ],
)
def test_leases_are_counted_by_a_clock_that_never_goes_back_and_that_jumps_with_the_wall_clock(
    steady_s: float, wall_s: float, counted_s: float
) -> None:
    now = {"steady": 100.0, "wall": 1e9}
    clock = LeaseClock(lambda: now["steady"], lambda: now["wall"])
    before = clock()

    now["steady"] += steady_s
    now["wall"] += wall_s
    jumped = clock()
    now["steady"] += 1
    now["wall"] += 1

    assert jumped - before == pytest.approx(counted_s)
    assert clock() - jumped == pytest.approx(1)


def test_an_hour_that_redis_goes_back_is_waited_for_by_nobody(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, "dead", "delayed")
    dead, queue, other = new_queue(lease=60), new_queue(), new_queue()
    dead.claim(1, "p")
    [claimed], _ = queue.claim(1, "q")
    queue.retry(claimed.id, 30)
    for process in (queue, other):
        process.report(b"{}")
    for key in (LEASES, DELAYED):  # the clock goes back: what was told is of the future
        for item_id, _ in client.zrange(key, 0, -1, withscores=True):
            client.zincrby(key, HOUR_MS, item_id)
    for token, told in client.hgetall(WORKERS).items():
        when, since, rest = told.split(b" ", 2)
        client.hset(WORKERS, token, b"%d %d %s" % (int(when) + HOUR_MS, int(since) + HOUR_MS, rest))

    queue.report(b"{}")
    other.report(b"{}")

    now = client.time()[0] * 1000
    assert 0 < (client.zscore(LEASES, "p:1") or 0) - now < 62_000
    assert 0 < (client.zscore(DELAYED, claimed.id) or 0) - now < 32_000
    assert all(-1 <= worker.silent_for < 60 for worker in look(queue).workers if worker.silent_for is not None)


@pytest.mark.parametrize("garbage", [b"99999999999999 x", b"x", b"", b"99999999999999 1 {}"])
def test_what_others_write_among_the_reports_sets_no_clock(
    new_queue: NewQueue, client: redis.Redis, garbage: bytes
) -> None:
    client.rpush(LIST, "a")
    queue = new_queue()
    queue.claim(1, "p")
    before = client.zscore(LEASES, "p:1")
    client.hset(WORKERS, "w", garbage)

    queue.report(b"{}")
    queue.report(b"{}")

    assert client.zscore(LEASES, "p:1") == before


@pytest.mark.parametrize("odd", ["1M", "", "-1", "nan", "inf", "1e400", "\x1b[31m5", "0x10", "x" * 10_000])
def test_an_odd_wish_is_ignored_and_told_once(
    new_queue: NewQueue, client: redis.Redis, caplog: pytest.LogCaptureFixture, odd: str
) -> None:
    queue = new_queue()
    client.hset(CONTROL, "max_rate", odd)
    client.hset(CONTROL, b"paused \xff", 1)
    orders = []
    heartbeat = Heartbeat(queue, 3600.0, list, lambda *_: None, lambda: b"{}", ordered=orders.append)

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            heartbeat.send_report()

    assert [order.max_rate for order in orders] == [None] * len(orders)
    assert len(caplog.records) == (1 if odd else 0)
    assert all("\x1b" not in record.getMessage() and len(record.getMessage()) <= 300 for record in caplog.records)
    assert look(queue).max_rate is None


def test_a_bug_in_a_report_costs_one_line_and_a_pause(
    new_queue: NewQueue, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    beats: list[None] = []

    def report() -> bytes:
        raise RuntimeError("a bug")

    heartbeat = Heartbeat(new_queue(), 0.03, lambda: beats.append(None) or [], lambda *_: None, report)
    heartbeat.start()
    while len(beats) < 5:  # it beats on
        heartbeat.join(0.01)
    heartbeat.stop()

    assert len([record for record in caplog.records if record.exc_info]) == 1
