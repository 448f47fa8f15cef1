"""The page where records are odd, and where more windows show it than a browser has connections for one server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis
from pages import FAILED, WAITING, OpenPage, Site, cell, record, site
from playwright.sync_api import Browser, expect

pytestmark = pytest.mark.long  # many windows, odd servers

WINDOWS = 8
"""Chromium, Firefox and Safari have six connections for one server."""


@pytest.fixture(scope="module")
def idle(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("idle"), "chunkdl", "worker", "files") as idle:
        yield idle


@pytest.fixture
def queue(idle: Site) -> Iterator[redis.Redis]:
    with idle.server.client() as client:
        client.delete(WAITING, FAILED, "{files:items}:control")
        yield client


def test_more_windows_than_connections_are_all_live(idle: Site, queue: redis.Redis, open_page: OpenPage) -> None:
    queue.rpush(FAILED, record(1))

    first = open_page(idle.dashboard.url)
    pages = [first, *(first.context.new_page() for _ in range(WINDOWS - 1))]  # of one profile: they share connections
    for page in pages[1:]:
        page.goto(idle.dashboard.url)

    for page in pages:
        assert page.evaluate("() => document.visibilityState") == "visible"
        expect(cell(page, "spiders", "Failed")).to_have_text("1")
    pages[-1].get_by_role("button", name="Pause claiming").click()
    for page in pages:
        expect(page.locator("#chosen-paused")).to_be_visible()
    queue.rpush(FAILED, record(2))
    for page in pages:
        expect(cell(page, "spiders", "Failed")).to_have_text("2")


def test_a_server_that_says_nothing_is_told_of(idle: Site, queue: redis.Redis, open_page: OpenPage) -> None:
    page = open_page(idle.dashboard.url)
    expect(page.locator("#connection")).to_have_text("Live")
    page.clock.install()
    page.route("**/api/**", lambda route: None)  # neither answered nor refused

    page.get_by_role("button", name="Pause claiming").click()
    page.clock.run_for(70_000)

    expect(page.locator("#banner")).to_contain_text("server does not answer")
    expect(page.locator(".message.error")).to_contain_text("did not answer within 60 seconds; it may still do it")


ODD = [None, 7, True, [], ["x"], {"a": 1}, "", "\x1b[31m"]


def test_odd_records_and_reports_hide_themselves_only(idle: Site, queue: redis.Redis, open_page: OpenPage) -> None:
    for n, odd in enumerate(ODD):
        queue.rpush(FAILED, json.dumps({"url": odd, "filename": odd, "reason": "r", "delivery": f"odd{n}"}))
    queue.rpush(FAILED, *(record(n) for n in range(3)))
    seconds, _ = queue.time()
    fields = {"host": 7, "pid": "\x1b", "version": [], "state": "constructor", "files": {}, "connections": "x"}
    text = json.dumps({**fields, "pace": {"age": 0, "items": [], "bytes": [], "connections": []}})
    details = {"running": 1, "files": [{"url": odd, "name": odd, "map": odd} for odd in ODD], "hosts": [{"host": 7}]}
    queue.hset("{files:items}:workers", "odd:1:x", f"{int(seconds) * 1000} {int(seconds) * 1000} {text}")
    queue.hset("{files:items}:details", "odd:1:x", f"{int(seconds) * 1000 + 9_000} {json.dumps(details)}")

    page = open_page(idle.dashboard.url)

    expect(page.locator("#given-up-table tbody tr")).to_have_count(len(ODD) + 3)
    expect(page.locator("#workers-table tbody tr")).to_have_count(2)
    expect(page.locator("#files-table tbody tr")).to_have_count(len(ODD))
    queue.rpush(FAILED, record(3))
    expect(cell(page, "spiders", "Failed")).to_have_text(str(len(ODD) + 4))
    queue.delete("{files:items}:workers", "{files:items}:details")
