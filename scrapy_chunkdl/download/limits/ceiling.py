"""How many connections a host seems to bear: slow start and congestion avoidance, as of TCP (RFC 5681 §3.1). Pure.

A host starts with few connections. Each answer lets two more, so that they triple with each round trip, up to the limit
(docs/performance.md has what doubling cost). A refusal (429, 503, no connection) halves them, and from there on they
grow by one in a round trip. A host that refuses what they grew to is left at what it bore for a while, twice as long
each time: a server that bears only so many connections is soon asked for no more than that. Knows numbers and times.
"""

from __future__ import annotations

from dataclasses import dataclass

_FIRST = 4.0
_MORE = 2.0

_PATIENCE_S = 1.0
_MOST_PATIENCE_S = 64.0
"""Seconds for which a ceiling is left where it is after a refusal: from the first to the longest."""


@dataclass(slots=True)
class Ceiling:
    """Connections of one host. ``threshold`` is where they begin to grow slowly. Times are monotonic."""

    now: float = _FIRST
    threshold: float = float("inf")
    lowered_at: float = 0.0
    patience_s: float = _PATIENCE_S

    def answered(self, at: float, most: int) -> bool:
        """Note an answer; tell whether more connections are borne, of ``most`` at the most."""
        if self.now >= most or at < self.lowered_at + self.patience_s:
            return False
        self.now += _MORE if self.now < self.threshold else 1.0 / self.now
        return True

    def refused(self, asked_at: float, at: float, in_use: int) -> None:
        """Note a refusal of a request made at ``asked_at``, while ``in_use`` connections were.

        Refusals of requests that went out before the last one was noted tell nothing new.
        """
        if asked_at < self.lowered_at:
            return
        if self.lowered_at and at < self.lowered_at + 4 * self.patience_s:
            self.patience_s = min(2 * self.patience_s, _MOST_PATIENCE_S)
        else:
            self.patience_s = _PATIENCE_S
        self.now = self.threshold = max(1.0, min(self.now, in_use) / 2)
        self.lowered_at = at
