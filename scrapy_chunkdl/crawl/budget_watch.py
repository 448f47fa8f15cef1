"""Keeps one process to the budgets: counts what comes, asks what others used, and says who has to wait, and why.

Told to Redis every five seconds while something comes, once a second while only a share is used up; asked about before
the first file of a host in a period. Items of a host without budget are parked under its name with :data:`MARK`, apart
from those that wait for a host that is ill, and let out by whoever finds that there is room again. Knows hosts, jobs
and the bridge; not whether counts are kept in Redis (queue mode) or here (inline mode). On Scrapy's thread.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.crawl.budget import Budget, Over
from scrapy_chunkdl.queue.budgets import Asked, Count, Used
from scrapy_chunkdl.queue.item_queue import parked_under
from scrapy_chunkdl.settings.budget import ALL

logger = logging.getLogger(__name__)

MARK = "@budget"

TELL_EVERY_S = 5.0
TELL_SOON_S = 1.0
"""Seconds between two words to Redis: while something comes, and while items wait for a share that may grow."""

_UNKNOWN_BYTES = 1 << 50
"""What a file is taken to need as long as none has come: it is asked for while no other is."""

SHORT_S = 2.0
"""Seconds until an item comes back that found all that is left under way."""

MOST_HOSTS_ASKED = 500
MOST_HOSTS_TOLD = 3
MOST_LINES = 20
"""Lines of the log about hosts that are over their budget: a crawl of many hosts would tell of nothing else."""


class Counts(Protocol):
    """Where counts are kept."""

    def tell(self, part: int, spent: Mapping[Count, int], asked: list[Asked], largest: int = 0) -> Used:
        """Add what was spent, once for each ``part``, and set aside what is asked for; return how that stands."""

    def leave(self, parts: list[tuple[int, Mapping[Count, int]]]) -> None:
        """Add what was spent last; nothing is set aside any more."""


class BudgetWatch:
    """One process's. ``ask`` makes a call where it may block, and hands the answer on.

    ``begun`` gives the jobs of all items that are not settled. ``parked`` and ``let_out`` are the queue's.
    """

    def __init__(
        self,
        budget: Budget,
        counts: Counts,
        bridge: Bridge,
        ask: Callable[[Callable[[], Any], Callable[[Any], None]], object],
        begun: Callable[[], Iterable[Job]],
        parked: Callable[[], Collection[str]] = list,
        let_out: Callable[[str], object] = lambda name: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget = budget
        self._counts = counts
        self._bridge = bridge
        self._ask = ask
        self._begun = begun
        self._parked = parked
        self._let_out = let_out
        self._clock = clock
        self._fetched: dict[str, int] = {}
        self._reserving: list[tuple[Counter[str], Mapping[str, int]]] = []
        self._largest = 0
        self._over: dict[str, Over] = {}
        self._asks = False
        self._told_at = float("-inf")
        self._lines = 0

    @property
    def is_set(self) -> bool:
        """Whether there is any budget."""
        return self._budget.is_set

    # --- what came

    def finished(self, jobs: Iterable[Job]) -> None:
        """Count the files of an item that is done with its downloads."""
        if self._budget.is_set:
            for job in jobs:
                if job.result is not None and job.result.status == "downloaded":
                    self._budget.spend(job.host, "files", 1)
                    self._largest = max(self._largest, job.result.size)

    def _count_bytes(self) -> None:
        if not self._budget.counts_bytes:
            return
        fetched = {host: number for host, (number, _) in self._bridge.hosts().items()}
        for host, number in fetched.items():
            before = self._fetched.get(host, 0)
            if new := number - before if number >= before else number:  # less: it was forgotten meanwhile
                self._budget.spend(host, "bytes", new)
        self._fetched = fetched

    # --- who may begin

    def when_known(self, hosts: Iterable[str], go_on: Callable[[], None]) -> None:
        """Call ``go_on`` once it is known how much hosts have left: at once, as a rule."""
        unknown = {host for host in hosts if not self._budget.knows(host)} if self._budget.is_set else set()
        if not unknown:
            go_on()
        else:
            self._tell(unknown, go_on)

    def reserve(self, items: Sequence[Sequence[Job]], go_on: Callable[[], None]) -> None:
        """Have set aside what the files of some items will be counted with, as far as it is there; then ``go_on``.

        :meth:`over` tells of each item whether it may begin.
        """
        hosts = {job.host for jobs in items for job in jobs}

        def ask() -> None:
            needs = [self.need_of(jobs) for jobs in items]
            new: Counter[str] = sum(needs, Counter())
            asks = new, {field: next(need[field] for need in needs if need[field]) for field in new}
            self._reserving.append(asks)

            def reserved() -> None:
                self._reserving.remove(asks)
                if [self.need_of(jobs) for jobs in items] != needs:
                    ask()  # sizes are known now: what was given was for others
                else:
                    go_on()

            self._tell(hosts, reserved)

        self.when_known(hosts, ask)

    def need_of(self, jobs: Iterable[Job]) -> Counter[str]:
        """Return what an item will be counted with whose files have not begun."""
        return sum((self._expected(job) for job in jobs), Counter())

    def over(self, jobs: Sequence[Job], also: Mapping[str, int] = {}) -> Over | None:
        """Return what keeps an item with these files from beginning; ``also`` is under way besides what has begun."""
        if not self._budget.is_set:
            return None
        self._count_bytes()
        under_way = self._under_way()
        under_way.update(also)
        need = self.need_of(jobs)
        for host in dict.fromkeys(job.host for job in jobs):
            if (over := self._budget.over(host, under_way, need)) is not None:
                self._note(over)
                return over
        return None

    def room(self, wanted: int) -> int:
        """Return how many items may be claimed where ``wanted`` could be."""
        if not self._budget.is_set or not wanted:
            return wanted
        under_way = self._under_way()
        if (over := self._budget.over(ALL, under_way)) is not None:
            if self._budget.knows(ALL):
                self._note(over)
            return 0
        if self._over.pop(ALL, None) is not None:
            logger.info("There is a budget again: claiming goes on.")
        left = self._budget.left_files(under_way)
        return wanted if left is None else min(wanted, left)

    def wait_s(self, over: Over) -> float:
        """Return the seconds after which it is worth to look again."""
        return self._budget.seconds_until(over) if over.is_used_up else SHORT_S

    def _under_way(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for job in self._begun():
            if job.run is not None or job.is_done:
                found.update(self._expected(job))
        return found

    def _expected(self, job: Job) -> Counter[str]:
        """Return what a file will still be counted with: itself, and what it has to fetch, or may have to.

        Under the names of its host and of all.
        """
        progress, bytes_left = job.progress, 0
        if self._budget.counts_bytes and not job.is_done:
            size = progress.size if progress.size is not None else self._largest or _UNKNOWN_BYTES
            bytes_left = max(0, size - progress.done)
        return Counter(
            {
                f"{what} {who}": number
                for what, number in (("files", 1), ("bytes", bytes_left))
                for who in (ALL, job.host)
            }
        )

    def _note(self, over: Over) -> None:
        before = self._over.get(over.who)
        self._over[over.who] = over
        if over.is_used_up and (before is None or not before.is_used_up) and self._lines < MOST_LINES:
            self._lines += 1
            logger.info("%s. Nothing is given up for it.", over.sentence())

    # --- now and then

    def tick(self, parked: int = 0) -> None:
        """Count, and tell and ask if it is time. ``parked`` items wait for hosts. Called a few times a second."""
        if not self._budget.is_set or self._asks:
            return
        waits = bool(parked or self._over)
        every_s, begun = TELL_EVERY_S, self._under_way()
        if not self._budget.knows(ALL) or any(not over.is_used_up for over in self._over.values()):
            every_s = TELL_SOON_S
        if self._clock() - self._told_at < every_s:
            return
        self._count_bytes()
        if waits or begun or self._budget.has_news or not self._budget.knows(ALL):
            self._tell((), lambda: None, looks_at_parked=bool(parked))

    def waits(self) -> list[str]:
        """Return who waits and why, a sentence each. Called from any thread."""
        known = sorted(self._over.copy().values(), key=lambda over: over.who)
        hosts = [over.sentence() for over in known if over.who != ALL]
        if len(hosts) > MOST_HOSTS_TOLD:
            hosts[MOST_HOSTS_TOLD:] = [f"So do {len(hosts) - MOST_HOSTS_TOLD} other hosts (CHUNKDL_BUDGET)"]
        return [*(over.sentence() for over in known if over.who == ALL), *hosts]

    def _tell(self, hosts: Collection[str], then: Callable[[], None], *, looks_at_parked: bool = False) -> None:
        self._asks, self._told_at = True, self._clock()
        self._count_bytes()
        part, spent = self._budget.part()
        begun = [job for job in self._begun() if job.run is not None or job.is_done]
        under_way: Counter[str] = sum(map(self._expected, begun), Counter())
        new: Counter[str] = sum((one for one, _ in self._reserving), Counter())
        first = {field: number for _, firsts in reversed(self._reserving) for field, number in firsts.items()}
        largest = self._largest
        about = [*hosts, *(host for host in self._over if host != ALL)][:MOST_HOSTS_ASKED]
        about += [host for host in {field.partition(" ")[2] for _, field in spent} if host != ALL]
        about += [host for host in {field.partition(" ")[2] for field in (*under_way, *new)} if host != ALL]

        def tell() -> tuple[Used, list[str]]:
            names = [name for name in self._parked() if name.endswith(MARK)] if looks_at_parked else []
            hosts = [*about, *(name.removesuffix(MARK) for name in names[:MOST_HOSTS_ASKED])]
            asked = self._budget.asked(hosts, under_way, new, first)
            return self._counts.tell(part, spent, asked, largest), names[:MOST_HOSTS_ASKED]

        def told(answer: tuple[Used, list[str]]) -> None:
            used, names = answer
            self._asks = False
            self._largest = max(self._largest, used.largest)
            self._budget.told(part, used)
            self._look_again(names)
            then()

        self._ask(tell, told)

    def _look_again(self, names: Iterable[str]) -> None:
        """See which hosts have something left, by what is known now: their items come out again."""
        under_way = self._under_way()
        for who in [who for who in self._over if who != ALL]:
            if self._budget.over(who, under_way) is None:
                del self._over[who]
        for name in names:
            host = name.removesuffix(MARK)
            over = self._budget.over(host, under_way)
            if over is None:
                self._ask(partial(self._let_out, name), lambda _: None)
            elif over.who != ALL:
                self._note(over)

    def leave(self) -> None:
        """Tell what came last, and let go of what is set aside: nothing begins any more."""
        if self._budget.is_set:
            self._count_bytes()
            parts = self._budget.last_parts()
            self._ask(lambda: self._counts.leave(parts), lambda _: None)


def name_of(over: Over) -> str:
    """Return what items of a host without budget are parked under."""
    return parked_under(over.who) + MARK
