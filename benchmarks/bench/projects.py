"""Whole ``scrapy crawl`` projects: ours, and the same work for Scrapy's own FilesPipeline."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis

from bench.run import Run, Wrong, python, run

KEY = "files:items"

_SPIDER = """
import json
from pathlib import Path

import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        for item in json.loads(Path("items.json").read_text()):
            yield item
"""

_DELAY = """
import asyncio
import json
import time
from pathlib import Path

from scrapy import signals

STEP = 0.01


class SchedulingDelay:
    '''Notes by how much the reactor's loop comes late to what it was to do every 10 ms.'''

    def __init__(self, crawler):
        self.late = []
        crawler.signals.connect(self.opened, signals.spider_opened)
        crawler.signals.connect(self.closed, signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler)

    def opened(self):
        self.loop = asyncio.get_running_loop()
        self.due = time.monotonic() + STEP
        self.timer = self.loop.call_later(STEP, self.tick)

    def tick(self):
        now = time.monotonic()
        self.late.append(now - self.due)
        self.due = now + STEP
        self.timer = self.loop.call_later(STEP, self.tick)

    def closed(self):
        self.timer.cancel()
        late = sorted(self.late)
        figures = {name: late[int(len(late) * share)] * 1000 for name, share in (("p50", 0.5), ("p99", 0.99))}
        Path("delay.json").write_text(json.dumps({**figures, "longest": late[-1] * 1000}))
"""

_INLINE = """
from pathlib import Path

from scrapy import signals

from scrapy_chunkdl.download import Downloader, FileRequest, Options


class DownloadInTheReactorsLoop:
    '''The same downloads without threads.'''

    def __init__(self, crawler):
        crawler.signals.connect(self.closed, signals.spider_closed)
        self.downloader = None

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler)

    async def process_item(self, item):
        if self.downloader is None:
            self.downloader = Downloader(Options())
            await self.downloader.__aenter__()
        for part in item["data"]:
            for attachment in part["attachments"]:
                request = FileRequest(attachment["ori_url"], Path("store").absolute(), attachment["filename"])
                await self.downloader.fetch(request)
        return item

    async def closed(self):
        await self.downloader.__aexit__(None, None, None)
"""


def item(urls: Iterable[str]) -> dict[str, Any]:
    """Return an item of the documented shape."""
    attachments = [{"ori_url": url, "path": "", "filename": url.rpartition("/")[2]} for url in urls]
    return {"crawl_time": "20221017 12:00:00", "data": [{"title": "a report", "attachments": attachments}]}


def write(folder: Path, settings: dict[str, Any], items: list[Any]) -> None:
    """Make a project; ``items`` are what its spider yields."""
    package = folder / "probe"
    package.mkdir(parents=True, exist_ok=True)
    (folder / "scrapy.cfg").write_text("[settings]\ndefault = probe.settings\n")
    (package / "__init__.py").write_text("")
    (package / "spider.py").write_text(_SPIDER)
    (package / "delay.py").write_text(_DELAY)
    (package / "inline.py").write_text(_INLINE)
    common = {
        "BOT_NAME": "probe",
        "SPIDER_MODULES": ["probe.spider"],
        "TELNETCONSOLE_ENABLED": False,
        "LOG_LEVEL": "WARNING",
        "FEEDS": {"items.jsonl": {"format": "jsonlines", "overwrite": True}},
    }
    lines = [f"{name} = {value!r}\n" for name, value in {**common, **settings}.items()]
    (package / "settings.py").write_text("".join(lines))
    (folder / "items.json").write_text(json.dumps(items))


def _crawl(folder: Path, expected: int, tree: Path | None = None) -> Run:
    paths = [str(path) for path in (folder, tree) if path is not None]
    done = run(python("-m", "scrapy", "crawl", "files"), cwd=folder, env={"PYTHONPATH": os.pathsep.join(paths)})
    with (folder / "items.jsonl").open() as feed:
        emitted = sum(1 for _ in feed)
    if emitted != expected:
        raise Wrong(f"{emitted} items of {expected} came out: {done.output[-1500:]}")
    if (folder / "delay.json").exists():
        done.more |= json.loads((folder / "delay.json").read_text())
    return done


def _push(redis_url: str, items: list[Any]) -> None:
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.flushall()
        client.rpush(KEY, *map(json.dumps, items))


def settings_of(redis_url: str, store: Path) -> dict[str, Any]:
    """Return what a crawl of ours in queue mode sets."""
    return {
        "ITEM_PIPELINES": {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1},
        "REDIS_URL": redis_url,
        "REDIS_PARAMS": {"protocol": 2},
        "CHUNKDL_STORE": str(store),
    }


def workers(folder: Path, redis_url: str, items: list[Any], store: Path, *, processes: int, **settings: Any) -> Run:
    """Have worker processes under one supervisor do the same."""
    feeds = {"items-%(process)s.jsonl": {"format": "jsonlines", "overwrite": True}}
    write(folder, {**settings_of(redis_url, store), "FEEDS": feeds, **settings}, [])
    _push(redis_url, items)
    command = ("chunkdl", "worker", "files", "--until-empty", "--processes", str(processes))
    done = run(python("-m", "scrapy", *command), cwd=folder, env={"PYTHONPATH": str(folder)})
    emitted = sum(path.read_text().count("\n") for path in folder.glob("items-*.jsonl"))
    if emitted != len(items):
        raise Wrong(f"{emitted} items of {len(items)} came out: {done.output[-1500:]}")
    return done


def ours(
    folder: Path, redis_url: str, items: list[Any], store: Path, *, tree: Path | None = None, **settings: Any
) -> Run:
    """Crawl items that wait in Redis, as the main job does; with the code in ``tree`` where one is given."""
    write(folder, {**settings_of(redis_url, store), **settings}, [])
    _push(redis_url, items)
    return _crawl(folder, len(items), tree)


def files_pipeline(folder: Path, items: list[Any], store: Path, **settings: Any) -> Run:
    """Crawl the same files with FilesPipeline, as many at once as it may."""
    wanted = [{"file_urls": [a["ori_url"] for part in each["data"] for a in part["attachments"]]} for each in items]
    write(
        folder,
        {
            "ITEM_PIPELINES": {"scrapy.pipelines.files.FilesPipeline": 1},
            "FILES_STORE": str(store),
            "CONCURRENT_REQUESTS": 32,
            "CONCURRENT_REQUESTS_PER_DOMAIN": 32,
            "DOWNLOAD_DELAY": 0,
            "DOWNLOAD_WARNSIZE": 0,
            "DOWNLOAD_MAXSIZE": 0,
            "DOWNLOAD_TIMEOUT": 600,
            **settings,
        },
        wanted,
    )
    return _crawl(folder, len(items))


def in_the_reactors_loop(folder: Path, items: list[Any], **settings: Any) -> Run:
    """Crawl with our downloader, but in Scrapy's own loop."""
    write(folder, {"ITEM_PIPELINES": {"probe.inline.DownloadInTheReactorsLoop": 1}, **settings}, items)
    return _crawl(folder, len(items))
