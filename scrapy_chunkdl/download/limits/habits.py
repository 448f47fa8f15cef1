"""What the files of a host were like: whether a HEAD before the next one is worth its time, and the plain way a try.

Pure bookkeeping, shared by all threads of a process. Knows hosts and outcomes; sends nothing.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from scrapy_chunkdl.download.limits.remembered import Remembered

_FILES_REMEMBERED = 16
"""Files of a host that count: about the last so many."""

_MOST_LEFT_OUT = 256

_A_MOMENT_S = 0.25
"""Seconds in which a second connection for a file helps little: it takes a request, and parts take a journal. What is
lost with a process that is killed is no more than that."""

_WORTH_TIMING = 1 << 16
"""Bytes behind a head that tell how fast they came."""

_IN_VAIN = 2
_NONE_FOR_S = 3600.0
"""Seconds for which a host is asked no HEAD, for no ranges, or once for each link, where more was of no use."""


@dataclass(slots=True)
class _Habit:
    small: float = 0.0
    large: float = 0.0
    odd_in_a_row: int = 0
    left_out: int = 0
    by_ranges: bool = False
    s_per_byte: float = 0.0


@dataclass(slots=True)
class _Way:
    """A way of asking that may be of no use at a host."""

    in_vain: int = 0
    none_until: float = 0.0

    def was_of_use(self, is_so: bool) -> None:
        self.in_vain = 0 if is_so else self.in_vain + 1
        if self.in_vain >= _IN_VAIN:
            self.is_of_no_use()

    def is_of_no_use(self) -> None:
        self.in_vain, self.none_until = 0, time.monotonic() + _NONE_FOR_S


def _is_of_use(ways: Remembered[_Way], host: str) -> bool:
    way = ways.get(host)
    return way is None or time.monotonic() >= way.none_until


class Habits:
    """Thread-safe. A host is ``host:port``."""

    def __init__(self) -> None:
        self._hosts = Remembered(_Habit)
        self._heads = Remembered(_Way)
        self._ranges = Remembered(_Way)
        self._repeats = Remembered(_Way)  # of requests for one link
        self._lock = threading.Lock()

    def brought(self, host: str, *, small: bool, by_ranges: bool = False) -> None:
        """Note a file that came from ``host``; ``small`` says that it was no more than a chunk."""
        with self._lock:
            habit = self._hosts.of(host)
            if not small:
                habit.by_ranges = by_ranges
                if by_ranges and (ranges := self._ranges.get(host)) is not None:
                    ranges.was_of_use(True)
            if habit.small + habit.large >= _FILES_REMEMBERED:
                habit.small, habit.large = habit.small / 2, habit.large / 2
            if small:
                habit.small += 1
            else:
                habit.large += 1

    def was_plain(self, host: str) -> None:
        """Note that the plain way brought a file."""
        habit = self._hosts.get(host)
        if habit is None or habit.odd_in_a_row or habit.large:
            self.brought(host, small=True)
            with self._lock:
                self._hosts.of(host).odd_in_a_row = 0

    def came(self, host: str, size_bytes: int, took_s: float) -> None:
        """Note how long the bytes of a body took that came after its head, over one connection."""
        habit = self._hosts.get(host)
        if habit is not None and size_bytes >= _WORTH_TIMING:
            with self._lock:
                now, before = took_s / size_bytes, habit.s_per_byte
                habit.s_per_byte = before + (now - before) / 4 if before else now

    def bytes_in_a_moment(self, host: str) -> float:
        """Return how much a connection of ``host`` brings before another one would be of help; 0 where none is known.

        By the mean of seconds for a byte, in which one slow body counts more than one quick.
        """
        habit = self._hosts.get(host)
        return _A_MOMENT_S / habit.s_per_byte if habit is not None and habit.s_per_byte else 0.0

    def was_odd(self, host: str) -> None:
        """Note that the plain way is not for ``host``: its next files do without it, twice as many each time."""
        with self._lock:
            habit = self._hosts.of(host)
            habit.odd_in_a_row += 1
            habit.left_out = min(_MOST_LEFT_OUT, 2**habit.odd_in_a_row)

    def are_small(self, host: str) -> bool:
        """Whether files of ``host`` are known, most of them were small, and nothing was odd of late."""
        habit = self._hosts.get(host)
        return habit is not None and habit.small > habit.large and not habit.left_out

    def wants_heads(self, host: str) -> bool:
        """Whether a HEAD is worth its time at ``host``."""
        return _is_of_use(self._heads, host)

    def head_told(self, host: str, something: bool) -> None:
        """Note whether a HEAD to ``host`` told something, where a GET did after it."""
        with self._lock:
            self._heads.of(host).was_of_use(something)

    def head_used_it_up(self, host: str) -> None:
        """Note that ``host`` refused a GET right after a HEAD that was fine: its links are good for one request."""
        with self._lock:
            self._repeats.of(host).is_of_no_use()

    def wants_one_get(self, host: str) -> bool:
        """Whether links of ``host`` are good for one request, so that this had better bring all of the file."""
        return not _is_of_use(self._repeats, host)

    def answers_ranges(self, host: str) -> bool:
        """Whether ``host`` is known not to leave requests for ranges unanswered."""
        return _is_of_use(self._ranges, host)

    def ranges_fell_silent(self, host: str) -> None:
        """Note that ``host`` left requests for ranges unanswered, and answered one for the whole file."""
        with self._lock:
            self._ranges.of(host).was_of_use(False)

    def asks_for_ranges(self, host: str) -> bool:
        """Whether a GET is better of the first chunk only: where larger files were among the last, and came by ranges.

        Else it is of the whole file: so every server knows it, and some answer nothing else.
        """
        habit = self._hosts.get(host)
        return habit is not None and habit.by_ranges and habit.large >= 0.5

    def left_out(self, host: str) -> None:
        """Note that a file of ``host`` goes the ordinary way."""
        habit = self._hosts.get(host)
        if habit is not None and habit.left_out:
            with self._lock:
                habit.left_out = max(0, habit.left_out - 1)
