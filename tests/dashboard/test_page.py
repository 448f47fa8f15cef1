"""The dashboard's page in a real browser, with a real Redis and real crawls behind it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from origin import Origin
from origin_content import content
from pages import DEAD, FAILED, LEASES, WAITING, Dashboard, OpenPage, Site, cell, record, site, stored
from playwright.sync_api import Browser, Page, expect
from project import Project, attachment, item
from servers import wait_for

NAME = r"""(one) => one === document.body || one === document.documentElement ? "" : one.ariaLabel
    || (one.tagName !== "BUTTON" && one.id) || one.textContent.trim().replace(/ \d+$/, "") || one.value"""
"""Tells elements apart as a person does, whatever the counts in their texts are by then."""
HOSTILE = '<img src=x onerror="window.hacked=1">'


@pytest.fixture(scope="module")
def working(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A worker that does what it can, for all tests that leave it at work."""
    with site(tmp_path_factory.mktemp("working"), "chunkdl", "worker", "files") as working:
        yield working


@pytest.fixture
def queue(working: Site) -> Iterator[redis.Redis]:
    """A client of the worker's Redis, whose queue is empty."""
    with working.server.client() as client:
        client.delete(WAITING, FAILED, DEAD, "{files:items}:control")
        yield client


@pytest.fixture(scope="module")
def held(browser: Browser, _origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A crawl in the middle of its work: two items are held by their server, as many as it may have."""
    missing = attachment(_origin.url("gone.bin", 1000, "status:404"), f"{HOSTILE}\u202egpj.exe")
    names = [f"{HOSTILE}.bin", *(f"{n}.bin" for n in range(4))]
    waiting = [attachment(_origin.url(f"{n}.bin", 3 << 20, "hold:gate:500000"), name) for n, name in enumerate(names)]
    items = [item(missing), *map(item, waiting)]
    with site(tmp_path_factory.mktemp("held"), "crawl", "files", items=items, CHUNKDL_BATCH_SIZE=2) as held:
        with held.server.client() as client:
            client.rpush(DEAD, f"<script>window.hacked=1</script>{HOSTILE}")
            wait_for(lambda: client.llen(FAILED) == 1, "no file is given up")
        yield held
        _origin.drop_connections()


def test_its_numbers_are_those_of_the_queue(held: Site, open_page: OpenPage) -> None:
    page = open_page(held.dashboard.url)

    shown = {"Waiting": "3", "Leased": "2", "Delayed": "0", "Failed": "1", "Dead": "1", "Files": "2"}
    for head, number in shown.items():
        expect(cell(page, "spiders", head)).to_have_text(number)
    with held.server.client() as client:
        assert (client.llen(WAITING), client.zcard(LEASES), client.llen(FAILED), client.llen(DEAD)) == (3, 2, 1, 1)
    expect(cell(page, "workers", "Worker")).to_contain_text(f": {held.process.pid}")
    expect(cell(page, "workers", "State")).to_have_text("claiming")
    expect(cell(page, "workers", "Items")).to_have_text("2")
    expect(cell(page, "workers", "Files")).to_have_text("2")
    expect(page.locator("#history .chart canvas")).to_have_count(3)


def test_running_files_are_shown_with_their_chunks_and_hosts(held: Site, open_page: OpenPage) -> None:
    page = open_page(held.dashboard.url)

    expect(page.locator("#files-table tbody tr")).to_have_count(2)
    expect(cell(page, "files", "Chunks")).to_contain_text("3 chunks")
    expect(cell(page, "files", "Progress")).to_contain_text("of 3.1 MB")
    chunk_map = page.locator("#files-table canvas").first
    expect(chunk_map).to_have_attribute("aria-label", "Of 3 parts: running 3")
    chunk_map.scroll_into_view_if_needed()
    expect(chunk_map).not_to_have_js_property("width", 300)  # that of a canvas nobody drew on
    expect(cell(page, "hosts", "Host")).to_contain_text("127.0.0.1")


def test_names_from_outside_cannot_run_script(held: Site, open_page: OpenPage) -> None:
    with held.server.client() as client:
        script = {"url": "javascript:window.hacked=1", "filename": HOSTILE, "reason": HOSTILE, "message": HOSTILE}
        client.rpush(FAILED, record(1, **script))
    page = open_page(held.dashboard.url)

    expect(page.locator("#files-table")).to_contain_text(HOSTILE)
    expect(cell(page, "given-up", "File")).to_contain_text(f"{HOSTILE}<U+202E>gpj.exe")
    expect(cell(page, "given-up", "File", row=1)).to_contain_text("javascript:window.hacked=1")
    expect(cell(page, "given-up", "Why", row=1)).to_contain_text(f"{HOSTILE} {HOSTILE}")
    page.locator("#reason-filter").select_option(HOSTILE)
    expect(page.locator("#given-up-table tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Drop <img").click()
    expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)
    page.get_by_role("dialog").get_by_role("button", name="Drop").click()
    expect(page.get_by_text("Items dropped: 1.")).to_be_visible()
    page.get_by_label("Dead").check()
    expect(cell(page, "given-up", "File")).to_contain_text("<script>")
    assert page.evaluate("() => window.hacked") is None
    assert page.locator("main img, main script, main a[href^='javascript']").count() == 0


def test_a_retry_leads_to_the_file_on_disk(
    working: Site, queue: redis.Redis, origin: Origin, open_page: OpenPage
) -> None:
    queue.rpush(WAITING, json.dumps(item(attachment(origin.url("late.bin", 2000, "status:404"), "late.bin"))))
    page = open_page(working.dashboard.url)
    retry = page.get_by_role("button", name="Retry late.bin")
    expect(retry).to_be_visible()
    origin.set_faults("late.bin", "")

    retry.click()
    expect(page.get_by_role("dialog")).to_contain_text("late.bin")
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()

    wait_for(lambda: stored(working, "late.bin") == [content("late.bin", 2000)], "the file does not come")
    expect(page.get_by_text("Items put back into the queue: 1.")).to_be_visible()
    expect(cell(page, "spiders", "Failed")).to_have_text("0")
    expect(page.locator("#given-up-none")).to_be_visible()


def test_pause_pauses_and_resume_resumes(
    working: Site, queue: redis.Redis, origin: Origin, open_page: OpenPage
) -> None:
    page = open_page(working.dashboard.url)

    page.get_by_role("button", name="Pause claiming").click()
    expect(page.locator("#chosen-paused")).to_be_visible()
    wait_for(lambda: _told_state(queue) == "paused", "the process does not pause")
    queue.rpush(WAITING, json.dumps(item(attachment(origin.url("a.bin", 1000), "a.bin"))))
    told = _reports(queue)
    wait_for(lambda: _reports(queue) != told, "the process says nothing more")
    assert queue.llen(WAITING) == 1
    expect(cell(page, "spiders", "Waiting")).to_have_text("1")

    page.get_by_role("button", name="Resume claiming").click()
    wait_for(lambda: stored(working, "a.bin") == [content("a.bin", 1000)], "claiming does not go on")
    expect(cell(page, "spiders", "Waiting")).to_have_text("0")


def test_one_worker_is_paused(working: Site, queue: redis.Redis, open_page: OpenPage) -> None:
    page = open_page(working.dashboard.url)

    page.get_by_role("button", name=re.compile("^Pause .* : ")).click()
    wait_for(lambda: _told_state(queue) == "paused", "the process does not pause")
    expect(cell(page, "workers", "State")).to_have_text("paused")
    expect(page.locator("#chosen-paused")).to_be_hidden()

    page.get_by_role("button", name=re.compile("^Resume .* : ")).click()
    expect(page.get_by_role("button", name=re.compile("^Pause .* : "))).to_be_visible()


def _reports(client: redis.Redis) -> dict[bytes, bytes]:
    return client.hgetall("{files:items}:workers")  # type: ignore[return-value]


def _told_state(client: redis.Redis) -> str:
    [report] = _reports(client).values()
    return str(json.loads(report[report.index(b"{") :])["state"])


def test_the_rate_limit_is_changed(working: Site, queue: redis.Redis, open_page: OpenPage) -> None:
    queue.rpush(FAILED, record(1))
    page = open_page(working.dashboard.url)
    button = page.locator("#rate-button")
    expect(button).to_have_text("Rate limit: as in settings")

    for choose, told in [("2.5", "Rate limit: 2.5 MB/s per process"), ("No limit", "Rate limit: none")]:
        button.click()
        if choose == "No limit":
            page.get_by_label(choose, exact=True).check()
        else:
            page.locator("#rate-amount").fill(choose)
        page.get_by_role("button", name="Set", exact=True).click()
        expect(button).to_have_text(told)

    button.click()
    expect(page.get_by_label("No limit", exact=True)).to_be_checked()
    page.get_by_label("As the settings say").check()
    page.get_by_role("button", name="Set", exact=True).click()
    expect(button).to_have_text("Rate limit: as in settings")


def test_it_says_that_redis_is_away_and_recovers(working: Site, queue: redis.Redis, open_page: OpenPage) -> None:
    queue.rpush(FAILED, record(1))
    page = open_page(working.dashboard.url)
    expect(cell(page, "spiders", "Failed")).to_have_text("1")

    working.server.kill()
    expect(page.locator("#banner")).to_be_visible()
    expect(page.locator("#banner")).to_contain_text("Redis does not answer")
    expect(page.locator("#connection")).to_have_text("Redis is away")
    expect(cell(page, "spiders", "Failed")).to_have_text("1")  # what was known stays in sight
    page.get_by_role("button", name="Pause claiming").click()
    expect(page.locator(".message.error")).to_contain_text("That was not done")

    working.server.start()
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#connection")).to_have_text("Live")
    queue.rpush(FAILED, record(2))
    expect(cell(page, "spiders", "Failed")).to_have_text("2")


def test_it_says_that_its_server_is_away_and_recovers(working: Site, queue: redis.Redis, open_page: OpenPage) -> None:
    queue.rpush(FAILED, record(1))
    page = open_page(working.dashboard.url)
    expect(cell(page, "spiders", "Failed")).to_have_text("1")

    working.dashboard.kill()
    expect(page.locator("#banner")).to_be_visible()
    expect(page.locator("#banner")).to_contain_text("server does not answer")
    queue.rpush(FAILED, record(2))

    working.dashboard.start()
    expect(page.locator("#banner")).to_be_hidden()
    expect(cell(page, "spiders", "Failed")).to_have_text("2")


def test_a_token_is_asked_for_once(tmp_path: Path, redis_url: str, client: redis.Redis, open_page: OpenPage) -> None:
    client.rpush(FAILED, record(1))
    settings = {"REDIS_URL": redis_url, "CHUNKDL_DASHBOARD_TOKEN": "open sesame"}
    with Dashboard(Project(tmp_path, settings)) as dashboard:
        page = open_page(dashboard.url, width=360)
        token = page.locator("input[name=token]")

        token.press("Enter")
        expect(page.get_by_role("alert")).to_have_count(0)
        for _ in range(2):
            token.fill("open")
            token.press("Enter")
            expect(page.get_by_role("alert")).to_be_visible()
            expect(token).to_have_value("")
        page.goto(page.url)  # what a person does who gives up, and comes back by the address in sight
        expect(page.get_by_role("alert")).to_have_count(0)
        token.fill("open sesame")
        token.press("Enter")

        expect(cell(page, "spiders", "Failed")).to_have_text("1")
        page.reload()
        expect(cell(page, "spiders", "Failed")).to_have_text("1")
        page.context.clear_cookies()
        expect(token).to_be_visible()


def test_it_is_worked_by_keyboard_alone(working: Site, queue: redis.Redis, open_page: OpenPage) -> None:
    queue.rpush(FAILED, record(1), record(2))
    page = open_page(working.dashboard.url)
    expect(page.get_by_role("button", name="Drop 2.bin")).to_be_visible()
    wanted = page.locator("main, header").locator("a, button:not([disabled]), select, input[type=search]")
    names = wanted.evaluate_all(f"(all) => all.filter((one) => one.checkVisibility()).map({NAME})")

    reached = {}
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            f"() => [({NAME})(document.activeElement), getComputedStyle(document.activeElement).outlineStyle]"
        )
        if not name or name in reached:
            break
        reached[name] = outline
    assert set(names) <= reached.keys()
    assert {name for name, outline in reached.items() if outline == "none"} == set()

    def go_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"() => ({NAME})(document.activeElement)") == name:
                return
        raise AssertionError(f"{name} cannot be reached")

    go_to("Pause claiming")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Resume claiming")).to_be_focused()
    go_to("Drop 1.bin")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Drop 1.bin")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(cell(page, "spiders", "Failed")).to_have_text("1")
    expect(cell(page, "given-up", "File")).to_contain_text("2.bin")
    expect(page.locator("#given-up")).to_be_focused()
    assert queue.llen(FAILED) == 1


@pytest.mark.parametrize(("locale", "width"), [("en-US", 360), ("zh-CN", 360), ("en-US", 861), ("zh-CN", 1101)])
def test_nothing_is_cut_off_at_any_width(
    working: Site, queue: redis.Redis, open_page: OpenPage, locale: str, width: int
) -> None:
    queue.rpush(FAILED, record(1, url="http://h/" + "u" * 500, filename="f" * 300, message="m" * 300, reason="r" * 60))

    page = open_page(working.dashboard.url, width=width, locale=locale, color_scheme="dark")

    expect(page.locator("#given-up-table tbody tr")).to_be_visible()
    page.locator("#given-up").scroll_into_view_if_needed()
    assert page.evaluate("() => document.documentElement.scrollWidth") == width
    cut = "() => [...document.querySelectorAll('section')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert page.evaluate(cut) == 0
    page.locator("#rate-button").click()
    assert page.evaluate("() => document.querySelector('#rate').getBoundingClientRect().right") <= width


def test_it_speaks_the_language_of_the_browser_until_told_otherwise(
    working: Site, queue: redis.Redis, open_page: OpenPage
) -> None:
    queue.rpush(FAILED, record(1))
    page = open_page(working.dashboard.url, locale="zh-CN")
    expect(page.get_by_role("heading", name="爬虫")).to_be_visible()
    expect(cell(page, "spiders", "失败")).to_have_text("1")

    page.locator("#language").select_option("en")
    expect(page.get_by_role("heading", name="Spiders")).to_be_visible()
    expect(cell(page, "spiders", "Failed")).to_have_text("1")

    page.reload()
    expect(page.get_by_role("heading", name="Spiders")).to_be_visible()
    assert page.evaluate("() => document.documentElement.lang") == "en"


def test_colours_follow_the_system_until_told_otherwise(working: Site, open_page: OpenPage) -> None:
    def ground(page: Page) -> str:
        return str(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))

    light, page = (open_page(working.dashboard.url, color_scheme=scheme) for scheme in ("light", "dark"))
    assert ground(page) != ground(light)

    page.locator("#theme").select_option("light")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")  # last of all, after its parts
    assert ground(page) == ground(light)
    page.reload()
    expect(page.locator("#theme")).to_have_value("light")
    assert ground(page) == ground(light)


def test_thousands_of_records_are_searched_and_dropped_a_part_at_a_time(
    working: Site, queue: redis.Redis, open_page: OpenPage
) -> None:
    for start in range(0, 20_000, 10_000):
        reasons = ((n, "dns" if n % 200 == 7 else "http_404") for n in range(start, start + 10_000))
        queue.rpush(FAILED, *(record(n, reason=reason) for n, reason in reasons))
    page = open_page(working.dashboard.url)
    place, rows = page.locator("#given-up-place"), page.locator("#given-up-table tbody tr")

    expect(place).to_contain_text("1–25 of 20,000")
    expect(rows).to_have_count(25)
    page.locator("#given-up-after").click()
    expect(place).to_contain_text("26–50 of 20,000")
    expect(cell(page, "given-up", "File")).to_contain_text("25.bin")

    page.get_by_role("searchbox").fill("http://h/19007")
    expect(rows).to_have_count(1)
    expect(cell(page, "given-up", "File")).to_contain_text("19007.bin")
    page.get_by_role("searchbox").fill("")
    page.locator("#reason-filter").select_option("dns")
    expect(rows).to_have_count(25)
    expect(cell(page, "given-up", "File", row=1)).to_contain_text("207.bin")

    page.get_by_role("button", name="Drop filtered").click()
    expect(page.get_by_role("dialog")).to_contain_text("every item that matches the reason dns")
    page.get_by_role("dialog").get_by_role("button", name="Drop filtered").click()
    expect(page.get_by_text("Items dropped: 100.")).to_be_visible()
    expect(page.locator("#given-up-none")).to_have_text("Nothing matches.")
    assert queue.llen(FAILED) == 19_900


def test_one_running_file_is_given_up_and_another_begun_again(
    browser: Browser, origin: Origin, tmp_path: Path, open_page: OpenPage
) -> None:
    urls = {name: origin.url(name, 3 << 20, "hold:gate2:500000") for name in ("stays.bin", "goes.bin", "again.bin")}
    items = [
        item(attachment(urls["stays.bin"], "stays.bin"), attachment(urls["goes.bin"], "goes.bin")),
        item(attachment(urls["again.bin"], "again.bin")),
    ]
    with site(tmp_path, "chunkdl", "worker", "files") as running, running.server.client() as client:
        client.rpush(WAITING, *map(json.dumps, items))
        page = open_page(running.dashboard.url)
        expect(page.locator("#files-table tbody tr")).to_have_count(3)
        expect(page.locator("#files-table")).to_contain_text("a report")  # the title of its item

        page.get_by_role("button", name="Give goes.bin up").click()
        page.get_by_role("dialog").get_by_role("button", name="Give up").click()
        expect(page.locator("#files-table tbody tr")).to_have_count(2)
        requests = origin.stats("again.bin").requests
        page.get_by_role("button", name="Begin again.bin again").click()
        page.get_by_role("dialog").get_by_role("button", name="Again").click()
        wait_for(lambda: origin.stats("again.bin").requests > requests, "it is not asked for again")
        origin.release("gate2")
        wait_for(lambda: client.hget("{files:items}:totals", "items/finished") == b"2", "the items do not end")

        expect(cell(page, "finished", "File", row=1)).to_contain_text(".bin")
        expect(page.locator("#figures")).to_contain_text("2 items done")
        [failed] = map(json.loads, client.lrange(FAILED, 0, -1))
        assert (failed["filename"], failed["reason"]) == ("goes.bin", "stopped")
        assert stored(running, "stays.bin") == [content("stays.bin", 3 << 20)]
        assert stored(running, "again.bin") == [content("again.bin", 3 << 20)]


def test_what_a_file_does_besides_receiving_is_said(held: Site, open_page: OpenPage, origin: Origin) -> None:
    page = open_page(held.dashboard.url)
    told = {"running": 8, "files": []}
    words = ["waiting for a place", "waiting for a host", "waiting for a disk", "asking", "receiving", "checking"]
    for n, word in enumerate([*words, "publishing", "delivering"]):
        file = {"id": str(n), "url": f"http://h/{n}", "name": f"{n}", "size": None, "done": 0, "map": "", "retries": 0}
        told["files"].append(
            {**file, "doing": word, "doing_for": 7.0, "bytes_per_second": 0, "eta": None, "chunks": None}
        )
    with held.server.client() as client:
        now = client.time()[0] * 1000 + 60_000
        client.hset("{files:items}:details", "m:1:x", f"{now} {json.dumps(told)}")

    for word in ("waits for its turn", "waits for its host", "waits for the disk", "asks its server", "gets its name"):
        expect(page.locator("#files-table")).to_contain_text(f"{word} for 7 s")
    for word in ("checks what is there", "goes to the store"):
        expect(page.locator("#files-table")).to_contain_text(word)


def test_days_are_shown_by_the_hour(held: Site, open_page: OpenPage) -> None:
    with held.server.client() as client:
        day = client.time()[0] // 86400 - 3
        client.hset(f"{{files:items}}:history {day}", mapping={"05b": 3600 * 2_000_000, "05i": 7200, "05x": 4})
    page = open_page(held.dashboard.url)
    expect(page.locator("#history .chart:visible")).to_have_count(3)

    page.get_by_label("Time shown").select_option("7")

    expect(page.locator("#history .chart:visible")).to_have_count(3)
    expect(page.locator("#history .chart:visible h3").last).to_have_text("Files given up")
    area = page.locator("#history .chart:visible .area").first
    expect(area).to_have_attribute("aria-label", re.compile("by the hour.*most 2 MB/s"))
    area.focus()
    page.keyboard.press("Home")
    expect(page.locator("#history .chart:visible .reading").first).to_contain_text("2 MB/s")
