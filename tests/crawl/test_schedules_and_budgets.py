"""What is over its budget, or in a pause of the schedule, waits uncounted, says why, and goes on by itself."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from origin import Origin
from patience import HANG
from project import Project, attachment, item
from queued_files import LIST, SIZE, done, push
from servers import wait_for

PARKED, DELAYED, LEASES = (f"{{{LIST}}}:{name}" for name in ("parked", "delayed", "leases"))

QUICK = """
from pathlib import Path

from scrapy_chunkdl.crawl import budget_watch, schedule
from scrapy_chunkdl.queue import heartbeat

budget_watch.TELL_EVERY_S = budget_watch.TELL_SOON_S = 0.2
budget_watch.SHORT_S = 0.3
heartbeat.REPORT_EVERY = 0.2
if Path("clock").exists():
    schedule.ScheduleGate.__init__.__defaults__ = (lambda: float(Path("clock").read_text()),)
"""

SHORT_PERIODS = """
from scrapy_chunkdl.crawl import budget

budget.PERIODS_S = {"day": 3, "hour": 2}
"""


@pytest.fixture
def other() -> Iterator[Origin]:
    """A second host."""
    with Origin() as origin:
        yield origin


@pytest.fixture
def quick(project: Project) -> Project:
    project.support = QUICK
    project.settings |= {"CHUNKDL_MAX_DELIVERIES": 1, "CHUNKDL_DONE_KEY": "done", "CHUNKDL_ON_FAILURE": "hold"}
    return project


FEW = 60
"""Items of the host that has a budget: more than are under way at once."""


def host_of(origin: Origin) -> str:
    return origin.url("", 0).split("/")[2]


def used(client: redis.Redis) -> int:
    return sum(map(int, client.hvals(f"{{chunkdl}}:budget day {client.time()[0] // 86400}")))


def a_day_passes(client: redis.Redis, least: int) -> None:
    """Begin with nothing used again, once all that was used is told: ``least``."""
    wait_for(lambda: used(client) >= least, "it never came")
    client.delete(f"{{chunkdl}}:budget day {client.time()[0] // 86400}")


def waits(project: Project) -> list[str]:
    [told] = json.loads(project.command("chunkdl", "status", "files", "--json").stdout)["spiders"]
    return [sentence for worker in told["workers"] for sentence in worker["waits"]]


def had(project: Project) -> list[str]:
    """Return the sentences of what is used up, once a process tells one: before, what is left may be under way."""
    told: list[str] = []
    wait_for(lambda: bool(told.extend(one for one in waits(project) if " had the " in one) or told), "it never came")
    return told


@pytest.mark.long
@pytest.mark.parametrize("limit", [{"files_per_day": 4}, {"bytes_per_day": 4 * SIZE}])
def test_items_of_a_host_that_is_over_its_budget_are_parked_until_the_next_day(
    quick: Project, origin: Origin, other: Origin, client: redis.Redis, limit: dict[str, int]
) -> None:
    quick.settings |= {"CHUNKDL_BUDGET": {host_of(origin): limit}, "CHUNKDL_BATCH_SIZE": 4, "CHUNKDL_THREADS": 1}
    push(client, origin, range(FEW), "few")
    push(client, other, range(30), "many")
    process = quick.begin("chunkdl", "worker", "files", "--until-empty")
    wait_for(lambda: done(client, "many") == 30 and used(client) >= next(iter(limit.values())), "it never came")
    wait_for(lambda: client.zcard(PARKED) == FEW - done(client, "few"), "it never came")
    first, told = done(client, "few"), had(quick)

    while done(client, "few") < FEW:
        a_day_passes(client, least=next(iter(limit.values())))
        wait_for(lambda: done(client, "few") == FEW or used(client) >= next(iter(limit.values())), "it never came")
    log, _ = process.communicate(timeout=HANG)

    assert first in ((4,) if "files_per_day" in limit else (4, 5))  # how large a file is is known when it comes
    assert f"{host_of(origin)} had the" in told[0]
    assert f"(CHUNKDL_BUDGET, {next(iter(limit))}): its items wait until" in told[0]
    assert told[0].endswith("00:00 UTC")
    assert client.llen("{files:items}:failed") == client.llen("{files:items}:dead") == 0
    assert process.returncode == 0, log
    assert "Items of files:items wait." in log or "Nothing is given up for it." in log


@pytest.mark.long
@pytest.mark.parametrize(
    ("limit", "files"), [({"files_per_day": 10}, (10, 10)), ({"bytes_per_day": 10 * SIZE}, (10, 11))]
)
def test_nothing_is_claimed_when_all_hosts_together_are_over_their_budget_which_three_processes_keep(
    quick: Project,
    origin: Origin,
    other: Origin,
    client: redis.Redis,
    limit: dict[str, int],
    files: tuple[int, int],
) -> None:
    [(name, most)] = limit.items()
    quick.settings |= {"CHUNKDL_BUDGET": {"*": limit}}
    push(client, origin, range(12), "a")
    push(client, other, range(12), "b")
    workers = [quick.begin("chunkdl", "worker", "files", "--until-empty") for _ in range(3)]
    wait_for(lambda: client.llen("done") >= 10, "it never came")
    wait_for(lambda: used(client) >= most, "it never came")
    first, told = client.llen("done"), had(quick)

    while client.llen("done") < 24:
        a_day_passes(client, least=most)
        wait_for(lambda: client.llen("done") == 24 or used(client) >= most, "it never came")
    logs = [worker.communicate(timeout=HANG)[0] for worker in workers]

    assert files[0] <= first <= files[1]
    assert "All hosts together had the" in told[0]
    assert f"of this day (CHUNKDL_BUDGET, {name})" in told[0]
    assert ": nothing is claimed until" in told[0]
    assert client.llen("done") == 24
    assert client.llen("{files:items}:failed") == client.llen("{files:items}:dead") == 0
    assert [worker.returncode for worker in workers] == [0, 0, 0], logs


def test_without_the_setting_what_was_parked_for_a_budget_comes_out(
    quick: Project, origin: Origin, client: redis.Redis
) -> None:
    push(client, origin, range(6), "a")
    quick.settings |= {"CHUNKDL_BUDGET": {"*.0.0.1": {"files_per_day": 2}}}
    process = quick.begin("chunkdl", "worker", "files")
    wait_for(lambda: done(client, "a") == 2 and client.zcard(PARKED) == 4, "it never came")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=HANG)
    del quick.settings["CHUNKDL_BUDGET"]

    quick.crawl()

    assert done(client, "a") == 6


def test_a_pause_of_the_schedule_claims_nothing_and_a_rate_holds_while_it_is_in_force(
    quick: Project, origin: Origin, client: redis.Redis
) -> None:
    clock = quick.folder / "clock"
    quick.folder.mkdir(parents=True, exist_ok=True)
    clock.write_text("30600.0")  # 08:30 of a Thursday in 1970
    quick.settings["CHUNKDL_SCHEDULE"] = [
        {"from": "08:00", "to": "09:00", "zone": "UTC", "pause": True},
        {"from": "09:00", "to": "10:00", "zone": "UTC", "rate": 10_000_000},
    ]
    push(client, origin, range(5), "a")
    process = quick.begin("chunkdl", "worker", "files", "--until-empty")
    wait_for(lambda: client.hlen("{files:items}:workers") == 1 and bool(waits(quick)), "it never came")
    told, waiting = waits(quick), client.llen(LIST)

    clock.write_text("32400.0")
    log, _ = process.communicate(timeout=HANG)

    assert waiting == 5
    assert told == ["Nothing is claimed until 1970-01-01 09:00 UTC: a pause of CHUNKDL_SCHEDULE"]
    assert "Items of files:items wait. Nothing is claimed until 1970-01-01 09:00 UTC" in log
    assert "Files are fetched at most 10 MB/s now, until 1970-01-01 10:00 UTC (CHUNKDL_SCHEDULE)" in log
    assert done(client, "a") == 5
    assert process.returncode == 0


@pytest.mark.parametrize("held_up_by", ["schedule", "budget"])
def test_a_worker_that_may_claim_nothing_ends_where_nothing_waits(
    quick: Project, client: redis.Redis, held_up_by: str
) -> None:
    setting = {
        "schedule": {"CHUNKDL_SCHEDULE": [{"pause": True}]},
        "budget": {"CHUNKDL_BUDGET": {"*": {"files_per_day": 1}}},
    }[held_up_by]
    quick.settings |= setting
    now = client.time()[0]
    client.hset(f"{{chunkdl}}:budget day {now // 86400}", "files *", 1)

    process = quick.begin("chunkdl", "worker", "files", "--until-empty")
    log, _ = process.communicate(timeout=HANG)

    assert process.returncode == 0, log


def test_in_inline_mode_budgets_are_of_the_process_and_items_wait_in_the_pipeline(
    quick: Project, origin: Origin, other: Origin
) -> None:
    quick.support += SHORT_PERIODS
    del quick.settings["CHUNKDL_DONE_KEY"], quick.settings["CHUNKDL_ON_FAILURE"]
    quick.settings |= {"CHUNKDL_MODE": "inline", "CHUNKDL_BUDGET": {host_of(origin): {"files_per_day": 2}}}
    quick.items = [item(attachment(origin.url(f"a{n}.bin", SIZE), f"a{n}.bin"), n=n) for n in range(5)]
    quick.items += [item(attachment(other.url(f"b{n}.bin", SIZE), f"b{n}.bin"), n=n) for n in range(5, 9)]

    crawl = quick.crawl()

    assert sorted(found["n"] for found in quick.scraped()) == list(range(9))
    assert crawl.stats["chunkdl/files/downloaded"] == 9
    assert "chunkdl/files/failed" not in crawl.stats
    assert f"{host_of(origin)} had the 2 files of this day (CHUNKDL_BUDGET, files_per_day)" in crawl.log


def test_in_inline_mode_items_wait_for_the_end_of_a_pause(quick: Project, origin: Origin) -> None:
    clock: Path = quick.folder / "clock"
    quick.folder.mkdir(parents=True, exist_ok=True)
    clock.write_text("30600.0")
    quick.settings |= {"CHUNKDL_MODE": "inline", "CHUNKDL_ON_FAILURE": "continue", "CHUNKDL_DONE_KEY": None}
    quick.settings["CHUNKDL_SCHEDULE"] = [{"from": "08:00", "to": "09:00", "zone": "UTC", "pause": True}]
    quick.items = [item(attachment(origin.url(f"a{n}.bin", SIZE), f"a{n}.bin"), n=n) for n in range(3)]
    process = quick.start()
    log = ""
    assert process.stdout is not None
    while "3 items wait for their files. Nothing is claimed until 1970-01-01 09:00 UTC" not in log:
        line = process.stdout.readline()
        assert line, log
        log += line

    clock.write_text("32400.0")
    rest, _ = process.communicate(timeout=HANG)

    assert sorted(found["n"] for found in quick.scraped()) == [0, 1, 2], log + rest
