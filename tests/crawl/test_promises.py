"""What the whole promises under load and violence: flat memory, nothing lost when killed, closing that always ends."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
import redis
from gated import GATED
from origin import Origin
from origin_content import content, expected_sha256
from project import Project, attachment, item, paths
from servers import Server, any_binary, wait_for

GIB = 1 << 30
MB = 1_000_000


@pytest.mark.long
def test_a_gigabyte_takes_less_than_150_mb_of_memory(project: Project, origin: Origin) -> None:
    project.items = [item(attachment(origin.url("big.bin", GIB), "big.bin"))]

    crawl = project.crawl()

    path = Path(paths(project.scraped()[0])[0])
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    path.unlink()
    assert digest.hexdigest() == expected_sha256("big.bin", GIB)
    assert crawl.stats["max_rss"] < 150 * MB


def test_a_killed_crawl_loses_nothing_and_the_next_one_resumes(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    size, chunk = 8 * MB, 262_144
    project.settings |= {"CHUNKDL_LEASE": 1, "CHUNKDL_CHUNK_SIZE": chunk, "CHUNKDL_CONCURRENT_CHUNKS_PER_FILE": 2}
    url = origin.url("big.bin", size, "hold:gate:3000000@get")
    project.items = [item(attachment(url, "big.bin"))]
    stopped = origin.when("big.bin", lambda stats: stats.sent >= 6 * MB)

    process = project.start()
    stopped.result(60)
    wait_for_journal(project)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert client.zcard("{files:items}:leases") == 1
    assert list(project.files()) != []
    origin.release("gate")

    project.items = []
    client.zadd("{files:items}:leases", {client.zrange("{files:items}:leases", 0, 0)[0]: 1})  # its time has passed
    crawl = project.crawl()

    [finished] = project.scraped()
    assert Path(paths(finished)[0]).read_bytes() == content("big.bin", size)
    assert list(project.files()) == [str(Path(paths(finished)[0]).relative_to(project.folder / "downloads"))]
    assert crawl.stats["chunkdl/bytes/resumed"] >= 6 * MB - 2 * chunk
    assert client.exists("{files:items}:leases", "{files:items}:payload") == 0


def wait_for_journal(project: Project) -> None:
    """Return once a checkpoint was written after all bytes had come: the journal's last line names their end."""
    while True:
        for journal in project.folder.rglob("*.journal"):
            ranges = [json.loads(line.rpartition(b" ")[0]) for line in journal.read_bytes().splitlines()[1:]]
            if sum(stop - start for line in ranges for start, stop in line) >= 6 * MB:
                return


@pytest.mark.parametrize(
    "reactor",
    [
        {},
        {"TWISTED_REACTOR": "twisted.internet.selectreactor.SelectReactor"},
        {"TWISTED_REACTOR_ENABLED": False, "TELNETCONSOLE_ENABLED": False},
    ],
    ids=["asyncio", "select", "reactorless"],
)
@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_closing_in_the_middle_of_a_slow_pipeline_ends_and_the_item_is_acknowledged(
    project: Project, origin: Origin, client: redis.Redis, tmp_path: Path, reactor: dict[str, object], mode: str
) -> None:
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    project.settings |= reactor | {
        "ITEM_PIPELINES": {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1, "probe.support.Slow": 2},
        "GATE": str(fifo),
        "CHUNKDL_MODE": mode,
    }
    project.support = GATED
    project.items = [item(attachment(origin.url("a.bin", 1000)))]

    process = project.start()
    assert process.stdout is not None
    read_until(process.stdout, "IN THE PIPELINE")
    process.send_signal(signal.SIGINT)
    read_until(process.stdout, "Closing spider")
    fifo.write_text("go on")
    crawl = project.finish(process)

    assert crawl.returncode == 0
    assert crawl.stats["finish_reason"] == "shutdown"
    assert len(project.scraped()) == 1
    assert client.keys("*") == []


def read_until(lines: object, text: str) -> None:
    for line in lines:  # type: ignore[attr-defined]
        if text in line:
            return
    raise AssertionError(f"the crawl ended without {text!r}")


def test_redis_away_for_a_while_is_waited_for(project: Project, origin: Origin, tmp_path: Path) -> None:
    with Server(any_binary()) as server:
        project.settings |= {"REDIS_URL": server.url}
        project.items = [item(attachment(origin.url("a.bin", 2 * MB, "hold:gate:1000@get"), "a.bin"))]
        begun = origin.when("a.bin", lambda stats: stats.sent >= 1000)

        process = project.start()
        begun.result(60)
        server.kill()
        origin.release("gate")
        assert process.stdout is not None
        read_until(process.stdout, "Waiting for it")
        server.start()
        crawl = project.finish(process)

        assert crawl.returncode == 0
        assert crawl.log.count("Redis is back") == 1
        assert len(project.scraped()) == 1
        with server.client() as client:
            assert client.keys("*") == []


def test_a_file_that_is_whole_while_the_lease_is_in_doubt_is_not_given_up(
    project: Project, origin: Origin, tmp_path: Path
) -> None:
    size = 2 * MB
    with Server(any_binary()) as server, server.client() as client:
        project.settings |= {"REDIS_URL": server.url, "CHUNKDL_LEASE": 1, "CHUNKDL_BATCH_SIZE": 1, "CHUNKDL_THREADS": 1}
        project.settings |= {"CHUNKDL_CHUNK_SIZE": 262_144, "CHUNKDL_RETRY_DELAY": 0.1}
        early = attachment(origin.url("early.bin", size, "hold:early:1000@get"), "early.bin")
        late = attachment(origin.url("late.bin", size, "hold:late:1000@get"), "late.bin")
        project.items = [item(early, late)]
        begun = [origin.when(name, lambda stats: stats.sent >= 1000) for name in ("early.bin", "late.bin")]

        process = project.start()
        for each in begun:
            each.result(60)
        server.kill()
        time.sleep(1.1)  # the lease, which nobody can renew, is over
        origin.release("early")
        wait_for(lambda: is_whole(project, "early.bin", size), "the file is not fetched")
        server.start()
        [[_, restored]] = client.zrange("{files:items}:leases", 0, 0, withscores=True)
        wait_for(lambda: client.zrange("{files:items}:leases", 0, 0, withscores=True)[0][1] > restored, "no heartbeat")
        origin.release("late")
        project.finish(process)

        [finished] = project.scraped()
        assert "" not in paths(finished)
        assert client.keys("*") == []


def is_whole(project: Project, name: str, size: int) -> bool:
    """Whether the journal claims all of a file in one line, which it does when that must not get its name."""
    for journal in project.folder.rglob(f"{name}.part.journal"):
        lines = [json.loads(line.rpartition(b" ")[0]) for line in journal.read_bytes().splitlines()[1:]]
        return [[0, size]] in lines
    return False
