"""A delay between the requests to one host."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from fetching import QUICK, Client
from origin import Origin

from scrapy_chunkdl.download import HostIll, Limits, Options
from scrapy_chunkdl.download.limits.circuits import Told


async def test_requests_to_one_host_begin_no_sooner_than_the_delay_says() -> None:
    limits = Limits(Options(delay=0.05))
    began = time.monotonic()

    async def start() -> float:
        async with limits.slot("a:80"):
            return time.monotonic() - began

    starts = sorted(await asyncio.gather(*(start() for _ in range(5))))

    assert all(at >= 0.05 * number - 0.001 for number, at in enumerate(starts))  # a millisecond for the clock


async def test_a_moment_at_a_host_is_not_waited_for_once_it_is_ill_nor_by_who_tries_it() -> None:
    limits = Limits(Options(delay=3600.0))
    limits.circuits.switch_on(lambda change: None)
    async with limits.slot("a:80"):
        pass
    waits = asyncio.create_task(limits.wait_for_pace("a:80"))
    await asyncio.sleep(0)

    limits.circuits.heard({"a:80": Told("a:80 is left alone", "http_503", 0.0)}, set())

    with pytest.raises(HostIll):
        await waits
    with pytest.raises(HostIll):
        await limits.wait_for_pace("a:80")
    limits.circuits.may_try("a:80")
    await limits.wait_for_pace("a:80")


async def test_another_host_is_not_waited_for() -> None:
    limits = Limits(Options(delay=3600.0))

    async with limits.slot("a:80"), limits.slot("b:80"):
        pass


async def test_a_file_is_fetched_with_a_delay(client: Client, origin: Origin) -> None:
    polite = replace(client, options=replace(QUICK, delay=0.01))
    await polite.right(polite.url())
