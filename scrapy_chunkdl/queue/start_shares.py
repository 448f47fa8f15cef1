"""``StartShares``: moments at which this process may begin requests, of a delay that all processes keep together.

Moments are handed out in Redis one after the other, ``delay_s`` apart, some ahead of need; so there is nothing to give
back when a process dies. Settled together with the connections, by :class:`~scrapy_chunkdl.queue.hosts.HostShares`.
Knows numbers and keys; nothing of who waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

PREFIX = "{chunkdl}:starts:"

AHEAD_S = 0.6
"""Seconds ahead of which moments are handed out to one process, besides its next: two settlings, and a late one."""

FORGOTTEN_AFTER_S = 1.0
"""Seconds after which a process that told nothing wants no moments any more: it told four times a second."""


class StartShares:
    """Those of one process."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._wanted: dict[str, tuple[int, int]] = {}

    def tell(self, wanted: Mapping[str, tuple[int, int]]) -> None:
        """Note how many moments are still to come, and how many are wanted besides, by host."""
        self._wanted = {host: told for host, told in wanted.items() if any(told)}

    def rows(self) -> list[tuple[str, list[str | int]]]:
        """Return the keys to settle, each with its part of the arguments of ``share.lua``."""
        times = [round(AHEAD_S * 1000), round(FORGOTTEN_AFTER_S * 1000)]
        return [
            (PREFIX + host, ["s", round(self._delay_s * 1e6), to_come, wanted, *times])
            for host, (to_come, wanted) in self._wanted.items()
        ]

    def note(self, answers: Mapping[str, Sequence[int]], now: float) -> dict[str, tuple[list[float], int]]:
        """Take answers, by key. Return the new moments, of the clock of ``now``, and how many processes want some."""
        given = {}
        for key, (first_us, count, processes) in answers.items():
            moments = [now + first_us / 1e6 + n * self._delay_s for n in range(count)]
            given[key[len(PREFIX) :]] = (moments, processes)
        return given
