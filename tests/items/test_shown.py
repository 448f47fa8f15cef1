"""What is shown of an item: what tells it apart, no secret, and nothing that could forge a line."""

from __future__ import annotations

import json
from collections import UserDict
from typing import Any

import pytest

from scrapy_chunkdl.items.shown import about, waiting_as_dict
from scrapy_chunkdl.settings.config import Config


class Refuses(UserDict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("of the project")


@pytest.mark.parametrize(
    ("item", "title", "page"),
    [
        ({"title": "T", "url": "https://site/p"}, "T", "https://site/p"),
        ({"data": [{"title": "inner", "attachments": [{"ori_url": "https://h/f"}]}]}, "inner", ""),
        ({"name": "N", "title": "T"}, "N", ""),
        ({"title": ["not a text"], "headline": "H"}, "H", ""),
        ({"file_urls": ["https://h/f"], "page": "http://site"}, "", "http://site"),
        ({"url": "https://u:pw@site/p?token=t"}, "", "https://u:***@site/p?token=***"),
        ({"title": "\x1b[2J\u202eevil"}, "\\x1b[2J\\u202eevil", ""),
        ({"a": {"b": {"c": {"d": {"e": {"title": "too deep"}}}}}}, "", ""),
        ({}, "", ""),
        (None, "", ""),
        (7, "", ""),
        (Refuses(), "", ""),
    ],
)
def test_an_item_is_told_apart_by_title_and_page(item: object, title: str, page: str) -> None:
    assert about(item) == {"title": title, "page": page}


def test_long_texts_are_cut() -> None:
    told = about({"title": "x" * 10_000, "url": "https://h/" + "y" * 10_000, "more": ["z"] * 100_000})

    assert (len(told["title"]), len(told["page"])) == (200, 200)


@pytest.mark.parametrize("payload", [b"", b"\xff", b"7", b"[1]", b"{", b"[" * 10_000, b'{"title": 7}'])
def test_what_is_no_item_is_shown_as_it_begins(payload: bytes) -> None:
    told = waiting_as_dict(payload, Config())

    assert (told["title"], told["page"], told["files"]) == ("", "", [])
    assert len(told["text"]) <= 200
    json.dumps(told)
