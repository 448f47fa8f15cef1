"""A host gets as many connections as it bears, no more than it may get, and pauses that hold for all."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

import pytest
from fetching import SIZE, Client, payload

from scrapy_chunkdl.download import Downloader, FileRequest, Limits, Options
from scrapy_chunkdl.download.limits import habits as habits_module
from scrapy_chunkdl.download.limits import hosts as limits_module
from scrapy_chunkdl.download.limits import remembered
from scrapy_chunkdl.download.limits.shares import Use
from scrapy_chunkdl.download.limits.spacing import Spacing

HOST = "files.example:443"


async def test_slots_go_first_come_first_served_and_a_cancelled_waiter_passes_on() -> None:
    limits = Limits(Options(chunks_per_host=1))
    order: list[str] = []

    async def hold(name: str) -> None:
        async with limits.slot(HOST):
            order.append(name)

    async with limits.slot(HOST):
        waiters = [asyncio.ensure_future(hold(name)) for name in "abc"]
        await asyncio.sleep(0)
        waiters[1].cancel()
    await asyncio.gather(*waiters, return_exceptions=True)

    assert order == ["a", "c"]
    assert limits.uses() == {}
    async with limits.slot(HOST):
        pass


async def test_other_hosts_do_not_wait_for_a_cooling_one() -> None:
    limits = Limits(Options())
    limits.cool_down("hot", 3600)

    async with limits.slot("other"):
        pass

    assert 3500 < limits.cooling("hot") <= 3600
    assert limits.cooling("other") == 0


# --- what a host bears


def test_a_host_starts_with_few_connections_and_each_answer_lets_two_more() -> None:
    limits = Limits(Options(chunks_per_host=9))
    borne = [limits.bears(HOST)]
    for _ in range(5):
        limits.answered(HOST)
        borne.append(limits.bears(HOST))

    assert borne == [4, 6, 8, 9, 9, 9]


async def test_no_more_hosts_are_remembered_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "HOSTS_REMEMBERED", 3)
    limits = Limits(Options(delay=1e-9, max_rate_per_host=1000))

    for number in range(10):
        async with limits.slot(f"host-{number}"):
            limits.answered(f"host-{number}")

    assert list(limits._ceilings) == list(limits._last_start) == ["host-7", "host-8", "host-9"]
    assert limits._hosts == {}


class Clock:
    """The monotonic clock of the limits, put forward by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(limits_module, "time", self)
        monkeypatch.setattr(habits_module, "time", self)

    def monotonic(self) -> float:
        return self.now


def test_a_refusal_halves_them_once_for_all_that_were_asked_together_and_then_they_grow_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    limits = Limits(Options(chunks_per_host=16))
    for _ in range(4):
        limits.answered(HOST)
    asked_at, clock.now = clock.now, clock.now + 0.1
    for _ in range(6):
        limits.refused(HOST, asked_at)
    assert limits.bears(HOST) == 1, "nothing runs: one is tried"

    for _ in range(3):
        limits.answered(HOST)
    assert limits.bears(HOST) == 1, "it has just refused more"

    clock.now += 1.1
    for _ in range(3):
        limits.answered(HOST)
    assert limits.bears(HOST) == 2, "one more in a round of answers"

    clock.now += 0.1
    limits.refused(HOST, clock.now)
    assert limits.bears(HOST) == 1
    assert limits.bears("other") == 4


def test_what_a_host_refuses_again_and_again_is_tried_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limits = Limits(Options(chunks_per_host=16))
    tries = []
    for second in range(200):
        clock.now = 1000.0 + second
        limits.answered(HOST)
        if limits.bears(HOST) > 1:
            tries.append(second)
            limits.refused(HOST, clock.now)

    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses == sorted(pauses)
    assert len(tries) <= 9


def test_hosts_whose_pause_is_over_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limits = Limits(Options())
    for number in range(1000):
        clock.now += 1.0
        limits.cool_down(f"host-{number}", 5.0)

    assert len(limits.hosts()) <= 6
    assert limits.cooling("host-999") == 5.0


def test_errors_in_a_row_from_a_host_that_served_others_space_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limits = Limits(Options())
    assert not limits.too_fast(HOST, clock.now), "it has served nobody: it means what it says"
    limits.answered(HOST)
    for _ in range(9):
        clock.now += 0.02
        limits.answered(HOST)
    rates = []
    for _ in range(4):
        clock.now += 0.02
        assert limits.too_fast(HOST, clock.now)
        rates.append(limits._spacings[HOST].rate)
    assert rates == [float("inf"), *(pytest.approx(12 / 0.22 / 2**halved) for halved in (1, 2, 3))]

    clock.now += 5.0
    for _ in range(200):
        limits.answered(HOST)
    assert limits._spacings[HOST].rate == pytest.approx(12 / 0.22 / 8 * 1.1), "once a second"
    for _ in range(25):
        clock.now += 1.0
        limits.answered(HOST)
    assert limits._spacings[HOST].space_s == 0.0, "half a minute without a refusal"


def test_of_errors_that_speak_of_load_two_among_ten_answers_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limits = Limits(Options())
    for number in range(12):
        clock.now += 0.02
        if number % 6 == 5:
            assert limits.too_fast("private.example:443", clock.now), "a file of its own, in between"
            assert limits.too_fast(HOST, clock.now, is_load=True)
        else:
            limits.answered("private.example:443")
            limits.answered(HOST)

    assert limits._spacings["private.example:443"].space_s == 0.0
    assert limits._spacings[HOST].rate == pytest.approx(25, rel=0.1)


@pytest.mark.parametrize(("takes", "burst"), [(10.0, 5), (40.0, 5), (3.0, 1), (200.0, 20)])
def test_a_host_is_asked_for_most_of_the_requests_a_second_it_takes(takes: float, burst: int) -> None:
    spacing, now, tokens, begun, refused = Spacing(), 0.0, float(burst), 0, 0
    latency_s, last = 0.02, 0.0
    for _ in range(20):
        spacing.served(now)
    while now < 120.0:
        now += max(spacing.space_s, 0.005)
        tokens, last = min(burst, tokens + (now - last) * takes), now
        begun += 1
        if tokens >= 1.0:
            tokens -= 1.0
            spacing.served(now + latency_s)
        else:
            refused += 1
            assert spacing.is_too_fast(now, now + latency_s, 2.0, is_load=True)

    assert begun - refused >= 0.55 * takes * 120
    assert refused <= 0.06 * begun + 16


def test_a_host_that_says_no_at_the_slowest_pace_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limits = Limits(Options())
    limits.answered(HOST)
    asked = 0
    while limits.too_fast(HOST, clock.now):
        clock.now += 0.1
        asked += 1

    assert asked <= 8
    assert not limits.too_fast(HOST, clock.now)
    assert limits._spacings[HOST].space_s == 0.0


def test_a_head_that_was_in_vain_twice_is_not_sent_again_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limits = Limits(Options())
    for something in (False, True, False):
        limits.habits.head_told(HOST, something)
    assert limits.habits.wants_heads(HOST)

    limits.habits.head_told(HOST, False)
    assert not limits.habits.wants_heads(HOST)
    clock.now += 3601
    assert limits.habits.wants_heads(HOST)


@pytest.mark.parametrize(
    ("bodies", "rate"),
    [
        ([], 0),
        ([(1 << 20, 0.01)], 104_857_600),
        ([(1000, 0.000001)], 0),  # no more than came with the head: it tells nothing
        ([(1 << 20, 0.01)] * 20 + [(1 << 20, 1.0)], 4_074_820),  # a slow one counts more than a quick one
        ([(1 << 20, 1.0)] + [(1 << 20, 0.01)] * 20, 79_726_000),
    ],
)
def test_what_comes_in_a_moment_goes_by_the_time_that_bodies_took(bodies: list[tuple[int, float]], rate: int) -> None:
    habits = Limits(Options()).habits
    habits.brought(HOST, small=True)

    for size_bytes, took_s in bodies:
        habits.came(HOST, size_bytes, took_s)

    assert habits.bytes_in_a_moment(HOST) == pytest.approx(rate * 0.25, rel=0.01)
    assert habits.bytes_in_a_moment("another:80") == 0


async def test_half_of_what_ran_is_kept_after_a_refusal() -> None:
    limits = Limits(Options(chunks_per_host=16))
    for _ in range(12):
        limits.answered(HOST)
    async with AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(limits.slot(HOST))
        limits.refused(HOST, time.monotonic())

        assert limits.bears(HOST) == 5


async def test_whoever_waits_begins_when_the_host_bears_more() -> None:
    limits = Limits(Options(chunks_per_host=16))
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(limits.slot(HOST))
        waiter = asyncio.ensure_future(stack.enter_async_context(limits.slot(HOST)))
        await asyncio.sleep(0)
        assert not waiter.done()

        limits.answered(HOST)
        await waiter


@pytest.mark.parametrize("code", ["429:0", "503", "503:0"])
async def test_a_server_that_bears_few_connections_is_soon_asked_for_no_more(client: Client, code: str) -> None:
    many = client.with_options(chunks_per_file=10, chunks_per_host=16)

    await many.right(client.url(f"crowd:3:{code};pause:20000:0.01"))

    assert client.origin.stats("file.bin").statuses[int(code[:3])] <= 20


# --- hosts that other processes use, too


class Agreed:
    """Shares as if settled with others: a table."""

    def __init__(self, **slots: int) -> None:
        self.table = slots
        self.pauses: dict[str, float] = {}
        self.asked = 0

    def slots(self, host: str) -> int:
        return self.table.get(host, 0)

    def cooling(self, host: str) -> float:
        return self.pauses.get(host, 0.0)

    def cool_down(self, host: str, seconds: float) -> None:
        self.pauses[host] = seconds

    def ask(self) -> None:
        self.asked += 1


async def test_a_request_waits_until_a_share_is_settled_for_it() -> None:
    shares = Agreed()
    limits = Limits(Options(), shares)
    async with AsyncExitStack() as stack:
        waiters = [asyncio.ensure_future(stack.enter_async_context(limits.slot("h"))) for _ in range(3)]
        await asyncio.sleep(0)
        assert limits.uses() == {"h": Use(0, 3)}

        shares.table["h"] = 2
        settling = threading.Thread(target=limits.settled, args=({},))
        settling.start()
        done, waiting = await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)
        settling.join()

        assert sum(waiter.done() for waiter in waiters) == 2
        for waiter in waiting:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        assert done


async def test_shares_are_asked_for_once_and_not_for_each_request() -> None:
    shares = Agreed(h=8)
    limits = Limits(Options(chunks_per_host=8), shares)
    for _ in range(8):
        limits.answered("h")

    async def some_requests() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(limits.slot("h"))

    await some_requests()
    assert limits.uses() == {"h": Use(0, 4)}, "what was had of late is still wanted"
    asked = shares.asked
    await some_requests()
    assert shares.asked == asked
    assert limits.uses() == {"h": Use(0, 4)}
    assert limits.uses() == {"h": Use(0, 0)}, "told once that it is used no more"
    assert limits.uses() == {}


async def test_no_request_begins_between_the_count_of_those_that_run_and_its_telling() -> None:
    shares = Agreed(h=1)
    limits = Limits(Options(), shares)
    begun = threading.Event()

    async def begin() -> None:
        async with limits.slot("h"):
            begun.set()

    def tell(uses: Mapping[str, Use]) -> None:
        other.start()
        assert not begun.wait(0.1)
        shares.table["h"] = 0

    other = threading.Thread(target=lambda: asyncio.run(begin()))
    limits.uses(tell)
    assert not begun.wait(0.1), "there is no share for it any more"
    shares.table["h"] = 1
    limits.settled({})
    assert begun.wait(20)
    other.join()


async def test_where_others_wait_requests_give_way_down_to_the_share() -> None:
    shares = Agreed(h=4)
    limits = Limits(Options(), shares)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(limits.slot("h"))
        assert not limits.give_way("h")

        limits.settled({"h": 1})

        assert [limits.give_way("h") for _ in range(5)] == [True, True, True, False, False]
        assert not limits.give_way("other")


async def test_a_pause_is_told_to_the_others_and_theirs_is_obeyed() -> None:
    shares = Agreed(h=4)
    limits = Limits(Options(), shares)

    limits.cool_down("h", 5.0)
    assert shares.pauses == {"h": 5.0}

    shares.pauses["other"] = 7.0
    assert limits.cooling("other") == 7.0


async def test_a_file_whose_requests_give_way_is_right(client: Client) -> None:
    shares = Agreed()
    options = client.options
    limits = Limits(options, shares)
    host = f"127.0.0.1:{client.origin.port}"
    shares.table[host] = 4
    url = client.url("hold:gate:70000@get@4")
    all_wait = client.origin.when("file.bin", lambda stats: stats.sent >= 4 * 70_000)
    async with Downloader(options, limits) as downloader:
        fetching = asyncio.ensure_future(downloader.fetch(FileRequest(url, client.folder, "out.bin")))
        await asyncio.wrap_future(all_wait)
        shares.table[host] = 1
        limits.settled({host: 1})
        client.origin.release("gate")
        result = await fetching

    assert result.path.read_bytes() == payload()
    assert client.origin.stats("file.bin").methods["GET"] > 4
    assert result.size == SIZE
