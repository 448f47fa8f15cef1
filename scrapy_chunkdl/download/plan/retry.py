"""Retry with exponential backoff and jitter, for coroutines that go on where they stopped. Knows errors and time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple, ParamSpec, TypeVar

from scrapy_chunkdl.download.errors import Throttled, Transient

P = ParamSpec("P")
T = TypeVar("T")

UNSAID_PAUSE = 4
"""A 429 without Retry-After cools the host down as the fourth failure in a row would."""

_random = random.Random()

_MOST_WHILE_IT_MOVES = 3
"""Failures that the pause still grows by where others bring the file forward: it may be one of them any moment."""


class Backoff(NamedTuple):
    """Pauses in seconds: before retry n a random one up to ``base * 2**n``, at most ``longest``.

    Full jitter spreads the retries of many clients best (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """

    base: float
    longest: float
    rng: random.Random = _random

    def pause(self, failures: int) -> float:
        """Return the pause after that many failures in a row, the first being 1."""
        return self.rng.uniform(0.0, min(self.longest, self.base * 2.0 ** min(failures - 1, 30)))


class Retry:
    """The failures in a row of something that can be tried again, and goes on from where it came to.

    Up to ``times`` are borne, by their weight. The count starts anew whenever ``position`` has moved as many bytes as
    ``enough`` gave when it began: a little progress must not make it endless. ``on_retry`` is told the error and the
    pause, in seconds, before each.
    """

    def __init__(
        self,
        times: int,
        backoff: Backoff,
        *,
        position: Callable[[], int],
        enough: Callable[[], int],
        on_retry: Callable[[Transient, float], None],
    ) -> None:
        self._times = times
        self._backoff = backoff
        self._position = position
        self._enough = enough
        self._on_retry = on_retry
        self._counted = 0.0
        self._goal = position() + enough()
        self.failures = 0

    async def failed(self, error: Transient) -> None:
        """Pause before another try, or raise ``error`` if there were enough.

        A :class:`Throttled` host is waited for through the limits; a pause that it named is none of ours, but where it
        named none, or one of 0 s, ours holds.
        """
        if (reached := self._position()) >= self._goal:
            self._counted, self._goal = 0.0, reached + self._enough()
            self.failures = min(self.failures, _MOST_WHILE_IT_MOVES)
        self.failures += 1
        self._counted += error.weight
        if self._counted > self._times:
            raise error
        pause = self._backoff.pause(self.failures)
        if isinstance(error, Throttled) and error.delay:
            pause = 0.0 if error.of_host else max(pause, error.delay)
        self._on_retry(error, pause)
        await asyncio.sleep(pause)


def retrying(
    times: int,
    backoff: Backoff,
    *,
    position: Callable[P, int],
    enough: Callable[P, int],
    on_retry: Callable[[Transient, float], None],
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Decorate a coroutine function that can be called again to go on from where it came to, as :class:`Retry` says.

    A :class:`Transient` error is retried. ``position`` and ``enough`` are called with the same arguments.
    """

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        async def insist(*args: P.args, **kwargs: P.kwargs) -> T:
            retry: Retry | None = None
            while True:
                try:
                    return await function(*args, **kwargs)
                except Transient as error:
                    if retry is None:
                        retry = Retry(
                            times,
                            backoff,
                            position=lambda: position(*args, **kwargs),
                            enough=lambda: enough(*args, **kwargs),
                            on_retry=on_retry,
                        )
                    await retry.failed(error)

        return insist

    return decorate
