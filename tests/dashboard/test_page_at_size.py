"""The page at the size of real projects: 300 spiders, 60 workers, a million waiting items, 100,000 failed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import redis
from large_queues import WAITING, fill, key_of, large_board
from pages import OpenPage, cell
from playwright.sync_api import Locator, Page, expect
from served import Dashboard, NewDashboard
from servers import Server, any_binary

pytestmark = pytest.mark.long  # a million items are written first

WATCH = """() => {
    window.mostRows = 0;
    const seen = new WeakSet(document.querySelectorAll("tr"));
    new MutationObserver((records) => {
        const added = records.flatMap(({ addedNodes }) => [...addedNodes]);
        const rows = new Set(added.filter((one) => one.tagName === "TR" && !seen.has(one)));
        for (const row of rows) seen.add(row);
        window.mostRows = Math.max(window.mostRows, rows.size);
    }).observe(document.querySelector("main"), { childList: true, subtree: true });
}"""
"""Counts the new rows of each task: what a task takes is theirs. Time itself is the machine's."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(any_binary()) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def large(server: Server, serve_board: NewDashboard) -> Iterator[Dashboard]:
    with server.client() as client:
        fill(client)
    with large_board(server.url) as board:
        yield serve_board(board)


def spider(page: Page, row: int) -> Locator:
    return cell(page, "spiders", "Spider", row)


def looked_again(page: Page) -> None:
    """Return when the page has asked for its numbers three times more."""
    asked = "performance.getEntriesByName(new URL('api/status', location).href).length"
    page.wait_for_function(f"(n) => {asked} > n + 2", arg=page.evaluate(f"() => {asked}"))


def test_an_operator_finds_what_matters(large: Dashboard, open_page: OpenPage) -> None:
    page = open_page(f"http://127.0.0.1:{large.port}/", width=1440)

    # what needs a person is first, and chosen
    expect(cell(page, "spiders", "State")).to_contain_text("items wait, nobody works")
    expect(spider(page, 0)).to_have_text("spider250")
    expect(spider(page, 1)).to_have_text("spider121")
    expect(page.locator("#chosen-name")).to_have_text("spider250")
    expect(page.locator("#spiders-place")).to_have_text("50 of 300")
    height = page.evaluate("() => document.documentElement.scrollHeight")
    assert height < 4000, "it was 11,600 pixels"
    beside = page.locator("#detail").bounding_box()
    assert beside is not None
    assert beside["y"] < 200, "the details stand beside the list"

    # filter, hide idle
    page.get_by_label("Hide idle ones").check()
    expect(page.get_by_role("button", name="Show more: 52")).to_be_visible()
    page.get_by_label("Name of a spider").fill("121")
    expect(page.locator("#spiders-table tbody tr")).to_have_count(2)  # and the chosen one
    page.get_by_role("link", name="spider121").click()
    expect(page.locator("#chosen-name")).to_have_text("spider121")
    expect(page.locator("#failed-count")).to_have_text("100,000")
    page.reload()
    expect(page.get_by_label("Hide idle ones")).to_be_checked()

    # what was done, when it is empty, what was finished
    page.get_by_label("Name of a spider").fill("spider000")
    page.get_by_role("link", name="spider000").click()
    expect(page.locator("#figures")).to_contain_text("12,345 files, 9 TB, 12,000 items done")
    expect(page.locator("#figures")).to_contain_text(re.compile(r"50 items left, empty in: \d+ s"))
    expect(cell(page, "finished", "File")).to_contain_text("99.pdf")
    page.get_by_role("button", name="Show the last 100").click()
    expect(page.locator("#finished-table tbody tr")).to_have_count(100)
    expect(cell(page, "workers", "Disk free")).to_have_text("1.1 TB")

    # many workers are a button away
    expect(page.locator("#workers-table tbody tr")).to_have_count(20)
    page.get_by_role("button", name="Show all 66 workers").click()
    expect(page.locator("#workers-table tbody tr")).to_have_count(66)
    page.get_by_role("button", name="Show fewer").click()
    expect(page.locator("#workers-table tbody tr")).to_have_count(20)


def test_waiting_items_are_searched_moved_to_the_front_and_taken_out(
    large: Dashboard, client: redis.Redis, open_page: OpenPage
) -> None:
    page = open_page(f"http://127.0.0.1:{large.port}/?spider=spider250")
    page.locator("#waiting summary").click()
    expect(page.locator("#waiting-table tbody tr")).to_have_count(25)
    expect(cell(page, "waiting", "Item")).to_contain_text("report 0")

    page.get_by_label("Text in waiting items").fill("page/4321")
    expect(cell(page, "waiting", "Item")).to_contain_text("report 4321")
    page.get_by_role("button", name="Move report 4321 to the front", exact=True).click()
    expect(page.get_by_text("report 4321 is claimed next.")).to_be_visible()
    assert json.loads(client.lindex(key_of(250), 0))["title"] == "report 4321"

    expect(cell(page, "waiting", "Place")).to_have_text("1")
    page.get_by_role("button", name="Take report 4321 out", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Take out").click()
    expect(page.get_by_text("report 4321 was taken out")).to_be_visible()
    assert client.llen(key_of(250)) == WAITING - 1
    assert json.loads(client.lindex("{spider250:items}:dead", 0))["title"] == "report 4321"


@pytest.mark.parametrize("width", [1440, 360])
def test_it_fits_and_follows_every_choice_at_any_width(large: Dashboard, open_page: OpenPage, width: int) -> None:
    page = open_page(f"http://127.0.0.1:{large.port}/?spider=spider121", width=width)
    expect(page.locator("#given-up-table tbody tr")).to_have_count(25)
    expect(page.locator("#spiders-table tbody tr")).to_have_count(50)
    page.wait_for_load_state("networkidle")
    page.evaluate(WATCH)

    looked_again(page)
    page.get_by_label("Name of a spider").fill("spider0")
    page.get_by_role("button", name="Show more").click()
    page.get_by_label("Language").select_option("zh")
    page.get_by_label("颜色").or_(page.locator("#theme")).first.select_option("dark")
    page.locator("#spiders-text").fill("")
    looked_again(page)

    overflow = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    expect(cell(page, "spiders", "状态")).to_contain_text("没有进程在工作")
    assert 0 < page.evaluate("() => window.mostRows") <= 16, "the rows of one table, and those of one that came at once"
