"""What the page tells and does, each with a real crawl behind it: what was done, is left, waits, and runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from origin import Origin
from origin_content import content
from pages import DEAD, WAITING, Dashboard, OpenPage, Site, cell, site
from playwright.sync_api import Browser, Page, expect
from project import FROM_A_PAGE, SPIDER, Project, attachment, item
from servers import Server, any_binary, wait_for

pytestmark = pytest.mark.long  # real crawls behind a real browser

TOTALS = "{files:items}:totals"
FILES, SIZE = 110, 1000


@pytest.fixture(scope="module")
def done(browser: Browser, _origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A worker that has done 110 items, and has one more that its server holds."""
    items = [
        item(attachment(_origin.url(f"{n}.pdf", SIZE), f"{n}.pdf"), title=f"report {n}", url=f"https://site/page/{n}")
        for n in range(FILES)
    ]
    held = item(attachment(_origin.url("held.pdf", SIZE, "hold:left")), title="the last one")
    with (
        site(tmp_path_factory.mktemp("done"), "chunkdl", "worker", "files") as done,
        done.server.client() as client,
    ):
        client.rpush(WAITING, *map(json.dumps, items))
        wait_for(lambda: client.hget(TOTALS, "items/finished") == b"%d" % FILES, "the items are not done")
        client.rpush(WAITING, json.dumps(held))
        wait_for(lambda: client.zcard("{files:items}:leases") == 1, "the last one is not claimed")
        yield done
        _origin.release("left")


def test_what_was_done_is_told_in_files_bytes_and_items(done: Site, open_page: OpenPage) -> None:
    page = open_page(done.dashboard.url)

    expect(page.locator("#figures")).to_contain_text("110 files, 110 kB, 110 items done")
    expect(cell(page, "spiders", "Done")).to_have_text("110 kB")


def test_when_it_is_empty_is_told_with_how_sure_that_is(done: Site, open_page: OpenPage) -> None:
    page = open_page(done.dashboard.url)

    sure = r"\d+ (s|min)|\d+ (s|min) to \d+ (s|min)|\d+ (s|min) \(a guess\)"
    expect(page.locator("#figures li").nth(1)).to_have_text(re.compile(rf"1 items left, empty in: ({sure})$"))
    expect(cell(page, "spiders", "Empty in")).to_have_text(re.compile(sure))


def test_the_last_hundred_files_are_listed_with_what_they_are_of(done: Site, open_page: OpenPage) -> None:
    page = open_page(done.dashboard.url)

    expect(page.locator("#finished-table tbody tr")).to_have_count(10)
    page.get_by_role("button", name="Show the last 100").click()
    expect(page.locator("#finished-table tbody tr")).to_have_count(100)
    for row in (0, 99):
        name = cell(page, "finished", "File", row)
        expect(name).to_contain_text(re.compile(r"(\d+)\.pdf.*report \1 · https://site/page/\1$"))
        expect(cell(page, "finished", "Size", row)).to_have_text("1 kB")
        expect(cell(page, "finished", "When", row)).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$"))


def test_each_worker_has_the_room_on_its_disk(done: Site, open_page: OpenPage) -> None:
    page = open_page(done.dashboard.url)

    expect(cell(page, "workers", "Disk free")).to_have_text(re.compile(r"^[\d.,]+ [kMGT]B$"))


def reads_of_the_first_hour(page: Page, number: str) -> bool:
    """Whether the chart of files given up tells that number at its first hour. Drawn anew it forgets where one was."""
    page.locator("#history .chart:visible .area").nth(2).press("Home")
    return page.locator("#history .chart:visible .reading").nth(2).inner_text().startswith(f"{number} at ")


def test_the_hours_stay_when_the_process_is_gone(
    browser: Browser, tmp_path: Path, origin: Origin, open_page: OpenPage
) -> None:
    items = [item(attachment(origin.url(f"{n}.bin", 500_000), f"{n}.bin")) for n in range(4)]
    missing = item(attachment(origin.url("gone.bin", 10, "status:404"), "gone.bin"))
    with Server(any_binary()) as server, server.client() as client:
        project = Project(tmp_path, {"REDIS_URL": server.url, "CHUNKDL_RETRY_TIMES": 0}, [*items, missing])
        crawl = project.crawl()
        killed = project.begin("chunkdl", "worker", "files")  # another, which has no time to say goodbye
        client.rpush(WAITING, json.dumps(item(attachment(origin.url("5.bin", 500_000), "5.bin"))))
        wait_for(lambda: client.hget(TOTALS, "items/finished") == b"6", "the worker has not done it")
        killed.send_signal(signal.SIGKILL)
        project.finish(killed)
        client.delete("{files:items}:workers")  # as when it has long been silent
        with Dashboard(project) as dashboard:
            page = open_page(dashboard.url)

            assert crawl.returncode == 0, crawl.log
            expect(page.locator("#workers-none")).to_be_visible()
            for span in ("7", "90"):
                page.get_by_label("Time shown").select_option(span)
                charts = page.locator("#history .chart:visible .area")
                expect(charts).to_have_count(3)
                expect(charts.nth(0)).to_have_attribute("aria-label", re.compile(r"by the hour.*most [\d,.]+ [Bk]B?/s"))
                wait_for(partial(reads_of_the_first_hour, page, "1"), "the hour of the file given up is not told")
            expect(page.locator("#figures")).to_contain_text("5 files, 2.5 MB, 6 items done")


def test_waiting_items_are_listed_searched_moved_to_the_front_and_taken_out(
    browser: Browser, tmp_path: Path, origin: Origin, open_page: OpenPage
) -> None:
    items = [
        item(
            attachment(origin.url(f"{n}.bin", 100, "" if n else "hold:first")),
            title=f"report {n}",
            url=f"https://p/{n}",
        )
        for n in range(40)
    ]
    with (
        site(tmp_path, "chunkdl", "worker", "files", CHUNKDL_BATCH_SIZE=1) as running,
        running.server.client() as client,
    ):
        client.rpush(WAITING, *map(json.dumps, items))
        wait_for(lambda: client.llen(WAITING) == 39, "the first one is not claimed")
        page = open_page(running.dashboard.url)
        page.locator("#waiting summary").click()

        expect(page.locator("#waiting-table tbody tr")).to_have_count(25)
        expect(cell(page, "waiting", "Item")).to_have_text("report 1https://p/1")
        page.locator("#waiting-after").click()
        expect(page.locator("#waiting-table tbody tr")).to_have_count(14)

        page.get_by_label("Text in waiting items").fill("p/33")
        expect(page.locator("#waiting-table tbody tr")).to_have_count(1)
        page.get_by_role("button", name="Move report 33 to the front").click()
        expect(page.get_by_text("report 33 is claimed next.")).to_be_visible()
        page.get_by_label("Text in waiting items").fill("p/17")
        page.get_by_role("button", name="Take report 17 out").click()
        page.get_by_role("dialog").get_by_role("button", name="Take out").click()
        expect(page.get_by_text("report 17 was taken out")).to_be_visible()
        origin.release("first")

        wait_for(lambda: client.hget(TOTALS, "items/finished") == b"39", "the others are not done")
        titles = [seen["title"] for seen in running.project.seen()]
        assert titles[:3] == ["report 0", "report 33", "report 1"]
        assert "report 17" not in titles
        assert [json.loads(raw)["title"] for raw in client.lrange(DEAD, 0, -1)] == ["report 17"]


def test_a_running_file_is_shown_with_its_item_and_the_page_it_was_found_on(
    browser: Browser, tmp_path: Path, origin: Origin, open_page: OpenPage
) -> None:
    page_url = origin.url("index.html", 100)
    one = item(
        attachment(origin.url("a.bin", 3 << 20, "hold:gate:500000"), "a.bin"), title="observations", page=page_url
    )
    with Server(any_binary()) as server:
        settings = {"REDIS_URL": server.url, "PAGE": page_url, "CHUNKDL_SHUTDOWN_GRACE": 0.0}
        project = Project(tmp_path, settings, [one], spider=FROM_A_PAGE)
        crawl = project.start()
        try:
            with Dashboard(project) as dashboard:
                page = open_page(dashboard.url)

                expect(cell(page, "files", "File")).to_contain_text(f"observations · {page_url}")
                expect(cell(page, "files", "Progress")).to_contain_text("of 3.1 MB")
                origin.release("gate")
                expect(cell(page, "finished", "File")).to_contain_text(f"observations · {page_url}")
        finally:
            crawl.send_signal(signal.SIGTERM)
            project.finish(crawl)


SLOW_PARTS = """
import asyncio

import fsspec
from fsspec.implementations.local import LocalFileSystem
from scrapy_chunkdl.download import filling

digested = filling.hashing.feed


class SlowFileSystem(LocalFileSystem):
    protocol = "slow"

    def open(self, path, mode="rb", **named):
        if mode == "wb":
            open("store-gate").read()
        return super().open(path, mode, **named)


async def slowly(*words):
    await asyncio.to_thread(open("hash-gate").read)
    return await digested(*words)


fsspec.register_implementation("slow", SlowFileSystem)
filling.hashing.feed = slowly
"""
"""A store and a disk that take their time: until the test writes into a FIFO."""


def test_what_a_file_waits_for_is_said_instead_of_bytes(
    browser: Browser, tmp_path: Path, origin: Origin, open_page: OpenPage
) -> None:
    def elsewhere(url: str) -> str:
        return url.replace("127.0.0.1", "localhost")  # another host, as names go

    digest = hashlib.sha256(content("checked.bin", 3 << 20)).hexdigest()
    files = [
        attachment(origin.url("first.bin", 3 << 20, "hold:gate:500"), "first.bin"),
        attachment(origin.url("second.bin", 1000), "second.bin"),
        attachment(elsewhere(origin.url("delivered.bin", 1000)), "delivered.bin"),
        attachment(elsewhere(origin.url("checked.bin", 3 << 20)), "checked.bin", checksum=f"sha256:{digest}"),
    ]
    for gate in ("store-gate", "hash-gate"):
        os.mkfifo(tmp_path / gate)
    settings = {
        "CHUNKDL_HOSTS": {origin.url("x", 1).split("/")[2]: {"connections": 1}},
        "CHUNKDL_STORE": f"slow://{tmp_path / 'downloads'}",
        "CHUNKDL_STALL_TIMEOUT": 900,
        "CHUNKDL_MIN_FREE": 0,  # of the machine that tests run on
    }
    with (
        site(tmp_path, "chunkdl", "worker", "files", spider=SLOW_PARTS + SPIDER, **settings) as running,
        running.server.client() as client,
    ):
        try:
            client.rpush(WAITING, json.dumps(item(files[0])))
            wait_for(lambda: origin.stats("first.bin").sent > 0, "the first one does not begin")
            client.rpush(WAITING, *(json.dumps(item(one)) for one in files[1:]))
            page = open_page(running.dashboard.url)

            for name, doing in [
                ("second.bin", "waits for its host"),
                ("delivered.bin", "goes to the store"),
                ("checked.bin", "checks what is there"),
            ]:
                row = page.locator("#files-table tbody tr", has_text=name)
                expect(row.locator("td[data-label='Progress']")).to_contain_text(doing)
                expect(row.locator("td[data-label='Progress']")).not_to_contain_text(re.compile("^0 B"))
        finally:
            for gate in ("store-gate", "hash-gate"):
                waiting = os.open(tmp_path / gate, os.O_RDWR | os.O_NONBLOCK)
                (tmp_path / gate).unlink()
                (tmp_path / gate).touch()  # for those who come
                os.close(waiting)  # for those who wait
