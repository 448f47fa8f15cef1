"""What a project may decide by overriding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis
from origin import Origin
from origin_content import content
from project import Project, attachment, item, paths

NAMED_BY_TITLE = """
from pathlib import PurePosixPath

from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class ByTitle(ChunkDownloadPipeline):
    def file_path(self, request, response=None, info=None, *, item=None):
        if "refuse" in request.url:
            raise ValueError("not this one")
        if "escape" in request.url:
            return "../outside.bin"
        return f"{item['data'][0]['title']}/{request.meta['filename']}"
"""


def test_file_path_decides_where_files_go_and_none_overwrites_another(project: Project, origin: Origin) -> None:
    project.settings["ITEM_PIPELINES"] = {"probe.support.ByTitle": 1}
    project.support = NAMED_BY_TITLE
    names = {"one": 1000, "two": 2000}
    project.items = [item(attachment(origin.url(name, size), "same.bin")) for name, size in names.items()]

    project.crawl()

    written = sorted(Path(paths(found)[0]) for found in project.scraped())
    assert {path.parent for path in written} == {project.folder / "downloads" / "a report"}
    assert {path.read_bytes() for path in written} == {content(name, size) for name, size in names.items()}
    assert any(path.name == "same.bin" for path in written)


def test_a_path_that_is_refused_or_leaves_the_store_gives_the_file_up(project: Project, origin: Origin) -> None:
    project.settings["ITEM_PIPELINES"] = {"probe.support.ByTitle": 1}
    project.support = NAMED_BY_TITLE
    project.items = [item(attachment(origin.url("refuse", 10), "a"), attachment(origin.url("escape", 10), "b"))]

    crawl = project.crawl()

    assert paths(project.scraped()[0]) == ["", ""]
    assert crawl.stats["chunkdl/failures/bad_path"] == 2
    assert not (project.folder / "outside.bin").exists()
    assert "not this one" in crawl.log


SELECTING = """
import scrapy

from scrapy.exceptions import DropItem
from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class Selecting(ChunkDownloadPipeline):
    def get_media_requests(self, item, info):
        for request in super().get_media_requests(item, info):
            if "skip" not in request.url:
                request.headers["X-Spider"] = info.spider.name
                request.meta["filename"] = "chosen-" + request.meta["filename"]
                yield request
        for url in item.get("more", []):
            yield scrapy.Request(url, meta={"filename": "more.bin"})
        if item.get("broken"):
            raise RuntimeError("no requests today")

    def item_completed(self, results, item, info):
        if not any(ok for ok, _ in results):
            raise DropItem("it has no files")
        item["told"] = [file if ok else file.value.reason for ok, file in results]
        return item
"""


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_attachments_are_left_out_changed_and_added_and_the_item_is_told_of_all(
    project: Project, origin: Origin, client: redis.Redis, mode: str
) -> None:
    project.settings |= {"CHUNKDL_MODE": mode, "ITEM_PIPELINES": {"probe.support.Selecting": 1}}
    project.support = SELECTING
    more = origin.url("more", 20)
    wanted, skipped = attachment(origin.url("a", 10), "a"), attachment(origin.url("skip", 10), "s")
    gone = attachment(origin.url("gone", 10, "status:404"), "g")
    project.items = [item(wanted, skipped, gone, more=[more]), item(skipped)]

    crawl = project.crawl()

    [finished] = project.scraped()
    path, none, empty = paths(finished)
    assert Path(path).name == "chosen-a"
    assert (none, empty) == ("", "")
    first, reason, third = finished["told"]
    assert (first["url"], first["status"], reason, third["url"]) == (wanted["ori_url"], "downloaded", "http_404", more)
    assert (project.folder / "downloads" / third["path"]).read_bytes() == content("more", 20)
    assert set(origin.stats("a").headers("X-Spider")) == {"files"}
    assert origin.stats("skip").requests == 0
    assert crawl.stats["item_dropped_reasons_count/DropItem"] == 1
    assert [key for key in client.keys("*") if not key.endswith(b":failed")] == []


def test_a_hook_that_raises_is_an_error_of_the_item_and_in_the_queue_it_comes_back(
    project: Project, client: redis.Redis
) -> None:
    project.settings |= {
        "ITEM_PIPELINES": {"probe.support.Selecting": 1},
        "CHUNKDL_RETRY_DELAY": 0,
        "CHUNKDL_MAX_DELIVERIES": 2,
    }
    project.support = SELECTING
    project.items = [{"broken": True}]
    client.rpush("files:items", json.dumps({"broken": True}))

    crawl = project.crawl()

    assert project.scraped() == []
    assert crawl.log.count("no requests today") >= 3
    assert client.lrange("{files:items}:dead", 0, -1) == [b'{"broken": true}']


@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        ("get_media_requests(self, item, info): return ['http://h/a']", "gave 'http://h/a', not a scrapy.Request"),
        ("file_path(self, request, response=None, info=None, *, item=None): pass", "gave None, not a path inside"),
    ],
)
def test_a_hook_that_gives_something_else_is_told_what_it_gave(project: Project, hook: str, problem: str) -> None:
    project.settings |= {"CHUNKDL_MODE": "inline", "ITEM_PIPELINES": {"probe.support.Own": 1}}
    project.support = f"""
    from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

    class Own(ChunkDownloadPipeline):
        def {hook}
    """
    project.items = [item(attachment("http://127.0.0.1:1/a"))]

    crawl = project.crawl()

    assert f"TypeError: {hook.partition('(')[0]} {problem}" in crawl.log
    assert project.scraped() == []


WITH_COOKIES = """
from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class WithCookies(ChunkDownloadPipeline):
    def get_media_requests(self, item, info):
        first, second = super().get_media_requests(item, info)
        first.headers["Cookie"] = "old=1"
        return [
            first.replace(cookies={"session": "a", b"number": 7}),
            second.replace(cookies=[{"name": "session", "value": b"b", "path": "/"}]),
        ]
"""


def test_cookies_of_a_request_are_sent(project: Project, origin: Origin) -> None:
    project.settings |= {"CHUNKDL_MODE": "inline", "ITEM_PIPELINES": {"probe.support.WithCookies": 1}}
    project.support = WITH_COOKIES
    project.items = [item(attachment(origin.url("a", 10)), attachment(origin.url("b", 10)))]

    project.crawl()

    assert set(origin.stats("a").headers("Cookie")) == {"session=a; number=7; old=1"}
    assert set(origin.stats("b").headers("Cookie")) == {"session=b"}


RENEWING = """
import scrapy

from scrapy.utils.defer import maybe_deferred_to_future
from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class Renewing(ChunkDownloadPipeline):
    async def renew_url(self, request, info=None, *, item=None):
        if "forget" in request.url:
            raise RuntimeError("cannot be renewed")
        engine = info.spider.crawler.engine
        page = scrapy.Request(item["page"])
        if hasattr(engine, "download_async"):
            response = await engine.download_async(page)
        else:
            response = await maybe_deferred_to_future(engine.download(page))
        return item["fresh"] if response.status == 200 else None
"""


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_an_expired_link_is_renewed_by_a_request_of_the_spider(project: Project, origin: Origin, mode: str) -> None:
    project.settings |= {"CHUNKDL_MODE": mode, "ITEM_PIPELINES": {"probe.support.Renewing": 1}}
    project.support = RENEWING
    dead, lost = origin.url("a", 1000, "status:403"), origin.url("forget", 10, "status:410")
    project.items = [
        item(attachment(dead), attachment(lost), page=origin.url("page", 5), fresh=origin.url("a", 1000, v="fresh"))
    ]

    crawl = project.crawl()

    [finished] = project.scraped()
    path, none = paths(finished)
    assert Path(path).read_bytes() == content("a", 1000)
    assert none == ""
    assert crawl.stats["chunkdl/links/renewed"] == 1
    assert crawl.stats["chunkdl/failures/http_410"] == 1
    assert "cannot be renewed" in crawl.log
    assert origin.stats("page").methods["GET"] == 1


LISTENING = """
import scrapy

from scrapy_chunkdl import signals

class FilesSpider(scrapy.Spider):
    name = "files"
    told = []

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.downloaded, signals.attachment_downloaded)
        crawler.signals.connect(spider.failed, signals.attachment_failed)
        crawler.signals.connect(spider.claimed, signals.item_claimed)
        crawler.signals.connect(spider.finished, signals.item_finished)
        return spider

    async def start(self):
        for item in ITEMS:
            yield item

    def downloaded(self, item, url, path, result, spider):
        self.logger.info("TOLD downloaded %s %s %s", result["status"], result["size"], bool(path))

    def failed(self, item, url, error):
        self.logger.info("TOLD failed %s", error.reason)

    def claimed(self, item):
        self.logger.info("TOLD claimed %s", item["n"])
        raise RuntimeError("a receiver that fails")

    async def finished(self, item):
        from scrapy.utils.defer import maybe_deferred_to_future
        from twisted.internet.defer import Deferred
        from twisted.internet import reactor
        waited = Deferred()
        reactor.callLater(0.3, waited.callback, None)
        await maybe_deferred_to_future(waited)
        self.logger.info("TOLD finished %s", item["marked"])
"""

MARKING = """
class Mark:
    def process_item(self, item, spider=None):
        return {**item, "marked": True}
"""


def test_signals_tell_of_claims_files_and_finished_items_and_the_spider_waits_for_async_receivers(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    pipelines = {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1, "probe.support.Mark": 2}
    project.settings |= {"ITEM_PIPELINES": pipelines}
    project.spider, project.support = LISTENING, MARKING
    project.items = [item(attachment(origin.url("a", 10)), attachment(origin.url("b", 10, "status:404")), n=7)]

    crawl = project.crawl()

    told = [line.partition("TOLD ")[2] for line in crawl.log.splitlines() if "TOLD" in line]
    assert told[0] == "claimed 7"
    assert sorted(told[1:3]) == ["downloaded downloaded 10 True", "failed http_404"]
    assert told[3:] == ["finished True"]
    assert "a receiver that fails" in crawl.log
    assert crawl.stats["item_scraped_count"] == 1
