"""Items of every type through whole crawls, in both modes, and FilesPipeline's fields."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis
from origin import Origin
from origin_content import content
from project import Project, attachment, item, paths

TYPES = """
from dataclasses import dataclass, field

import attrs
import pydantic
import scrapy


@dataclass
class Pdf:
    ori_url: str
    path: str = ""


@dataclass
class Dataclass:
    pdfs: list


@attrs.define
class Attrs:
    pdfs: list


class Item(scrapy.Item):
    pdfs = scrapy.Field()


class PydanticPdf(pydantic.BaseModel):
    ori_url: str
    path: str = ""


class Pydantic(pydantic.BaseModel):
    pdfs: list[PydanticPdf]
"""

SPIDER = """
import scrapy

from probe.types import Attrs, Dataclass, Item, Pdf, Pydantic, PydanticPdf

class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        for url in ITEMS:
            yield Dataclass([Pdf(url)])
            yield Attrs([Pdf(url)])
            yield Item(pdfs=[Pdf(url)])
            yield Pydantic(pdfs=[PydanticPdf(ori_url=url)])
            yield {"pdfs": [{"ori_url": url}]}
"""

TELL_TYPE = """
class TellType:
    def process_item(self, item, spider=None):
        if isinstance(item, dict):
            [pdf] = item["pdfs"]
            path = pdf["path"]
        else:
            [pdf] = item["pdfs"] if type(item).__name__ == "Item" else item.pdfs
            path = pdf.path
        with open("types.jsonl", "a") as file:
            file.write(json.dumps([type(item).__name__, type(pdf).__name__, path]) + "\\n")
        return item
"""

ALL = {
    "Attrs": "Pdf",
    "Dataclass": "Pdf",
    "Item": "Pdf",
    "Pydantic": "PydanticPdf",
    "dict": "dict",
}


@pytest.fixture
def typed(project: Project, origin: Origin) -> Project:
    project.settings |= {
        "CHUNKDL_ATTACHMENTS": "pdfs",
        "ITEM_PIPELINES": {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1, "probe.support.TellType": 2},
    }
    project.spider = SPIDER
    project.support = TELL_TYPE
    project.items = [origin.url("a.pdf", 1000)]
    project.write()
    (project.folder / "probe" / "types.py").write_text(TYPES)
    return project


def told(project: Project) -> dict[str, str]:
    lines = [json.loads(line) for line in (project.folder / "types.jsonl").read_text().splitlines()]
    assert all(Path(path).read_bytes() == content("a.pdf", 1000) for _, _, path in lines)
    return {name: inner for name, inner, _ in lines}


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_each_item_comes_out_of_the_type_it_was(typed: Project, origin: Origin, mode: str) -> None:
    typed.settings["CHUNKDL_MODE"] = mode

    crawl = typed.crawl()

    assert told(typed) == ALL
    assert "WARNING" not in crawl.log
    assert origin.stats("a.pdf").methods["GET"] == 1  # five items share it


def test_items_that_another_process_has_queued_are_of_their_type_again(typed: Project, client: redis.Redis) -> None:
    typed.settings["CHUNKDL_MAX_FILE_SIZE"] = 1
    typed.settings["CHUNKDL_ON_FAILURE"] = "hold"
    typed.crawl()
    payloads = [json.dumps(json.loads(entry)["item"]) for entry in client.lrange("{files:items}:failed", 0, -1)]
    typed.settings |= {"CHUNKDL_MAX_FILE_SIZE": 0}
    typed.items = []
    client.flushall()
    client.rpush("files:items", *payloads)

    crawl = typed.crawl()

    assert told(typed) == ALL
    assert "WARNING" not in crawl.log


def test_an_item_that_cannot_take_its_path_is_kept_among_the_dead(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.items = [origin.url("a", 10)]
    project.spider = """
    import scrapy

    class File(scrapy.Item):
        ori_url = scrapy.Field()

    class FilesSpider(scrapy.Spider):
        name = "files"

        async def start(self):
            for url in ITEMS:
                yield {"data": [{"attachments": [File(ori_url=url)]}]}
    """

    crawl = project.crawl()

    assert "path cannot be written into an attachment of type File" in crawl.log
    assert client.llen("{files:items}:dead") == 1
    assert project.scraped() == []


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_the_fields_of_filespipeline_work_with_two_settings(project: Project, origin: Origin, mode: str) -> None:
    project.settings |= {
        "CHUNKDL_MODE": mode,
        "CHUNKDL_ATTACHMENTS": "file_urls",
        "CHUNKDL_FILES_FIELD": "files",
        "CHUNKDL_CHECKSUM": "md5",
    }
    urls = [origin.url("a.pdf", 1000), origin.url("gone", 10, "status:404"), origin.url("b.pdf", 10)]
    project.items = [{"file_urls": urls}, {"title": "without files"}]

    project.crawl()

    plain, finished = sorted(project.scraped(), key=lambda found: len(found["files"]))
    assert plain == {"title": "without files", "files": []}
    assert finished["file_urls"] == urls
    assert [file["url"] for file in finished["files"]] == [urls[0], urls[2]]
    assert [file["status"] for file in finished["files"]] == ["downloaded", "downloaded"]
    for file in finished["files"]:
        assert set(file) == {"url", "path", "checksum", "status"}
        assert (project.folder / "downloads" / file["path"]).exists()
        assert len(file["checksum"]) == 32


def test_several_places_of_any_depth_and_a_bare_url_without_a_list(project: Project, origin: Origin) -> None:
    project.settings["CHUNKDL_ATTACHMENTS"] = ["cover", "parts.files.more", "data.attachments"]
    url = origin.url("a", 10)
    project.items = [
        item(attachment(url, "x"), cover=url, parts=[{"files": [{"more": [attachment(url, "y"), url]}]}, {"files": []}])
    ]

    project.crawl()

    [finished] = project.scraped()
    more = finished["parts"][0]["files"][0]["more"]
    for path in [finished["cover"]["path"], more[0]["path"], more[1]["path"], *paths(finished)]:
        assert Path(path).read_bytes() == content("a", 10)
    assert finished["cover"]["ori_url"] == url


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_items_of_an_unknown_type_pass_untouched_and_are_told_of_once(project: Project, mode: str) -> None:
    project.settings |= {"CHUNKDL_MODE": mode, "CHUNKDL_FILES_FIELD": "files", "FEEDS": {}}
    project.settings["ITEM_PIPELINES"] = {
        "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
        "probe.support.Look": 2,
    }
    project.support = """
    class Look:
        def process_item(self, item, spider=None):
            print("PASSED", vars(item))
            return item
    """
    project.spider = """
    import scrapy

    class Plain:
        def __init__(self, number):
            self.data = [{"attachments": [{"ori_url": "http://127.0.0.1:1/", "number": number}]}]

    class FilesSpider(scrapy.Spider):
        name = "files"

        async def start(self):
            for number in range(3):
                yield Plain(number)
    """

    crawl = project.crawl()

    assert crawl.log.count("PASSED {'data': [{'attachments': [{'ori_url': 'http://127.0.0.1:1/', 'number': ") == 3
    assert crawl.log.count("] WARNING: ") == 2
    assert "Items: 3 scraped, none with attachments" in crawl.log  # the one at the end
    assert "Items of type Plain have no attachments that could be found: yield a dict, Item" in crawl.log
    assert crawl.stats["item_scraped_count"] == 3


HOLDING = """
import pathlib, uuid, enum, datetime, decimal
import scrapy

class Colour(enum.Enum):
    RED = 1

class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        values = {
            "uuid": uuid.UUID(int=1), "enum": Colour.RED, "path": pathlib.Path("/a"), "bytes": b"a",
            "delta": datetime.timedelta(1), "when": datetime.datetime(2022, 1, 1), "price": decimal.Decimal("1.0"),
        }
        for url in ITEMS:
            yield {"data": {"attachments": [url]}, **values}
            yield {"data": {"attachments": [url]}, "pages": [1, {"inner": object()}]}
"""

PRINTING = """
class Look:
    def process_item(self, item, spider=None):
        print("SEEN", {name: value for name, value in item.items() if name != "data"})
        return {"data": item["data"]}
"""


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_values_of_all_kinds_reach_the_pipelines_behind_as_they_were(
    project: Project, origin: Origin, client: redis.Redis, mode: str
) -> None:
    pipelines = {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1, "probe.support.Look": 2}
    project.settings |= {"CHUNKDL_MODE": mode, "ITEM_PIPELINES": pipelines}
    project.support, project.spider = PRINTING, HOLDING
    project.items = [origin.url("a", 10)]

    crawl = project.crawl()

    assert (
        "SEEN {'uuid': UUID('00000000-0000-0000-0000-000000000001'), 'enum': <Colour.RED: 1>, "
        "'path': PosixPath('/a'), 'bytes': b'a', 'delta': datetime.timedelta(days=1), "
        "'when': datetime.datetime(2022, 1, 1, 0, 0), 'price': Decimal('1.0')}"
    ) in crawl.log
    assert len(project.scraped()) == (1 if mode == "queue" else 2)


def test_an_item_that_cannot_wait_is_told_by_field_and_kept_among_the_dead(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.spider = HOLDING
    project.settings |= {"ITEM_PIPELINES": {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1}, "FEEDS": {}}
    project.items = [origin.url("a", 10)]

    crawl = project.crawl()

    assert "An item cannot wait in Redis: pages[1].inner is object <object object at" in crawl.log
    assert "kept in {files:items}:dead" in crawl.log
    assert "Traceback" not in crawl.log
    [kept] = [json.loads(entry) for entry in client.lrange("{files:items}:dead", 0, -1)]
    assert kept["data"]["attachments"] == project.items
    [record] = [json.loads(entry) for entry in client.lrange("{files:items}:failed", 0, -1)]
    assert record["reason"] == "bad_item"
    assert "pages[1].inner" in record["message"]
    assert crawl.stats["chunkdl/items/dead"] == 1


@pytest.mark.parametrize(
    ("serializer", "settings", "refused"),
    [
        ("pickle.dumps", {}, True),
        ("json.loads", {}, True),
        ("probe.nothing", {}, True),
        ("json.dumps", {}, False),
        ("pickle.dumps", {"CHUNKDL_ITEMS_KEY": "other"}, False),
        ("pickle.dumps", {"CHUNKDL_MODE": "inline"}, False),
    ],
)
def test_a_serializer_that_writes_no_json_into_the_list_is_refused(
    project: Project, serializer: str, settings: dict[str, str], refused: bool
) -> None:
    project.settings |= {"REDIS_ITEMS_SERIALIZER": serializer, **settings}

    crawl = project.crawl()

    assert (f"REDIS_ITEMS_SERIALIZER = '{serializer}' does not write JSON" in crawl.log) == refused
    assert (crawl.stats.get("finish_reason") == "finished") != refused
