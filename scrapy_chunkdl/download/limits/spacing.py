"""How far apart the requests to a host are begun, where it bears so many a second. Pure: knows numbers and times.

Some hosts bear so many requests a second instead of so many connections, and say so by errors that name no pause. Where
several in a row come from a host that has just served others, the starts of requests are spaced, twice as far each
time, and move together again while it serves.
"""

from __future__ import annotations

from dataclasses import dataclass

from scrapy_chunkdl.download.model import Options

_IN_A_ROW = 2
_SERVED_LATELY_S = 60.0
_BELIEVED_S = 300.0
_FASTER = 0.8
_SERVED_IN_A_ROW = 10
_LONGEST_S = 2.0
"""Seconds between two requests at the slowest pace that a host is given unasked."""


@dataclass(slots=True)
class Spacing:
    """The pace of one host. ``space_s`` is in seconds between two requests; times are monotonic."""

    space_s: float = 0.0
    spaced_at: float = 0.0
    served_at: float = float("-inf")
    believed_until: float = 0.0
    refused_in_a_row: int = 0
    served_in_a_row: int = 0

    def served(self, at: float, first_s: float) -> None:
        """Note an answer. A space below the first one is none."""
        self.served_at, self.refused_in_a_row = at, 0
        if not self.space_s:
            return
        self.served_in_a_row += 1
        if self.served_in_a_row >= _SERVED_IN_A_ROW:
            self.served_in_a_row, self.space_s = 0, self.space_s * _FASTER
            if self.space_s < first_s:
                self.space_s = 0.0

    def is_too_fast(self, asked_at: float, at: float, first_s: float, longest_s: float) -> bool:
        """Note an error without a name for its cause; tell whether the host refuses the pace of the requests.

        It does if it has served others lately, if this is not the first error in a row, and unless the same came back
        at the slowest pace: then it means what it says, for a while.
        """
        self.refused_in_a_row += 1
        self.served_in_a_row = 0
        if at - self.served_at > _SERVED_LATELY_S or at < self.believed_until:
            return False
        if self.refused_in_a_row >= _IN_A_ROW and asked_at >= self.spaced_at:
            if self.space_s >= longest_s:
                self.space_s, self.believed_until = 0.0, at + _BELIEVED_S
                return False
            self.space_s = min(max(2 * self.space_s, first_s), longest_s)
            self.spaced_at = at
        return True


def first_and_longest_s(options: Options) -> tuple[float, float]:
    """Return the space a host gets first, and the longest it may get unasked."""
    return min(options.backoff_base / 10, _LONGEST_S), min(options.backoff_max / 4, _LONGEST_S)
