"""A process that lost a lease stops with that item; one that works keeps its leases, one that hangs loses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import redis
from gated import GATED
from origin import Origin
from origin_content import content
from patience import HANG
from project import Project, attachment, item, paths
from servers import Server, any_binary

from scrapy_chunkdl.queue.heartbeat import Heartbeat
from scrapy_chunkdl.queue.item_queue import ItemQueue

WAITING, LEASES, OWNER = "files:items", "{files:items}:leases", "{files:items}:owner"

REACTORS = pytest.mark.parametrize(
    "reactor",
    [
        {},
        {"TWISTED_REACTOR": "twisted.internet.selectreactor.SelectReactor"},
        {"TWISTED_REACTOR_ENABLED": False},
    ],
    ids=["asyncio", "select", "reactorless"],
)


@pytest.fixture
def gate(project: Project, tmp_path: Path) -> Path:
    """What the gated pipelines wait for: somebody who writes to it."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    project.support = GATED
    project.settings |= {"GATE": str(path), "CHUNKDL_DONE_KEY": "done"}
    return path


def behind_ours(project: Project, pipeline: str) -> None:
    project.settings["ITEM_PIPELINES"] = {
        "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
        f"probe.support.{pipeline}": 2,
    }


def read_until(process: subprocess.Popen[str], text: str) -> None:
    lines: Iterable[str] = process.stdout or ()
    for line in lines:
        if text in line:
            return
    raise AssertionError(f"the crawl ended without {text!r}")


@pytest.fixture
def other(client: redis.Redis) -> Iterator[ItemQueue]:
    """The queue as another process has it, which tells that it is alive: else crawls would wait for what it holds."""
    queue = ItemQueue(client, WAITING, lease=3600, done_key="done")
    heartbeat = Heartbeat(queue, 3600, list, lambda *_: None, report=lambda: b"{}")
    heartbeat.start()
    yield queue
    heartbeat.stop()


def take_over(other: ItemQueue, client: redis.Redis) -> str:
    """Let the one lease run out and the other process claim the item."""
    while True:
        for item_id in client.zrange(LEASES, 0, -1):
            client.zadd(LEASES, {item_id: 1}, xx=True)
        batch, _ = other.claim(1, uuid.uuid4().hex)
        if batch:
            return batch[0].id


def claim_when_the_lease_is_over(other: ItemQueue) -> str:
    claimed: list[str] = []
    until(lambda: bool(claimed.extend(found.id for found in other.claim(1, uuid.uuid4().hex)[0]) or claimed))
    return claimed[0]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def test_a_lease_lost_while_downloading_stops_the_transfer_and_nothing_comes_out(
    project: Project, origin: Origin, client: redis.Redis, other: ItemQueue
) -> None:
    project.settings |= {"CHUNKDL_LEASE": 1, "CHUNKDL_DONE_KEY": "done"}
    project.items = [item(attachment(origin.url("a.bin", 3_000_000, "hold:gate:100000@get"), "a.bin"))]
    begun = origin.when("a.bin", lambda stats: stats.sent >= 100_000)

    process = project.start()
    begun.result(60)
    taken = take_over(other, client)
    crawl = project.finish(process)  # with the gate still closed: the transfer was stopped

    assert crawl.stats["chunkdl/items/lease_lost"] == 1
    assert crawl.log.count("was lost") == 1
    assert project.scraped() == project.seen() == []
    assert all(".part" in name for name in project.files())
    assert client.exists("done") == 0
    assert other.ack([(taken, None)]) == [taken]


def test_a_frozen_process_finds_its_item_with_another_and_only_that_one_emits_it(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    size = 2_000_000
    project.settings |= {"CHUNKDL_LEASE": 1}
    project.items = [item(attachment(origin.url("a.bin", size, "hold:gate:100000@get"), "a.bin"))]
    begun = origin.when("a.bin", lambda stats: stats.sent >= 100_000)
    frozen = project.start()
    begun.result(60)
    frozen.send_signal(signal.SIGSTOP)
    [(item_id, end)] = client.zrange(LEASES, 0, -1, withscores=True)
    owner = client.hget(OWNER, item_id)
    until(lambda: client.time()[0] * 1000 > end + 1000)
    project.items = []
    quick = project.start()
    until(lambda: client.hvals(OWNER) not in ([], [owner]))
    origin.release("gate")
    frozen.send_signal(signal.SIGCONT)
    crawls = [project.finish(quick), project.finish(frozen)]

    [finished] = project.scraped()
    assert project.seen() == [finished]
    assert Path(paths(finished)[0]).read_bytes() == content("a.bin", size)
    assert [name for name in project.files() if "part" in name] == []
    assert [crawl.stats.get("chunkdl/items/lease_lost", 0) for crawl in crawls] == [0, 1]
    assert [crawl.stats.get("chunkdl/items/finished", 0) for crawl in crawls] == [1, 0]
    assert client.keys("*") == []


@pytest.mark.parametrize("stands_still", [["monotonic"], ["monotonic", "clock_gettime"]], ids=["sleep", "hypervisor"])
def test_who_slept_past_the_lease_does_not_emit_what_another_has(
    project: Project,
    origin: Origin,
    client: redis.Redis,
    other: ItemQueue,
    gate: Path,
    tmp_path: Path,
    stands_still: list[str],
) -> None:
    """A stopped process's clocks go on: they are held back by as much as it was stopped."""
    slept = tmp_path / "slept"
    behind_ours(project, "Slow")
    project.support = f"""
import time

def held_back(clock):
    def read(*arguments):
        try:
            return clock(*arguments) - float(open({str(slept)!r}).read() or 0)
        except FileNotFoundError:
            return clock(*arguments)
    return read

for name in {stands_still!r}:
    setattr(time, name, held_back(getattr(time, name)))
{GATED}"""
    project.settings |= {"CHUNKDL_LEASE": 2}
    project.items = [item(attachment(origin.url("a.bin", 1000)))]

    process = project.start()
    read_until(process, "IN THE PIPELINE")
    process.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    taken = claim_when_the_lease_is_over(other)
    slept.write_text(str(time.monotonic() - stopped_at))
    gate_is_open = threading.Thread(target=gate.write_text, args=("go on",))
    gate_is_open.start()
    process.send_signal(signal.SIGCONT)
    crawl = project.finish(process)
    gate_is_open.join()

    assert project.scraped() == []
    assert crawl.stats["chunkdl/items/lease_lost"] == 1
    assert other.ack([(taken, b"theirs")]) == [taken]
    assert client.lrange("done", 0, -1) == [b"theirs"]


@REACTORS
def test_a_lease_lost_in_a_later_pipeline_keeps_the_item_from_coming_out(
    project: Project,
    origin: Origin,
    client: redis.Redis,
    other: ItemQueue,
    gate: Path,
    reactor: dict[str, object],
) -> None:
    behind_ours(project, "Slow")
    project.settings |= {"CHUNKDL_LEASE": 0.6} | reactor
    project.items = [item(attachment(origin.url("a.bin", 1000)))]

    process = project.start()
    read_until(process, "IN THE PIPELINE")
    process.send_signal(signal.SIGSTOP)
    taken = claim_when_the_lease_is_over(other)
    process.send_signal(signal.SIGCONT)
    gate.write_text("go on")
    crawl = project.finish(process)

    assert project.scraped() == []
    assert crawl.stats["chunkdl/items/lease_lost"] == 1
    assert "item_scraped_count" not in crawl.stats
    assert client.exists("done") == 0
    assert other.ack([(taken, b"theirs")]) == [taken]
    assert client.lrange("done", 0, -1) == [b"theirs"]


def test_a_pipeline_may_take_longer_than_the_lease(
    project: Project, origin: Origin, client: redis.Redis, other: ItemQueue, gate: Path
) -> None:
    behind_ours(project, "Slow")
    project.settings |= {"CHUNKDL_LEASE": 0.6}
    project.items = [item(attachment(origin.url("a.bin", 1000)))]

    process = project.start()
    read_until(process, "IN THE PIPELINE")
    [(item_id, first)] = client.zrange(LEASES, 0, -1, withscores=True)
    until(lambda: (client.zscore(LEASES, item_id) or 0) > first + 1500)  # renewed over and over
    assert other.claim(1, "none")[0] == []
    gate.write_text("go on")
    crawl = project.finish(process)

    assert crawl.stats["chunkdl/items/finished"] == 1
    assert client.llen("done") == len(project.scraped()) == 1


@pytest.mark.parametrize("claimed_meanwhile", [True, False])
def test_a_pipeline_that_blocks_scrapy_loses_the_lease_and_the_item_is_emitted_once(
    project: Project,
    origin: Origin,
    client: redis.Redis,
    other: ItemQueue,
    gate: Path,
    claimed_meanwhile: bool,
) -> None:
    behind_ours(project, "Blocking")
    project.settings |= {"CHUNKDL_LEASE": 0.6}
    project.items = [item(attachment(origin.url("a.bin", 1000)))]

    process = project.start()
    read_until(process, "IN THE PIPELINE")
    [(_, end)] = client.zrange(LEASES, 0, -1, withscores=True)
    taken = ""
    if claimed_meanwhile:
        taken = claim_when_the_lease_is_over(other)
    else:
        until(lambda: client.time()[0] * 1000 > end + 1000)
    gate.write_text("go on")
    crawl = project.finish(process)

    if claimed_meanwhile:
        assert project.scraped() == []
        assert crawl.stats["chunkdl/items/lease_lost"] == 1
        assert other.ack([(taken, b"theirs")]) == [taken]
    else:
        assert len(project.scraped()) == 1
        assert crawl.stats["chunkdl/items/finished"] == 1
    assert client.llen("done") == 1


@pytest.mark.parametrize("others", [0, 1])
def test_a_download_that_hangs_loses_its_lease_and_comes_to_nothing(
    project: Project, origin: Origin, client: redis.Redis, other: ItemQueue, tmp_path: Path, others: int
) -> None:
    opened = tmp_path / "opened"
    project.support = """
    import os
    import time

    from scrapy_chunkdl.download.disk import partfile

    write = partfile.PartFile.write

    def hang(self, *arguments):
        if "hangs.bin" in str(self.path):
            print("HANGING", flush=True)
            while not os.path.exists(OPENED):
                time.sleep(0.01)
        write(self, *arguments)

    partfile.PartFile.write = hang
    """.replace("OPENED", repr(str(opened)))
    project.settings |= {"CHUNKDL_LEASE": 0.5, "CHUNKDL_STALL_TIMEOUT": 0.5, "CHUNKDL_MAX_DELIVERIES": 1000}
    project.settings["CHUNKDL_BATCH_SIZE"] = 1  # so that it does not claim the item itself, again and again
    names = ["hangs.bin", *(f"fine-{n}.bin" for n in range(others))]
    project.items = [item(*(attachment(origin.url(name, 1000), name) for name in names))]

    process = project.start()
    read_until(process, "HANGING")
    try:
        taken = claim_when_the_lease_is_over(other)
    finally:
        opened.touch()
        crawl = project.finish(process)

    assert project.scraped() == []
    assert (
        crawl.stats["chunkdl/items/lease_lost"] >= 1
    )  # it may itself have claimed the item again before the other did
    assert [name for name in project.files() if name.endswith("hangs.bin")] == []
    assert other.ack([(taken, None)]) == [taken]


def test_a_file_that_waits_for_its_turn_at_the_host_keeps_its_lease(project: Project, origin: Origin) -> None:
    project.settings |= {
        "CHUNKDL_LEASE": 0.7,
        "CHUNKDL_STALL_TIMEOUT": 0.7,
        "CHUNKDL_CONCURRENT_CHUNKS_PER_HOST": 1,
        "CHUNKDL_CONCURRENT_CHUNKS_PER_FILE": 1,
    }
    first = item(attachment(origin.url("first", 60_000, "rate:20000:500@get"), "first"))
    project.items = [first, item(attachment(origin.url("second", 1000), "second"))]

    crawl = project.crawl()

    assert "chunkdl/items/lease_lost" not in crawl.stats
    assert crawl.stats["chunkdl/items/claimed"] == crawl.stats["chunkdl/items/finished"] == 2


def test_an_item_finished_too_late_for_its_lease_goes_back_uncounted_if_nobody_has_it(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    """Redis was away for longer than the lease: a file may not be published meanwhile, and the item is not to blame."""
    with Server(any_binary()) as server:
        project.settings |= {"REDIS_URL": server.url, "CHUNKDL_LEASE": 0.5, "CHUNKDL_MAX_DELIVERIES": 1}
        project.items = [item(attachment(origin.url("a.bin", 500_000, "hold:gate:1000@get@1"), "a.bin"))]
        begun = origin.when("a.bin", lambda stats: stats.sent >= 1000)

        process = project.start()
        begun.result(60)
        server.kill()
        read_until(process, "Waiting for it")
        ended = origin.when("a.bin", lambda stats: stats.sent >= 500_000)
        lease_is_over = time.monotonic() + 1
        until(lambda: time.monotonic() > lease_is_over)
        origin.release("gate")
        ended.result(60)
        server.start()
        crawl = project.finish(process)

        assert len(project.scraped()) == 1
        assert crawl.stats["chunkdl/items/released"] == 1
        assert "chunkdl/items/dead" not in crawl.stats
        with server.client() as look:
            assert look.keys("*") == []


@pytest.mark.parametrize("what", ["downloading", "in a pipeline"])
def test_ctrl_c_while_redis_is_away_ends_the_crawl_and_the_lease_keeps_the_item(
    project: Project, origin: Origin, gate: Path, what: str
) -> None:
    with Server(any_binary()) as server:
        project.settings |= {"REDIS_URL": server.url, "CHUNKDL_SHUTDOWN_GRACE": 0.2}
        if what == "in a pipeline":
            behind_ours(project, "Slow")
        fault = "hold:gate:1000@get" if what == "downloading" else ""
        project.items = [item(attachment(origin.url("a.bin", 100_000, fault), "a.bin"))]
        begun = origin.when("a.bin", lambda stats: stats.sent >= 1000)

        process = project.start()
        begun.result(60)
        if what == "in a pipeline":
            read_until(process, "IN THE PIPELINE")
        server.kill()
        process.send_signal(signal.SIGINT)
        if what == "in a pipeline":
            read_until(process, "Closing spider")
            gate.write_text("go on")
        crawl = project.finish(process)
        server.start()

        assert crawl.stats["finish_reason"] == "shutdown"
        with server.client() as look:
            assert look.zcard(LEASES) == 1
            assert [json.loads(payload) for payload in look.hvals("{files:items}:payload")] == project.items


def test_after_a_long_outage_a_process_does_not_claim_what_it_still_downloads(project: Project, origin: Origin) -> None:
    with Server(any_binary()) as server:
        project.settings |= {"REDIS_URL": server.url, "CHUNKDL_LEASE": 2}
        project.items = [item(attachment(origin.url("a.bin", 500_000, "hold:gate:1000@get"), "a.bin"))]
        begun = origin.when("a.bin", lambda stats: stats.sent >= 1000)

        process = project.start()
        begun.result(60)
        with server.client() as look:
            [(_, end)] = look.zrange(LEASES, 0, -1, withscores=True)
        server.kill()
        until(lambda: time.time() * 1000 > end + 2000)
        server.start()
        read_until(process, "Redis is back")
        origin.release("gate")
        crawl = project.finish(process)

        assert len(project.scraped()) == 1
        assert crawl.stats["chunkdl/items/claimed"] == crawl.stats["chunkdl/items/finished"] == 1
        assert "chunkdl/items/lease_lost" not in crawl.stats
