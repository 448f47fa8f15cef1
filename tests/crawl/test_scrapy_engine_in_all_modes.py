"""Wherever Scrapy runs: each reactor and none, scripts, several crawlers in one process, and the other commands."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import redis
import scrapy.crawler
from origin import Origin
from patience import HANG
from project import Project, attachment, item, paths

ASYNCIO: dict[str, Any] = {}
SELECT = {"TWISTED_REACTOR": "twisted.internet.selectreactor.SelectReactor"}
REACTORLESS = {"TWISTED_REACTOR_ENABLED": False, "TELNETCONSOLE_ENABLED": False}

needs_reactorless = pytest.mark.skipif(
    importlib.util.find_spec("scrapy.utils.reactorless") is None, reason="this Scrapy needs a reactor"
)
needs_async_api = pytest.mark.skipif(
    not hasattr(scrapy.crawler, "AsyncCrawlerRunner"), reason="this Scrapy has only crawlers that return Deferreds"
)
each_reactor = pytest.mark.parametrize(
    "reactor",
    [
        pytest.param(ASYNCIO, id="asyncio"),
        pytest.param(SELECT, id="select"),
        pytest.param(REACTORLESS, id="reactorless", marks=needs_reactorless),
    ],
)

ALL_AT_ONCE = """
from scrapy.crawler import {process}
from scrapy.utils.project import get_project_settings

process = {process}(get_project_settings())
for name in {names}:
    process.crawl(name)
process.start()
"""

ONE_AFTER_THE_OTHER = """
import asyncio

from scrapy.crawler import AsyncCrawlerRunner
from scrapy.utils.project import get_project_settings
from scrapy.utils.reactor import install_reactor

install_reactor("twisted.internet.asyncioreactor.AsyncioSelectorReactor")

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react


async def main():
    for name in {names}:
        await AsyncCrawlerRunner(get_project_settings()).crawl(name)


react(lambda _: Deferred.fromFuture(asyncio.ensure_future(main())))
"""

SPIDERS = ["files", "others"]

TWO_SPIDERS = """
import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"
    mark = "files"

    async def start(self):
        for item in ITEMS:
            if item["mark"] == self.mark:
                yield item


class OthersSpider(FilesSpider):
    name = mark = "others"
"""


def run(project: Project, *arguments: str) -> str:
    """Run a Python program in the project and return what it printed; fails where it did or hung."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=project.folder,
            env={**os.environ, "PYTHONPATH": str(project.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=HANG,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"it hung\n{(error.stdout or b'').decode()}") from None
    assert done.returncode == 0, done.stdout
    return done.stdout


def run_script(project: Project, script: str) -> str:
    project.write()
    (project.folder / "script.py").write_text(textwrap.dedent(script))
    return run(project, "script.py")


@each_reactor
def test_items_go_their_whole_way(
    project: Project, origin: Origin, client: redis.Redis, reactor: dict[str, Any]
) -> None:
    project.settings |= reactor
    project.items = [item(attachment(origin.url(name, 100_000), name)) for name in "ab"]

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "finished", crawl.log
    assert [Path(paths(found)[0]).stat().st_size for found in project.scraped()] == [100_000] * 2
    assert project.seen() == project.scraped()
    assert client.keys("*") == []
    assert "Warning" not in crawl.log


@each_reactor
@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_a_spider_that_closes_itself_in_the_middle_of_a_download_ends(
    project: Project, origin: Origin, client: redis.Redis, reactor: dict[str, Any], mode: str
) -> None:
    project.settings |= reactor | {"CHUNKDL_MODE": mode, "CHUNKDL_SHUTDOWN_GRACE": 0.1, "GO": origin.base}
    project.items = [item(attachment(origin.url("slow", 3_000_000, "hold:gate:100000@get"), "slow"))]
    project.spider = """
    import scrapy
    from scrapy.exceptions import CloseSpider

    class FilesSpider(scrapy.Spider):
        name = "files"

        async def start(self):
            for item in ITEMS:
                yield item
            yield scrapy.Request(self.settings["GO"] + "/f/page?size=10&fault=hold:page@get")

        def parse(self, response):
            raise CloseSpider("enough")
    """
    begun = origin.when("slow", lambda stats: stats.sent >= 100_000)

    process = project.start()
    begun.result(60)
    origin.release("page")
    crawl = project.finish(process)

    assert crawl.stats["finish_reason"] == "enough"
    if mode == "queue":
        assert client.llen("files:items") + client.zcard("{files:items}:delayed") == 1
    else:  # such an item has nowhere to go back to: it goes on without its file
        assert [paths(found) for found in project.scraped()] == [[""]]


@pytest.mark.parametrize(
    ("process", "reactor"),
    [
        ("CrawlerProcess", ASYNCIO),
        ("CrawlerProcess", SELECT),
        pytest.param("AsyncCrawlerProcess", ASYNCIO, marks=needs_async_api),
        pytest.param("AsyncCrawlerProcess", REACTORLESS, marks=needs_reactorless),
    ],
)
def test_a_script_with_several_crawlers_at_once(
    project: Project, origin: Origin, client: redis.Redis, process: str, reactor: dict[str, Any]
) -> None:
    project.settings |= reactor
    project.spider = TWO_SPIDERS
    project.items = [item(attachment(origin.url(f"{mark}-{n}", 1000)), mark=mark) for mark in SPIDERS for n in range(3)]

    run_script(project, ALL_AT_ONCE.format(process=process, names=SPIDERS))

    assert sorted(found["mark"] for found in project.seen()) == ["files"] * 3 + ["others"] * 3
    assert all(Path(paths(found)[0]).stat().st_size == 1000 for found in project.seen())
    assert client.keys("*") == []


@needs_async_api
def test_a_script_with_one_crawl_after_the_other(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.spider = TWO_SPIDERS
    project.items = [item(attachment(origin.url(mark, 1000)), mark=mark) for mark in SPIDERS]

    run_script(project, ONE_AFTER_THE_OTHER.format(names=SPIDERS))

    assert [found["mark"] for found in project.seen()] == SPIDERS
    assert client.keys("*") == []


@pytest.fixture
def with_backlog(project: Project, origin: Origin, client: redis.Redis) -> Project:
    """A project whose spider has a contract, with an item in its list that a crawl would take."""
    page = origin.url("page", 10)
    project.spider = f'''
    import scrapy

    class FilesSpider(scrapy.Spider):
        name = "files"
        start_urls = ["{page}"]

        def parse(self, response):
            """
            @url {page}
            @returns items 1 1
            """
            yield {{"data": [{{"attachments": [{{"ori_url": "{origin.url("b", 10)}", "path": ""}}]}}]}}
    '''
    client.rpush("files:items", json.dumps(item(attachment(origin.url("waiting", 10)))))
    project.write()
    return project


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["shell", "-c", "print('status', response.status)", "PAGE"], "status 200"),
        (["shell", "--spider", "files", "-c", "print('status', response.status)", "PAGE"], "status 200"),
        (["parse", "--spider", "files", "PAGE"], "'ori_url'"),
        (["check"], "OK"),
        (["fetch", "--spider", "files", "--headers", "PAGE"], "Content-Length"),
        (["list"], "files"),
        pytest.param(
            ["shell", "-c", "print('status', response.status)", "PAGE"]
            + [word for name, value in REACTORLESS.items() for word in ("-s", f"{name}={value}")],
            "status 200",
            marks=needs_reactorless,
        ),
    ],
    ids=["shell", "shell --spider", "parse", "check", "fetch", "list", "shell reactorless"],
)
def test_other_commands_work_and_take_nothing_from_the_list(
    with_backlog: Project,
    origin: Origin,
    client: redis.Redis,
    arguments: list[str],
    printed: str,
) -> None:
    given = [origin.url("page", 10) if argument == "PAGE" else argument for argument in arguments]

    output = run(with_backlog, "-m", "scrapy", *given)

    assert printed in output
    assert "Traceback" not in output
    assert client.keys("*") == [b"files:items"]
    assert client.llen("files:items") == 1
    assert origin.stats("waiting").requests == 0
