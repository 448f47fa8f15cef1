"""Retry with exponential backoff and jitter, for coroutines that go on where they stopped. Knows errors and time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from scrapy_chunkdl.download.errors import Throttled, Transient

P = ParamSpec("P")
T = TypeVar("T")

_random = random.Random()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds: before retry n a random one up to ``base * 2**n``, at most ``longest``.

    Full jitter spreads the retries of many clients best (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """

    base: float
    longest: float
    rng: random.Random = _random

    def pause(self, failures: int) -> float:
        """Return the pause after that many failures in a row, the first being 1."""
        return self.rng.uniform(0.0, min(self.longest, self.base * 2.0 ** min(failures - 1, 30)))


def retrying(
    times: int,
    backoff: Backoff,
    *,
    position: Callable[P, int],
    enough: Callable[P, int],
    on_retry: Callable[[Transient, float], None],
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Decorate a coroutine function that can be called again to go on from where it came to.

    A :class:`Transient` error is retried up to ``times`` in a row, then raised. The count starts anew whenever
    ``position``, called with the same arguments, has moved as many bytes as ``enough`` gave when it began: a little
    progress must not make it endless. A :class:`Throttled` host is waited for through the limits, so its retry has no
    pause of its own here. ``on_retry`` is told the error and the pause, in seconds, before each.
    """

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        async def insist(*args: P.args, **kwargs: P.kwargs) -> T:
            failures, goal = 0, position(*args, **kwargs) + enough(*args, **kwargs)
            while True:
                try:
                    return await function(*args, **kwargs)
                except Transient as error:
                    if (reached := position(*args, **kwargs)) >= goal:
                        failures, goal = 0, reached + enough(*args, **kwargs)
                    failures += 1
                    if failures > times:
                        raise
                    pause = 0.0 if isinstance(error, Throttled) else backoff.pause(failures)
                    on_retry(error, pause)
                    await asyncio.sleep(pause)

        return insist

    return decorate
