"""The clock that leases are counted by: one that goes on while the machine sleeps, as Redis' does.

``time.monotonic()`` stands still in a suspended laptop or virtual machine (golang/go#24595, eclipse/paho.mqtt.c#1095):
a process that wakes up would take leases for its own that others have had since. Linux counts sleep in CLOCK_BOOTTIME,
macOS in CLOCK_MONOTONIC, which is not what Python's ``time.monotonic()`` reads there; Windows' counter goes on anyway.

None of them counts while a hypervisor holds the whole machine (a pause, a snapshot, a migration). The wall clock is set
forward after that, which is taken for time that has passed: whoever finds a lease to be over by it asks Redis.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

JUMP_S = 1.0
"""Seconds by which the wall clock must have got ahead between two looks. NTP slews by 0.5 ms a second (ntp_adjtime)."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)
if _CLOCK is None and sys.platform == "darwin":
    _CLOCK = getattr(time, "CLOCK_MONOTONIC", None)


def _steady() -> float:
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class LeaseClock:
    """Seconds since some moment, those included in which the machine stood still. Safe to use from several threads.

    ``steady`` never goes back, and may stand still; ``wall`` is the time of day: where it jumps ahead, so does this
    clock; where it is set back, nothing happens.
    """

    def __init__(self, steady: Callable[[], float] = _steady, wall: Callable[[], float] = time.time) -> None:
        self._steady = steady
        self._wall = wall
        self._lock = threading.Lock()
        self._jumped_s = 0.0
        self._ahead_s = wall() - steady()

    def __call__(self) -> float:
        """Return the seconds."""
        with self._lock:
            steady = self._steady()
            ahead_s = self._wall() - steady
            if ahead_s - self._ahead_s >= JUMP_S:
                self._jumped_s += ahead_s - self._ahead_s
            self._ahead_s = ahead_s
            return steady + self._jumped_s


lease_clock = LeaseClock()
"""The one of this process."""
