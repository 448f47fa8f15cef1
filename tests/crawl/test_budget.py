"""Budgets by a clock that is set: what is left, for whom, and until when is waited."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clocks import Clock

from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.crawl.budget import Budget, LocalBudgets, Over
from scrapy_chunkdl.crawl.budget_watch import BudgetWatch
from scrapy_chunkdl.download import FileRequest, FileResult
from scrapy_chunkdl.settings.budget import budget

DAY, HOUR = 86400, 3600
GOV, ORG = "files.gov:443", "b.org:80"
NOTHING: Counter[str] = Counter()


class Ledger:
    """A budget with counts of its own, and a clock that stands at noon of a day."""

    def __init__(self, limits: dict[str, dict[str, int]]) -> None:
        self.clock = Clock()
        self.clock.now = 20_000 * DAY + 12 * HOUR
        self.budget = Budget(budget(limits), self.clock)
        self.counts = LocalBudgets(self.clock)

    def tell(self, *hosts: str, others: int = 0) -> None:
        part, spent = self.budget.part()
        used = self.counts.tell(part, spent, self.budget.asked(hosts))
        counts = {count: stands._replace(others=others) for count, stands in used.counts.items()}
        self.budget.told(part, replace(used, counts=counts))

    def reserve(self, under_way: Counter[str], new: Counter[str], first: Counter[str], *hosts: str) -> None:
        part, spent = self.budget.part()
        self.budget.told(part, self.counts.tell(part, spent, self.budget.asked(hosts, under_way, new, first)))

    def over(self, host: str, under_way: Counter[str] = NOTHING) -> Over | None:
        return self.budget.over(host, under_way)


@pytest.mark.parametrize(
    ("limits", "spent", "over"),
    [
        ({"*": {"files_per_day": 3}}, {GOV: 2, ORG: 1}, {GOV: "*", ORG: "*"}),
        ({"*": {"files_per_day": 4}}, {GOV: 2, ORG: 1}, {GOV: None, ORG: None}),
        ({"*.gov": {"files_per_day": 2}}, {GOV: 2, ORG: 9}, {GOV: GOV, ORG: None}),
        ({"*.gov": {"files_per_day": 2}}, {GOV: 1, "c.gov:80": 1}, {GOV: None, "c.gov:80": None}),
        ({"b.org:80": {"files_per_hour": 1}}, {ORG: 1}, {ORG: ORG, "b.org:8080": None}),
        ({"?*": {"files_per_day": 1}}, {GOV: 1}, {GOV: GOV, ORG: None}),
        ({"b.*": {"files_per_day": 9}, "*.org": {"files_per_day": 1}}, {ORG: 5}, {ORG: None}),
        ({"b.*": {"files_per_day": 9}, "*.org": {"files_per_hour": 1}}, {ORG: 5}, {ORG: ORG}),
        ({"*": {"files_per_day": 9}, "*.gov": {"files_per_day": 1}}, {GOV: 1}, {GOV: GOV, ORG: None}),
    ],
)
def test_a_budget_is_of_each_host_that_fits_and_the_star_of_all_together(
    limits: dict[str, dict[str, int]], spent: dict[str, int], over: dict[str, str | None]
) -> None:
    ledger = Ledger(limits)
    for host, files in spent.items():
        ledger.budget.spend(host, "files", files)
    ledger.tell(*spent, *over)

    found = {host: ledger.over(host) for host in over}

    assert {host: one.who if one is not None else None for host, one in found.items()} == over
    assert all(one is None or one.is_used_up for one in found.values())


@pytest.mark.parametrize(("period", "seconds"), [("day", DAY), ("hour", HOUR)])
def test_what_is_used_up_goes_on_in_the_next_period_and_not_before(period: str, seconds: int) -> None:
    ledger = Ledger({"*.gov": {f"bytes_per_{period}": 10}})
    ledger.tell(GOV)
    ledger.budget.spend(GOV, "bytes", 25)
    ledger.tell(GOV)
    over = ledger.over(GOV)
    assert over is not None

    ledger.clock.now = over.until - 1
    ledger.tell(GOV)
    before = ledger.over(GOV)
    ledger.clock.now = over.until
    unknown = ledger.budget.knows(GOV)
    ledger.tell(GOV)

    assert over.until % seconds == 0
    assert (before, unknown, ledger.over(GOV)) == (over, False, None)


def test_what_is_not_told_yet_and_what_is_under_way_counts() -> None:
    ledger = Ledger({"*.gov": {"files_per_day": 5}})
    ledger.tell(GOV)
    ledger.budget.spend(GOV, "files", 2)
    ledger.budget.part()
    ledger.budget.spend(GOV, "files", 1)

    assert ledger.over(GOV, Counter({f"files {GOV}": 1})) is None
    short = ledger.over(GOV, Counter({f"files {GOV}": 2}))
    assert short is not None
    assert not short.is_used_up
    assert "is under way (CHUNKDL_BUDGET, files_per_day)" in short.sentence()


@pytest.mark.parametrize(("others", "mine"), [(0, 10), (3, 7), (10, 0), (12, 0)])
def test_what_others_have_set_aside_is_not_claimed_for(others: int, mine: int) -> None:
    ledger = Ledger({"*": {"files_per_day": 10}})
    ledger.tell(others=others)

    assert ledger.budget.left_files(NOTHING) == mine


@pytest.mark.parametrize(
    ("limit", "used", "under_way", "new", "first", "may"),
    [
        ({"files_per_day": 5}, 0, 0, 5, 1, 5),
        ({"files_per_day": 5}, 3, 1, 4, 1, 1),
        ({"files_per_day": 5}, 3, 2, 4, 1, 0),
        ({"files_per_day": 5}, 4, 0, 3, 3, 1),
        ({"files_per_day": 2}, 0, 0, 3, 3, 3),
        ({"files_per_day": 2}, 0, 1, 3, 3, 1),
        ({"bytes_per_day": 1000}, 0, 0, 900, 300, 900),
        ({"bytes_per_day": 1000}, 400, 300, 900, 300, 300),
        ({"bytes_per_day": 1000}, 900, 0, 900, 300, 300),
        ({"bytes_per_day": 1000}, 900, 50, 900, 300, 50),
        ({"bytes_per_day": 1000}, 1000, 0, 900, 300, 0),
    ],
)
def test_a_file_begins_only_where_its_part_is_set_aside_and_one_may_pass_what_is_left_where_none_is_under_way(
    limit: dict[str, int], used: int, under_way: int, new: int, first: int, may: int
) -> None:
    ledger, what = Ledger({"*.gov": limit}), next(iter(limit)).partition("_")[0]
    ledger.budget.spend(GOV, what, used)
    running = Counter({f"{what} {GOV}": under_way})

    ledger.reserve(running, Counter({f"{what} {GOV}": new}), Counter({f"{what} {GOV}": first}), GOV)

    def over(needs: int) -> Over | None:
        return ledger.budget.over(GOV, running, Counter({f"{what} {GOV}": needs}))

    assert may == 0 or over(may) is None
    assert over(may + 1) is not None


def test_nothing_begins_where_it_is_not_known_what_is_used() -> None:
    ledger = Ledger({"*.gov": {"files_per_day": 5}})

    over = ledger.over(GOV)

    assert over is not None
    assert not over.is_used_up
    assert not ledger.budget.knows(GOV)
    assert ledger.budget.knows(ORG)


def test_an_answer_to_an_earlier_part_does_not_settle_a_later_one() -> None:
    ledger = Ledger({"*": {"files_per_day": 5}})
    ledger.budget.spend(ORG, "files", 1)
    first, spent = ledger.budget.part()
    used = ledger.counts.tell(first, spent, ledger.budget.asked([]))
    ledger.budget.told(first, used)
    ledger.budget.spend(ORG, "files", 3)
    second, _ = ledger.budget.part()
    ledger.budget.told(first, used)  # it was asked twice

    assert second == first + 1
    assert ledger.budget.left_files(NOTHING) == 1


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (
            {"*": {"bytes_per_day": 50_000_000_000}},
            "All hosts together had the 50.00 GB of this day (CHUNKDL_BUDGET, bytes_per_day): nothing is claimed until "
            "2024-10-05 00:00 UTC",
        ),
        (
            {"*.gov": {"files_per_hour": 1000}},
            "files.gov:443 had the 1000 files of this hour (CHUNKDL_BUDGET, files_per_hour): its items wait until "
            "2024-10-04 13:00 UTC",
        ),
    ],
)
def test_a_person_is_told_what_is_used_up_and_until_when_is_waited(
    limits: dict[str, dict[str, int]], sentence: str
) -> None:
    ledger = Ledger(limits)
    ledger.budget.spend(GOV, "bytes", 10**11)
    ledger.budget.spend(GOV, "files", 1000)
    ledger.tell(GOV)

    over = ledger.over(GOV)

    assert over is not None
    assert over.sentence() == sentence


class NoHosts:
    """A bridge that nothing was fetched by."""

    def hosts(self) -> dict[str, tuple[int, dict[str, int]]]:
        return {}


def test_what_is_given_for_a_file_of_any_size_does_not_let_others_begin_once_sizes_are_known() -> None:
    waiting: deque[Callable[[], None]] = deque()

    def ask(call: Callable[[], Any], then: Callable[[Any], None]) -> None:
        answer = call()
        waiting.append(lambda: then(answer))

    clock = Clock()
    watch = BudgetWatch(
        Budget(budget({"*": {"bytes_per_day": 25}}), clock),
        LocalBudgets(clock),
        NoHosts(),  # type: ignore[arg-type]
        ask,
        begun=lambda: [],
    )
    items = [[job_of("http://b.org/a", None)] for _ in range(5)]
    begin: list[bool] = []

    def go_on() -> None:
        under_way: Counter[str] = Counter()
        for jobs in items:
            if watch.over(jobs, under_way) is None:
                begin.append(True)
                under_way.update(watch.need_of(jobs))

    watch.reserve(items, go_on)
    waiting.popleft()()  # how much is used; what is asked for now is for a file of any size
    watch.finished([job_of("http://b.org/b", 10)])
    while waiting:
        waiting.popleft()()

    assert len(begin) == 2


def job_of(url: str, size: int | None) -> Job:
    job = Job(FileRequest(url, Path()), on_done=lambda job: None)
    if size is not None:
        job.result = FileResult(url, url, Path("b"), size)
    return job
