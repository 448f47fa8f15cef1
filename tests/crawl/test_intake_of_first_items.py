"""What somebody is told whose crawl downloads nothing, and what a trial does not touch."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from origin import Origin
from project import Project, attachment, item


@pytest.mark.parametrize("mode", ["queue", "inline"])
@pytest.mark.parametrize(
    ("shape", "settings", "told"),
    [
        ({"file_urls": ["URL"]}, {}, "Its fields with URLs: file_urls."),
        ({"data": [{"attachments": [{"ori_url": "URL"}]}]}, {"CHUNKDL_ATTACHMENTS": "data.attachment"}, "data.attach"),
        ({"title": "x"}, {}, "None of its fields has a URL"),
    ],
)
def test_items_in_which_no_attachment_is_found_are_told_once_with_setting_and_fields(
    project: Project, origin: Origin, mode: str, shape: dict[str, Any], settings: dict[str, Any], told: str
) -> None:
    project.settings |= {"CHUNKDL_MODE": mode, **settings}
    project.items = eval(repr([shape] * 3).replace("URL", origin.url("a", 10)))

    crawl = project.crawl()

    value = settings.get("CHUNKDL_ATTACHMENTS", "data.attachments")
    assert crawl.log.count(f"No attachments in an item (dict): CHUNKDL_ATTACHMENTS = '{value}'") == 1
    assert told in crawl.log
    assert "Items: 3 scraped, none with attachments: nothing was downloaded." in crawl.log
    assert origin.stats("a").requests == 0


def test_items_whose_place_for_attachments_is_empty_are_in_order(project: Project, origin: Origin) -> None:
    project.items = [item(), item(attachment(origin.url("a", 10)))]

    crawl = project.crawl()

    assert "WARNING" not in crawl.log
    assert "Items: 2 scraped, 1 of them with attachments, 1 claimed" in crawl.log


def test_an_attachment_without_a_url_is_told_with_its_fields_and_the_page(project: Project, origin: Origin) -> None:
    project.items = [item({"url": origin.url("a", 10), "path": ""}, page="http://h/page?token=s3cr3t")]

    crawl = project.crawl()

    [line] = [line for line in crawl.log.splitlines() if "Gave up" in line]
    assert "Gave up an attachment of an item (page: http://h/page?token=" in line
    assert "it has no ori_url (CHUNKDL_URL_FIELD), its fields are: url, path" in line, line
    assert "s3cr3t" not in line


def test_a_trial_of_the_spider_touches_neither_list_nor_keys(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.spider = """
    import scrapy

    class FilesSpider(scrapy.Spider):
        name = "files"

        def parse(self, response):
            '''Yield an item.

            @url http://127.0.0.1:1/
            @returns items 1
            '''
            yield ITEMS[0]
    """
    project.items = [item(attachment(origin.url("a", 10)))]
    client.rpush("files:items", "{}")

    parsed = project.command("parse", "--spider=files", "--pipelines", origin.url("page", 10))
    checked = project.command("check", "files")

    assert "ori_url" in parsed.stdout, parsed.stderr
    assert parsed.returncode == 0
    assert "Traceback" not in parsed.stderr, checked.stderr
    assert client.keys("*") == [b"files:items"]
    assert client.lrange("files:items", 0, -1) == [b"{}"]
