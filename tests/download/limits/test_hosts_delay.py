"""A delay between the requests to one host."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from fetching import QUICK, Client
from origin import Origin

from scrapy_chunkdl.download import Limits, Options


async def test_requests_to_one_host_begin_no_sooner_than_the_delay_says() -> None:
    limits = Limits(Options(delay=0.05))
    began = time.monotonic()

    async def start() -> float:
        async with limits.slot("a:80"):
            return time.monotonic() - began

    starts = sorted(await asyncio.gather(*(start() for _ in range(5))))

    assert all(at >= 0.05 * number - 0.001 for number, at in enumerate(starts))  # a millisecond for the clock


async def test_another_host_is_not_waited_for() -> None:
    limits = Limits(Options(delay=3600.0))

    async with limits.slot("a:80"), limits.slot("b:80"):
        pass


async def test_a_file_is_fetched_with_a_delay(client: Client, origin: Origin) -> None:
    polite = replace(client, options=replace(QUICK, delay=0.01))
    await polite.right(polite.url())
