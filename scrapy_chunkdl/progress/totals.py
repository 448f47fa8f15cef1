"""What the downloads of one process, or of several, add up to, and how fast it grows: plain numbers.

Knows neither where they come from nor how they are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scrapy_chunkdl.text.units import size_text


@dataclass(frozen=True, slots=True)
class RunningFile:
    """A file that runs. Sizes are in bytes; ``key`` tells files of one name apart, ``item`` is what it belongs to."""

    key: int
    name: str
    done: int
    size: int | None
    item: str = ""


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


def sum_of(parts: Sequence[Totals]) -> Totals:
    """Return what several processes did together; of what waits in Redis they all tell the same."""
    queued = [part.queued for part in parts if part.queued is not None]
    return Totals(
        done=sum(part.done for part in parts),
        failed=sum(part.failed for part in parts),
        left=sum(part.left for part in parts),
        fetched=sum(part.fetched for part in parts),
        retries=sum(part.retries for part in parts),
        queued=max(queued, default=None),
        files_per_item=max((part.files_per_item for part in parts), default=1.0),
    )


def summary(totals: Totals) -> str:
    """Return what was done so far, in one clause."""
    retried = f", {totals.retries} retries" if totals.retries else ""
    return f"{totals.done} files done, {totals.failed} given up, {size_text(totals.fetched)} fetched{retried}"


def being_finished(running: Sequence[RunningFile], most: int = 3) -> str:
    """Name the files that run, those with the least left first, with how far each is."""

    def left(file: RunningFile) -> float:
        return file.size - file.done if file.size is not None else float("inf")

    def told(file: RunningFile) -> str:
        if not file.size:
            return f"{file.name} ({size_text(file.done)})"
        return f"{file.name} ({100 * file.done // file.size} % of {size_text(file.size)})"

    ordered = sorted(running, key=left)
    more = f" and {len(running) - most} more" if len(running) > most else ""
    return ", ".join(map(told, ordered[:most])) + more


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
