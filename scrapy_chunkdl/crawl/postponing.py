"""Items with which nothing is wrong, but that have to wait: for a host that is ill, for room on a disk, or for
another day's budget.

Says of a claimed item whether its files may be asked for now, and what is done with one whose files could not be had
for no fault of theirs. Knows items, hosts and the disk; nothing of Lua or HTTP. The consumer calls it, on Scrapy's
thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.crawl.budget import Over
from scrapy_chunkdl.crawl.budget_watch import SHORT_S, BudgetWatch, name_of
from scrapy_chunkdl.crawl.claimed import ClaimedItem, Event, State
from scrapy_chunkdl.crawl.disk_gate import DiskGate
from scrapy_chunkdl.crawl.host_watch import HostWatch
from scrapy_chunkdl.crawl.settling import Settling
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.download import HostIll, NoRoom, Postponed
from scrapy_chunkdl.settings.budget import ALL

SUSPECT_HOST_DELAY_S = 3.0
"""Seconds until an item comes back that failed where its host may be about to fail for all."""


class Postponing:
    """Those of one process."""

    def __init__(
        self,
        settling: Settling,
        bridge: Bridge,
        disk: DiskGate,
        hosts: HostWatch,
        budget: BudgetWatch,
        stats: Stats,
    ) -> None:
        self._settling = settling
        self._bridge = bridge
        self._disk = disk
        self._hosts = hosts
        self._budget = budget
        self._stats = stats

    def submit(self, items: Sequence[ClaimedItem]) -> None:
        """Have the files of items downloaded, but for those that need a host which is left alone or over its budget."""
        if not self._budget.is_set:
            self._submit(items)
        elif items:
            self._budget.reserve([_jobs_of(item) for item in items], lambda: self._begin(items))

    def _begin(self, items: Sequence[ClaimedItem]) -> None:
        items = [item for item in items if item.state is State.DOWNLOADING and item.files is not None]
        for item in items:
            if item.lost or self._hosts.is_over:
                self._settling.give_back(item, Event.STOPPED)
        self._submit([item for item in self._within_budget(items) if item.state is State.DOWNLOADING])

    def _within_budget(self, items: Sequence[ClaimedItem]) -> Iterator[ClaimedItem]:
        """Yield the items that may begin; the others wait for the next day or hour, or for what is under way."""
        begun: Counter[str] = Counter()
        wait: dict[str, tuple[Over, list[ClaimedItem]]] = {}
        for item in items:
            over = self._budget.over(_jobs_of(item), begun) if item.state is State.DOWNLOADING else None
            if over is None:
                yield item
                begun.update(self._budget.need_of(_jobs_of(item)))
            elif over.who == ALL:
                item.files = None
                self._settling.postpone(item, Event.POSTPONED, SHORT_S)
            else:
                wait.setdefault(over.who, (over, []))[1].append(item)
        for over, waiting in wait.values():
            self._settling.park(waiting, name_of(over), self._budget.wait_s(over))

    def _submit(self, items: Sequence[ClaimedItem]) -> None:
        wait: dict[str, list[ClaimedItem]] = {}
        go_on: list[ClaimedItem] = []
        for item in items:
            jobs = item.files.jobs if item.files is not None else []
            host = self._hosts.ill(job.host for job in jobs if not job.request.mirrors)
            if host is None:
                go_on.append(item)
            else:
                wait.setdefault(host, []).append(item)
        self._bridge.submit(job for item in go_on if item.files for job in item.files.jobs)
        for host, ill in wait.items():
            self._wait_for(host, ill)

    def _wait_for(self, host: str, items: Sequence[ClaimedItem]) -> None:
        """Park items until their host serves again; one of them tries it, if it is time."""
        first = items[0]

        def go_on() -> None:
            if first.state is not State.DOWNLOADING or first.files is None:
                return
            if first.lost or self._hosts.is_over:
                self._settling.give_back(first, Event.STOPPED)
            else:
                self._bridge.submit(first.files.jobs)

        def wait(wait_s: float) -> None:
            if first.state is State.DOWNLOADING:
                self._settling.park([first], host, wait_s)

        rest = items[self._hosts.try_one(host, go_on, wait) :]
        if rest:
            self._settling.park(rest, host, self._hosts.wait_s(host))

    def postpone(self, item: ClaimedItem, why: Sequence[Postponed]) -> None:
        """Give back an item whose files have to wait."""
        for problem in why:
            self._stats.inc_value(f"chunkdl/postponed/{problem.reason}")
            if isinstance(problem, NoRoom):
                self._disk.refused(problem)
        if (host := self._hosts.ill(problem.host for problem in why if isinstance(problem, HostIll))) is not None:
            self._settling.park([item], host, self._hosts.wait_s(host))
            return
        is_full = any(isinstance(problem, NoRoom) for problem in why)
        self._settling.postpone(item, Event.POSTPONED, self._disk.delay_s if is_full else SUSPECT_HOST_DELAY_S)


def _jobs_of(item: ClaimedItem) -> list[Job]:
    return item.files.jobs if item.files is not None else []
