"""Awaiting for so long: what comes in time, what does not, and being cancelled at any moment."""

from __future__ import annotations

import asyncio

import pytest

from scrapy_chunkdl.services.patience import within


async def answer_of(answer: asyncio.Future[int]) -> int:
    return await answer


@pytest.mark.parametrize("seconds", [60.0, None])
async def test_what_comes_in_time_is_returned(seconds: float | None) -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(within(seconds, answer_of(answer)))
    await asyncio.sleep(0)
    answer.set_result(7)

    assert await waiting == 7


async def test_what_does_not_is_given_up() -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    with pytest.raises(asyncio.TimeoutError):
        await within(0.01, answer)

    assert answer.cancelled()


@pytest.mark.parametrize("seconds", [60.0, None])
async def test_a_cancellation_that_comes_with_the_answer_is_not_swallowed(seconds: float | None) -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(within(seconds, answer_of(answer)))
    await asyncio.sleep(0)

    answer.set_result(7)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
