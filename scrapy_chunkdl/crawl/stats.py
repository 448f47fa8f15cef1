"""What is counted, on a collector that is the project's (STATS_CLASS): what it refuses must not cost an item.

Counts are gathered here and handed over together, a few times a second and before the spider may go idle or close: one
addition to Scrapy's collector takes 4 µs, to one in Redis a round trip, and a file has ten of them.
scrapy-redis' RedisStatsCollector adds integers only and reads every value back as one, so seconds are summed up here
and set. Other values go through as they are. Whoever counts something calls it, on Scrapy's thread.
"""

from __future__ import annotations

import time

from scrapy.statscollectors import StatsCollector

from scrapy_chunkdl.crawl.guard import Guard
from scrapy_chunkdl.progress.run_report import RunReport
from scrapy_chunkdl.queue.recent import Finished
from scrapy_chunkdl.queue.tally import Tally


class Stats:
    """Sets the stats of one crawl.

    ``tally`` counts for all processes, ``finished`` has the last files, ``report`` what the whole run did.
    """

    def __init__(self, collector: StatsCollector) -> None:
        self.tally = Tally()
        self.finished = Finished()
        self.report = RunReport(time.time())
        self._collector = collector
        self._add = collector.inc_value  # looked up once: Scrapy's collectors ask for themselves at each look
        self._guard = Guard("A stat of the downloads")
        self._new: dict[str, float] = {}
        self._observed: list[tuple[str, float, str]] = []
        self._told_of: set[str] = set()
        self._sums: dict[str, float] = {}
        self._most: dict[str, float] = {}

    def inc_value(self, name: str, count: float = 1) -> None:
        """Add to a stat. It is seen after the next :meth:`hand_over`."""
        self._new[name] = self._new.get(name, 0) + count

    def observe(self, source: str, seconds: float, label: str = "") -> None:
        """Note a time for the histograms of all processes, as :meth:`.Tally.observe` does."""
        self._observed.append((source, seconds, label))

    def hand_over(self) -> None:
        """Have the collector, and the totals of all processes, get what was counted."""
        new, self._new = self._new, {}
        observed, self._observed = self._observed, []
        self.tally.add(new, observed)
        for name, count in new.items():
            if not count and name in self._told_of:
                continue
            self._told_of.add(name)
            if isinstance(count, int):
                self._guard(self._add, name, count)
            else:
                self._sums[name] = self._sums.get(name, 0.0) + count
                self._guard(self._collector.set_value, name, self._sums[name])

    def max_value(self, name: str, value: float) -> None:
        """Set a stat to ``value`` if that is more than it was."""
        if name not in self._most or value > self._most[name]:
            self._most[name] = value
            self._guard(self._collector.set_value, name, value)

    def set_value(self, name: str, value: float) -> None:
        """Set a stat."""
        self._guard(self._collector.set_value, name, value)
