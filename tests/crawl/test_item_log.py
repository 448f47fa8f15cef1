"""Headers, proxy and cookie jar of an attachment: not in the log, and not in feeds and done list if so wished."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest
import redis
import scrapy
from origin import Origin
from project import Project, attachment, item
from scrapy.settings import Settings

from scrapy_chunkdl.crawl.item_log import shown
from scrapy_chunkdl.items import attachments
from scrapy_chunkdl.settings.config import Config

SECRETS: dict[str, Any] = {"headers": {"Authorization": "Bearer s3cr3t"}, "proxy": "direct", "cookiejar": "s3cr3t"}


@pytest.mark.parametrize("mode", ["queue", "inline"])
@pytest.mark.parametrize("strip", [False, True])
def test_they_are_not_in_the_log_and_with_the_setting_go_no_further(
    project: Project, origin: Origin, client: redis.Redis, mode: str, strip: bool
) -> None:
    project.settings |= {"CHUNKDL_MODE": mode, "CHUNKDL_STRIP_REQUESTS": strip, "LOG_LEVEL": "DEBUG"}
    project.settings |= {"CHUNKDL_DONE_KEY": "done"} if mode == "queue" else {}
    gone = attachment(origin.url("gone", 10, "status:404"), **SECRETS)
    project.items = [item(attachment(origin.url("a", 10), **SECRETS), gone)]

    crawl = project.crawl()

    assert crawl.stats["chunkdl/files/downloaded"] == 1
    assert set(origin.stats("a").headers("Authorization")) == {"Bearer s3cr3t"}
    assert "s3cr3t" not in crawl.log
    out = json.dumps(project.scraped()) + json.dumps(project.seen())
    out += b"".join(client.lrange("done", 0, -1)).decode()
    assert ("s3cr3t" in out) is (not strip)
    kept = b"".join(client.lrange("{files:items}:failed", 0, -1))
    assert (b"s3cr3t" in kept) is (mode == "queue")  # it is needed to try again


COUNTS_RECORDS = """
import logging


class Counts:
    @classmethod
    def from_crawler(cls, crawler):
        made = []
        make = logging.getLogRecordFactory()

        def note(name, level, *rest, **more):
            if (name, level) == ("scrapy.core.scraper", logging.DEBUG):
                made.append(name)
            return make(name, level, *rest, **more)

        logging.setLogRecordFactory(note)
        {also}
        crawler.signals.connect(lambda: Path("made").write_text(str(len(made))), signals.engine_stopped, weak=False)
        return cls()
"""


@pytest.mark.parametrize(
    ("level", "also", "records"),
    [
        ("INFO", "", 0),
        ("WARNING", "", 0),
        ("DEBUG", "", 3),
        ("INFO", 'logging.getLogger("scrapy").addHandler(logging.NullHandler())', 3),
        ("INFO", 'logging.getLogger("scrapy.core.scraper").addHandler(logging.NullHandler(logging.DEBUG))', 3),
        ("INFO", 'logging.getLogger("scrapy.core.scraper").addFilter(lambda record: True)', 3),
        ("DEBUG", 'logging.getLogger("scrapy.core").setLevel(logging.INFO)', 0),
        ("INFO", 'logging.getLogger("scrapy.core").addHandler(logging.NullHandler(logging.INFO))', 0),
    ],
)
def test_of_an_item_a_record_is_made_where_anybody_looks_at_it(
    project: Project, origin: Origin, level: str, also: str, records: int
) -> None:
    project.settings |= {"LOG_LEVEL": level, "EXTENSIONS": {"probe.support.Counts": 1}}
    project.support = COUNTS_RECORDS.format(also=also)
    project.items = [item(attachment(origin.url(str(n), 10))) for n in range(3)]

    crawl = project.crawl()

    assert len(project.scraped()) == 3, crawl.log
    assert int((project.folder / "made").read_text()) == records


def test_an_item_that_cannot_be_queued_is_logged_without_them(project: Project) -> None:
    project.settings["LOG_LEVEL"] = "DEBUG"
    project.spider = f"""
    import scrapy

    class FilesSpider(scrapy.Spider):
        name = "files"

        async def start(self):
            yield {{"data": {{"attachments": [{{"ori_url": "http://h/", **{SECRETS!r}}}]}}, "bad": object()}}
    """

    crawl = project.crawl()

    assert "An item cannot wait in Redis: bad is object" in crawl.log
    assert "s3cr3t" not in crawl.log


@dataclass
class File:
    ori_url: str = "http://h/a"
    headers: dict[str, str] = field(default_factory=lambda: dict(SECRETS["headers"]))
    proxy: str | None = "http://u:s3cr3t@h/"
    cookiejar: str | None = "s3cr3t"


class Model(pydantic.BaseModel):
    ori_url: str = "http://h/a"
    headers: dict[str, str] = SECRETS["headers"]
    proxy: str = "http://u:s3cr3t@h/"
    cookiejar: str | None = "s3cr3t"


class Entry(scrapy.Item):
    ori_url = scrapy.Field()
    headers = scrapy.Field()
    proxy = scrapy.Field()


@pytest.mark.parametrize(
    "of",
    [{"ori_url": "http://h/a", **SECRETS}, File(), Model(), Entry(ori_url="http://h/a", headers=SECRETS["headers"])],
    ids=lambda of: type(of).__name__,
)
def test_attachments_of_all_types_are_stripped(of: Any) -> None:
    config = Config.read(Settings())

    attachments.strip({"data": {"attachments": [of]}}, config)

    assert "s3cr3t" not in repr(of)
    assert "http://h/a" in repr(of)


@pytest.mark.parametrize(
    "text",
    [
        str({"ori_url": "u", "headers": {"A": "s3cr3t", "B": 'it"s {s3cr3t}'}, "n": 1}),
        str(File()),
        repr(Model()),
        "{'proxy': \"s3cr3t'x\", 'cookiejar': 's3cr3t', 'n': 1}",
        "{'url': 'http://h/?token=s3cr3t', 'n': 1}",
    ],
)
def test_in_the_text_of_an_item_they_are_masked(text: str) -> None:
    assert "s3cr3t" not in shown(text)
    assert shown("headers of the table: {'a': 1} n=1") == "headers of the table: {'a': 1} n=1"


def test_an_item_of_many_files_that_are_given_up_does_not_flood_the_log(project: Project) -> None:
    project.settings |= {"CHUNKDL_MODE": "inline"}
    project.items = [item(*range(500))]

    crawl = project.crawl()

    assert crawl.log.count("Gave up") == 100
    assert crawl.log.count("Further files of this item that are given up are told at DEBUG.") == 1
    assert crawl.stats["chunkdl/failures/bad_attachment"] == 500
