"""What a process may do at a host that other processes use, too: a protocol. Where it comes from is another room's."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class SharedLimits(NamedTuple):
    """Limits over all processes; 0 is none. Rates in bytes per second, ``delay_s`` between two requests to a host."""

    rate: float = 0.0
    rate_per_host: float = 0.0
    delay_s: float = 0.0


class Shares(Protocol):
    """What this process may do at a host that other processes use, too. All methods are called from any thread."""

    def slots(self, host: str) -> int:
        """Return below how many running requests one may be begun now."""

    def cooling(self, host: str) -> float:
        """Return the seconds for which the host is to be left alone."""

    def cool_down(self, host: str, seconds: float) -> None:
        """Have all processes leave the host alone for so many seconds."""

    def ask(self) -> None:
        """Have the shares settled soon: more is wanted, or less is used, than was told."""


class Use(NamedTuple):
    """Requests of this process at a host: those that run, and how many there would be if none had to wait."""

    running: int
    wanted: int
