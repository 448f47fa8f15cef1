"""Bytes come no faster than they may, and as fast as that."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from fetching import QUICK, SIZE, Client, payload
from hypothesis import given
from hypothesis import strategies as st
from origin import Origin
from patience import HANG

from examples import examples
from scrapy_chunkdl.download import Downloader, FileRequest, Limits
from scrapy_chunkdl.download.limits.rate import ALL, Pace, Rate, Rates
from scrapy_chunkdl.download.limits.shares import SharedLimits
from scrapy_chunkdl.download.model import Progress
from scrapy_chunkdl.download.plan.plan import Plan

SIP = 16


# --- readers, by a clock that is passed in


class Reader:
    """Reads from a peer that sends ``size`` bytes, a ``packet`` at a time every ``every`` seconds."""

    def __init__(self, pace: Pace, begins: float, size: int, packet: int, every: float) -> None:
        self.pace = pace
        self.begins = begins
        self.size = size
        self.packet = packet
        self.every = every
        self.got = 0

    def arrived(self, now: float) -> int:
        sent = (int((now - self.begins) / self.every) + 1) * self.packet if self.every else self.size
        return min(self.size, sent) - self.got

    def step(self, now: float) -> tuple[int, float | None]:
        """Read once; return how much, and when to read again."""
        room = self.pace.room(self.size - self.got, now)
        assert room >= 1
        if not (there := self.arrived(now)):
            return 0, now + self.every
        read = min(room, there)
        self.got += read
        wait = self.pace.read(read, now, self.size - self.got)
        if self.got == self.size:
            return read, None
        while wait:
            now += wait
            wait = self.pace.pause(now)
        return read, now


def run(readers: list[Reader], until: float = float("inf")) -> list[tuple[float, int]]:
    """Let all read side by side; return what was read when."""
    log = []
    events = [(reader.begins, number) for number, reader in enumerate(readers)]
    heapq.heapify(events)
    while events and events[0][0] < until:
        now, number = heapq.heappop(events)
        size, again = readers[number].step(now)
        log.append((now, size))
        if again is not None:
            heapq.heappush(events, (again, number))
    return log


def worst_second(log: list[tuple[float, int]]) -> int:
    worst = total = first = 0
    for at, size in log:
        total += size
        while log[first][0] < at - 1.0:
            total -= log[first][1]
            first += 1
        worst = max(worst, total)
    return worst


reader_shapes = st.tuples(
    st.floats(0, 1.5), st.integers(1, 60_000), st.integers(1, 5000), st.sampled_from([0.0, 0.001, 0.05, 0.7])
)


@examples(40)
@given(st.sampled_from([20_000, 100_000, 1_000_000]), st.lists(reader_shapes, min_size=1, max_size=30))
def test_no_second_brings_much_more_than_the_limit_whatever_the_peers_do(
    limit: int, shapes: list[tuple[float, int, int, float]]
) -> None:
    rates = Rates(limit, 0)

    log = run([Reader(rates.pace("a"), *shape) for shape in shapes])

    assert worst_second(log) <= 1.4 * limit + SIP * len(shapes) + 1024


@pytest.mark.parametrize("limit", [100_000, 2_000_000, 100_000_000])
@pytest.mark.parametrize("readers", [1, 300])
def test_all_of_the_limit_is_used_and_no_more_by_one_reader_and_by_hundreds_that_begin_together(
    limit: int, readers: int
) -> None:
    rates = Rates(limit, 0)

    log = run([Reader(rates.pace("a"), 0.0, 20 * limit, 1, 0.0) for _ in range(readers)], until=10)

    assert sum(size for _, size in log) == pytest.approx(10 * limit, rel=0.03)
    assert worst_second(log) < 1.2 * limit


def test_readers_get_equal_shares_so_a_small_file_does_not_starve_among_large_ones() -> None:
    rates = Rates(100_000, 0)
    large = [Reader(rates.pace("a"), 0.0, 10**9, 1, 0.0) for _ in range(9)]
    small = Reader(rates.pace("b"), 2.0, 20_000, 1, 0.0)

    run([*large, small], until=4.5)

    assert small.got == small.size


def test_a_piece_that_no_peer_fills_is_not_kept_for_ever() -> None:
    rates = Rates(1000, 0)
    reader, other = rates.pace("a"), rates.pace("b")
    assert reader.room(5000, 0.0) == 1024
    assert reader.read(1024, 0.0, 3976) == pytest.approx(1.024, abs=0.07)
    assert reader.pause(1.03) == 0

    assert reader.room(5000, 1.2) == 1024
    assert other.room(100, 1.2) == SIP
    assert reader.room(100, 1.5) == 100, "its turn is over, and it asks anew"
    assert other.room(100, 1.6) == 100, "what it had is there for others"


def test_each_host_has_its_own_limit_and_all_share_that_of_the_process() -> None:
    rates = Rates(300_000, 100_000)
    log = run([Reader(rates.pace("a"), 0.0, 10**9, 1, 0.0) for _ in range(3)], until=5)
    assert sum(size for _, size in log) == pytest.approx(500_000, rel=0.03)

    rates = Rates(300_000, 100_000)
    hosts = {name: [Reader(rates.pace(name), 0.0, 10**9, 1, 0.0) for _ in range(3)] for name in "abcdef"}
    run([reader for readers in hosts.values() for reader in readers], until=10)
    each = [sum(reader.got for reader in readers) for readers in hosts.values()]
    assert each == pytest.approx([500_000] * 6, rel=0.05)

    rates = Rates(0, 100_000)
    readers = [Reader(rates.pace(name), 0.0, 10**9, 1, 0.0) for name in "abc"]
    run(readers, until=5)
    assert [reader.got for reader in readers] == pytest.approx([500_000] * 3, rel=0.03)


def test_without_limits_all_is_read_at_once() -> None:
    pace = Rates(0, 0).pace("a")

    assert not pace.is_limited
    assert pace.room(10**12, 0.0) == 10**12
    assert pace.read(10**12, 0.0, 10**12) == 0


class Interrupted(float):
    """A limit at which a thread stops in the middle of a reservation."""

    def __init__(self, _: float) -> None:
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()

    def __rmul__(self, seconds: float) -> float:
        self.entered.release()
        assert self.go_on.wait(20)
        return seconds * float(self)


def test_a_reservation_is_whole_before_another_threads_begins() -> None:
    limit = Interrupted(1000.0)
    rate = Rate(limit)
    threads = [threading.Thread(target=rate.reserve, args=(500, 0.0)) for _ in range(2)]
    for thread in threads:
        thread.start()

    assert limit.entered.acquire(timeout=HANG)
    assert not limit.entered.acquire(timeout=0.1), "two at once"
    limit.go_on.set()
    for thread in threads:
        thread.join()

    assert rate.queue(0.0) == pytest.approx(1 - 1 / 16)


# --- changes of the limit


def test_a_change_of_the_limit_holds_for_readers_that_pause() -> None:
    rates = Rates(0, 0)
    pace = rates.pace("a")
    assert pace.read(10**6, 0.0, 10**6) == 0

    rates.change(1000)
    assert rates.of_process == 1000
    size = pace.room(10**6, 1.0)
    assert size == 1024
    assert pace.read(size, 1.0, 10**6) == pytest.approx(1.024, abs=0.07)

    rates.change(10_000)
    assert pace.pause(1.1) == 0, "reserved anew, and nobody is before it"
    assert pace.read(1024, 1.1, 10**6) == pytest.approx(0.1024, abs=0.07)
    rates.change(100)
    assert pace.pause(1.11) == 0
    assert pace.read(1024, 1.11, 10**6) == pytest.approx(10.24, abs=0.07)

    rates.change(0)
    assert pace.pause(1.12) == 0
    assert pace.room(10**6, 1.12) == 10**6


def test_a_change_of_the_limit_leaves_that_of_the_hosts() -> None:
    rates = Rates(1000, 100_000)
    rates.change(0)
    readers = [Reader(rates.pace("a"), 0.0, 10**9, 1, 0.0)]

    log = run(readers, until=5)

    assert sum(size for _, size in log) == pytest.approx(500_000, rel=0.03)


@pytest.mark.parametrize("limit", [-1, float("inf"), float("nan")])
def test_a_limit_that_is_none_is_refused(limit: float) -> None:
    rates = Rates(1000, 0)

    with pytest.raises(ValueError, match="bytes per second"):
        rates.change(limit)
    assert rates.of_process == 1000


# --- a share of a limit that other processes keep to, too


def test_a_share_that_changes_all_the_time_is_kept_all_the_time() -> None:
    rates = Rates(0, 0, shared=SharedLimits(rate=1_000_000))
    readers = [Reader(rates.pace("a"), 0.0, 10**9, 1, 0.0) for _ in range(20)]
    events = [(0.0, number) for number in range(len(readers))]
    log, share, allowed = [], 0.0, 0.0
    for tick in range(80):
        begin, share = tick * 0.25, [1.0, 1e6, 2e5, 5e5][tick % 4]
        rates.take_shares({ALL: share}, begin)
        allowed += share * 0.25
        while events[0][0] < begin + 0.25:
            now, number = heapq.heappop(events)
            pace = readers[number].pace
            if wait := pace.pause(now):
                heapq.heappush(events, (now + min(wait, 0.25), number))
                continue
            room = pace.room(10**9, now)
            log.append((now, room))
            heapq.heappush(events, (now + min(pace.read(room, now, 10**9), 0.25), number))

    assert sum(size for _, size in log) == pytest.approx(allowed, rel=0.05)
    assert worst_second(log) < 1.2 * allowed / 20


def test_before_anybody_has_said_nothing_to_speak_of_comes() -> None:
    rates = Rates(0, 0, shared=SharedLimits(rate_per_host=1_000_000))
    assert rates.is_limited

    log = run([Reader(rates.pace("a"), 0.0, 10**9, 1, 0.0)], until=0.25)

    assert sum(size for _, size in log) <= 1024 + SIP


def test_more_is_wanted_of_a_limit_only_where_the_share_of_it_is_what_holds_back() -> None:
    rates = Rates(100_000, 0, shared=SharedLimits(rate=1_000_000, rate_per_host=50_000))
    rates.take_shares({ALL: 500_000}, 0.0)
    pace = rates.pace("a")
    rates.take_shares({"a": 10_000}, 0.0)

    run([Reader(pace, 0.0, 10**9, 1, 0.0)], until=2.0)
    used = rates.used(["a", "unused"])

    assert used == {
        ALL: (pytest.approx(20_000, rel=0.2), False),
        "a": (pytest.approx(20_000, rel=0.2), True),
        "unused": (0, False),
    }
    rates.take_shares({"a": 1_000_000}, 2.0)
    run([Reader(pace, 2.0, 10**9, 1, 0.0)], until=4.0)
    assert [wants for _, wants in rates.used(["a"]).values()] == [False, False], "its own limit does"


# --- a limit is neither silence nor slowness of the peer


def test_a_connection_that_waits_for_its_turn_is_not_taken_for_silent() -> None:
    def plan() -> Plan:
        plan = Plan(2_000_000, 100_000)
        plan.connections_worth(2)
        for span in (plan.take(), plan.take()):
            assert span is not None
            span.asked(1.0)
            for tenth in range(1, 11):
                span.arrived(50_000, 1 + tenth / 10)
        first = next(iter(plan.running))
        first.arrived(first.remaining, 2.1)
        plan.settle(first)
        return plan

    assert plan().take_over(3.5) is not None, "silent for more than a second"
    assert plan().take_over(3.5, queue=1.0) is None


# --- real downloads


class Ledger(Rate):
    """Counts what is reserved in all."""

    def __init__(self, bytes_per_second: float) -> None:
        super().__init__(bytes_per_second)
        self.reserved = 0
        self.wait = 0.0

    def reserve(self, size: int, now: float) -> float:
        self.reserved += size
        place = super().reserve(size, now)
        self.wait = self.until(place, now)
        return place


FAULTS = {
    "ranges": "",
    "streamed": "ranges:none",
    "chunked": "ranges:none;framing:chunked",
    "until the connection closes": "ranges:none;framing:close",
}


@pytest.fixture(params=["plain", "TLS"])
async def any_origin(request: pytest.FixtureRequest, origin: Origin, tls_origin: Origin) -> AsyncIterator[Origin]:
    chosen = origin if request.param == "plain" else tls_origin
    chosen.reset()
    yield chosen
    if chosen is tls_origin:
        await asyncio.sleep(0.05)  # aiohttp 3.10 does not wait until TLS has closed


async def fetched(progress: Progress, size: int) -> None:
    while progress.fetched < size:  # noqa: ASYNC110 - nobody tells of single bytes
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("limited", ["max_rate", "max_rate_per_host"])
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
async def test_each_byte_of_each_answer_is_counted_once_by_one_bucket(
    any_origin: Origin, tmp_path: Path, faults: str, limited: str
) -> None:
    options = replace(QUICK, verify_tls=False, **{limited: 1_000_000_000})
    limits = Limits(options)
    url = any_origin.url("file.bin", SIZE, faults)
    ledger = Ledger(1_000_000_000)
    if limited == "max_rate":
        limits.rates._process = ledger
    else:
        limits.rates._hosts[f"127.0.0.1:{any_origin.port}"] = ledger

    async with Downloader(options, limits) as downloader:
        for name in ("first", "second"):
            result = await downloader.fetch(FileRequest(url, tmp_path, name))
            assert result.path.read_bytes() == payload()

    assert 2 * SIZE <= ledger.reserved <= 2 * SIZE + 300_000, "headers, and pieces for what might have followed"


HELD = 20_000


@pytest.mark.parametrize("paused_in", ["headers", "bodies"])
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
async def test_until_its_turn_nothing_is_read_which_is_no_stall(
    any_origin: Origin, tmp_path: Path, faults: str, paused_in: str
) -> None:
    options = replace(QUICK, verify_tls=False)
    limits, progress = Limits(options), Progress()

    def let_nothing_come() -> None:
        limits.rates.change(1)
        limits.rates.pace("any").room(1024, time.monotonic())
        limits.rates._process.reserve(10**6, time.monotonic())

    async with Downloader(options, limits) as downloader:
        url = any_origin.url("file.bin", SIZE, f"hold:gate:{HELD}@get;{faults}")
        if paused_in == "headers":
            let_nothing_come()
        fetching = asyncio.ensure_future(downloader.fetch(FileRequest(url, tmp_path, "out.bin"), progress))
        await any_origin.begun("file.bin", 1)
        bodies = 4 if faults == FAULTS["ranges"] else 1
        if paused_in == "bodies":
            await fetched(progress, bodies * HELD)
            let_nothing_come()
        any_origin.release("gate")
        before = progress.fetched
        await asyncio.sleep(2 * options.stall_timeout)
        for _ in range(1000):
            await asyncio.sleep(0)

        assert not fetching.done()
        assert progress.fetched <= before + bodies * SIP
        assert paused_in == "bodies" or any_origin.stats("file.bin").requests == 1, "HEAD is not given up"
        limits.rates.change(0)
        result = await fetching

    assert result.path.read_bytes() == payload()
    assert result.retries == {}


async def test_a_connection_is_used_again_after_limited_bodies(any_origin: Origin, tmp_path: Path) -> None:
    options = replace(QUICK, verify_tls=False, max_rate=20_000_000, chunks_per_file=1)
    async with Downloader(options) as downloader:
        for number in range(3):
            url = any_origin.url("file.bin", SIZE, "framing:chunked" if number == 1 else "")
            result = await downloader.fetch(FileRequest(url, tmp_path, str(number)))
            assert result.path.read_bytes() == payload()

    assert len(any_origin.stats("file.bin").connections) == 1


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
async def test_a_cancelled_download_gives_back_what_it_reserved(
    any_origin: Origin, tmp_path: Path, faults: str
) -> None:
    options = replace(QUICK, verify_tls=False, chunks_per_file=1)
    limits, progress = Limits(options), Progress()
    ledger = limits.rates._process = Ledger(10_000)
    async with Downloader(options, limits) as downloader:
        url = any_origin.url("file.bin", SIZE, faults)
        fetching = asyncio.ensure_future(downloader.fetch(FileRequest(url, tmp_path, "out.bin"), progress))
        await fetched(progress, 1)
        ledger.wait = 0.0
        while ledger.wait < 0.03:  # noqa: ASYNC110 - until it pauses for its next piece
            await asyncio.sleep(0.001)
        before = ledger.reserved
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        for _ in range(5000):
            if ledger.reserved != before:
                break
            await asyncio.sleep(0.001)  # TLS takes a moment to close

    assert ledger.reserved == before - 1024


async def test_whoever_is_idle_is_told_how_long_others_wait_for_their_turn(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(QUICK, chunks_per_file=2)
    limits = Limits(options)
    queues = []
    told = asyncio.Event()
    take_over = Plan.take_over

    def looked(plan: Plan, now: float, idle: int, queue: float) -> object:
        queues.append(queue)
        if queue:
            told.set()
        else:
            limits.rates.change(1)
            limits.rates._process.reserve(10**6, now)
        return take_over(plan, now, idle, queue)

    monkeypatch.setattr(Plan, "take_over", looked)
    async with Downloader(options, limits) as downloader:
        url = client.url(f"hold:gate:0@get@over={SIZE - 1}")
        fetching = asyncio.ensure_future(downloader.fetch(FileRequest(url, client.folder, "out.bin")))
        await asyncio.wait_for(told.wait(), 20)
        limits.rates.change(0)
        client.origin.release("gate")
        result = await fetching

    assert queues[:2] == [0, pytest.approx(10**6, rel=0.01)]
    assert result.path.read_bytes() == payload()


@pytest.mark.parametrize("faults", ["cut:30000@get@1", "rst:30000@get@1", "stall:30000@get@1"])
async def test_a_limited_file_is_right_after_a_connection_broke(client: Client, faults: str) -> None:
    await client.with_options(max_rate=5_000_000).right(client.url(faults))
