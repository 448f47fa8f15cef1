"""Hooks written for FilesPipeline: what they are given, what they may give back, and what is told of the rest."""

from __future__ import annotations

import inspect
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import scrapy
from origin import Origin
from origin_content import content
from project import Project, attachment, item
from scrapy.pipelines.files import FilesPipeline
from scrapy.pipelines.images import ImagesPipeline

from scrapy_chunkdl.crawl.hook_requests import as_attachment, as_request
from scrapy_chunkdl.crawl.hooks import UNUSED, Hooks, warn_of_unused
from scrapy_chunkdl.items.attachments import Attachment
from scrapy_chunkdl.pipelines import ChunkDownloadPipeline
from scrapy_chunkdl.settings.config import ConfigError

SAME_REQUEST = """
import scrapy
from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class Own(ChunkDownloadPipeline):
    made = {}

    def get_media_requests(self, item, info):
        for number, url in enumerate(item["urls"]):
            request = scrapy.Request(
                url, meta={"folder": item["title"]}, cb_kwargs={"number": number}, flags=["mine"],
                headers={"X-Number": str(number)},
            )
            self.made[url] = request
            yield request

    def file_path(self, request, response=None, info=None, *, item=None):
        assert request is self.made[request.url]
        return f"{request.meta['folder']}/{request.cb_kwargs['number']}-{request.flags[0]}"

    async def renew_url(self, request, info=None, *, item=None):
        assert request is self.made[request.url]
        return request.replace(headers={"Authorization": "new"})
"""


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_later_hooks_see_the_very_request_that_was_made(project: Project, origin: Origin, mode: str) -> None:
    project.settings |= {"CHUNKDL_MODE": mode, "ITEM_PIPELINES": {"probe.support.Own": 1}}
    project.settings |= {"CHUNKDL_FILES_FIELD": "files"}
    project.support = SAME_REQUEST
    project.items = [{"title": "t", "urls": [origin.url("a", 10), origin.url("b", 20, "auth:new")]}]

    crawl = project.crawl()

    assert project.files() == {"t/0-mine": content("a", 10), "t/1-mine": content("b", 20)}, crawl.log
    [finished] = project.scraped()
    assert [file["path"] for file in finished["files"]] == ["t/0-mine", "t/1-mine"]
    assert set(origin.stats("b").headers("X-Number")) == {"1"}
    assert crawl.stats["chunkdl/links/renewed"] == 1


BEFORE = """
from scrapy.exceptions import DropItem
from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class Own(ChunkDownloadPipeline):
    seen = 0

    async def before_queueing(self, item, info):
        self.seen += 1
        info.spider.crawler.stats.set_value("seen", self.seen)
        if item.get("old"):
            raise DropItem("too old")
        return {"folder": "default", **item}

    def file_path(self, request, response=None, info=None, *, item=None):
        return f"{item['folder']}/a"
"""


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_before_queueing_filters_and_completes_items_once_before_any_file_is_fetched(
    project: Project, origin: Origin, mode: str
) -> None:
    project.settings |= {"CHUNKDL_MODE": mode, "ITEM_PIPELINES": {"probe.support.Own": 1}}
    project.support = BEFORE
    wanted, old = attachment(origin.url("a", 10)), attachment(origin.url("old", 10))
    project.items = [item(wanted), item(old, old=True), {"title": "without files"}]

    crawl = project.crawl()

    assert crawl.stats["seen"] == 3
    assert crawl.stats["item_dropped_reasons_count/DropItem"] == 1
    assert origin.stats("old").requests == 0
    assert project.files() == {"default/a": content("a", 10)}
    assert sorted(found["folder"] for found in project.scraped()) == ["default", "default"]


LACKING = """
import scrapy

class Rep(scrapy.Item):
    file_urls = scrapy.Field()

class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        for url in ITEMS:
            yield Rep(file_urls=[url])
"""


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_a_class_without_the_files_field_is_one_error_and_no_retries(
    project: Project, origin: Origin, client: redis.Redis, mode: str
) -> None:
    project.settings |= {"CHUNKDL_MODE": mode, "CHUNKDL_ATTACHMENTS": "file_urls", "CHUNKDL_FILES_FIELD": "files"}
    project.spider = LACKING
    project.items = [origin.url("a", 10)] * 3
    waiting = [{"chunkdl_item_class": "probe.spider.Rep", "file_urls": project.items[:1]}] if mode == "queue" else []
    for entry in waiting:
        client.rpush("files:items", json.dumps(entry))

    crawl = project.crawl()

    assert crawl.log.count("] ERROR: ") == 1, crawl.log
    assert "CHUNKDL_FILES_FIELD = 'files', but items of class Rep have no such field" in crawl.log
    assert "Traceback" not in crawl.log
    assert origin.stats("a").requests == 0
    assert crawl.stats.get("chunkdl/items/retried") is None
    assert client.llen("{files:items}:dead") == (4 if mode == "queue" else 0)


# --- without a crawl

INFO = SimpleNamespace(spider=None)


def hooks(**overrides: Any) -> Hooks:
    cls: Any = type("Own", (ChunkDownloadPipeline,), overrides)
    return Hooks(cls.__new__(cls), ChunkDownloadPipeline, INFO)


SIGNATURES = {
    "today's": lambda self, request, response=None, info=None, *, item=None: f"{request.url[-1]}-{item}",
    "without item": lambda self, request, response=None, info=None: f"{request.url[-1]}-i",
    "the request alone": lambda self, request: f"{request.url[-1]}-i",
    "any": lambda self, request, **rest: f"{request.url[-1]}-{rest['item']}",
    "info alone": lambda self, request, info: f"{request.url[-1]}-i",
    "all by position": lambda self, request, response, info, item: f"{request.url[-1]}-{item}",
    "static": staticmethod(lambda request, item=None: f"{request.url[-1]}-{item}"),
    "a path object": lambda self, request, item: Path(f"{request.url[-1]}-{item}"),
}


@pytest.mark.parametrize("file_path", SIGNATURES.values(), ids=SIGNATURES)
def test_file_path_may_have_any_signature_it_ever_had(file_path: Any) -> None:
    assert hooks(file_path=file_path).path_of(scrapy.Request("http://h/a"), "i") == "a-i"


def gives(value: Any) -> Any:
    return lambda self, *args, **kwargs: value


async def gives_later(self: Any, *args: Any, **kwargs: Any) -> str:
    return "a"


@pytest.mark.parametrize(
    ("hook", "value", "told"),
    [
        ("file_path", None, "file_path gave None, not a path inside CHUNKDL_STORE"),
        ("file_path", b"a", "file_path gave b'a', not a path"),
        ("file_path", ["a"], "file_path gave ['a'], not a path"),
        ("get_media_requests", ["http://h/a"], "get_media_requests gave 'http://h/a', not a scrapy.Request"),
        ("get_media_requests", "http://h/a", "get_media_requests gave 'http://h/a', not a scrapy.Request"),
        ("get_media_requests", [None], "get_media_requests gave None, not a scrapy.Request"),
        ("item_completed", None, "item_completed gave None, not an item (raise DropItem to drop it)"),
        ("before_queueing", None, "before_queueing gave None, not an item"),
        ("renew_url", 7, "renew_url gave 7, not a URL, a scrapy.Request or None"),
        ("renew_url", b"http://h/", "renew_url gave b'http://h/', not a URL"),
    ],
)
async def test_what_a_hook_gives_wrongly_is_told_by_its_name(hook: str, value: Any, told: str) -> None:
    own, request = hooks(**{hook: gives(value)}), scrapy.Request("http://h/a")
    calls: dict[str, Any] = {
        "file_path": lambda: own.path_of(request, {}),
        "get_media_requests": lambda: own.selected({}),
        "item_completed": lambda: own.completed([], {}),
        "before_queueing": lambda: own.before_queueing({}),
        "renew_url": lambda: own.renewed(request, {}),
    }

    async def call() -> None:
        made = calls[hook]()
        await made if inspect.isawaitable(made) else None

    with pytest.raises(TypeError) as raised:
        await call()

    assert str(raised.value).startswith(told)


@pytest.mark.parametrize("hook", ["file_path", "get_media_requests", "item_completed"])
def test_an_async_hook_that_nobody_would_await_is_refused_at_start(hook: str) -> None:
    with pytest.raises(ConfigError, match=rf"Own\.{hook} is async"):
        hooks(**{hook: gives_later})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"meta": {"checksum": ["sha256:00"]}}, 'meta["checksum"] as list, not a string'),
        ({"meta": {"checksum": b"sha256:00"}}, 'meta["checksum"] as bytes, not a string'),
        ({"meta": {"checksum": {"sha256": "00"}}}, 'meta["checksum"] as dict, not a string'),
        ({"meta": {"filename": 7}}, 'meta["filename"] as int, not a string'),
        ({"meta": {"filename": ["a.pdf"]}}, 'meta["filename"] as list, not a string'),
        ({"meta": {"proxy": {"http": "x"}}}, 'meta["proxy"] as dict, not a string'),
        ({"meta": {"mirrors": "http://h/b"}}, 'meta["mirrors"], which is not a list of URLs'),
        ({"meta": {"mirrors": [7]}}, 'meta["mirrors"], which is not a list of URLs'),
        ({"meta": {"mirrors": {"http://h/b": 1}}}, 'meta["mirrors"], which is not a list of URLs'),
        ({"meta": {"accept": 7}}, 'meta["accept"], which is not types or extensions'),
        ({"meta": {"cookiejar": []}}, 'meta["cookiejar"], which is not the name of one'),
        ({"cookies": ["a=b"]}, "cookies that are no pairs of name and value"),
        ({"cookies": [{"name": "a"}]}, "cookies that are no pairs of name and value"),
        ({"cookies": [{"name": 7, "value": "b"}]}, "cookies that are no pairs of name and value"),
        ({"cookies": {7: "b"}}, "cookies that are no pairs of name and value"),
    ],
)
def test_a_request_that_cannot_be_made_is_a_problem_of_its_file_alone(options: dict[str, Any], problem: str) -> None:
    found = as_attachment(scrapy.Request("http://h/a", **options))

    assert found.problem is not None
    assert problem in found.problem
    assert len(found.problem) < 200


@pytest.mark.parametrize("nothing", [None, "", b"", [], (), {}])
@pytest.mark.parametrize("name", ["checksum", "filename", "proxy", "mirrors"])
def test_what_is_empty_in_a_request_is_as_if_it_were_not_there(name: str, nothing: object) -> None:
    found = as_attachment(scrapy.Request("http://h/a", meta={name: nothing}))

    assert found.problem is None
    assert getattr(found, name) == getattr(Attachment("http://h/a"), name)


def test_a_request_stands_for_its_attachment_and_is_made_once() -> None:
    shown = as_request(Attachment("http://h/a", filename="n", headers={"X": "1"}))
    changed = shown.replace(url="http://h/b")

    again = as_attachment(changed)

    assert as_request(again) is changed
    assert (again.url, again.filename, again.headers) == ("http://h/b", "n", {"X": "1"})


def test_every_name_of_scrapys_pipelines_is_a_hook_here_or_told_at_start(caplog: pytest.LogCaptureFixture) -> None:
    theirs = {name for cls in (FilesPipeline, ImagesPipeline) for name in dir(cls) if not name.startswith("_")}
    theirs |= {"files_urls_field", "files_result_field", "expires", "store", "crawler", "spiderinfo"}
    ours = {name for name in dir(ChunkDownloadPipeline)} | {"crawler", "spiderinfo"}
    of_images_alone = {name for name in theirs if name.isupper()} | {"SpiderInfo", "images_urls_field"}

    assert theirs - ours - set(UNUSED) - of_images_alone == set()


@pytest.mark.parametrize("name", UNUSED)
def test_what_does_nothing_here_is_named_at_start_with_what_to_do_instead(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    base = type("Base", (ChunkDownloadPipeline,), {name: None})

    warn_of_unused(type("Own", (base,), {}), ChunkDownloadPipeline, mode="queue")

    [message] = caplog.messages
    assert message.startswith(f"Own.{name} does nothing here")
    assert len(message) <= 300


@pytest.mark.parametrize(("mode", "told"), [("queue", 1), ("inline", 0)])
def test_an_overridden_process_item_is_told_to_run_twice_with_the_queue(
    mode: str, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_unused(type("Own", (ChunkDownloadPipeline,), {"process_item": None}), ChunkDownloadPipeline, mode=mode)

    assert caplog.text.count("process_item runs twice") == told


def test_the_hooks_that_are_there_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    class Own(ChunkDownloadPipeline):
        def file_path(self, request: Any, response: Any = None, info: Any = None, *, item: Any = None) -> str:
            return super().file_path(request, response, info, item=item)

        def open_spider(self, spider: Any = None) -> None:
            super().open_spider(spider)

    with caplog.at_level(logging.INFO):
        warn_of_unused(Own, ChunkDownloadPipeline, mode="queue")

    [record] = caplog.records
    assert "calls super().file_path()" in record.getMessage()
    assert record.levelno == logging.INFO


OLD_NAMES = """
import os
from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class Own(ChunkDownloadPipeline):
    def open_spider(self, spider=None):
        super().open_spider(spider)
        self.opened = True

    def media_downloaded(self, response, request, info, *, item=None):
        raise AssertionError("never called")

    def item_completed(self, results, item, info):
        assert info is self.spiderinfo
        [(ok, file)] = results
        path = os.path.join(self.store.basedir, file["path"])
        self.inc_stats(file["status"])
        self.inc_stats(info.spider, "uptodate")
        told = [self.opened, self.files_urls_field, self.files_result_field, self.expires, self.crawler.spider.name]
        return {"size": os.path.getsize(path), "told": told}
"""


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_names_that_a_subclass_of_filespipeline_uses_are_there(project: Project, origin: Origin, mode: str) -> None:
    project.settings |= {"CHUNKDL_MODE": mode, "ITEM_PIPELINES": {"probe.support.Own": 1}}
    project.settings |= {"CHUNKDL_ATTACHMENTS": "file_urls", "CHUNKDL_FILES_FIELD": "files", "FILES_EXPIRES": 30}
    project.support = OLD_NAMES
    project.items = [{"file_urls": [origin.url("a", 10)]}]

    crawl = project.crawl()

    assert project.scraped() == [{"size": 10, "told": [True, "file_urls", "files", 30, "files"]}], crawl.log
    counted = ("file_count", "file_status_count/downloaded", "file_status_count/uptodate")
    assert [crawl.stats[name] for name in counted] == [2, 1, 1]
    assert "Own.media_downloaded does nothing here" in crawl.log
