"""The inline mode: an item waits in our pipeline until its files are there; nothing of it is in Redis.

Knows the files of items and the bridge; nothing of queues or of Scrapy's inside. The counterpart of the queue mode,
with the same verbs for the lifecycle and the intake, which call it on Scrapy's thread.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.crawl.backpressure import WAITS_TOLD_EVERY_S
from scrapy_chunkdl.crawl.budget import Budget, LocalBudgets
from scrapy_chunkdl.crawl.budget_watch import BudgetWatch
from scrapy_chunkdl.crawl.disk_gate import DiskGate
from scrapy_chunkdl.crawl.item_files import ItemFiles, NewItemFiles, Results
from scrapy_chunkdl.crawl.local_watch import LocalWatch
from scrapy_chunkdl.crawl.mode import Mode
from scrapy_chunkdl.crawl.schedule import ScheduleGate
from scrapy_chunkdl.crawl.traced import Tracing
from scrapy_chunkdl.download import HostIll, NoRoom

logger = logging.getLogger(__name__)

_Start = Callable[[], None]
"""Begins, or begins again, with an item that waited for room."""


class InlineMode(Mode):
    """The items whose pipelines wait for files."""

    fate = "their items go on without them"

    def __init__(
        self,
        bridge: Bridge,
        new_files: NewItemFiles,
        problem_of_type: Callable[[object], str | None],
        wake: Callable[[], None],
        disk: DiskGate,
        hosts: LocalWatch,
        schedule: ScheduleGate,
        budget: Budget,
        tracing: Tracing | None = None,
    ) -> None:
        self._bridge = bridge
        self._new_files = new_files
        self._problem_of_type = problem_of_type
        self._wake = wake
        self._disk = disk
        self._hosts = hosts
        self._parked: list[tuple[str, _Start]] = []
        self._schedule = schedule
        self._tracing = tracing
        self._items: set[ItemFiles] = set()
        self._budget = BudgetWatch(
            budget,
            LocalBudgets(),
            bridge,
            lambda call, then: then(call()),
            begun=lambda: (job for files in self._items for job in files.jobs),
        )
        self._waiting: deque[tuple[tuple[Job, ...], _Start]] = deque()
        self._told_waits_at = 0.0
        self._is_over = False
        self._may_be_idle = False

    def download(self, item: object) -> Deferred[Results]:
        """Download the files of one item. Fires when each is written back or given up.

        Raises ValueError when the item's type has no field for the results, and what hooks raise.
        """
        if (problem := self._problem_of_type(item)) is not None:
            raise ValueError(problem)
        fired: Deferred[Results] = Deferred()
        trace = self._tracing.scraped() if self._tracing is not None else None

        def settle(files: ItemFiles) -> None:
            files.strip()
            if trace is not None:
                trace.end("failed" if files.failed or files.unwritable else "finished", is_error=bool(files.failed))
            if (problem := files.unwritable or files.failed) is not None:
                fired.errback(problem)
            else:
                fired.callback(files.results())

        def done(files: ItemFiles) -> None:
            self._items.discard(files)
            self._budget.finished(files.jobs)
            self._may_be_idle = not self._items
            for problem in files.postponed:
                if isinstance(problem, NoRoom):
                    self._disk.refused(problem)
            if files.has_written and not files.postponed:
                self._disk.passed()
            if files.postponed and not self._is_over:
                host = self._hosts.ill(problem.host for problem in files.postponed if isinstance(problem, HostIll))
                if host is None:
                    self._waiting.append((self._jobs_of(files), start))
                else:
                    self._parked.append((host, start))
                return
            files.give_up_cancelled()
            files.give_up_postponed()
            settle(files)

        def start() -> None:
            begin(self._new_files(item, on_done=done, trace=trace))

        def begin(files: ItemFiles) -> None:
            if files.is_done:
                settle(files)
                return
            host = self._hosts.ill(job.host for job in files.jobs if not job.request.mirrors)
            if host is not None and not self._is_over and not self._hosts.try_one(host):
                self._parked.append((host, lambda: begin(files)))
                return
            self._items.add(files)
            self._bridge.submit(files.jobs)

        first = self._new_files(item, on_done=done, trace=trace)  # raises what hooks raise
        jobs = self._jobs_of(first)
        if first.is_done or self._may_begin(jobs):
            begin(first)
        else:
            self._waiting.append((jobs, lambda: begin(first)))
        return fired

    def _jobs_of(self, files: ItemFiles) -> tuple[Job, ...]:
        return tuple(files.jobs) if self._budget.is_set else ()

    def _may_begin(self, jobs: tuple[Job, ...]) -> bool:
        if self._schedule.is_paused or not self._disk.room(1, len(self._items)):
            return False
        if not jobs:
            return True
        self._budget.reserve([jobs], lambda: None)
        return self._budget.over(jobs) is None

    def tick(self) -> None:
        """Begin what waited for room; a tick after an item is done, have the engine look whether the spider is idle."""
        self._disk.tick(lambda: sum(job.progress.needs_bytes for job in self._bridge.jobs_running()))
        self._hosts.tick()
        for host in dict.fromkeys(host for host, _ in self._parked):
            self._let_out(host)
        self._schedule.tick()
        self._budget.tick(len(self._waiting))
        for _ in range(len(self._waiting)):
            jobs, start = self._waiting.popleft()
            if self._may_begin(jobs):
                start()
            else:
                self._waiting.append((jobs, start))
        if self._waiting and not self._items:
            self._tell_waits()
        if self._may_be_idle:
            self._may_be_idle = False
            self._wake()

    def _let_out(self, host: str) -> None:
        """Begin with what waits for a host: all, where it is waited for no longer, or else one item that tries it."""
        mine = [start for parked_for, start in self._parked if parked_for == host]
        if self._hosts.ill([host]) is not None:
            if not self._hosts.is_due(host):
                return
            del mine[1:]
        self._parked = [one for one in self._parked if one[1] not in mine]
        for start in mine:
            start()

    def _tell_waits(self) -> None:
        """Say now and then what a process waits for that does nothing else."""
        if time.monotonic() - self._told_waits_at < WAITS_TOLD_EVERY_S:
            return
        self._told_waits_at = time.monotonic()
        whys = [self._schedule.because, self._disk.because, *self._budget.waits()]
        for sentence in [why for why in whys if why is not None]:
            logger.info("%d items wait for their files. %s.", len(self._waiting), sentence)

    def items(self) -> Mapping[Job, object]:
        """Return which item each file belongs to."""
        return {job: files.item for files in self._items for job in files.jobs}

    def may_have_work(self) -> bool:
        """Whether items wait for their files."""
        return bool(self._items or self._waiting or self._parked)

    @property
    def downloading(self) -> int:
        """How many items have files that are not done."""
        return len(self._items) + len(self._waiting) + len(self._parked)

    def hand_back(self) -> None:
        """Stop the files that still run: their items have nowhere to go back to, they go on without."""
        self._is_over = True
        parked, self._parked = self._parked, []
        for _, start in parked:
            start()
        while self._waiting:
            _, start = self._waiting.popleft()
            start()
        for files in list(self._items):
            self._bridge.cancel(files.jobs)
