"""Where a path leads in an item, and which of its fields hold URLs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest

from scrapy_chunkdl.items.shape import fields_like_urls, leads_nowhere

URL = "https://example.org/a.pdf"


@dataclass
class Report:
    url: str
    files: list[Any] = field(default_factory=list)


@pytest.mark.parametrize(
    ("item", "path", "nowhere"),
    [
        ({"file_urls": [URL]}, "data.attachments", True),
        ({"attachments": [{"ori_url": URL}]}, "data.attachments", True),
        ({"data": [{"attachment": [URL]}]}, "data.attachments", True),
        ({"data": {"attachments": [URL]}}, "data[].attachments", True),
        ({"data": "text"}, "data.attachments", True),
        (Report(URL), "data.attachments", True),
        ({"data": [{"attachments": []}]}, "data.attachments", False),
        ({"data": [{"title": "x"}, {"attachments": None}]}, "data.attachments", False),
        ({"data": []}, "data.attachments", False),
        ({"data": None}, "data.attachments", False),
        (Report(URL), "files", False),
        (Report(URL, [{"a": 1}]), "files.b", True),
    ],
    ids=str,
)
def test_a_path_leads_nowhere_where_a_field_is_not_there_empty_ones_are(item: Any, path: str, nowhere: bool) -> None:
    assert leads_nowhere(item, path.split(".")) is nowhere


@pytest.mark.parametrize(
    ("item", "fields"),
    [
        ({"file_urls": [URL, URL], "title": "x"}, ["file_urls"]),
        ({"data": [{"attachment": [{"url": URL}]}], "page": URL}, ["data.attachment.url", "page"]),
        (Report("//cdn.example.org/a", [{"href": pydantic.HttpUrl(URL)}]), ["url", "files.href"]),
        ({"text": "see https://example.org", "n": 7, "raw": b"http://h/"}, []),
        ({f"f{number}": URL for number in range(50)}, [f"f{number}" for number in range(6)]),
    ],
    ids=str,
)
def test_fields_with_urls_are_found_wherever_they_are(item: Any, fields: list[str]) -> None:
    assert fields_like_urls(item) == fields


def test_an_item_that_contains_itself_is_looked_at_only_so_deep() -> None:
    item: dict[str, Any] = {"url": URL}
    item["self"] = item

    assert fields_like_urls(item)[:2] == ["url", "self.url"]
