"""Retry: how often, how long, and when the count starts anew."""

from __future__ import annotations

import random

import pytest

from scrapy_chunkdl.download.errors import Permanent, Throttled, Transient
from scrapy_chunkdl.download.plan.retry import Backoff, retrying

NO_PAUSE = Backoff(0.0, 0.0)


class Work:
    """Fails as told, each time after some progress."""

    def __init__(self, *failures: tuple[Exception | None, int]) -> None:
        self.failures = list(failures)
        self.position = 0
        self.calls = 0
        self.retried: list[str] = []

    async def go(self, times: int, enough: int = 100) -> str:
        async def work() -> str:
            self.calls += 1
            error, progress = self.failures.pop(0)
            self.position += progress
            if error is not None:
                raise error
            return "done"

        insist = retrying(
            times,
            NO_PAUSE,
            position=lambda: self.position,
            enough=lambda: enough,
            on_retry=lambda error, pause: self.retried.append(error.reason),
        )
        return await insist(work)()


def lost() -> Transient:
    return Transient("lost", reason="connection_lost")


async def test_it_is_tried_again_as_often_as_allowed_and_the_last_error_is_raised() -> None:
    work = Work(*[(lost(), 0)] * 3)

    with pytest.raises(Transient):
        await work.go(times=2)

    assert (work.calls, work.retried) == (3, ["connection_lost"] * 2)


async def test_progress_starts_the_count_anew() -> None:
    work = Work((lost(), 100), (lost(), 100), (lost(), 100), (None, 0))

    assert await work.go(times=1) == "done"


async def test_a_little_progress_does_not() -> None:
    work = Work(*[(lost(), 10)] * 5)

    with pytest.raises(Transient):
        await work.go(times=2)

    assert work.calls == 3


async def test_a_permanent_error_is_raised_at_once() -> None:
    work = Work((Permanent("gone", reason="http_404"), 0))

    with pytest.raises(Permanent):
        await work.go(times=5)

    assert work.calls == 1


async def test_throttling_counts_as_well_so_that_it_ends() -> None:
    work = Work(*[(Throttled("slow down", status=429, delay=0), 0)] * 3)

    with pytest.raises(Throttled):
        await work.go(times=2)


def test_pauses_grow_up_to_the_longest_and_are_spread() -> None:
    backoff = Backoff(1.0, 10.0, random.Random(7))

    for failures, most in ((1, 1.0), (2, 2.0), (3, 4.0), (10, 10.0), (1000, 10.0)):
        pauses = [backoff.pause(failures) for _ in range(200)]
        assert 0 <= min(pauses) < 0.2 * most
        assert 0.8 * most < max(pauses) <= most
