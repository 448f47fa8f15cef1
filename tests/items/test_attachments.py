"""Attachments are found in any item, and results land where they belong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import attrs
import pydantic
import pytest
import scrapy
import yarl
from scrapy.settings import Settings

from scrapy_chunkdl.items import attachments
from scrapy_chunkdl.settings.config import Config

URL = "https://example.org/a.pdf"


def config(**settings: Any) -> Config:
    return Config.read(Settings({f"CHUNKDL_{name}": value for name, value in settings.items()}))


@dataclass
class File:
    ori_url: str
    path: str = ""
    filename: str = ""


@dataclass
class Report:
    data: list[Any] = field(default_factory=list)


class ScrapyReport(scrapy.Item):
    data = scrapy.Field()


@attrs.define
class AttrsReport:
    data: list[Any]


ATTACHMENT = {"ori_url": URL, "path": "", "filename": "a.pdf"}


@pytest.mark.parametrize(
    "make",
    [lambda data: {"data": data}, lambda data: Report(data), lambda data: ScrapyReport(data=data), AttrsReport],
    ids=["dict", "dataclass", "Item", "attrs"],
)
def test_every_item_type_is_walked_and_filled(make: Any) -> None:
    inner = dict(ATTACHMENT)
    item = make([{"title": "no files"}, {"title": "one", "attachments": [inner]}])

    [found] = attachments.find(item, config())
    found.write_back(config(), "/store/a.pdf", {})

    assert (found.url, found.filename, found.problem) == (URL, "a.pdf", None)
    assert inner["path"] == "/store/a.pdf"


def test_attachments_that_are_objects_are_filled_too() -> None:
    file = File(URL, filename="a.pdf")

    [found] = attachments.find({"data": {"attachments": [file]}}, config())
    found.write_back(config(), "/store/a.pdf", {})

    assert file.path == "/store/a.pdf"


def test_a_single_attachment_needs_no_list() -> None:
    assert [a.url for a in attachments.find({"data": {"attachments": dict(ATTACHMENT)}}, config())] == [URL]


def test_a_bare_url_becomes_an_object_with_its_path() -> None:
    item = {"files": [URL]}
    cfg = config(ATTACHMENTS="files")

    [found] = attachments.find(item, cfg)
    found.write_back(cfg, "/store/a.pdf", {})

    assert item == {"files": [{"ori_url": URL, "path": "/store/a.pdf"}]}


def test_field_names_and_several_paths_are_settings() -> None:
    item = {"docs": [{"u": URL, "n": "x"}], "cover": {"u": URL + "?2"}}
    cfg = config(
        ATTACHMENTS=["docs", "cover"], URL_FIELD="u", FILENAME_FIELD="n", PATH_FIELD="p", RESULT_FIELD="result"
    )

    first, second = attachments.find(item, cfg)
    second.write_back(cfg, "/store/cover", {"status": "downloaded"})

    assert (first.url, first.filename, second.url, second.filename) == (URL, "x", URL + "?2", None)
    assert item["cover"] == {"u": URL + "?2", "p": "/store/cover", "result": {"status": "downloaded"}}


def test_headers_checksum_and_mirrors_are_read() -> None:
    extra = {"headers": {"Referer": "https://example.org/"}, "checksum": "md5:00", "mirrors": [URL + "?m"]}

    [found] = attachments.find({"data": {"attachments": [ATTACHMENT | extra]}}, config())

    assert (found.headers, found.checksum, found.mirrors) == (extra["headers"], "md5:00", (URL + "?m",))


def test_space_around_a_url_is_not_part_of_it() -> None:
    item = {"data": {"attachments": [{"ori_url": f" {URL}\n"}, f"\t{URL}"]}}

    assert [found.url for found in attachments.find(item, config())] == [URL, URL]


def test_files_are_an_empty_list_where_there_are_none_and_the_item_has_a_place_for_them() -> None:
    item, placeless, cfg = {"title": "x"}, ScrapyReport(data="x"), config(FILES_FIELD="files")

    attachments.write_files(item, cfg, [])
    attachments.write_files(placeless, cfg, [])

    assert item == {"title": "x", "files": []}
    assert dict(placeless) == {"data": "x"}
    with pytest.raises(ValueError, match="files cannot be written into an item of type ScrapyReport"):
        attachments.write_files(placeless, cfg, [{"url": URL}])


@pytest.mark.parametrize(
    "item", [{}, {"data": None}, {"data": []}, {"data": [{"title": "x"}]}, {"data": "text"}, "no item", 7, None]
)
def test_an_item_without_attachments_has_none(item: object) -> None:
    assert attachments.find(item, config()) == []


@pytest.mark.parametrize(
    ("attachment", "problem"),
    [
        ({"path": "", "url": URL}, "it has no ori_url (CHUNKDL_URL_FIELD), its fields are: path, url"),
        ({}, "it has no ori_url (CHUNKDL_URL_FIELD), its fields are: none"),
        ({"ori_url": "  "}, "ori_url is '  ', not a URL"),
        ({"ori_url": 7}, "ori_url is 7, not a URL"),
        ({"ori_url": b"http://h/"}, "ori_url is b'http://h/', not a URL"),
        ({"ori_url": [URL]}, "not a URL"),
        ({"ori_url": URL, "filename": 7}, "filename is 7, not a string"),
        ({"ori_url": URL, "headers": ["a"]}, "headers is list, not an object of strings"),
        ({"ori_url": URL, "headers": {"a": 1}}, "the header 'a' is int, not a string"),
        ({"ori_url": URL, "headers": {7: "a"}}, "the name of a header is int, not a string"),
        ({"ori_url": URL, "checksum": 5}, "checksum is 5, not a string"),
        ({"ori_url": URL, "mirrors": URL}, "mirrors is"),
        (7, "an attachment is int, not an object or a URL"),
    ],
)
def test_an_attachment_that_makes_no_sense_says_what_is_wrong(attachment: object, problem: str) -> None:
    [found] = attachments.find({"data": {"attachments": [attachment]}}, config())

    assert found.problem is not None
    assert problem in found.problem


@pytest.mark.parametrize("bad", [1, None, ["b"], {"c": "d"}, b"e"])
def test_a_bad_header_is_told_without_the_values_of_any(bad: object) -> None:
    headers = {"Authorization": "Bearer s3cr3t", "X": bad, "Cookie": "session=s3cr3t"}

    [found] = attachments.find({"data": {"attachments": [{"ori_url": URL, "headers": headers}]}}, config())

    assert found.problem == f"the header 'X' is {type(bad).__name__}, not a string"


@pytest.mark.parametrize("make", [pydantic.HttpUrl, pydantic.AnyUrl, yarl.URL, type("Sub", (str,), {})])
@pytest.mark.parametrize("bare", [True, False])
def test_a_url_may_be_an_object_that_reads_as_one(make: Any, bare: bool) -> None:
    url = make(URL)
    item = {"data": {"attachments": [url if bare else {"ori_url": url, "mirrors": [url], "proxy": url}]}}

    [found] = attachments.find(item, config())
    found.write_back(config(), "/store/a.pdf", {})

    assert (found.url, found.problem) == (URL, None)
    [filled] = item["data"]["attachments"]
    assert filled["path"] == "/store/a.pdf"
    assert filled["ori_url"] is url
    assert bare or (found.mirrors, found.proxy) == ((URL,), URL)


@pytest.mark.parametrize(
    ("given", "accept"),
    [
        (".pdf", (".pdf",)),
        ("application/pdf, image/*", ("application/pdf", "image/*")),
        (["image/*", ".svg"], ("image/*", ".svg")),
        (None, ()),
        ("", ()),
    ],
)
def test_what_an_attachment_accepts_is_read(given: object, accept: tuple[str, ...]) -> None:
    item = {"data": {"attachments": [{"ori_url": URL, "accept": given}]}}

    assert attachments.find(item, config())[0].accept == accept


@pytest.mark.parametrize("given", ["pdf", 5, [5], {"a": 1}, ["image/*", "svg"]])
def test_what_is_no_type_and_no_extension_is_a_problem(given: object) -> None:
    item = {"data": {"attachments": [{"ori_url": URL, "accept": given}]}}

    assert "accept" in (attachments.find(item, config())[0].problem or "")
