"""``SharedBudgets``: what came from which host in a day or hour, and what is set aside for files that are under way,
counted over all processes on one Redis.

Knows periods, words and Redis; not how much may come, nor what a file is. Safe to use from several threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from scrapy_chunkdl.queue.item_queue import load_script
from scrapy_chunkdl.queue.snapshot import REPORT_KEPT

PREFIX = "{chunkdl}:budget"
"""Beside the shares of hosts and the hosts that are ill, in the same slot of a cluster."""

PERIODS_S: Mapping[str, int] = {"day": 86400, "hour": 3600}

MOST_COUNTS = 8192
"""Counts of a day or an hour: hosts beyond are not counted."""

GONE_AFTER_S = 20.0
"""Seconds without a word after which what a process set aside is free again."""

_KEYS = [f"{PREFIX} told", f"{PREFIX} alive", f"{PREFIX} aside"]

Count = tuple[str, str]
"""A period (``day``, ``hour``) and what is counted in it: ``bytes`` or ``files``, a space, and a host."""


class Asked(NamedTuple):
    """What is asked of a budget: to set aside ``wanted`` in place of what was before, ``needed`` of it for what has
    begun; ``first`` is what the first of the others would use."""

    of: Count
    most: int
    needed: int = 0
    wanted: int = 0
    first: int = 0


class Standing(NamedTuple):
    """How a budget stands: what is used, what others have set aside, and what is set aside for this process."""

    used: int
    others: int = 0
    granted: int = 0


@dataclass(frozen=True, slots=True)
class Used:
    """How budgets stood at ``now``, in seconds since 1970; ``largest`` has the bytes of the largest file so far."""

    now: float
    counts: Mapping[Count, Standing]
    largest: int = 0


class SharedBudgets:
    """One process's access. Methods raise as ItemQueue's do, and may be called again when a reply was lost."""

    def __init__(self, client: Any, token: str) -> None:
        self._token = token
        self._client = client
        self._now = time.time()
        self._script = load_script(client, "budget")

    def tell(self, part: int, spent: Mapping[Count, int], asked: Sequence[Asked], largest: int = 0) -> Used:
        """Add what was spent, once for each ``part``, set aside what is ``asked`` for, and return how that stands.

        What is not asked for is set aside no more. ``largest`` has the bytes of the largest file that came here.
        """
        while True:
            day, hour = (int(self._now) // seconds for seconds in PERIODS_S.values())
            arguments: list[str | int] = [self._token, part, day, hour, MOST_COUNTS]
            arguments += [round(REPORT_KEPT * 1000), round(GONE_AFTER_S * 1000)]
            arguments += [largest, len(spent)]
            for (period, field), number in spent.items():
                arguments += [period, field, number]
            for of, *numbers in asked:
                arguments += [*of, *numbers]
            keys = [f"{PREFIX} day {day}", f"{PREFIX} hour {hour}", *_KEYS]
            counts, now_ms, largest_of_all, *flat = self._script(keys=keys, args=arguments)
            self._now = int(now_ms) / 1000
            if counts:
                stands = (Standing(*map(int, flat[at : at + 3])) for at in range(0, len(flat), 3))
                return Used(
                    self._now, {one.of: stand for one, stand in zip(asked, stands, strict=True)}, largest_of_all
                )

    def leave(self, parts: Sequence[tuple[int, Mapping[Count, int]]]) -> None:
        """Add what was spent last, and have nothing set aside any more."""
        for part, spent in parts:
            self.tell(part, spent, [])
        self._client.zrem(f"{PREFIX} alive", self._token)
        self._client.hdel(f"{PREFIX} aside", self._token)
