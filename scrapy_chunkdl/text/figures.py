"""Numbers as people read them. Pure text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A file that runs. Sizes are in bytes; ``key`` tells files of one name apart."""

    key: int
    name: str
    done: int
    size: int | None


@dataclass(frozen=True, slots=True)
class Totals:
    """All downloads of a crawl. ``left`` are files it still has; ``queued`` items wait in Redis, None if unknown.

    ``files_per_item`` is what items had so far.
    """

    done: int = 0
    failed: int = 0
    left: int = 0
    fetched: int = 0
    retries: int = 0
    queued: int | None = None
    files_per_item: float = 1.0


def summary(totals: Totals) -> str:
    """Return what was done so far, in one clause."""
    retried = f", {totals.retries} retries" if totals.retries else ""
    return f"{totals.done} files done, {totals.failed} given up, {amount(totals.fetched)} fetched{retried}"


def amount(size: float) -> str:
    """Return a number of bytes with its unit, in powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def time_left(missing: int | None, rate: float) -> str:
    """Return how long so many bytes take at a rate per second, as 1:02:03 or 2:03; dashes where nobody can tell."""
    if missing is None or rate <= 0:
        return "-:--"
    minutes, seconds = divmod(int(missing / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Rate:
    """What a number that grows grew by per second, over the last ``seconds``."""

    def __init__(self, seconds: float = 3.0) -> None:
        self._over = seconds
        self._seen: list[tuple[float, int]] = []

    def note(self, number: int, now: float) -> float:
        """Note the number at ``now``, in seconds of a monotonic clock, and return the rate."""
        self._seen.append((now, number))
        while len(self._seen) > 2 and now - self._seen[1][0] >= self._over:
            del self._seen[0]
        then, before = self._seen[0]
        return max(0.0, (number - before) / (now - then)) if now > then else 0.0
