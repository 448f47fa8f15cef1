"""``SharedBudgets``: what came from which host in a day or hour, counted over all processes on one Redis.

Knows periods, words and Redis; not how much may come, nor what a file is. Safe to use from several threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scrapy_chunkdl.queue.item_queue import load_script
from scrapy_chunkdl.queue.snapshot import REPORT_KEPT

PREFIX = "{chunkdl}:budget"
"""Beside the shares of hosts and the hosts that are ill, in the same slot of a cluster."""

PERIODS_S: Mapping[str, int] = {"day": 86400, "hour": 3600}

MOST_COUNTS = 8192
"""Counts of a day or an hour: hosts beyond are not counted."""

GONE_AFTER_S = 20.0
"""Seconds without a word after which a process has no share in what is left."""

Count = tuple[str, str]
"""A period (``day``, ``hour``) and what is counted in it: ``bytes`` or ``files``, a space, and a host."""


@dataclass(frozen=True, slots=True)
class Used:
    """What was used at ``now``, in seconds since 1970, and how many ``processes`` share what is left."""

    now: float
    processes: int
    counts: Mapping[Count, int]


class SharedBudgets:
    """One process's access. Methods raise as ItemQueue's do, and may be called again when a reply was lost."""

    def __init__(self, client: Any, token: str) -> None:
        self._token = token
        self._now = time.time()
        self._script = load_script(client, "budget")

    def tell(self, part: int, spent: Mapping[Count, int], asked: Sequence[Count]) -> Used:
        """Add what was spent, once for each ``part``, and return how much of what is ``asked`` about is used."""
        while True:
            day, hour = (int(self._now) // seconds for seconds in PERIODS_S.values())
            arguments: list[str | int] = [self._token, part, day, hour, MOST_COUNTS]
            arguments += [round(REPORT_KEPT * 1000), round(GONE_AFTER_S * 1000), len(spent)]
            for (period, field), number in spent.items():
                arguments += [period, field, number]
            for count in asked:
                arguments += count
            keys = [f"{PREFIX} day {day}", f"{PREFIX} hour {hour}", f"{PREFIX} told", f"{PREFIX} alive"]
            counts, now_ms, processes, *used = self._script(keys=keys, args=arguments)
            self._now = int(now_ms) / 1000
            if counts:
                return Used(self._now, max(1, int(processes)), dict(zip(asked, map(int, used), strict=True)))
