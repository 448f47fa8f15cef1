"""``HostHealth``: which hosts are ill, since when and why, and who may try one again, over all processes on one Redis.

Where a host has failed again and again, whoever finds it out tells it here, and every process leaves it alone; one
process at a time tries it, after pauses that grow. Knows hosts, words and Redis; nothing of HTTP, or of what a failure
is. Safe to use from several threads.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

from scrapy_chunkdl.queue.item_queue import load_script

KEY = "{chunkdl}:ill"
"""Beside the shares of hosts, in the same slot of a cluster."""

FIRST_PAUSE_S = 15.0
LONGEST_PAUSE_S = 1800.0
"""Seconds until a host is tried again: doubled each time. In a night of 8 hours that is 20 tries."""

LONGEST_ASKED_S = 86400.0
"""Seconds that a host may ask to be left alone for (Retry-After) and is obeyed."""

TRIAL_S = 90.0
"""Seconds for which the others wait for what comes of a try: longer than connecting and a first byte take as a rule."""

MOST_HOSTS = 4096
KEPT_S = 86400.0
"""Seconds for which an ill host is remembered that nobody tries."""

_LONGEST_REASON = 200

Answer = Literal["well", "try", "wait"]


@dataclass(frozen=True, slots=True)
class Illness:
    """A host that is left alone. ``since_s`` ago it fell, in ``next_in_s`` seconds it is tried for the next time;
    ``is_tried``: some process does that now, and it ends then at the latest.
    """

    host: str
    reason: str
    since_s: float
    next_in_s: float
    tries: int = 0
    is_tried: bool = False

    def sentence(self) -> str:
        """Return what a person should know: since when, why, and what comes next."""
        since, tried = _span(self.since_s), f", tried {self.tries} times since" if self.tries else ""
        told = f"{self.host} is left alone for {since} now ({self.reason}){tried}"
        if self.is_tried:
            return f"{told}; it is being tried"
        return f"{told}; it is tried next {f'in {_span(self.next_in_s)}' if self.next_in_s >= 1 else 'now'}"


class HostHealth:
    """One process's access. Methods raise as ItemQueue's do, and may be called again when a reply was lost."""

    def __init__(self, client: Any, token: str, rng: random.Random | None = None) -> None:
        self._token = token
        self._rng = rng or random.Random()
        self._fell, self._trial, self._well, self._look = (
            load_script(client, name) for name in ("host_fell", "host_trial", "host_well", "ill_hosts")
        )

    def fell(self, host: str, reason: str, pause_s: float = 0.0) -> Illness:
        """Tell that a host failed, or that a try of it did. ``pause_s`` is what it asked for itself."""
        asked_ms = round(min(max(0.0, pause_s), LONGEST_ASKED_S) * 1000)
        pauses = [round(FIRST_PAUSE_S * 1000), round(LONGEST_PAUSE_S * 1000), self._rng.random()]
        reason = " ".join(reason.split())[:_LONGEST_REASON] or "-"
        arguments = [self._token, host, reason, asked_ms, *pauses, MOST_HOSTS, round(KEPT_S * 1000)]
        since_ms, next_ms, tries = self._fell(keys=[KEY], args=arguments)
        return Illness(host, reason, int(since_ms) / 1000, max(0, int(next_ms)) / 1000, int(tries))

    def may_try(self, host: str) -> tuple[Answer, float]:
        """Ask to try a host: ``try`` says that this process may, and the others wait for it. With seconds to wait."""
        answer, wait_ms = self._trial(keys=[KEY], args=[self._token, host, round(TRIAL_S * 1000)])
        told: Answer = "well" if answer == b"well" else "try" if answer == b"try" else "wait"
        return told, int(wait_ms) / 1000

    def recovered(self, host: str) -> float | None:
        """Tell that a host serves. Returns the seconds it was ill for, None if nobody said so."""
        ill_ms = int(self._well(keys=[KEY], args=[host]))
        return ill_ms / 1000 if ill_ms >= 0 else None

    def look(self) -> dict[str, Illness]:
        """Return all hosts that are ill, :data:`MOST_HOSTS` at most."""
        now_ms, *flat = self._look(keys=[KEY], args=[])
        found = {}
        for raw_host, record in zip(flat[::2], flat[1::2], strict=True):
            fields = record.decode(errors="replace").split(" ", 7)
            host = raw_host.decode(errors="replace")
            try:
                since_ms, next_ms, trial_end_ms, tries = (int(fields[n]) for n in (1, 2, 4, 5))
                reason = fields[7]
            except (IndexError, ValueError):  # somebody else's
                continue
            next_in_ms = max(0, next_ms - now_ms, trial_end_ms - now_ms)
            since_s = max(0, now_ms - since_ms) / 1000
            found[host] = Illness(host, reason, since_s, next_in_ms / 1000, tries, trial_end_ms > now_ms)
        return found


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
