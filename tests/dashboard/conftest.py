"""Boards over a real Redis, served on ports of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from patience import HANG
from served import WAITING, Dashboard, NewDashboard, served

from scrapy_chunkdl.dashboard.board import Board
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.settings.config import Config

if TYPE_CHECKING:
    from pages import OpenPage
    from playwright.sync_api import Browser, Page


@pytest.fixture
def new_dashboard() -> Iterator[NewDashboard]:
    """Serve boards, until the test ends."""
    with ExitStack() as stack:
        yield lambda *words, **named: stack.enter_context(served(*words, **named))


@pytest.fixture(scope="module")
def serve_board() -> Iterator[NewDashboard]:
    """Serve boards for all tests of a file."""
    with ExitStack() as stack:
        yield lambda *words, **named: stack.enter_context(served(*words, **named))


@pytest.fixture
def queue(redis_url: str) -> Iterator[ItemQueue]:
    queue = ItemQueue(make_client({"REDIS_URL": redis_url}), WAITING, token="host-1:4711:x")
    yield queue
    queue.close()


@pytest.fixture
def board(redis_url: str) -> Iterator[Board]:
    board, client = Board(), make_client({"REDIS_URL": redis_url})
    board.add("s", WAITING, client, Config())
    yield board
    client.close()


@pytest.fixture
def dashboard(board: Board, new_dashboard: NewDashboard) -> Dashboard:
    return new_dashboard(board)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from chromium import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages that must not break their Content-Security-Policy, and must not fail."""
    troubles: list[str] = []

    with ExitStack() as closing:

        def open_page(url: str, *, width: int = 1280, **options: Any) -> Page:
            context = browser.new_context(viewport={"width": width, "height": 900}, **{"locale": "en-US", **options})
            closing.callback(context.close)
            context.set_default_timeout(HANG * 1000)
            page = context.new_page()
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
            page.on("console", lambda line: troubles.append(line.text) if "Content Security" in line.text else None)
            page.goto(url)
            return page

        yield open_page
    assert troubles == []
