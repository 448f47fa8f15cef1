"""Requests to a host begin at moments that are settled with other processes, each of which is used once."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from clocks import Clock

from scrapy_chunkdl.download.limits.starts import Starts

HOST = "files.example:443"


def starts(delay_s: float = 1.0) -> tuple[Starts, list[str]]:
    asked: list[str] = []
    return Starts(delay_s, lambda: asked.append("")), asked


async def waiting(starts: Starts, number: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.ensure_future(starts.turn(HOST)) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_who_finds_no_moment_asks_and_waits_for_one() -> None:
    begun, asked = starts()
    tasks = await waiting(begun, 3)
    assert len(asked) == 3
    assert begun.wanted([HOST]) == {HOST: (0, 3)}

    begun.settled({HOST: ([time.monotonic()] * 2, 1)})
    await asyncio.gather(*tasks[:2])

    assert not tasks[2].done()
    tasks[2].cancel()
    await asyncio.gather(tasks[2], return_exceptions=True)
    assert begun.wanted([HOST]) == {HOST: (0, 2)}, "as many as were used are wanted ahead"
    assert begun.wanted([HOST]) == {HOST: (0, 0)}


async def test_moments_given_ahead_are_used_in_order_without_asking() -> None:
    begun, asked = starts()
    now = time.monotonic()
    begun.settled({HOST: ([now, now + 0.01], 1)})

    await begun.turn(HOST)
    await begun.turn(HOST)

    assert asked == []
    assert time.monotonic() >= now + 0.01


async def test_a_moment_that_was_missed_is_lost_and_not_made_up_for() -> None:
    clock = Clock()
    begun = Starts(1.0, lambda: None, clock)
    begun.settled({HOST: ([clock.now, clock.now + 1, clock.now + 10], 1)})

    clock.now += 5

    assert begun.wanted([HOST]) == {HOST: (1, 0)}


async def test_without_anybody_to_ask_each_goes_on_as_fast_as_its_last_share() -> None:
    clock = Clock()
    begun = Starts(1.0, lambda: None, clock)
    begun.settled({HOST: ([clock.now], 5)})
    with suppress(asyncio.CancelledError):
        await begun.turn(HOST)
    tasks = await waiting(begun, 3)
    state = begun._hosts[HOST]

    begun.go_alone(clock.now + 0.5)
    assert len(state.waiters) == 3
    clock.now += 4.8
    begun.go_alone(clock.now + 0.5)
    assert (len(state.waiters), state.last) == (2, 1005.0), "five seconds after the last, as there are five processes"

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
