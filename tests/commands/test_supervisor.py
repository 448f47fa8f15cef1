"""``scrapy chunkdl worker --processes N``: several processes, one summary; signals, deaths and exit codes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest
import redis
from origin import Origin
from project import Project, attachment, item
from servers import wait_for

from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.status import look

pytestmark = pytest.mark.usefixtures("client")

WAITING, LEASES = "files:items", "{files:items}:leases"


def push(client: redis.Redis, origin: Origin, count: int, behaviour: str = "") -> None:
    names = (origin.url(f"{n}.bin", 5000, behaviour) for n in range(count))
    client.rpush(WAITING, *(json.dumps(item(attachment(url), n=n)) for n, url in enumerate(names)))


@pytest.fixture
def project(project: Project) -> Iterator[Project]:
    project.settings |= {"CHUNKDL_BATCH_SIZE": 1, "CHUNKDL_THREADS": 1}
    return project


def pids(client: redis.Redis) -> set[int]:
    """Return the processes that have told of themselves."""
    workers = look(ItemQueue(client, WAITING)).workers
    return {worker.pid for worker in workers if worker.pid is not None}


def test_processes_share_the_work_and_tell_one_summary(project: Project, origin: Origin, client: redis.Redis) -> None:
    push(client, origin, 6, "hold:gate:10@get")

    process = project.begin("chunkdl", "worker", "files", "--until-empty", "--processes", "2")
    wait_for(lambda: client.zcard(LEASES) == 2, "one process took all, or none any")
    origin.release("gate")
    done = project.finish(process)

    assert done.returncode == 0, done.log
    assert sorted(finished["n"] for finished in project.scraped()) == list(range(6))
    assert done.log.count("6 files done") == 1
    assert done.log.count("Downloads") == 1


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_that_dies_is_started_again_and_told(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.settings |= {"CHUNKDL_LEASE": 2}
    push(client, origin, 4, "hold:gate:10@get")

    process = project.begin("chunkdl", "worker", "files", "--until-empty", "--processes", "2")
    wait_for(lambda: len(pids(client)) == 2, "two did not begin")
    victim = min(pids(client))
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(pids(client) - {victim}) == 2, "none took its place")
    origin.release("gate")
    done = project.finish(process)

    assert done.returncode == 0, done.log
    assert "ended by SIGKILL: started again in 1 s" in done.log
    assert {finished["n"] for finished in project.scraped()} == set(range(4))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_goes_on_to_all_and_ends_them_with_their_grace(
    project: Project, origin: Origin, client: redis.Redis, number: signal.Signals
) -> None:
    project.settings |= {"CHUNKDL_SHUTDOWN_GRACE": 0}
    push(client, origin, 2, "hold:gate:10@get")
    process = project.begin("chunkdl", "worker", "files", "--processes", "2")
    wait_for(lambda: client.zcard(LEASES) == 2, "two did not begin")
    workers = pids(client)

    process.send_signal(number)
    done = project.finish(process)
    origin.release("gate")

    assert done.returncode == 0, done.log
    assert client.zcard(LEASES) == 0
    assert not any(map(alive, workers))


def test_workers_end_in_order_when_their_supervisor_is_killed(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_SHUTDOWN_GRACE": 0}
    push(client, origin, 2, "hold:gate:10@get")
    process = project.begin("chunkdl", "worker", "files", "--processes", "2")
    wait_for(lambda: client.zcard(LEASES) == 2, "two did not begin")
    workers = pids(client)

    process.kill()
    project.finish(process)

    wait_for(lambda: not any(map(alive, workers)), "they went on")
    origin.release("gate")
    assert client.zcard(LEASES) == 0


@pytest.mark.parametrize(
    ("settings", "words", "told", "code"),
    [
        ({"CHUNKDL_BATCH_SIZE": "many"}, ["files"], "CHUNKDL_BATCH_SIZE", 1),
        ({}, ["nobody"], "there is no spider 'nobody'", 1),
        ({}, ["files", "--processes", "-1"], "--processes -1", 1),
        ({"FEEDS": {"all.json": {"format": "json", "overwrite": True}}}, ["files"], "Put %(process)s into the URI", 1),
    ],
    ids=["bad-setting", "no-spider", "bad-number", "one-feed-for-all"],
)
def test_what_cannot_start_is_not_started_again(
    project: Project, settings: dict[str, object], words: list[str], told: str, code: int
) -> None:
    project.settings |= settings

    done = project.finish(project.begin("chunkdl", "worker", "--processes", "2", *words))

    assert done.returncode == code, done.log
    assert told in done.log
    assert "started again" not in done.log
