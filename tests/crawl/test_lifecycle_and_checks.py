"""What cannot start closes the crawl: one sentence, a finish reason of ours, exit code 1, and nothing goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import scrapy
from origin import Origin
from project import HANG, Project, attachment, item, paths, told_at_the_end
from servers import free_port

from scrapy_chunkdl.crawl.stats import Stats

OURS = "scrapy_chunkdl.pipelines.ChunkDownloadPipeline"
BAD, REDIS, STORE, START, FEED = (
    f"chunkdl_{reason}"
    for reason in ("bad_setting", "redis_unreachable", "store_unusable", "cannot_start", "feed_unusable")
)

SUPPORT = """
import scrapy_chunkdl.bridge.bridge

class Broken:
    def __init__(self, *args):
        raise RuntimeError("no such shelf")

class NoThreads:
    '''What the system refuses, at the last of all steps.'''
    @classmethod
    def from_crawler(cls, crawler):
        def start(self):
            raise RuntimeError("can't start new thread")
        scrapy_chunkdl.bridge.bridge.Bridge.start = start
        return cls()
"""

UNUSABLE: list[tuple[str, dict[str, Any], str, str]] = [
    ("no scheme", {"REDIS_URL": "localhost:6379"}, "REDIS_URL = 'localhost:6379' does not begin with redis://", BAD),
    (
        "no scheme, and acks wait for feeds",
        {"REDIS_URL": "localhost:6379", "CHUNKDL_ACK": "feed"},
        "does not begin with redis://",
        BAD,
    ),
    ("another scheme", {"REDIS_URL": "http://localhost"}, "does not begin with redis://", BAD),
    ("a slash in it", {"REDIS_URL": "redis://:s3c/r3t@localhost"}, "in a password, write / as %2F", BAD),
    ("a hash in it", {"REDIS_URL": "redis://:s3c#r3t@localhost"}, "in a password, write / as %2F", BAD),
    ("a question mark in it", {"REDIS_URL": "redis://:s3c?r3t@localhost"}, "in a password, write / as %2F", BAD),
    ("a bracket in it", {"REDIS_URL": "redis://:s3c[r3t@localhost"}, "in a password, write / as %2F", BAD),
    ("digits, then a slash", {"REDIS_URL": "redis://:12/s3cr3t@localhost"}, "its host ends before the last @", BAD),
    ("a database by name", {"REDIS_URL": "redis://localhost/items"}, "a database that is no number", BAD),
    ("no port", {"REDIS_URL": None, "REDIS_PORT": "abc"}, "REDIS_PORT = 'abc': it should be a port number", BAD),
    ("no JSON", {"REDIS_PARAMS": "{db: 1}"}, "REDIS_PARAMS is a text that is no JSON", BAD),
    ("no dict", {"REDIS_PARAMS": "[1]"}, "REDIS_PARAMS is list, not a dict", BAD),
    ("misspelt", {"REDIS_PARAMS": {"sokcet_timeout": 3}}, "'sokcet_timeout'", BAD),
    ("no number", {"REDIS_PARAMS": {"socket_timeout": "3 s"}}, "socket_timeout in REDIS_PARAMS = '3 s'", BAD),
    ("no class", {"REDIS_PARAMS": {"redis_cls": "no.Such"}}, "redis_cls = 'no.Such' in REDIS_PARAMS", BAD),
    ("no time", {"REDIS_PARAMS": {"socket_timeout": 0}}, "socket_timeout in REDIS_PARAMS = 0 would wait for no", BAD),
    ("done is waiting", {"CHUNKDL_DONE_KEY": "files:items"}, "would go round for ever in: name another", BAD),
    ("no place to work", {"CHUNKDL_WORK_FOLDER": "/proc/none"}, "CHUNKDL_WORK_FOLDER: the folder /proc/none", STORE),
    ("a path for a URL", {"CHUNKDL_PATH_FIELD": "ori_url"}, "CHUNKDL_PATH_FIELD = 'ori_url' is the field of", BAD),
    ("a result for a path", {"CHUNKDL_RESULT_FIELD": "path"}, "CHUNKDL_RESULT_FIELD = 'path' is the field of", BAD),
    ("files for attachments", {"CHUNKDL_FILES_FIELD": "data"}, "CHUNKDL_FILES_FIELD = 'data' is where", BAD),
    ("half a hash tag", {"CHUNKDL_ITEMS_KEY": "a{b"}, "a{b", BAD),
    ("misspelt ours", {"CHUNKDL_TREADS": 3}, "Did you mean CHUNKDL_THREADS?", BAD),
    ("our number", {"CHUNKDL_LEASE": "soon"}, "CHUNKDL_LEASE = 'soon': should be", BAD),
    ("no item class", {"CHUNKDL_ITEM_CLASSES": ["no.Such"]}, "CHUNKDL_ITEM_CLASSES has 'no.Such'", BAD),
    ("no own store", {"CHUNKDL_STORE": "x://a", "CHUNKDL_STORES": {"x": "no.Such"}}, "the store of x:// cannot", STORE),
    (
        "a broken store",
        {"CHUNKDL_STORE": "x://a", "CHUNKDL_STORES": {"x": "probe.support.Broken"}},
        "(RuntimeError: no such shelf)",
        STORE,
    ),
    (
        "no place for a feed",
        {"FEEDS": {"/proc/none/x.csv": {"format": "csv"}}},
        "'/proc/none/x.csv', which cannot be",
        FEED,
    ),
    ("no threads", {"EXTENSIONS": {"probe.support.WriteStats": 1, "probe.support.NoThreads": 2}}, "new thread", START),
    (
        "the same URLs",
        {
            "ITEM_PIPELINES": {OURS: 1, "scrapy.pipelines.files.FilesPipeline": 2},
            "FILES_STORE": "files",
            "CHUNKDL_ATTACHMENTS": "file_urls",
        },
        "FilesPipeline, which takes the URLs of the field 'file_urls'",
        BAD,
    ),
    (
        "the same results",
        {
            "ITEM_PIPELINES": {OURS: 1, "scrapy.pipelines.files.FilesPipeline": 2},
            "FILES_STORE": "files",
            "CHUNKDL_FILES_FIELD": "files",
        },
        "FilesPipeline, which writes its results into the field 'files'",
        BAD,
    ),
    ("a cluster that is down", {"REDIS_PARAMS": {"redis_cls": "redis.cluster.RedisCluster"}}, "cluster", REDIS),
]


def assert_refused(crawl: Any, project: Project, sentence: str, reason: str) -> None:
    assert crawl.stats.get("finish_reason") == reason, crawl.log
    errors = [line for line in crawl.log.splitlines() if " ERROR: " in line]
    assert len(errors) == 1, errors
    assert sentence in errors[0]
    assert crawl.returncode == 1
    assert "Traceback" not in crawl.log
    assert "s3c" not in crawl.log.partition("Overridden settings")[0] + crawl.log.partition("Enabled downloader")[2]
    assert project.scraped() == project.seen() == []


@pytest.mark.parametrize(
    ("settings", "sentence", "reason"), [case[1:] for case in UNUSABLE], ids=[case[0] for case in UNUSABLE]
)
def test_what_cannot_be_used_closes_the_crawl_before_it_requests_anything(
    project: Project, origin: Origin, settings: dict[str, Any], sentence: str, reason: str
) -> None:
    project.settings |= {"CHUNKDL_REDIS_WAIT": 0.3} | settings
    if "cluster" in str(settings):
        project.settings["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}"
    project.support = SUPPORT
    project.items = [item(attachment(origin.url("a", 10)))] if reason != REDIS else []  # it is waited for: items fail

    crawl = project.crawl()

    assert_refused(crawl, project, sentence, reason)
    assert origin.stats("a").requests == 0


@pytest.mark.parametrize("command", [["worker", "files"], ["worker", "--until-empty", "files"]])
@pytest.mark.parametrize("case", ["no scheme", "a slash in it", "no dict", "no threads"])
def test_a_worker_refuses_it_too(project: Project, client: redis.Redis, command: list[str], case: str) -> None:
    [(settings, sentence, reason)] = [entry[1:] for entry in UNUSABLE if entry[0] == case]
    project.settings |= settings
    project.support = SUPPORT

    crawl = project.finish(project.begin("chunkdl", *command))

    assert_refused(crawl, project, sentence, reason)


def test_params_may_be_given_as_json_on_the_command_line(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.items = [item(attachment(origin.url("a", 10)))]

    crawl = project.crawl("-s", 'REDIS_PARAMS={"socket_timeout": 7}')

    assert (crawl.returncode, len(project.scraped())) == (0, 1), crawl.log


@pytest.mark.parametrize("attempt", range(2))
def test_a_crawl_that_has_to_close_while_the_engine_starts_is_closed(
    project: Project, tmp_path: Path, attempt: int
) -> None:
    project.settings |= {"REDIS_URL": f"unix://{tmp_path}/nobody", "CHUNKDL_REDIS_WAIT": 0}
    project.settings["EXTENSIONS"] = {"probe.support.WriteStats": 1, "probe.support.Slow": 2}
    project.support = """
    import asyncio

    class Slow:
        @classmethod
        def from_crawler(cls, crawler):
            self = cls()
            crawler.signals.connect(self.started, signals.engine_started)
            return self

        async def started(self):
            await asyncio.sleep(0.5)
    """

    crawl = project.crawl()

    assert (crawl.returncode, crawl.stats.get("finish_reason")) == (1, REDIS), crawl.log


def test_a_library_that_a_store_needs_and_is_not_there_closes_the_crawl(project: Project, origin: Origin) -> None:
    project.settings["CHUNKDL_STORE"] = "s3://bucket"
    project.items = [item(attachment(origin.url("a", 10)))]
    (project.folder / "obstore").mkdir(parents=True)
    (project.folder / "obstore" / "__init__.py").write_text("raise ModuleNotFoundError('obstore')")

    crawl = project.crawl()

    assert_refused(crawl, project, "s3:// needs obstore: pip install 'scrapy-chunkdl[s3]'", STORE)


def test_without_a_scrapy_cfg_parts_wait_in_the_working_folder(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_STORE": "shelf://top", "CHUNKDL_STORES": {"shelf": "probe.support.Shelf"}}
    project.items = [item(attachment(origin.url("a.bin", 1000), "a.bin"))]
    project.support = (Path(__file__).parents[2] / "examples" / "own_store.py").read_text()
    project.write()
    (project.folder / "scrapy.cfg").unlink()
    (project.folder / "script.py").write_text(
        "from scrapy.crawler import CrawlerProcess\n"
        "from scrapy.utils.project import get_project_settings\n"
        "process = CrawlerProcess(get_project_settings())\n"
        "process.crawl('files')\n"
        "process.start()\n"
    )

    environment = {**os.environ, "PYTHONPATH": str(project.folder), "SCRAPY_SETTINGS_MODULE": "probe.settings"}
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG,
    )

    assert done.returncode == 0, done.stderr
    assert [len(path) > 0 for path in paths(project.scraped()[0])] == [True], done.stderr


@pytest.mark.parametrize(
    "reason",
    [
        "timeout",
        pytest.param(
            "spider",
            marks=pytest.mark.skipif(
                scrapy.version_info < (2, 18), reason="start() may raise CloseSpider since Scrapy 2.18"
            ),
        ),
    ],
)
def test_the_grace_holds_for_every_end_of_an_inline_crawl(project: Project, origin: Origin, reason: str) -> None:
    project.settings |= {"CHUNKDL_MODE": "inline", "CHUNKDL_SHUTDOWN_GRACE": 0.2}
    if reason == "timeout":
        project.settings["CLOSESPIDER_TIMEOUT"] = 5  # by then the item is on its way on a busy machine, too
    else:
        project.spider += (
            "        from scrapy.exceptions import CloseSpider\n"
            "        import asyncio\n"
            "        await asyncio.sleep(1)\n"
            "        raise CloseSpider('enough')\n"
        )
    project.items = [item(attachment(origin.url("slow", 3_000_000, "hold:gate:100000@get"), "slow"))]

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == ("closespider_timeout" if reason == "timeout" else "enough")
    assert [paths(found) for found in project.scraped()] == [[""]]


def test_ctrl_c_says_what_is_finished_and_what_goes_back(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.settings |= {"CHUNKDL_SHUTDOWN_GRACE": 0.5}
    project.items = [item(attachment(origin.url("slow", 3_000_000, "hold:gate:100000@get"), "slow"))]
    begun = origin.when("slow", lambda stats: stats.sent >= 100_000)

    process = project.start()
    begun.result(60)
    process.send_signal(signal.SIGINT)
    crawl = project.finish(process)

    assert (
        "1 files of 1 items have 0.5 s (CHUNKDL_SHUTDOWN_GRACE) to end, then their items go back to files:items."
        in crawl.log
    )
    assert re.search(r"Being finished: slow \(\d+ % of 3 MB\)\.", crawl.log)
    assert "Left in files:items: 1 to come back later." in crawl.log


def test_items_and_progress_go_on_where_stats_and_names_are_odd(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    """An exception in a look at the downloads must not stop Scrapy's looping call: nothing would ever be claimed."""
    project.settings |= {
        "LOGSTATS_INTERVAL": 0.3,
        "EXTENSIONS": {"probe.support.WriteStats": 1, "probe.support.Odd": 2},
    }
    project.support = """
    class Odd:
        @classmethod
        def from_crawler(cls, crawler):
            crawler.stats.inc_value(404)
            return cls()
    """
    project.items = [item(attachment(origin.url("a", 100_000, "hold:gate:1000@get"), "a"))]
    begun = origin.when("a", lambda stats: stats.sent >= 1000)

    process = project.start()
    begun.result(60)
    assert process.stdout is not None
    next(line for line in process.stdout if "1 running" in line or "failed" in line)
    origin.release("gate")
    crawl = project.finish(process)

    assert len(project.scraped()) == 1, crawl.log


def test_a_collector_that_takes_integers_only_costs_no_item(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"STATS_CLASS": "scrapy_redis.stats.RedisStatsCollector", "STATS_KEY": "%(spider)s:stats"}
    project.settings |= {"EXTENSIONS": {}, "SCHEDULER_PERSIST": True}
    client.rpush("files:items", *(json.dumps(item(attachment(origin.url(str(n), 10)))) for n in range(5)))

    project.crawl()

    assert len(project.scraped()) == 5
    assert client.exists("{files:items}:leases", "{files:items}:dead") == 0
    assert int(client.hget("files:stats", "chunkdl/items/finished") or 0) == 5


def test_what_stays_to_the_end_is_left_out_of_the_rounds_of_garbage_collection(
    project: Project, origin: Origin
) -> None:
    project.items = [item(attachment(origin.url("a.bin", 1000)))]
    project.support = told_at_the_end('f"{gc.get_freeze_count()} {len(gc.get_objects())}"')
    project.settings |= {"EXTENSIONS": {"probe.support.Tell": 1}}

    project.write()
    command = [sys.executable, "-m", "scrapy", "crawl", "files"]  # the tests' own starter freezes, too

    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)

    assert (project.folder / "told").exists(), done.stderr
    frozen, others = map(int, (project.folder / "told").read_text().split())
    assert frozen > others


def test_an_item_that_is_done_is_let_go_without_the_collector(project: Project, origin: Origin) -> None:
    """Circles of what belongs to an item made 60 objects of each wait for it. The first few files have them still."""
    number = 60
    project.items = [item(attachment(origin.url(f"{n}.bin", 1000))) for n in range(number)]
    kinds = ("ItemFiles", "ClaimedItem", "Run")
    alive = f"str(sum(type(one).__name__ in {kinds!r} for one in gc.get_objects()))"
    project.support = told_at_the_end(alive) + "\n\ngc.disable()\n"
    project.settings |= {"EXTENSIONS": {"probe.support.Tell": 1}}

    crawl = project.crawl()

    assert len(project.scraped()) == number, crawl.log
    assert int((project.folder / "told").read_text()) < number


class Collector:
    """One that notes how often it is told something."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def inc_value(self, name: str, count: float = 1) -> None:
        self.told.append((name, count))


def test_what_is_counted_reaches_the_collector_and_the_totals_together_once_it_is_handed_over() -> None:
    collector = Collector()
    stats = Stats(collector)  # type: ignore[arg-type]

    for _ in range(3):
        stats.inc_value("chunkdl/files/downloaded")
        stats.inc_value("chunkdl/requests", 2)
    before = list(collector.told), stats.tally.part()
    stats.hand_over()
    stats.hand_over()

    assert before == ([], None)
    assert collector.told == [("chunkdl/files/downloaded", 3), ("chunkdl/requests", 6)]
    assert (part := stats.tally.part()) is not None
    assert part.counts["files/downloaded"] == 3


def test_adding_nothing_tells_the_collector_once_that_there_is_such_a_stat() -> None:
    collector = Collector()
    stats = Stats(collector)  # type: ignore[arg-type]

    for count in (0, 0, 2, 0):
        stats.inc_value("chunkdl/bytes/resumed", count)
        stats.hand_over()

    assert collector.told == [("chunkdl/bytes/resumed", 0), ("chunkdl/bytes/resumed", 2)]
