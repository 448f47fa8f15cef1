"""Pipelines behind ours may use Scrapy's engine as they like: each item still comes out once, with its own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from origin import Origin
from origin_content import content
from project import Project, attachment, item, paths

OURS = "scrapy_chunkdl.pipelines.ChunkDownloadPipeline"
LEASES, DELAYED, DEAD = "{files:items}:leases", "{files:items}:delayed", "{files:items}:dead"

PAGES = 24
SIZE = 2000

SPIDER = """
import base64
import struct

import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        for n in range(self.settings.getint("PAGES")):
            url = f"{self.settings['GO']}/f/page{n}?size=10&fault=delay:0.05@get"
            yield scrapy.Request(url, cb_kwargs={"n": n})

    def parse(self, response, n):
        url = f"{self.settings['GO']}/f/{n}.bin?size=2000"
        yield {
            "n": n,
            "data": [{"attachments": [{"ori_url": url, "path": "", "filename": f"{n}.bin"}]}],
            "thumb": f"{self.settings['THUMBS']}/f/thumb{n}?size=20&fault=delay:0.02@get",
            "file_urls": [f"{self.settings['GO']}/f/other{n}?size=30&fault=delay:0.02@get"],
            "image_urls": ["data:image/bmp;base64," + base64.b64encode(bitmap(n)).decode()],
        }


def bitmap(n):
    header = struct.pack("<IIIIiiHHIIiiII", 58, 0, 54, 40, 1, 1, 1, 24, 0, 4, 2835, 2835, 0, 0)
    return b"BM" + header + bytes([n, 0, 0, 0])
"""

SUPPORT = """
import asyncio

from scrapy import Request
from scrapy.utils.defer import maybe_deferred_to_future


class Behind:
    @classmethod
    def from_crawler(cls, crawler):
        self = cls()
        self.crawler = crawler
        return self


class Fetches(Behind):
    '''As Scrapy's documentation shows it.'''

    async def process_item(self, item, spider=None):
        engine, request = self.crawler.engine, Request(item["thumb"], dont_filter=True)
        if hasattr(engine, "download_async"):
            response = await engine.download_async(request)
        else:
            response = await maybe_deferred_to_future(engine.download(request))
        return {**item, "fetched": len(response.body)}


class Crawls(Behind):
    def process_item(self, item, spider=None):
        self.crawler.engine.crawl(Request(item["thumb"], callback=self.ignore, dont_filter=True))
        return item

    def ignore(self, response):
        return []


class Spawns(Behind):
    '''Leaves a task behind, which looks at the engine when the item has long gone.'''

    async def process_item(self, item, spider=None):
        async def later():
            await asyncio.sleep(0.02)
            self.crawler.engine._slot.nextcall.schedule()

        self.tasks = [*getattr(self, "tasks", []), asyncio.ensure_future(later())]
        return item


class Splits(Behind):
    '''Sends a part of each item, with a file of its own, on a way of its own.'''

    async def process_item(self, item, spider=None):
        if "part_of" not in item:
            url = f"{self.crawler.settings['GO']}/f/part{item['n']}.bin?size=2000"
            part = {
                "n": 1000 + item["n"],
                "part_of": item["n"],
                "data": [{"attachments": [{"ori_url": url, "path": "", "filename": f"part{item['n']}.bin"}]}],
                "thumb": "", "file_urls": [], "image_urls": [],
            }
            scraper = self.crawler.engine.scraper
            if hasattr(scraper, "start_itemproc_async"):
                await scraper.start_itemproc_async(part, response=None)
            else:
                await maybe_deferred_to_future(scraper.start_itemproc(part, response=None))
        return item
"""

BEHIND = {
    "fetches": "probe.support.Fetches",
    "crawls": "probe.support.Crawls",
    "spawns": "probe.support.Spawns",
    "FilesPipeline": "scrapy.pipelines.files.FilesPipeline",
    "ImagesPipeline": "scrapy.pipelines.images.ImagesPipeline",
}


def probe(project: Project, origin: Origin, behind: str, **settings: Any) -> Project:
    project.settings |= {
        "ITEM_PIPELINES": {OURS: 1, behind: 300, "probe.support.Seen": 400},
        "FILES_STORE": str(project.folder / "files"),
        "IMAGES_STORE": str(project.folder / "images"),
        "GO": origin.base,
        "THUMBS": origin.base,
        "PAGES": PAGES,
        "CONCURRENT_REQUESTS": 1,  # so that what a pipeline fetches and the pages wait for each other
        "CHUNKDL_PROBE": "range",
        **settings,
    }
    project.spider, project.support = SPIDER, SUPPORT
    return project


def own_file(found: dict[str, Any], name: str) -> bool:
    return [Path(path).read_bytes() if path else b"" for path in paths(found)] == [content(name, SIZE)]


def assert_each_came_out_once_with_its_own_file(project: Project) -> None:
    out = {found["n"]: own_file(found, f"{found['n']}.bin") for found in project.scraped()}
    assert sorted(found["n"] for found in project.scraped()) == list(range(PAGES))
    assert all(out.values()), f"without their own file: {[n for n, own in out.items() if not own]}"


@pytest.mark.long
@pytest.mark.parametrize("mode", ["queue", "inline"])
@pytest.mark.parametrize("behind", list(BEHIND))
def test_what_a_pipeline_behind_starts_does_not_pass_for_an_item_with_files(
    project: Project, origin: Origin, client: redis.Redis, behind: str, mode: str
) -> None:
    probe(project, origin, BEHIND[behind], CHUNKDL_MODE=mode)

    crawl = project.crawl()

    assert (crawl.returncode, crawl.stats["finish_reason"]) == (0, "finished"), crawl.log
    assert_each_came_out_once_with_its_own_file(project)
    assert "Traceback" not in crawl.log
    assert client.keys("*") == []


@pytest.mark.parametrize(
    "settings",
    [
        {"CONCURRENT_ITEMS": 1},
        {"CONCURRENT_REQUESTS": 16, "CHUNKDL_BATCH_SIZE": 1, "CHUNKDL_THREADS": 1},
        {"CONCURRENT_REQUESTS": 4, "CHUNKDL_LEASE": 3},
        {"TWISTED_REACTOR": "twisted.internet.selectreactor.SelectReactor"},
    ],
    ids=["one item", "small batches", "four pages", "select"],
)
@pytest.mark.parametrize("behind", ["fetches", "FilesPipeline"])
def test_so_it_is_whatever_runs_at_once(
    project: Project, origin: Origin, client: redis.Redis, behind: str, settings: dict[str, Any]
) -> None:
    probe(project, origin, BEHIND[behind], **settings)

    project.crawl()

    assert_each_came_out_once_with_its_own_file(project)
    assert client.keys("*") == []


def test_another_host_may_answer_what_a_pipeline_behind_fetches(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    probe(project, origin, BEHIND["fetches"], THUMBS=origin.at("localhost"))

    project.crawl()

    assert_each_came_out_once_with_its_own_file(project)


def test_the_files_field_has_the_files_of_its_own_item(project: Project, origin: Origin, client: redis.Redis) -> None:
    probe(project, origin, BEHIND["fetches"], CHUNKDL_FILES_FIELD="files")

    project.crawl()

    assert [[file["url"].partition("?")[0] for file in found["files"]] for found in project.scraped()] == [
        [f"{origin.base}/f/{found['n']}.bin"] for found in project.scraped()
    ]
    assert len(project.scraped()) == PAGES


def test_the_parts_a_pipeline_behind_makes_of_an_item_are_items_of_their_own(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    probe(project, origin, "probe.support.Splits")

    crawl = project.crawl()

    parts = {found["part_of"]: found for found in project.scraped() if "part_of" in found}
    assert sorted(parts) == list(range(PAGES)), crawl.log
    assert all(own_file(part, f"part{n}.bin") for n, part in parts.items())
    assert len(project.scraped()) == 2 * PAGES
    assert crawl.stats["chunkdl/items/queued"] == 2 * PAGES
    assert client.keys("*") == []


@pytest.mark.parametrize("behind", ["fetches", "FilesPipeline", "crawls"])
def test_a_worker_sends_items_past_such_pipelines_too(
    project: Project, origin: Origin, client: redis.Redis, behind: str
) -> None:
    probe(project, origin, BEHIND[behind])
    project.write()
    for n in range(PAGES):
        waiting = item(attachment(origin.url(f"{n}.bin", SIZE), f"{n}.bin"), n=n, thumb=origin.url(f"thumb{n}", 20))
        client.rpush("files:items", json.dumps({**waiting, "file_urls": [origin.url(f"other{n}", 30)]}))

    crawl = project.finish(project.begin("chunkdl", "worker", "--until-empty", "files"))

    assert crawl.returncode == 0, crawl.log
    assert_each_came_out_once_with_its_own_file(project)
    assert client.keys("*") == []


def test_an_item_that_fails_behind_others_that_fetch_comes_back(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    probe(project, origin, BEHIND["fetches"], CHUNKDL_RETRY_DELAY=0.2)
    project.settings["ITEM_PIPELINES"]["probe.support.FailsOnce"] = 350
    project.support += """

class FailsOnce(Behind):
    failed = frozenset()

    def process_item(self, item, spider=None):
        if item["n"] % 5 == 0 and item["n"] not in self.failed:
            self.failed |= {item["n"]}
            raise RuntimeError("not today")
        return item
"""

    crawl = project.crawl()

    assert crawl.stats["chunkdl/items/retried"] == 5
    assert_each_came_out_once_with_its_own_file(project)
    assert client.keys("*") == []


def test_an_item_processor_that_copies_items_does_not_send_them_round_for_ever(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    probe(project, origin, BEHIND["crawls"], ITEM_PROCESSOR="probe.support.Copies")
    project.support += """

import copy

from scrapy.pipelines import ItemPipelineManager


class Copies(ItemPipelineManager):
    if hasattr(ItemPipelineManager, "process_item_async"):
        async def process_item_async(self, item):
            return await super().process_item_async(copy.deepcopy(item))
    else:
        def process_item(self, item, spider):
            return super().process_item(copy.deepcopy(item), spider)
"""

    crawl = project.crawl()

    assert_each_came_out_once_with_its_own_file(project)
    assert crawl.stats["chunkdl/items/queued"] == PAGES
    assert client.keys("*") == []


def test_an_item_processor_that_overrides_process_item_has_its_outcome_seen(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    probe(project, origin, BEHIND["crawls"], ITEM_PROCESSOR="probe.support.Own")
    project.support += """

from scrapy.pipelines import ItemPipelineManager


class Own(ItemPipelineManager):
    def process_item(self, item, spider):
        return super().process_item(item, spider)
"""

    project.crawl()

    assert_each_came_out_once_with_its_own_file(project)
    assert client.keys("*") == []


def test_a_queued_item_counts_as_nothing_dropped_and_is_not_dumped(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"LOG_LEVEL": "DEBUG"}
    project.items = [item(attachment(origin.url("a", 10)), mark="find me")]

    crawl = project.crawl()

    assert crawl.stats.get("item_dropped_count", 0) == 0
    assert crawl.stats["item_scraped_count"] == crawl.stats["chunkdl/items/queued"] == 1
    assert crawl.log.count("find me") == 1  # when it comes out


def test_a_spider_middleware_never_meets_what_holds_the_scraper(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"SPIDER_MIDDLEWARES": {"probe.support.Reads": 500}, "CLOSESPIDER_ERRORCOUNT": 1}
    project.support = """
    class Reads:
        def process_spider_input(self, response, spider=None):
            response.meta["depth"], response.text

        async def process_spider_output(self, response, result):
            async for found in result:
                yield found
    """
    project.items = [item(attachment(origin.url(name, 10), name)) for name in "abcd"]

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "finished", crawl.log
    assert "spider_exceptions" not in str(crawl.stats)
    assert len(project.scraped()) == 4


@pytest.mark.parametrize("command", [["crawl", "files"], ["chunkdl", "worker", "--until-empty", "files"]])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_item_that_failed_is_waited_for_however_long_its_file_took(
    project: Project, origin: Origin, client: redis.Redis, command: list[str], threads: int
) -> None:
    """The list is looked at while the file is on its way, and found empty: the item must not be forgotten for that."""
    project.settings |= {"CHUNKDL_RETRY_DELAY": 2, "CHUNKDL_THREADS": threads}
    project.settings["ITEM_PIPELINES"] = {OURS: 1, "probe.support.FailsOnce": 2}
    project.support = """
    class FailsOnce:
        failed = False

        def process_item(self, item, spider=None):
            if not self.failed:
                self.failed = True
                raise RuntimeError("not today")
            return item
    """
    client.rpush("files:items", json.dumps(item(attachment(origin.url("a", 10, "delay:1.0@get")))))

    crawl = project.finish(project.begin(*command))

    assert crawl.stats["finish_reason"] == "finished"
    assert len(project.scraped()) == 1, crawl.log
    assert client.exists(DELAYED, LEASES, DEAD, "files:items") == 0


def test_a_pipeline_before_ours_is_told_by_its_place_though_the_numbers_are_equal(
    project: Project, origin: Origin
) -> None:
    project.settings["ITEM_PIPELINES"] = {"probe.support.Seen": 1, OURS: 1}
    project.items = [item(attachment(origin.url("a", 10)))]

    crawl = project.crawl()

    assert crawl.returncode == 1
    assert "ITEM_PIPELINES has Seen before ChunkDownloadPipeline (1)" in crawl.log
    assert project.seen() == []


@pytest.mark.parametrize("raised", ["asyncio.CancelledError", "GeneratorExit", "TimeoutError", "MemoryError"])
def test_whatever_a_pipeline_raises_is_named_and_the_item_is_kept(
    project: Project, origin: Origin, client: redis.Redis, raised: str
) -> None:
    project.settings |= {"CHUNKDL_RETRY_DELAY": 0.01, "CHUNKDL_MAX_DELIVERIES": 2}
    project.settings["ITEM_PIPELINES"] = {OURS: 1, "probe.support.Raises": 2}
    project.support = f"""
    import asyncio

    class Raises:
        async def process_item(self, item, spider=None):
            if item["n"] == 1:
                raise {raised}
            return item
    """
    project.items = [item(attachment(origin.url(str(n), 10)), n=n) for n in range(3)]

    crawl = project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == [0, 2]
    assert f"now in a later pipeline ({raised.rpartition('.')[2]}" in crawl.log
    assert [json.loads(dead)["n"] for dead in client.lrange(DEAD, 0, -1)] == [1]


def test_one_item_at_a_time_is_the_least(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.settings["CONCURRENT_ITEMS"] = 0
    project.items = [item(attachment(origin.url(str(n), 10)), n=n) for n in range(3)]

    project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == [0, 1, 2]


def test_a_class_derived_from_ours_and_filespipeline_is_ours(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings["ITEM_PIPELINES"] = {"probe.support.Both": 1}
    project.settings |= {"CHUNKDL_ATTACHMENTS": "file_urls", "CHUNKDL_FILES_FIELD": "files"}
    project.support = """
    from scrapy.pipelines.files import FilesPipeline
    from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

    class Both(ChunkDownloadPipeline, FilesPipeline):
        pass
    """
    project.items = [{"file_urls": [origin.url("a", 10)]}]

    crawl = project.crawl()

    assert [len(found["files"]) for found in project.scraped()] == [1], crawl.log
