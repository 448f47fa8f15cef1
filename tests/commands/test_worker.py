"""``scrapy chunkdl worker``: it downloads what waits and asks for nothing else, alone or beside others."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
import redis
from origin import Origin
from project import Project, attachment, item, paths
from servers import wait_for

from scrapy_chunkdl.queue.heartbeat import Heartbeat
from scrapy_chunkdl.queue.item_queue import ItemQueue

pytestmark = pytest.mark.usefixtures("client")

WAITING, LEASES, OWNER, DELAYED, TRIES, WORKERS = (
    *("files:items", "{files:items}:leases", "{files:items}:owner", "{files:items}:delayed", "{files:items}:tries"),
    "{files:items}:workers",
)

EAGER = """
import scrapy
from scrapy import signals


class FilesSpider(scrapy.Spider):
    name = "files"

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.feed, signals.spider_idle)
        return spider

    async def start(self):
        yield scrapy.Request(PAGE)

    def feed(self):
        self.crawler.engine.crawl(scrapy.Request(PAGE, dont_filter=True))

    def parse(self, response):
        pass
"""

OLD = """
import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"
    start_urls = [PAGE]

    def start_requests(self):
        yield scrapy.Request(PAGE)
"""

REDIS = """
from scrapy_redis.spiders import RedisSpider


class FilesSpider(RedisSpider):
    name = "files"
"""


def push(client: redis.Redis, *items: object) -> None:
    client.rpush(WAITING, *map(json.dumps, items))


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(f"the process ended without {text!r}\n{read}")


def queue_of(redis_url: str) -> ItemQueue:
    return ItemQueue(redis.Redis.from_url(redis_url, protocol=2), WAITING)


@pytest.mark.parametrize("spider", [EAGER, OLD, REDIS], ids=["start-and-idle", "start-requests", "scrapy-redis"])
def test_a_worker_fetches_attachments_and_no_page(
    project: Project, origin: Origin, client: redis.Redis, spider: str
) -> None:
    page = origin.url("page.html", 100)
    project.spider = f"PAGE = {page!r}\n{spider}"
    project.settings |= {
        "SCHEDULER": "scrapy_redis.scheduler.Scheduler",
        "DUPEFILTER_CLASS": "scrapy_redis.dupefilter.RFPDupeFilter",
        "SCHEDULER_FLUSH_ON_START": True,
        "JOBDIR": "job",
    }
    client.rpush("files:start_urls", json.dumps({"url": page}))
    client.zadd("files:requests", {b"a request of the crawls": 0})
    push(client, item(attachment(origin.url("a.bin", 1000))))

    done = project.finish(project.begin("chunkdl", "worker", "files", "--until-empty"))

    assert done.returncode == 0, done.log
    assert done.stats["finish_reason"] == "finished"
    [finished] = project.scraped()
    assert Path(paths(finished)[0]).stat().st_size == 1000
    assert project.seen() == [finished]
    assert origin.stats("page.html").requests == 0
    assert not (project.folder / "job").exists()
    assert sorted(client.keys("*")) == [b"files:requests", b"files:start_urls"]


def test_a_worker_stays_until_it_is_stopped(project: Project, origin: Origin, client: redis.Redis) -> None:
    process = project.begin("chunkdl", "worker", "files")
    read_until(process, "waits for more")
    push(client, item(attachment(origin.url("a.bin", 1000))))
    wait_for(lambda: (project.folder / "seen.jsonl").exists(), "the item did not come out")
    process.send_signal(signal.SIGINT)

    done = project.finish(process)

    assert done.returncode == 0
    assert done.stats["finish_reason"] == "shutdown"
    assert len(project.scraped()) == 1
    assert client.keys("*") == []


@pytest.mark.parametrize(
    ("is_alive", "says"),
    [(True, "waits for what other processes hold"), (False, "held by a process that is gone: they come back in")],
    ids=["alive", "gone"],
)
def test_until_empty_waits_for_what_another_process_holds(
    project: Project, origin: Origin, client: redis.Redis, redis_url: str, is_alive: bool, says: str
) -> None:
    push(client, item(attachment(origin.url("a.bin", 1000))))
    other = queue_of(redis_url)
    [held], _ = other.claim(1, "other")
    heartbeat = Heartbeat(other, 60, list, lambda *_: None, report=lambda: b"{}")
    if is_alive:
        heartbeat.start()
    else:
        client.hset(OWNER, held.id, f"{other.token} 0")  # held for long, and never a report

    process = project.begin("chunkdl", "worker", "files", "--until-empty")
    read_until(process, says)
    other.release([held.id])
    done = project.finish(process)

    assert done.returncode == 0
    assert len(project.scraped()) == 1
    if is_alive:
        heartbeat.stop()
    other.forget()
    other.close()
    assert client.keys("*") == []


def test_two_workers_share_a_list(project: Project, origin: Origin, client: redis.Redis) -> None:
    extensions = {"scrapy_chunkdl.extension.ChunkDownloader": 1, "probe.support.WriteStats": 1}
    project.settings |= {"CHUNKDL_BATCH_SIZE": 1, "CHUNKDL_THREADS": 1, "EXTENSIONS": extensions}
    push(client, *(item(attachment(origin.url(f"{n}.bin", 5000, "hold:gate:10@get")), n=n) for n in range(6)))

    workers = [project.begin("chunkdl", "worker", "files", "--until-empty") for _ in range(2)]
    wait_for(lambda: len({owner.split()[0] for owner in client.hvals(OWNER)}) == 2, "one worker took all")
    origin.release("gate")
    done = [project.finish(worker) for worker in workers]

    assert [worker.returncode for worker in done] == [0, 0]
    assert sorted(finished["n"] for finished in project.scraped()) == list(range(6))
    assert all(worker.stats["chunkdl/items/finished"] >= 1 for worker in done)
    assert client.keys("*") == []


def test_a_terminated_worker_hands_back_what_it_holds(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.settings |= {"CHUNKDL_SHUTDOWN_GRACE": 0}
    push(client, item(attachment(origin.url("a.bin", 3_000_000, "hold:gate:10@get"))))

    process = project.begin("chunkdl", "worker", "files")
    wait_for(lambda: origin.stats("a.bin").requests > 0, "the download did not begin")
    process.send_signal(signal.SIGTERM)
    done = project.finish(process)
    origin.release("gate")

    assert done.returncode == 0
    assert done.stats["chunkdl/items/released"] == 1
    assert (client.zcard(DELAYED), client.zcard(LEASES), client.hvals(TRIES)) == (1, 0, [b"0"])
    assert client.exists(WORKERS) == 0


def test_a_worker_has_the_spiders_settings_and_arguments(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.spider = """
import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"
    chunkdl_filename_field = "called"
    custom_settings = {"CHUNKDL_ITEMS_KEY": "%(spider)s:elsewhere", "CHUNKDL_STORE": "other"}
"""
    wanted = {"ori_url": origin.url("a.bin", 1000), "called": "b.bin"}
    client.rpush("files:elsewhere", json.dumps({"found": [wanted]}))
    words = ["-a", "chunkdl_attachments=found", "-s", "CHUNKDL_STORE=downloads", "-o", "again.jl"]

    done = project.finish(project.begin("chunkdl", "worker", "files", "--until-empty", *words))

    assert done.returncode == 0, done.log
    [finished] = project.scraped()
    assert Path(finished["found"][0]["path"]).name == "b.bin"
    assert [Path(path).name for path in project.files()] == ["b.bin"]
    assert json.loads((project.folder / "again.jl").read_text()) == finished


@pytest.mark.parametrize(
    ("words", "settings", "says"),
    [
        (["files", "-a", "chunkdl_mode=inline"], {}, 'Workers need CHUNKDL_MODE = "queue"'),
        (["files"], {"CHUNKDL_ENABLED": False}, "CHUNKDL_ENABLED is off"),
        (["files"], {"REDIS_URL": "unix:///nowhere/s", "CHUNKDL_REDIS_WAIT": 0.1}, "Redis cannot be reached"),
    ],
    ids=["inline", "off", "no-redis"],
)
def test_a_worker_that_cannot_work_says_why(
    project: Project, words: list[str], settings: dict[str, object], says: str
) -> None:
    project.settings |= settings

    done = project.finish(project.begin("chunkdl", "worker", *words))

    assert done.returncode == 1
    assert says in done.log
    assert "Traceback" not in done.log


@pytest.mark.parametrize(
    ("entry", "words", "code"),
    [
        ("a.bin", [], 0),
        ("a.bin;status:404", [], 3),
        ("no JSON", [], 3),
        ("a.bin;status:404", ["--processes", "2"], 3),
    ],
    ids=["all came", "a file given up", "an entry set aside", "of two processes"],
)
def test_the_exit_code_of_a_worker_that_is_done_tells_whether_something_was_left_out(
    project: Project, origin: Origin, client: redis.Redis, entry: str, words: list[str], code: int
) -> None:
    name, _, how = entry.partition(";")
    wanted = item(attachment(origin.url(name, 1000, how), name))
    client.rpush(WAITING, json.dumps(wanted) if name.endswith(".bin") else entry)

    done = project.finish(project.begin("chunkdl", "worker", "files", "--until-empty", *words))

    assert done.returncode == code, done.log
