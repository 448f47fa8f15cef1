"""How the page looks, whatever it tells: nothing cut off that cannot be scrolled, and colours that can be read."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from every_view import fill
from pages import OpenPage
from playwright.sync_api import Page, expect
from served import Dashboard

from scrapy_chunkdl.queue.item_queue import ItemQueue

LONG = "https://archive.example/" + "observations-of-the-north-atlantic/" * 8 + "w" * 200
PLAIN = [LONG, "a report of 2021.pdf", "年度报告 2021 第三卷.pdf", *(f"http_{n}" for n in range(8))]

CUT = """() => [...document.querySelectorAll("body *")].filter((one) => {
    if (one.matches("canvas, svg *, option, select, input, script, .unseen, .skip, .area *")) return false;
    if (!one.checkVisibility()) return false;
    const { overflowX, overflowY, display } = getComputedStyle(one);
    if (display === "inline" || one.clientWidth === 0 || one.closest("thead") && innerWidth <= 860) return false;
    const scrolls = (overflow) => overflow === "auto" || overflow === "scroll";
    const wide = one.scrollWidth > one.clientWidth + 1 && !scrolls(overflowX);
    const high = one.scrollHeight > one.clientHeight + 1 && ["hidden", "clip"].includes(overflowY);
    return wide || high;
}).map((one) => `${one.tagName} ${one.id} ${one.className}: ${one.scrollWidth}x${one.scrollHeight} in `
    + `${one.clientWidth}x${one.clientHeight}: ${one.textContent.slice(0, 60)}`)"""
"""What does not fit into its element, where that cannot be scrolled."""

CONTRAST = """() => {
    const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const bytes = (colour) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const light = (colour) => bytes(colour).slice(0, 3)
        .map((value) => value / 255)
        .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, n) => sum + value * [0.2126, 0.7152, 0.0722][n], 0);
    const ground = (one) => {
        for (; one; one = one.parentElement) {
            const colour = getComputedStyle(one).backgroundColor;
            if (bytes(colour)[3] === 255) return colour;
            if (bytes(colour)[3] > 0) throw new Error(`half a ground: ${one.outerHTML.slice(0, 99)}`);
        }
        return "white";
    };
    const found = new Map();
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = texts.nextNode(); node; node = texts.nextNode()) {
        const one = node.parentElement;
        if (!node.data.trim() || one.matches("option, script, noscript *")) continue;
        if (!one.checkVisibility() || one.closest(":disabled")) continue;
        const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
        found.set(`${one.tagName}.${one.className} ${node.data.trim().slice(0, 30)}`, (a + 0.05) / (b + 0.05));
    }
    return [...found].sort(([, a], [, b]) => a - b);
}"""
"""The contrast of each text with its ground, the lowest first: WCAG 2.2, 1.4.3."""


def shown(page: Page) -> None:
    """Open all there is to open, and return when it is drawn."""
    page.locator("#waiting summary").click()
    expect(page.locator("#waiting-table tbody tr")).to_have_count(2 * len(PLAIN))
    expect(page.locator("#files-table tbody tr")).to_have_count(len(PLAIN))
    expect(page.locator("#given-up-table tbody tr")).to_have_count(len(PLAIN))
    page.evaluate(
        "() => document.querySelectorAll('#detail > *').forEach((one) => one.style.contentVisibility = 'visible')"
    )


@pytest.fixture
def filled(dashboard: Dashboard, queue: ItemQueue, client: redis.Redis) -> str:
    fill(client, queue, PLAIN)
    return f"http://127.0.0.1:{dashboard.port}/"


@pytest.mark.parametrize(
    ("width", "locale"), [(1440, "en-US"), (1440, "zh-CN"), (360, "en-US"), (360, "zh-CN"), (900, "en-US")]
)
def test_nothing_is_cut_off_in_any_view(filled: str, open_page: OpenPage, width: int, locale: str) -> None:
    page = open_page(filled, width=width, locale=locale)
    shown(page)

    assert page.evaluate(CUT) == []
    assert page.evaluate("() => document.documentElement.scrollWidth") == width
    page.locator("input[name=kind][value=dead]").check()
    expect(page.locator("#given-up-table code.raw:visible").first).to_be_visible()
    assert page.evaluate(CUT) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_in_both_colours(filled: str, open_page: OpenPage, theme: Any) -> None:
    page = open_page(filled, color_scheme=theme)
    shown(page)

    contrasts = page.evaluate(CONTRAST)

    assert len(contrasts) > 100
    assert [one for one in contrasts if one[1] < 4.5] == []


def test_no_word_of_the_page_stays_english(filled: str, open_page: OpenPage) -> None:
    page = open_page(filled, locale="zh-CN")
    shown(page)

    words = page.locator("th, button, h2, h3, label, nav a, option, summary, .badge").evaluate_all(
        "(all) => all.filter((one) => one.checkVisibility() || one.matches('option'))"
        ".map((one) => one.text ?? one.innerText)"
    )
    english = [word for word in words if word and not any("\u4e00" <= sign <= "\u9fff" for sign in word)]

    names = {"English", "kB/s", "MB/s", "GB/s", "×", "s", *PLAIN, *(name[:80] for name in PLAIN)}
    assert set(english) - names == set()
