"""Numbers as people read them. Pure text."""

from __future__ import annotations


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
