"""Sets of bytes as sorted, disjoint, half-open ranges. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]


class Ranges:
    """A set of byte positions. Adding in order, as a download does, costs O(log n) and keeps n small."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.total = 0
        for start, stop in ranges:
            self.add(start, stop)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._stops, strict=True)

    def seen(self) -> list[Range]:
        """Return the ranges to another thread: one that is just being added may be wrong."""
        return list(zip(self._starts, self._stops, strict=False))

    def add(self, start: int, stop: int) -> int:
        """Add ``[start, stop)``; return how many of its bytes were new."""
        if start >= stop:
            return 0
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        old = sum(self._stops[i] - self._starts[i] for i in range(first, last))
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        self.total += (stop - start) - old
        return (stop - start) - old

    def missing(self, start: int, stop: int) -> Iterator[Range]:
        """Yield the gaps within ``[start, stop)``, in order."""
        position = start
        for index in range(bisect_right(self._stops, start), len(self._starts)):
            if self._starts[index] >= stop:
                break
            if self._starts[index] > position:
                yield position, self._starts[index]
            position = self._stops[index]
        if position < stop:
            yield position, stop

    def begin_before(self, position: int) -> int:
        """Return where the range begins that ends at ``position`` or runs over it; ``position`` itself if none does."""
        index = bisect_left(self._stops, position)
        if index < len(self._starts) and self._starts[index] < position:
            return self._starts[index]
        return position

    def covers(self, start: int, stop: int) -> bool:
        """Whether every byte of ``[start, stop)`` is in the set."""
        return next(self.missing(start, stop), None) is None
