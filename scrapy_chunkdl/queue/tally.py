"""What one process counts, on its way to the queue's totals in Redis: in parts, each of which counts once.

Processes die; what they counted must not go with them, nor count twice where a reply was lost. So a part keeps its
number until Redis has it, and what is counted meanwhile waits for the next. A process that is killed takes at most what
it counted since its last report with it. Counted on any thread. Knows names and numbers; nothing of Scrapy.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from scrapy_chunkdl.queue.metrics_table import ALSO, COUNTED, MOST_VALUES, OTHER, bucket_field, is_label, sum_field

_OURS = "chunkdl/"


@dataclass(frozen=True, slots=True)
class Part:
    """What was counted since the part before: to be added to the totals, field by field."""

    number: int
    counts: Mapping[str, float]


@dataclass(slots=True)
class Tally:
    """The counts of one process. Fields are those of :mod:`.metrics_table`; others are not counted."""

    _new: Counter[str] = field(default_factory=Counter)
    _sources: list[Callable[[], Mapping[str, float]]] = field(default_factory=list)
    _read: dict[str, float] = field(default_factory=dict)
    _values: dict[str, set[str]] = field(default_factory=dict)
    _by_stat: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _part: Part | None = None
    _parts: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, counts: Mapping[str, float], observed: Iterable[tuple[str, float, str]] = ()) -> None:
        """Count, by the names of stats, such as ``chunkdl/failures/http_404``, and note times as :meth:`observe`."""
        with self._lock:
            for name, number in counts.items():
                for counted in self._fields(name) if number > 0 else ():
                    self._new[counted] += number  # type: ignore[assignment]
            for source, seconds, label in observed:
                self._new[bucket_field(source, seconds, label)] += 1
                self._new[sum_field(source, label)] += seconds  # type: ignore[assignment]

    def observe(self, source: str, seconds: float, label: str = "") -> None:
        """Note a time that a histogram is made of."""
        self.add({}, [(source, seconds, label)])

    def answered(self, status: int | None, seconds: float) -> None:
        """Note an answer, None for none, and the seconds until its head."""
        with self._lock:
            self._new[f"answers/{status // 100}xx" if status is not None else "answers/none"] += 1
        if status is not None:
            self.observe("first_byte", seconds)

    def follow(self, source: Callable[[], Mapping[str, float]]) -> None:
        """Count by what ``source`` tells from now on: fields with numbers that only grow."""
        self._sources.append(source)

    def part(self) -> Part | None:
        """Return what Redis should be told now: what it may not have heard, or all that is new; None for nothing."""
        followed = [source() for source in self._sources]  # outside of the lock: they have locks of their own
        with self._lock:
            for told in followed:
                for name, number in told.items():
                    self._new[name] += max(0.0, number - self._read.get(name, 0.0))  # type: ignore[assignment]
                    self._read[name] = number
            if self._part is None:
                counts = {name: number for name, number in self._new.items() if number}
                self._new.clear()
                if not counts:
                    return None
                self._parts += 1
                self._part = Part(self._parts, counts)
            return self._part

    def has(self, part: Part) -> None:
        """Note that Redis has it."""
        if self._part is part:
            self._part = None

    def _fields(self, stat: str) -> tuple[str, ...]:
        """Return what a stat counts towards."""
        if (known := self._by_stat.get(stat)) is not None:
            return known
        name = stat.removeprefix(_OURS)
        field, also = self._field(name), ALSO.get(name)
        found = tuple(one for one in (field, also) if one is not None)
        if field is None or not field.endswith(f"/{OTHER}"):  # of those there is no end
            self._by_stat[stat] = found
        return found

    def _field(self, name: str) -> str | None:
        source, _, value = name.partition("/")
        metric = COUNTED.get(source)
        if metric is None or bool(value) != bool(metric.labels):
            return None
        if not value:
            return source
        known = self._values.setdefault(source, set())
        if value not in known:
            if not is_label(value) or len(known) >= MOST_VALUES:
                return f"{source}/{OTHER}"
            known.add(value)
        return name
