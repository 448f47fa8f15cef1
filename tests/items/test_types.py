"""Items come out of JSON as what they went in, and the name in the payload never decides what code runs."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import attrs
import pydantic
import pytest
import scrapy

from scrapy_chunkdl.items.types import CLASS_FIELD, ItemTypes, item_classes_in, plain_json


@dataclass
class File:
    ori_url: str
    path: str = ""


@dataclass
class Report:
    title: str
    files: list[File] = field(default_factory=list)
    pages: int = field(default=0, init=False)


class ScrapyReport(scrapy.Item):
    title = scrapy.Field()
    files = scrapy.Field()


@attrs.define(frozen=True)
class AttrsReport:
    title: str
    _files: list[Any] = attrs.field(alias="given")
    pages: int = attrs.field(default=0, init=False)


class PydanticFile(pydantic.BaseModel):
    ori_url: str
    path: str = ""


class PydanticReport(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    title: str = pydantic.Field(alias="Title")
    files: list[PydanticFile]
    at: datetime


def numbered(report: Any) -> Any:
    report.pages = 7
    return report


ITEMS = [
    numbered(Report("a", [File("u")])),
    ScrapyReport(title="a", files=[File("u"), {"plain": 1}]),
    ScrapyReport(title="only one field is set"),
    AttrsReport("a", [File("u")]),
    PydanticReport(Title="a", files=[PydanticFile(ori_url="u")], at=datetime(2022, 10, 17), more=12345678901234567890),
    {"title": "a", "files": [File("u")]},
]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: type(item).__name__)
def test_an_item_is_what_it_was_in_the_process_that_wrote_it_and_in_any_other(item: Any) -> None:
    here, other = ItemTypes(), ItemTypes(item_classes_in(globals()))

    payload = here.write(item)

    for read in (here.read(payload), other.read(payload)):
        assert read == item
        assert type(read) is type(item)


def test_a_dict_of_plain_things_is_written_as_ever_and_read_as_it_stands() -> None:
    types, item = (
        ItemTypes(),
        {"title": "ü", "data": [{"attachments": [{"ori_url": "u"}], "big": 12345678901234567890}]},
    )

    assert types.write(item) == plain_json(item) == json.dumps(item, ensure_ascii=False).encode()
    assert types.read(types.write(item)) == item


def test_half_an_emoji_is_written_as_json_can() -> None:
    types, item = ItemTypes(), {"title": "\ud83d", "data": ["a\udc00b", "\\ud83d", "ü😀"]}

    assert types.read(types.write(item)) == json.loads(plain_json(item)) == item
    assert "ü😀".encode() in types.write(item)


def test_finished_items_for_others_do_not_tell_their_class() -> None:
    assert json.loads(plain_json(Report("a", [File("u")]))) == {
        "title": "a",
        "files": [{"ori_url": "u", "path": ""}],
        "pages": 0,
    }


def test_an_unknown_class_becomes_a_dict_with_all_fields_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    payload = ItemTypes().write(Report("a", [File("u")]))
    stranger = ItemTypes([File])

    with caplog.at_level(logging.WARNING):
        read = [stranger.read(payload) for _ in range(3)]

    assert read == [{"title": "a", "files": [File("u")], "pages": 0}] * 3
    [record] = caplog.records
    assert "Report" in record.getMessage()
    assert "CHUNKDL_ITEM_CLASSES" in record.getMessage()


@pytest.mark.parametrize("fields", [{"title": "a", "pages": 1, "was": 2}, {"pages": 1}])
def test_a_class_that_has_changed_meanwhile_loses_nothing(
    caplog: pytest.LogCaptureFixture, fields: dict[str, object]
) -> None:
    types = ItemTypes([Report])
    payload = json.dumps({CLASS_FIELD: f"{__name__}.Report", **fields}).encode()

    read = [types.read(payload) for _ in range(2)]

    assert read == [fields] * 2
    assert len(caplog.records) == 1
    assert "does not take its fields" in caplog.text


@pytest.mark.parametrize("name", ["subprocess.Popen", "this.that", "os.system", 7, None, ["x"]])
def test_a_name_in_the_payload_is_never_imported(name: object) -> None:
    types = ItemTypes(item_classes_in(globals()))

    read = types.read(json.dumps({CLASS_FIELD: name, "args": "true"}).encode())

    assert read == {"args": "true"}
    assert "this" not in sys.modules


def test_what_is_no_item_class_in_a_module_stays_out() -> None:
    class Sub(dict):  # type: ignore[type-arg]
        pass

    assert item_classes_in({"dict": dict, "Sub": Sub, "int": int, "text": "x", "File": File}) == [File]
