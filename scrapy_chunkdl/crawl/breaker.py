"""The breaker over the project's code behind the downloads: later pipelines, and hooks before them. Pure.

A database that is away fails every item alike; that is no item's fault. Once :data:`ALIKE` different items in a row
have failed, the breaker is open: errors count against no item, and one item at a time is tried, with growing pauses,
until one passes. Where only a few are left to try, their errors count again: those may fail by themselves, and would
keep the crawl from ending. Knows when to claim and what to say; nothing of Redis, items or pipelines. Called
by the consumer and its back-pressure.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable

logger = logging.getLogger(__name__)

ALIKE = 5
"""Different items that have to fail one after the other, with none between them that passed."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0

LONGEST_DELAY_S = 3600.0
"""Seconds after which an item that failed comes back at the latest, where CHUNKDL_RETRY_DELAY is no longer."""

GIVE_UP_S = 3600.0
"""Seconds of an outage after which a crawl that has nothing else to do ends, with a reason: its items wait in Redis."""

GIVE_UP_CODE_S = 300.0
"""The same where nothing was raised but :data:`OF_CODE`: that does not pass while a process runs the same code."""

OF_CODE = (
    *(AssertionError, AttributeError, ArithmeticError, ImportError, LookupError, NameError, NotImplementedError),
    *(RecursionError, SyntaxError, TypeError),
)
"""Errors that come of what a program does. A ValueError may be the answer of a service that is ill."""

TELL_AGAIN_S = 600.0
"""Seconds after which it is told again that nothing passes, then after twice as many, and so on."""

_JITTER = 0.25
"""Part of itself by which a delay is longer at most: what failed together should not come back together."""


class Breaker:
    """One process's. ``key`` names the list in what is said. ``clock`` is in seconds."""

    def __init__(self, key: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._clock = clock
        self._failed: deque[int] = deque(maxlen=2 * ALIKE)
        self._opened_at: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._next_at = 0.0
        self._is_of_code = True
        self._tries = 0
        self._tell_after_s = TELL_AGAIN_S

    @property
    def is_open(self) -> bool:
        """Whether items are tried one at a time."""
        return self._opened_at is not None

    @property
    def open_for_s(self) -> float:
        """Seconds since it opened; 0 while it is closed."""
        return self._clock() - self._opened_at if self._opened_at is not None else 0.0

    @property
    def gives_up(self) -> bool:
        """Whether it has been open for so long that a crawl with nothing else to do ends."""
        return self.open_for_s > self._patience_s

    @property
    def _patience_s(self) -> float:
        return GIVE_UP_CODE_S if self._is_of_code else GIVE_UP_S

    def failed(self, item: bytes, where: str, error: BaseException | None = None) -> bool:
        """Note that an item failed; ``where`` tells in what. Return whether that counts against the item."""
        self._failed.append(hash(item))
        self._is_of_code &= isinstance(error, OF_CODE)
        are_many = len(set(self._failed)) >= ALIKE
        if self._opened_at is not None:
            self._wait()
            self._tell_again(where)
            return len(self._failed) == 2 * ALIKE and not are_many
        if not are_many:
            return True
        self._opened_at = self._clock()
        self._wait()
        logger.warning(
            "The last %d items of %s all failed, now %s. They come back and none loses its life by it; one at a time "
            "is tried until one passes. A crawl with nothing else to do ends in %.0f min.",
            *(ALIKE, self._key, where, self._patience_s / 60),
        )
        return False

    def _tell_again(self, where: str) -> None:
        self._tries += 1
        if self.open_for_s < self._tell_after_s:
            return
        self._tell_after_s *= 2
        logger.warning(
            "No item of %s has passed for %.0f min, in %d tries, now %s. A crawl with nothing else to do ends in "
            "%.0f min.",
            *(self._key, self.open_for_s / 60, self._tries, where, max(0.0, self._patience_s - self.open_for_s) / 60),
        )

    def passed(self) -> None:
        """Note that an item went through all pipelines."""
        self._failed.clear()
        self._pause_s = FIRST_PAUSE_S
        self._is_of_code, self._tries, self._tell_after_s = True, 0, TELL_AGAIN_S
        if self._opened_at is not None:
            logger.info("An item of %s passed after %.0f s: claiming goes on as before.", self._key, self.open_for_s)
            self._opened_at = None

    def room(self, wanted: int, held: int) -> int:
        """Return how many items may be claimed where ``wanted`` could be, and ``held`` are not settled."""
        if self._opened_at is None:
            return wanted
        return 0 if held or self._clock() < self._next_at else min(wanted, 1)

    def _wait(self) -> None:
        self._next_at = self._clock() + self._pause_s * random.uniform(1.0, 1.0 + _JITTER)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)


def delay_s(first_s: float, errors: int) -> float:
    """Return the seconds until an item that failed comes back: doubled for each of ``errors`` before, bounded."""
    longest = max(first_s, LONGEST_DELAY_S)
    return float(min(first_s * 2.0 ** min(errors, 64), longest) * random.uniform(1.0, 1.0 + _JITTER))


def place_of(error: BaseException) -> str:
    """Return what an exception is and whose it is: ``ValueError in project.pipelines.Database``.

    That is the first object outside of Scrapy and Twisted in which it was on its way.
    """
    name = type(error).__qualname__
    traceback = error.__traceback__
    place = ""
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _NOT_THE_PROJECTS:
            owner = traceback.tb_frame.f_locals.get("self")
            place = f"{type(owner).__module__}.{type(owner).__qualname__}" if owner is not None else module
            break
        traceback = traceback.tb_next
    return f"{name} in {place}" if place else name


_NOT_THE_PROJECTS = ("scrapy", "scrapy_chunkdl", "twisted", "asyncio", "concurrent")
