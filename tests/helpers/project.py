"""Throw-away Scrapy projects for the tests, with real ``scrapy`` processes run in them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import warm
from patience import HANG

SPIDER = """
import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        for item in ITEMS:
            yield item
"""

FROM_A_PAGE = """
import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        yield scrapy.Request(self.settings["PAGE"])

    def parse(self, response):
        yield from ITEMS
"""
"""A spider whose items come from a page, that of the setting PAGE."""


def told_at_the_end(expression: str) -> str:
    """Return ``support`` with an extension, ``probe.support.Tell``, that writes an expression to the file "told"."""
    return f"""
import gc
import sys


class Tell:
    @classmethod
    def from_crawler(cls, crawler):
        crawler.signals.connect(cls.tell, signals.engine_stopped)
        return cls()

    @staticmethod
    def tell():
        Path("told").write_text({expression})
"""


FEEDS = """
import os

FEEDS = {f"items-{os.getpid()}.jsonl": {"format": "jsonlines"}}
"""

SUPPORT = """
import json
import os
import resource
from pathlib import Path

from scrapy import signals


class WriteStats:
    '''Leaves the final stats where the test reads them.'''

    def __init__(self, crawler):
        self.crawler = crawler
        crawler.signals.connect(self.closed, signals.engine_stopped)

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler)

    def closed(self):
        folder = Path(self.crawler.settings["STATS_FOLDER"])
        folder.mkdir(exist_ok=True)
        path = folder / f"{id(self)}-{os.getpid()}.json"
        stats = {**self.crawler.stats.get_stats(), "max_rss": most_memory()}
        path.write_text(json.dumps(stats, default=str))


def most_memory():
    # On Linux ru_maxrss is at least that of the process that started this one (exec takes it over), VmHWM is not.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class Seen:
    '''A pipeline behind ours: notes each item it sees.'''

    def process_item(self, item, spider=None):
        with open("seen.jsonl", "a") as file:
            file.write(json.dumps(dict(item)) + "\\n")
        return item
"""


def _write(path: Path, text: str) -> None:
    """Write a file, unless it is that already: another process may read it at this moment."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()  # it counts as fresh by size and second: a setting of 1 that became 0 would be unseen


@dataclass
class Crawl:
    """A finished crawl."""

    returncode: int
    log: str
    stats: dict[str, Any]


@dataclass
class Project:
    """A project in ``folder`` with one spider, ``files``. ``settings`` are written as Python literals."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)
    spider: str = SPIDER
    support: str = ""

    def write(self) -> None:
        """(Re)write all files of the project."""
        settings = {
            "BOT_NAME": "probe",
            "SPIDER_MODULES": ["probe.spider"],
            "ITEM_PIPELINES": {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1, "probe.support.Seen": 300},
            "EXTENSIONS": {"probe.support.WriteStats": 1},
            "STATS_FOLDER": str(self.folder / "stats"),
            "CHUNKDL_STORE": "downloads",
            "TELNETCONSOLE_ENABLED": False,
            "LOG_LEVEL": "INFO",
        } | self.settings
        package = self.folder / "probe"
        package.mkdir(parents=True, exist_ok=True)
        _write(self.folder / "scrapy.cfg", "[settings]\ndefault = probe.settings\n")
        _write(package / "__init__.py", "")
        lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
        _write(package / "settings.py", FEEDS + "".join(lines))
        _write(package / "support.py", SUPPORT + textwrap.dedent(self.support))
        _write(package / "spider.py", f"ITEMS = {self.items!r}\n" + textwrap.dedent(self.spider))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``scrapy crawl files`` and return the process; its log is read with ``communicate``."""
        return self.begin("crawl", "files", *arguments)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start any ``scrapy`` command that crawls; it is finished as a crawl is."""
        self.write()
        return warm.popen([*words], self.folder, self._environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run any ``scrapy`` command to its end, with what it says on stdout and stderr kept apart."""
        self.write()
        environment = self._environment()
        with warm.popen([*words], self.folder, environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                output, errors = process.communicate(timeout=HANG)
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def finish(self, process: subprocess.Popen[str]) -> Crawl:
        """Wait for a started crawl."""
        try:
            log, _ = process.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)
            log, _ = process.communicate()
            raise AssertionError(f"the crawl hung\n{log}") from None
        return Crawl(process.returncode, log, self._stats(process.pid))

    def crawl(self, *arguments: str) -> Crawl:
        """Run ``scrapy crawl files`` to its end."""
        return self.finish(self.start(*arguments))

    def scraped(self) -> list[dict[str, Any]]:
        """Return all items of all feeds."""
        return list(_json_lines(sorted(self.folder.glob("items*.jsonl"))))

    def seen(self) -> list[dict[str, Any]]:
        """Return all items the pipeline behind ours has seen."""
        return list(_json_lines([self.folder / "seen.jsonl"]))

    def files(self) -> dict[str, bytes]:
        """Return what lies in the store, by path relative to it."""
        store = self.folder / "downloads"
        return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.folder)}

    def _stats(self, pid: int) -> dict[str, Any]:
        found = list((self.folder / "stats").glob(f"*-{pid}.json"))
        return json.loads(found[0].read_text()) if found else {}


def _json_lines(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        if path.exists():
            yield from map(json.loads, path.read_text().splitlines())


def item(*attachments: Any, **fields: Any) -> dict[str, Any]:
    """Return an item of the documented shape."""
    return {
        "crawl_time": "20221017 12:00:00",
        "version": "20221017 12:00:00",
        "data": [{"title": "a report", "attachments": list(attachments)}],
        **fields,
    }


def attachment(url: str, filename: str = "", **fields: Any) -> dict[str, Any]:
    """Return an attachment of the documented shape."""
    return {"ori_url": url, "path": "", "filename": filename, **fields}


def paths(item: dict[str, Any]) -> list[str]:
    """Return the paths written into an item of the documented shape."""
    return [entry["path"] for part in item["data"] for entry in part["attachments"]]
