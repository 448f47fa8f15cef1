"""Every view of the page and every kind of text that a stranger may have written: shown as text, nothing hidden or run.

A new text is a line of TEXTS, a new view one of VIEWS.
"""

from __future__ import annotations

import pytest
import redis
from every_view import fill
from pages import OpenPage
from playwright.sync_api import Page, expect
from served import Dashboard

from scrapy_chunkdl.queue.item_queue import ItemQueue

RUN = "window.hacked=1"
TEXTS = {
    "script": f'<img src=x onerror="{RUN}"><script>{RUN}</script>',
    "attribute": f'" onfocus="{RUN}" autofocus x="',
    "link": f"javascript:{RUN}//https://h/",
    "template": "{name} {n} $& $1 ${window.hacked=1} %s",
    "turned": "invoice\u202egpj.exe\u2066\u2069\u200f\u061c",
    "invisible": "pay\u00adpal\u200b\u2060\ufeff\U000e0041\u180e\u115f\u3164",
    "control": "a\x1b[2J\x00\x07\r\n\t\x7f\x85b",
    "lines": "one\u2028two\u2029three",
    "half a pair": "broken \ud800 \udfff",
    "long": "w" * 20_000,
    "stacked": "Z" + "\u0301" * 500,
    "of objects": "__proto__",
    "of maps": "constructor",
    "empty": "",
}

VIEWS = {
    "attention": ("#attention", None),
    "workers": ("#workers-table tbody", None),
    "files": ("#files-table tbody", None),
    "hosts": ("#hosts-table tbody", "#hosts-all"),
    "failed": ("#given-up-table tbody", None),
    "dead": ("#given-up-table tbody", "input[name=kind][value=dead]"),
    "waiting": ("#waiting-table tbody", "#waiting summary"),
    "finished": ("#finished-table tbody", "#finished-all"),
}
"""Where each view is, and what opens it."""

HIDDEN = r"""() => {
    const forbidden = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u115f\u3164]/u;
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    for (let node = texts.nextNode(); node; node = texts.nextNode())
        if (!node.parentElement.closest("script, noscript") && forbidden.test(node.data.replace(/\n/g, "")))
            found.push([node.parentElement.outerHTML.slice(0, 80), JSON.stringify(node.data.slice(0, 80))]);
    for (const one of document.querySelectorAll("[title], [aria-label]")) {
        const told = (one.title + (one.ariaLabel ?? "")).replace(/\n/g, "");
        if (forbidden.test(told)) found.push([one.outerHTML.slice(0, 200)]);
    }
    return found;
}"""
"""What is in the page's texts, tooltips and labels that would turn or hide other letters, or is no letter."""


@pytest.fixture
def full(dashboard: Dashboard, queue: ItemQueue, client: redis.Redis, open_page: OpenPage) -> Page:
    fill(client, queue, [*TEXTS.values()])
    page = open_page(f"http://127.0.0.1:{dashboard.port}/", width=800)
    expect(page.locator("#finished-table tbody tr")).to_have_count(10)
    expect(page.locator("#files-table tbody tr")).to_have_count(len(TEXTS))
    return page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_view_shows_every_text_as_text(full: Page, language: str) -> None:
    full.get_by_label("Language").select_option(language)
    for place, opened_by in VIEWS.values():
        if opened_by is not None:
            full.locator(opened_by).click()
        expect(full.locator(place)).to_contain_text("window.hacked=1")
        assert full.evaluate(HIDDEN) == []
        assert full.evaluate("() => document.documentElement.scrollWidth") == 800
    assert full.evaluate("() => window.hacked") is None
    assert (
        full.locator("main img, main script, main a[href^='javascript'], main [onfocus], main [autofocus]").count() == 0
    )


@pytest.mark.parametrize(
    ("table", "button"),
    [("hosts", "td.actions button"), ("given-up", "td.actions button.danger"), ("files", "td.actions button.danger")],
)
def test_every_question_shows_every_text_as_text(full: Page, table: str, button: str) -> None:
    for name in ("invisible", "turned", "half a pair", "long", "script"):
        shown = "window.hacked=1" if name == "script" else {"long": "wwwww", "turned": "<U+202E>"}.get(name, "<U+")
        row = full.locator(f"#{table}-table tbody tr", has_text=shown).filter(has=full.locator(button)).first

        row.locator(button).dispatch_event("click")
        dialog = full.locator("dialog[open]")
        expect(dialog).to_contain_text(shown)
        assert full.evaluate(HIDDEN) == []
        box = dialog.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 800
        full.keyboard.press("Escape")
        expect(full.locator("dialog[open]")).to_have_count(0)
    assert full.evaluate("() => window.hacked") is None


def test_a_reason_that_is_chosen_is_named_as_text(full: Page) -> None:
    for text in (TEXTS["turned"], TEXTS["script"]):
        full.locator("#reason-filter").select_option(text)
        expect(full.locator("#given-up-table tbody tr")).to_have_count(1)
        full.locator("#drop-many").click()
        expect(full.locator("dialog[open]")).to_contain_text("every item that matches the reason")
        assert full.evaluate(HIDDEN) == []
        full.keyboard.press("Escape")
