"""What is waited for, on the page: a full disk, a host left alone, a server that does not answer, said as such."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from origin import Origin
from pages import WAITING, OpenPage, cell, site
from playwright.sync_api import Browser, expect
from project import attachment, item
from served import Dashboard
from servers import wait_for

from scrapy_chunkdl.queue.host_health import HostHealth
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.status import Pace, Report

pytestmark = pytest.mark.long  # real crawls behind a real browser

HOSTILE = '<img src=x onerror="window.hacked=1">\u202e\x1b[31m'


@pytest.fixture
def banning() -> Iterator[Origin]:
    """A second host, which bans from the first request on."""
    with Origin() as origin:
        origin.ban("status:503")
        yield origin


def test_a_host_that_is_left_alone_is_said_with_why_since_when_and_when_it_is_tried_next(
    browser: Browser, tmp_path: Path, origin: Origin, banning: Origin, open_page: OpenPage
) -> None:
    items = [item(attachment(banning.url(f"{n}.bin", 1000), f"{n}.bin")) for n in range(8)]
    with (
        site(tmp_path, "chunkdl", "worker", "files", CHUNKDL_RETRY_TIMES=2) as running,
        running.server.client() as client,
    ):
        client.rpush(WAITING, *map(json.dumps, items))
        wait_for(lambda: client.zcard("{files:items}:parked") == 8, "the items are not parked")
        page = open_page(running.dashboard.url)
        host = banning.url("x", 1).split("/")[2]

        when = r"(is tried next in \d+ s|is tried next at once|is being tried now)"
        why = rf"left alone for \d+ s, because of http_503.*, {when}"
        expect(page.locator("#attention")).to_contain_text(re.compile(f"{re.escape(host)}: {why}"))
        expect(page.locator("#attention")).to_contain_text("8 items wait for hosts that are left alone")
        expect(cell(page, "spiders", "State")).to_contain_text("a host is left alone")
        expect(cell(page, "hosts", "Host")).to_contain_text(host)
        expect(cell(page, "hosts", "Host")).to_contain_text(re.compile(why))
        expect(cell(page, "hosts", "Connections")).to_have_text(re.compile("[0–]"))
        page.get_by_label("Language").select_option("zh")
        expect(page.locator("#attention")).to_contain_text("秒不访问，原因 http_503")

        banning.ban("")
        client.delete("{chunkdl}:ill")
        wait_for(lambda: client.hget("{files:items}:totals", "items/finished") == b"8", "the items do not come")
        expect(page.locator("#attention")).to_be_hidden()


def test_a_full_disk_is_said_by_the_process_that_waits_for_it(
    browser: Browser, tmp_path: Path, origin: Origin, open_page: OpenPage
) -> None:
    with site(tmp_path, "chunkdl", "worker", "files", CHUNKDL_MIN_FREE="99.9%") as running:
        page = open_page(running.dashboard.url)

        sentence = re.compile(rf": {running.process.pid}: The disk of .* free.*CHUNKDL_MIN_FREE")
        expect(page.locator("#attention")).to_contain_text(sentence)
        expect(cell(page, "workers", "State")).to_contain_text("The disk of")
        expect(cell(page, "spiders", "State")).to_contain_text("a process waits")
        with running.server.client() as client:
            client.rpush(WAITING, json.dumps(item(attachment(origin.url("a.bin", 1000), "a.bin"))))
        expect(cell(page, "spiders", "Waiting")).to_have_text("1")


def test_a_file_whose_server_does_not_answer_is_no_0_bytes(
    browser: Browser, tmp_path: Path, origin: Origin, open_page: OpenPage
) -> None:
    with site(tmp_path, "chunkdl", "worker", "files") as running, running.server.client() as client:
        client.rpush(WAITING, json.dumps(item(attachment(origin.url("a.bin", 1000, "hold:gate"), "a.bin"))))
        page = open_page(running.dashboard.url)

        expect(cell(page, "files", "Progress")).to_contain_text("asks its server")
        expect(cell(page, "files", "Progress")).not_to_contain_text("0 B")
        expect(cell(page, "files", "Rate")).to_have_text("–")
        origin.release("gate")
        expect(page.locator("#files-none")).to_be_visible()


def test_limits_of_a_host_are_changed_in_a_dialog_hold_while_it_runs_and_are_taken_back_at_a_click(
    browser: Browser, tmp_path: Path, origin: Origin, open_page: OpenPage
) -> None:
    items = [item(attachment(origin.url(f"{n}.bin", 1000), f"{n}.bin")) for n in range(300)]
    host = origin.url("x", 1).split("/")[2]
    settings = {"CHUNKDL_HOSTS": {host: {"delay": 0.5}}, "CHUNKDL_PROBE": "get", "CHUNKDL_RETRY_TIMES": 2}
    with (
        site(tmp_path, "chunkdl", "worker", "files", **settings) as running,
        running.server.client() as client,
    ):
        client.rpush(WAITING, *map(json.dumps, items))
        page = open_page(running.dashboard.url)
        button = page.get_by_role("button", name=f"Limits of {host}")
        expect(button).to_have_text("Change")

        button.click()
        page.get_by_label("Seconds between two requests").fill("3600")
        page.get_by_role("button", name="Set", exact=True).click()
        expect(page.get_by_text(f"The limits of {host} are set.")).to_be_visible()
        expect(button).to_have_text("Changed")
        stands_since = Stands(lambda: origin.requests)
        wait_for(lambda: stands_since() > 3, "requests go on")
        stood_at = origin.requests
        button.click()
        expect(page.get_by_label("Seconds between two requests")).to_have_value("3600")
        page.get_by_role("button", name="As the settings say").click()
        expect(page.get_by_text(f"What the settings say holds for {host}.")).to_be_visible()
        wait_for(lambda: origin.requests > stood_at + 4, "what waited for its moment waits on")
        expect(button).to_have_text("Change")

        button.click()
        page.get_by_label("Seconds between two requests").fill("0")
        page.get_by_role("button", name="Set", exact=True).click()
        wait_for(lambda: client.hget("{files:items}:totals", "items/finished") == b"300", "the items do not come")


class Stands:
    """For how many seconds a number has not changed."""

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number
        self._last, self._since = number(), time.monotonic()

    def __call__(self) -> float:
        now = self._number()
        if now != self._last:
            self._last, self._since = now, time.monotonic()
        return time.monotonic() - self._since


def report(**fields: object) -> bytes:
    told = Report("machine", 1, "0.1.0", "claiming", files=0, connections=0, pace=Pace())
    return replace(told, **fields).encode()  # type: ignore[arg-type]


def test_sentences_of_any_process_are_shown_as_text_and_many_are_counted(
    dashboard: Dashboard, queue: ItemQueue, open_page: OpenPage
) -> None:
    queue.report(report(waits=(HOSTILE, "Outside of CHUNKDL_SCHEDULE: it goes on at 22:00", "x" * 5000)))
    for n in range(20):
        other = ItemQueue(queue.client, queue.key, token=f"machine:{n}:y")
        other.report(report(pid=n, waits=("Redis is near its maxmemory", f"{n} of its own")))
        other.close()

    page = open_page(f"http://127.0.0.1:{dashboard.port}/", width=360)

    attention = page.locator("#attention")
    expect(attention).to_contain_text('<img src=x onerror="window.hacked=1"><U+202E><U+001B>[31m')
    expect(attention).to_contain_text("it goes on at 22:00")
    expect(attention).to_contain_text("20 processes: Redis is near its maxmemory")
    expect(attention.locator("li")).to_have_count(6)
    expect(attention).to_contain_text("19 more processes wait for something, see Workers")
    assert page.evaluate("() => [window.hacked, document.documentElement.scrollWidth]") == [None, 360]
    assert page.locator("main img, main script").count() == 0


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_hundreds_of_ill_hosts_with_hostile_names_break_nothing(
    dashboard: Dashboard, queue: ItemQueue, client: redis.Redis, open_page: OpenPage, language: str
) -> None:
    health = HostHealth(queue.client, "x")
    for n in range(300):
        host = f"{n}.example:443" if n else f"<img/src=x/onerror=window.hacked=1>{'h' * 250}"
        health.fell(host, f"http_503 {HOSTILE}")
        client.zadd("{s:items}:parked_hosts", {host: n})
        client.zadd("{s:items}:parked", {f"{host} {n}": n})

    page = open_page(f"http://127.0.0.1:{dashboard.port}/", width=360, locale=language)

    expect(page.locator("#attention")).to_contain_text("http_503 <img src=x")
    expect(page.locator("#attention li")).to_have_count(7)
    expect(page.locator("#hosts-table tbody tr")).to_have_count(20)
    page.locator("#hosts-all").click()
    expect(page.locator("#hosts-table tbody tr")).to_have_count(200)
    assert page.evaluate("() => [window.hacked, document.documentElement.scrollWidth]") == [None, 360]
    assert page.locator("main img, main script").count() == 0
