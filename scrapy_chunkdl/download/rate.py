"""How fast bytes may come: over the whole process, and from each host. Thread-safe. Time is passed in; nothing waits.

Knows numbers and hosts; nothing of sockets. Whoever reads from one tells what it read and is told how long to wait.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

_BURST = 1 / 16
_PIECES_PER_SECOND = 256
_LEAST_PIECE = 1024
_HOSTS_REMEMBERED = 4096


class Rate:
    """A limit in bytes per second, as the virtual scheduling of the leaky bucket (ITU-T I.371); 0 is none.

    What was read too much is waited for later, so that the limit is met in the long run. What was not read is lost
    but for a sixteenth of a second's worth.
    """

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second
        self._due = float("-inf")
        self._lock = threading.Lock()

    def change(self, bytes_per_second: float) -> None:
        """Set another limit. What was read too much under the old one is forgotten."""
        with self._lock:
            self.bytes_per_second = bytes_per_second
            self._due = float("-inf")

    def take(self, size: int, now: float) -> float:
        """Count ``size`` bytes read at ``now``, in seconds of a clock that never goes back; return seconds to wait."""
        if not self.bytes_per_second:
            return 0.0
        with self._lock:
            if not self.bytes_per_second:
                return 0.0
            self._due = max(self._due, now - _BURST) + size / self.bytes_per_second
            return max(0.0, self._due - now)


class Pace:
    """What holds for one body, from now on: limits may change while it runs."""

    def __init__(self, rates: list[Rate]) -> None:
        self._rates = rates

    @property
    def piece(self) -> int | None:
        """How many bytes may be read at once; None for any number."""
        limits = [rate.bytes_per_second for rate in self._rates if rate.bytes_per_second]
        return max(_LEAST_PIECE, int(min(limits) / _PIECES_PER_SECOND)) if limits else None

    def take(self, size: int, now: float) -> float:
        """Count bytes read; return the seconds to wait before more are read."""
        return max(rate.take(size, now) for rate in self._rates)


class Rates:
    """The limits of a process, in bytes per second; 0 is none."""

    def __init__(self, of_process: float, of_host: float) -> None:
        self._process = Rate(of_process)
        self._of_host = of_host
        self._hosts: OrderedDict[str, Rate] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def of_process(self) -> float:
        """The limit of the whole process."""
        return self._process.bytes_per_second

    def change(self, bytes_per_second: float) -> None:
        """Set another limit for the whole process, for bodies that run, too. Called from any thread.

        Raises ValueError for what is no number of bytes.
        """
        if not 0 <= bytes_per_second < float("inf"):
            raise ValueError(f"{bytes_per_second!r} is no limit in bytes per second: 0 for none, or more")
        self._process.change(bytes_per_second)

    def pace(self, host: str) -> Pace:
        """Return what holds for a body from ``host``."""
        if not self._of_host:
            return Pace([self._process])
        with self._lock:
            rate = self._hosts.setdefault(host, Rate(self._of_host))
            self._hosts.move_to_end(host)
            if len(self._hosts) > _HOSTS_REMEMBERED:
                self._hosts.popitem(last=False)
        return Pace([self._process, rate])
