"""Sizes and times with their units, as people read them. Pure text."""

from __future__ import annotations


def size_text(size: float) -> str:
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
