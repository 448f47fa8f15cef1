"""How many requests a second a host takes, found out by what it refuses. Pure: knows numbers and times.

Some hosts bear so many requests a second instead of so many connections, and say so by errors that name no pause. Where
these come from a host that has just served others, requests are begun no faster than at a rate r, in requests a second,
by additive increase and multiplicative decrease, as :mod:`.ceiling` has it for connections (Chiu and Jain 1989):

    r = min(r, m) / 2   when a request is refused that went out after the last cut; m is the rate of the last answers
    r = r + a           after each second with answers and without a refusal; a = max(r / 10, 1 / 2), r as it was cut
    r = infinity        after half a minute without a refusal; so it is at first

So a host that takes c a second is asked for c / 2 to c of them, three quarters on average, and refuses one, and those
that were on their way, in 5 to 10 s.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from scrapy_chunkdl.download.model import Options

_IN_A_ROW = 2
_OF_THE_LAST = 10
"""Refusals that make a limit: so many in a row, or, of those that speak of load, among so many answers. Once there is a
limit one that speaks of load lowers it."""

_SERVED_LATELY_S = 60.0
_BELIEVED_S = 300.0
_LONGEST_S = 2.0
"""Seconds between two requests at the slowest pace that a host is given unasked."""

_CLEAN_S = 1.0
_LIFTED_AFTER_S = 30.0
_MEASURED = 64
_SHORTEST_S = 0.1
"""Seconds in which the measured answers came, at least: those that come at once are no rate."""

_PART, _LEAST = 10.0, 0.5
_NONE = float("inf")


@dataclass(slots=True)
class Spacing:
    """The pace of one host. ``rate`` is in requests a second; times are monotonic."""

    rate: float = _NONE
    more: float = _LEAST
    cut_at: float = float("-inf")
    clean_since: float = 0.0
    refused_at: float = float("-inf")
    served_at: float = float("-inf")
    believed_until: float = 0.0
    refused_in_a_row: int = 0
    answers: deque[float] = field(default_factory=lambda: deque(maxlen=_MEASURED))
    loads: deque[bool] = field(default_factory=lambda: deque(maxlen=_OF_THE_LAST))
    """Whether the last answers said that it is too much."""

    @property
    def space_s(self) -> float:
        """Seconds between the starts of two requests, 0 for none."""
        return 1.0 / self.rate

    def served(self, at: float) -> None:
        """Note an answer."""
        self.served_at, self.refused_in_a_row = at, 0
        self.answers.append(at)
        self.loads.append(False)
        if self.rate == _NONE or at < self.clean_since + _CLEAN_S:
            return
        self.clean_since, self.rate = at, self.rate + self.more
        if at >= self.refused_at + _LIFTED_AFTER_S:
            self.rate = _NONE

    def is_too_fast(self, asked_at: float, at: float, longest_s: float, *, is_load: bool = False) -> bool:
        """Note an error without a name for its cause; tell whether the host refuses the pace of the requests.

        It does if it has served others lately, and unless the same came back at the slowest pace: then it means what it
        says, for a while. ``is_load`` says that the error speaks of load, and no file has it by itself.
        """
        self.refused_in_a_row += 1
        self.answers.append(at)
        self.loads.append(is_load)
        if at - self.served_at > _SERVED_LATELY_S or at < self.believed_until:
            return False
        self.refused_at = self.clean_since = at
        is_sign = is_load and (self.rate < _NONE or self.loads.count(True) >= _IN_A_ROW)
        if not is_sign and self.refused_in_a_row < _IN_A_ROW:
            return True
        if asked_at >= self.cut_at:
            if self.space_s >= longest_s:
                self.rate, self.believed_until = _NONE, at + _BELIEVED_S
                return False
            self._cut(at, longest_s)
        return True

    def _cut(self, at: float, longest_s: float) -> None:
        self.rate = max(min(self.rate, self._measured()) / 2, 1.0 / longest_s)
        self.more = max(self.rate / _PART, _LEAST)
        self.cut_at = at
        self.answers.clear()
        self.loads.clear()

    def _measured(self) -> float:
        """Return how many answers a second came of late; without a limit yet, some."""
        if len(self.answers) <= _IN_A_ROW:
            return self.rate if self.rate < _NONE else _IN_A_ROW / _SHORTEST_S
        return (len(self.answers) - 1) / max(_SHORTEST_S, self.answers[-1] - self.answers[0])


def longest_s(options: Options) -> float:
    """Return the longest space between two requests that a host may get unasked, in seconds."""
    return min(options.backoff_max / 4, _LONGEST_S)
