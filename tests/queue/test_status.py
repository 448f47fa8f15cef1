"""What processes tell of themselves, and what a person is told of the queue and of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis
from patience import HANG

from scrapy_chunkdl.queue.heartbeat import Heartbeat
from scrapy_chunkdl.queue.host_health import HostHealth
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.needs import need_of
from scrapy_chunkdl.queue.snapshot import REPORT_KEPT
from scrapy_chunkdl.queue.status import SILENT_AFTER, Pace, PaceMeter, Rate, Report, look, look_at_all

LIST, OWNER, WORKERS = "s:items", "{s:items}:owner", "{s:items}:workers"

NewQueue = Callable[..., ItemQueue]


def report(pace: Pace | None = None, state: str = "claiming") -> bytes:
    return Report("host-1", 4711, "0.1.0", state, files=3, connections=5, pace=pace or Pace()).encode()


def park_one(queue: ItemQueue, host: str) -> None:
    """Have an item wait for a host."""
    queue.push([b"{}"], time.monotonic_ns())
    claimed, _ = queue.claim(1, f"{host.split()[0]}-")
    queue.park(host, 60.0, [one.id for one in claimed])


def age(client: redis.Redis, token: str, seconds: float) -> None:
    """Let the last report of a process be that much older."""
    told, since, rest = client.hget(WORKERS, token).split(b" ", 2)
    moved = [str(int(int(ms) - seconds * 1000)).encode() for ms in (told, since)]
    client.hset(WORKERS, token, b" ".join([*moved, rest]))


def test_a_report_is_one_field_that_goes_with_its_process(new_queue: NewQueue, client: redis.Redis) -> None:
    queue, other = new_queue(), new_queue()

    queue.report(b"old")
    queue.report(b"new words")
    other.report(b"{}")

    now = client.time()[0] * 1000
    told, since, words = client.hget(WORKERS, queue.token).split(b" ", 2)
    assert words == b"new words"
    assert now - 60_000 < int(since) <= int(told) <= now + 1000
    assert 0 < client.ttl(WORKERS) <= REPORT_KEPT
    queue.forget()
    assert client.hkeys(WORKERS) == [other.token.encode()]
    other.forget()
    assert client.keys("*") == []


def test_reports_of_the_dead_go_when_a_new_process_comes(new_queue: NewQueue, client: redis.Redis) -> None:
    dead, dying, new = new_queue(), new_queue(), new_queue()
    dead.report(b"{}")
    dying.report(b"{}")
    age(client, dead.token, REPORT_KEPT + 1)
    age(client, dying.token, REPORT_KEPT - 60)
    assert [process.token for process in dying.snapshot().reported] == [dying.token]

    new.report(b"{}")

    assert set(client.hkeys(WORKERS)) == {dying.token.encode(), new.token.encode()}


def test_a_snapshot_tells_its_moment_by_the_clock_of_redis(new_queue: NewQueue, client: redis.Redis) -> None:
    def now_s() -> float:
        seconds, micros = client.time()
        return round(seconds + micros / 1e6 - 0.0005, 3)  # cut to ms, as in Redis

    before = now_s()
    taken = new_queue().snapshot()

    assert before <= taken.at_s <= now_s() + 0.001


def test_the_first_report_tells_since_when_a_process_is_there(new_queue: NewQueue, client: redis.Redis) -> None:
    queue = new_queue()
    queue.report(report())
    age(client, queue.token, 500)

    queue.report(report())

    [worker] = look(queue).workers
    assert 500 <= worker.up_for < 560
    assert 0 <= worker.silent_for < 60


def test_status_joins_what_is_held_with_what_is_told(new_queue: NewQueue, client: redis.Redis) -> None:
    client.rpush(LIST, *"abcdef")
    queue, other = new_queue(), new_queue(token="host-2:815:abcd")
    queue.claim(2, "p")
    other.claim(1, "q")
    client.hset(OWNER, "p:2", f"{queue.token} {(client.time()[0] - 500) * 1000}")
    queue.report(report())

    status = look(queue)

    assert status.counts == queue.counts()
    assert (status.counts.waiting, status.counts.leased) == (3, 3)
    mine, others = status.workers
    assert (mine.id, mine.host, mine.pid, mine.version, mine.state, mine.items, mine.files) == (
        *(queue.token, "host-1", 4711, "0.1.0", "claiming"),
        *(2, 3),
    )
    assert 500 <= mine.longest_held < 560
    assert (others.host, others.pid, others.state, others.items, others.silent_for) == (
        "host-2",
        815,
        "silent",
        1,
        None,
    )


@pytest.mark.parametrize(("seconds", "state"), [(0, "closing"), (SILENT_AFTER + 1, "silent")])
def test_a_process_that_tells_no_more_is_silent(
    new_queue: NewQueue, client: redis.Redis, seconds: float, state: str
) -> None:
    queue = new_queue()
    queue.report(report(state="closing"))
    age(client, queue.token, seconds)

    [worker] = look(queue).workers

    assert worker.state == state
    assert seconds <= worker.silent_for < seconds + 60


def test_a_report_nobody_here_understands_hides_no_process(new_queue: NewQueue, client: redis.Redis) -> None:
    queue = new_queue()
    for strange in (b"not JSON", b'{"of": "another version"}', b"[1]"):
        queue.report(strange)

        [worker] = look(queue).workers

        assert (worker.id, worker.state, worker.files) == (queue.token, "silent", None)


def test_throughput_adds_up_what_all_processes_told(new_queue: NewQueue, client: redis.Redis) -> None:
    queue, other = new_queue(), new_queue()
    queue.report(report(Pace(30.0, (30, 60, *[0] * 3), (3000, 6000, *[0] * 3))))
    other.report(report(Pace(0.0, (0, 120), (0, 0))))
    age(client, queue.token, 3600)  # it is that old,
    queue.report(report(Pace(30.0, (30, 60, *[0] * 3), (3000, 6000, *[0] * 3))))  # and told this just now

    rates = look(queue).throughput

    assert rates == {
        1: Rate((30 + 30 + 120) / 60, (3000 + 3000) / 60),
        5: Rate((30 + 60 + 120) / 300, 9000 / 300),
        15: Rate((30 + 60 + 120) / 900, 9000 / 900),
    }


def test_throughput_of_a_process_that_died_ends_with_it(new_queue: NewQueue, client: redis.Redis) -> None:
    queue = new_queue()
    queue.report(report(Pace(0.0, (0, 60), (0, 6000))))
    age(client, queue.token, 3600)
    queue.report(report(Pace(0.0, (0, 60), (0, 6000))))
    since = client.hget(WORKERS, queue.token).split()[1]

    def rate_after(seconds: float) -> Rate:
        now = client.time()[0] * 1000
        rest = report(Pace(0.0, (0, 60), (0, 6000))).decode()
        client.hset(WORKERS, queue.token, f"{now - int(seconds * 1000)} {since.decode()} {rest}")
        return look(queue).throughput[1]

    assert rate_after(0).items_per_second == pytest.approx(1.0)
    assert 0 < rate_after(SILENT_AFTER + 30).items_per_second < 0.6
    assert rate_after(SILENT_AFTER + 61) == Rate(0.0, 0.0)


def test_throughput_of_young_processes_is_over_the_time_they_were_there(
    new_queue: NewQueue, client: redis.Redis
) -> None:
    queue = new_queue()
    queue.report(report())
    age(client, queue.token, 20)
    queue.report(report(Pace(20.0, (40,), (4000,))))

    rates = look(queue).throughput

    assert rates[1] == rates[15]
    assert 1.0 < rates[1].items_per_second <= 2.0


def test_a_meter_counts_into_minutes_and_forgets_the_oldest() -> None:
    meter = PaceMeter(1000.0)

    assert meter.note(0, 0, 3, 1000.0) == Pace(0.0, (0,), (0,), (3,))
    assert meter.note(5, 500, 2, 1059.0) == Pace(59.0, (5,), (500,), (3,))
    assert meter.note(7, 700, 4, 1061.0) == Pace(1.0, (2, 5), (200, 500), (4, 3))
    assert meter.note(7, 700, 0, 1200.0) == Pace(20.0, (0, 0, 2, 5), (0, 0, 200, 500), (0, 0, 4, 3))
    assert meter.note(6, 600, 0, 1201.0).items[0] == 0  # a total that shrank counts nothing
    assert meter.note(16, 1600, 0, 1e9).items == (10, *[0] * 60)


def test_a_minute_that_began_before_the_window_counts_in_part() -> None:
    pace = Pace(30.0, (30, 600, 6), (0, 0, 0))

    assert pace.within(60)[0] == 30 + 300
    assert pace.within(300)[0] == 636
    assert pace.within(0)[0] == 0
    assert pace.within(-5)[0] == 0


def test_a_report_stays_small_and_comes_back_as_it_was() -> None:
    sizes = tuple(10**10 + n for n in range(61))
    pace = Pace(12.5, tuple(range(1000, 1061)), sizes, tuple(range(100, 161)))
    full = Report("a-host-with-a-name.example.org", 1 << 22, "10.20.30", "claiming", 32, 64, pace)

    assert Report.decode(full.encode()) == full
    assert len(full.encode()) < 1600
    trimmed = json.loads(report(Pace(1.0, (3, 0, 0), (0, 0, 0))))["pace"]
    assert trimmed == {"age": 1.0, "items": [3], "bytes": [], "connections": []}


def test_the_heart_reports_at_once_and_a_lost_report_is_no_harm(new_queue: NewQueue, client: redis.Redis) -> None:
    queue = new_queue()
    heartbeat = Heartbeat(queue, 3600.0, list, lambda *_: None, report)
    heartbeat.start()
    try:
        deadline = time.monotonic() + HANG
        while not look(queue).workers:
            assert time.monotonic() < deadline, "no report came"
    finally:
        heartbeat.stop()
    queue.forget()
    client.set(WORKERS, "no hash")

    heartbeat.send_report()

    assert client.get(WORKERS) == b"no hash"


def test_a_queue_is_told_of_the_ill_hosts_that_its_own_items_wait_for(new_queue: NewQueue) -> None:
    waiting, other = new_queue(), new_queue(key="others")
    health = HostHealth(waiting.client, "a")
    for host in ("ill.example:443", "[::1]:80", "odd host:1", "unrelated.example:80"):
        health.fell(host, "http_503")
    for host in ("ill.example:443", "odd host:1", "well.example:80"):
        park_one(waiting, host)

    found, nothing = look_at_all([waiting, other])

    assert {ill.host for ill in found.waits_for} == {"ill.example:443", "odd host:1"}
    assert {ill["host"] for ill in found.as_dict()["ill_hosts"]} == {"ill.example:443", "odd host:1"}
    assert nothing.waits_for == ()
    assert len(found.ill_hosts) == len(nothing.ill_hosts) == 4


@pytest.mark.parametrize(
    ("waits", "free", "parked", "need"),
    [
        ((), 50, False, None),
        (("The disk of /d has 1 kB free",), 50, False, "waits"),
        (("The disk of /d has 1 kB free",), 1, False, "disk"),
        ((), 50, True, "ill"),
        (("Redis is near its maxmemory",), 50, True, "waits"),
    ],
)
def test_what_a_process_waits_for_is_what_a_person_should_know(
    new_queue: NewQueue, waits: tuple[str, ...], free: int, parked: bool, need: str | None
) -> None:
    queue = new_queue()
    if parked:
        HostHealth(queue.client, "a").fell("ill.example:443", "http_503")
        park_one(queue, "ill.example:443")
    queue.report(replace(Report.decode(report()), waits=waits, disk_free=free, disk_size=100).encode())

    found = need_of(look(queue))

    assert (found.word if found else None) == need
