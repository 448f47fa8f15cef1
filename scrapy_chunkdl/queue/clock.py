"""The clock that leases are counted by: one that goes on while the machine sleeps, as Redis' does.

``time.monotonic()`` stands still in a suspended laptop or virtual machine (golang/go#24595, eclipse/paho.mqtt.c#1095):
a process that wakes up would take leases for its own that others have had since. Linux counts sleep in CLOCK_BOOTTIME,
macOS in CLOCK_MONOTONIC, which is not what Python's ``time.monotonic()`` reads there; Windows' counter goes on anyway.
"""

from __future__ import annotations

import sys
import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)
if _CLOCK is None and sys.platform == "darwin":
    _CLOCK = getattr(time, "CLOCK_MONOTONIC", None)


def lease_clock() -> float:
    """Return seconds since some moment, those in which the machine slept included where the system can tell."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
