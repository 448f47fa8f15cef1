"""Handlers of others, through Scrapy's downloader: a browser's and an impersonating one, where they are installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import scrapy
from origin import Origin
from origin_content import content
from project import Project

SIZE = 300_000

ASKING = """
import scrapy

from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class Asking(ChunkDownloadPipeline):
    def get_media_requests(self, item, info):
        yield scrapy.Request(item["at"], meta=item["meta"])

    def item_completed(self, results, item, info):
        item["got"] = [file["path"] if ok else file.value.reason for ok, file in results]
        return item
"""


@pytest.fixture
def inline(tmp_path: Path) -> Project:
    settings = {"CHUNKDL_MODE": "inline", "REDIS_URL": "redis://127.0.0.1:1", "CHUNKDL_RETRY_TIMES": 1}
    project = Project(tmp_path / "project", settings)
    project.settings["ITEM_PIPELINES"] = {"probe.support.Asking": 1}
    project.support = ASKING
    return project


def got(project: Project) -> bytes:
    [path] = project.scraped()[0]["got"]
    return (project.folder / "downloads" / path).read_bytes()


@pytest.mark.skipif(scrapy.version_info < (2, 14), reason="scrapy-impersonate's handler is no handler for Scrapy 2.13")
def test_an_impersonating_handler_brings_the_file(inline: Project, origin: Origin) -> None:
    pytest.importorskip("scrapy_impersonate")
    handler = "scrapy_impersonate.ImpersonateDownloadHandler"
    inline.settings |= {"DOWNLOAD_HANDLERS": {"http": handler, "https": handler}, "USER_AGENT": ""}
    inline.items = [{"at": origin.url("a.bin", SIZE), "meta": {"impersonate": "chrome"}}]

    inline.crawl()

    assert got(inline) == content("a.bin", SIZE)
    assert "Chrome" in origin.stats("a.bin").headers("User-Agent")[0]


def test_a_browser_brings_the_file(inline: Project, origin: Origin) -> None:
    pytest.importorskip("scrapy_playwright")
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not installed")
    handler = "scrapy_playwright.handler.ScrapyPlaywrightDownloadHandler"
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    inline.settings |= {
        "DOWNLOAD_HANDLERS": {"http": handler, "https": handler},
        "PLAYWRIGHT_LAUNCH_OPTIONS": {"executable_path": binary, "args": flags},
    }
    inline.items = [{"at": origin.url("a.json", SIZE), "meta": {"playwright": True}}]

    inline.crawl()

    assert got(inline) == content("a.json", SIZE)
