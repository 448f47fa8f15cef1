"""Bytes come no faster than they may, and as fast as that."""

from __future__ import annotations

import asyncio
import threading

import aiohttp
import pytest
from fetching import SIZE, Client
from hypothesis import given
from hypothesis import strategies as st
from origin import Origin
from origin_content import content

from scrapy_chunkdl.download import body
from scrapy_chunkdl.download.rate import Pace, Rate, Rates


@given(
    st.integers(10, 10**9),
    st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 3)), min_size=1, max_size=60),
)
def test_whoever_waits_as_told_never_reads_more_than_the_limit_and_the_burst(
    limit: int, reads: list[tuple[int, float]]
) -> None:
    rate, now, read, began = Rate(limit), 1000.0, 0, 1000.0
    for size, idle in reads:
        now += idle
        before, read = read, read + size
        assert before <= (now - began + 0.0625) * limit * (1 + 1e-9) + 1
        now += rate.take(size, now)


def test_a_reader_that_never_stops_gets_all_of_the_limit() -> None:
    rate, now, read = Rate(1_000_000), 0.0, 0
    while now < 10:
        now += rate.take(10_000, now)
        read += 10_000

    assert read == pytest.approx(10_000_000 + 62_500, abs=20_000)


def test_readers_in_several_threads_share_one_limit() -> None:
    rate = Rate(1000)

    def read() -> None:
        for _ in range(1000):
            rate.take(1, 0.0)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert rate.take(1, 0.0) == pytest.approx(4.001 - 0.0625)


def test_each_host_has_its_own_limit_and_all_share_that_of_the_process() -> None:
    rates = Rates(1000, 100)
    first, other = rates.pace("a"), rates.pace("b")
    assert first is not None
    assert other is not None

    assert first.take(100, 0.0) == pytest.approx(1 - 0.0625)
    assert other.take(50, 0.0) == pytest.approx(0.5 - 0.0625)
    assert other.take(850, 0.0) == pytest.approx(9 - 0.0625)
    again = rates.pace("a")
    assert again is not None
    assert again.take(0, 0.0) == pytest.approx(1 - 0.0625)


def test_without_limits_nothing_is_waited_for() -> None:
    pace = Rates(0, 0).pace("a")

    assert pace.piece is None
    assert pace.take(10**12, 0.0) == 0


def test_a_change_of_the_limit_holds_for_bodies_that_run() -> None:
    rates = Rates(0, 0)
    running = rates.pace("a")
    assert running.take(10**9, 0.0) == 0

    rates.change(1000)
    assert rates.of_process == 1000
    assert running.piece == 1024
    assert running.take(1000, 0.0) == pytest.approx(1 - 0.0625)

    rates.change(10_000)
    assert running.take(1000, 0.0) == pytest.approx(0.1 - 0.0625)

    rates.change(0)
    assert running.take(10**9, 0.0) == 0


def test_a_change_of_the_limit_leaves_that_of_the_hosts() -> None:
    rates = Rates(1000, 100)
    running = rates.pace("a")

    rates.change(0)

    assert running.take(100, 0.0) == pytest.approx(1 - 0.0625)


@pytest.mark.parametrize("limit", [-1, float("inf"), float("nan")])
def test_a_limit_that_is_none_is_refused(limit: float) -> None:
    rates = Rates(1000, 0)

    with pytest.raises(ValueError, match="bytes per second"):
        rates.change(limit)
    assert rates.of_process == 1000


class Counted(Pace):
    """Tells what was read, and a wait that is long for a stall time-out and short for a test."""

    def __init__(self) -> None:
        super().__init__([Rate(256 * 100_000)])
        self.sizes: list[int] = []

    def take(self, size: int, now: float) -> float:
        self.sizes.append(size)
        return 0.03


@pytest.mark.parametrize("faults", ["", "framing:chunked"])
async def test_a_limited_body_is_right_its_pauses_are_no_stall_and_its_connection_is_used_again(
    origin: Origin, faults: str
) -> None:
    size = 1_000_000
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            pace, got = Counted(), bytearray()

            def take(data: bytes | memoryview, got: bytearray = got) -> bool:
                got.extend(data)
                return True

            response = await session.get(origin.url("a", size, faults))
            await body.receive(response, None if faults else size, take, stall_timeout=0.05, pace=pace)
            assert got == content("a", size)
            assert sum(pace.sizes) == size
            if not faults:
                assert max(pace.sizes[1:]) <= 100_000

    assert len(origin.stats("a").connections) == 1


async def test_a_limited_body_over_tls_is_right(tls_origin: Origin) -> None:
    tls_origin.reset()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        pace, got = Counted(), bytearray()
        response = await session.get(tls_origin.url("a", 600_000))
        await body.receive(response, 600_000, lambda data: got.extend(data) is None, stall_timeout=30, pace=pace)

    assert got == content("a", 600_000)


async def test_a_cancelled_limited_body_leaves_no_timer(origin: Origin) -> None:
    async with aiohttp.ClientSession() as session:
        response = await session.get(origin.url("a", 1_000_000))
        reading = asyncio.ensure_future(
            body.receive(response, 1_000_000, lambda _: True, stall_timeout=30, pace=Pace([Rate(1000)]))
        )
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        response.close()


@pytest.mark.parametrize("limits", [{"max_rate": 20_000_000}, {"max_rate_per_host": 20_000_000}])
@pytest.mark.parametrize("faults", ["", "ranges:none"])
async def test_a_limited_file_is_right(client: Client, limits: dict[str, int], faults: str) -> None:
    result = await client.with_options(**limits).right(client.url(faults))

    assert result.size == SIZE
