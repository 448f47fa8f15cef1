"""One URL asked for in two ways is two files, and each checksum is checked for whom it was given."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from origin import Origin
from origin_content import content
from project import Crawl, Project, attachment, item, paths

SIZE = 200_000
SAME = "etag:none"
"""Size and Last-Modified are then all that a server tells of a version, and equal for all who ask."""

LOGINS = """
import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        for number, page in enumerate(self.settings["PAGES"]):
            yield scrapy.Request(page, meta={"cookiejar": number}, dont_filter=True)

    def parse(self, response):
        yield ITEMS[response.meta["cookiejar"]]
"""

OWN_PATHS = """
from scrapy_chunkdl.pipelines import ChunkDownloadPipeline


class OnePath(ChunkDownloadPipeline):
    def file_path(self, request, response=None, info=None, *, item=None):
        return request.url.partition("?")[0].rpartition("/")[2] + "/report.bin"
"""


@pytest.fixture(params=["queue", "inline"])
def mode(request: pytest.FixtureRequest, project: Project) -> str:
    project.settings["CHUNKDL_MODE"] = request.param
    return str(request.param)


@pytest.fixture(params=["url", "content", "own paths"])
def naming(request: pytest.FixtureRequest, project: Project) -> str:
    if request.param == "own paths":
        project.support = OWN_PATHS
        project.settings["ITEM_PIPELINES"] = {"probe.support.OnePath": 1, "probe.support.Seen": 300}
    else:
        project.settings["CHUNKDL_NAMING"] = request.param
    return str(request.param)


def crawl_twice(project: Project) -> Crawl:
    """The second crawl finds what the first left; what it gives out replaces what the first did."""
    project.crawl()
    for feed in project.folder.glob("items*.jsonl"):
        feed.unlink()
    return project.crawl()


WAYS: dict[str, list[dict[str, Any]]] = {
    "accept-language": [{}, {"headers": {"Accept-Language": "cs"}}, {"headers": {"Accept-Language": "fr"}}],
    "authorization": [{"headers": {"Authorization": f"Bearer {n}"}} for n in range(10)],
    "cookie": [{}, {"headers": {"cookie": "account=1"}}, {"headers": {"Cookie": "account=2"}}],
    "x-own": [{"headers": {"X-Own": "1", "Accept": "*/*"}}, {"headers": {"x-own": "2", "accept": "*/*"}}],
    "referer": [{}, {"headers": {"Referer": "http://a.example/"}}],
    "user-agent": [{}, {"headers": {"User-Agent": "one"}}, {"headers": {"User-Agent": "two"}}],
    "proxy-authorization": [{}, {"proxy": "http://one:secret@HERE"}, {"proxy": "http://two:secret@HERE"}],
}
"""The header by which a server tells its answers apart, and the ways in which attachments ask."""

SENT_TO_ALL = {"user-agent": "probe"}


def value_sent(header: str, way: dict[str, Any]) -> str | None:
    sent = SENT_TO_ALL | {name.lower(): value for name, value in way.get("headers", {}).items()}
    if "proxy" in way:
        login = way["proxy"].partition("//")[2].partition("@")[0]
        sent["proxy-authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    return sent.get(header)


def key_of(name: str, header: str, way: dict[str, Any]) -> str:
    value = value_sent(header, way)
    return name if value is None else f"{name}/{value}"


def wants(origin: Origin, name: str, header: str, way: dict[str, Any]) -> dict[str, Any]:
    fields = dict(way)
    if "proxy" in way:
        fields["proxy"] = way["proxy"].replace("HERE", f"127.0.0.1:{origin.port}")
    return attachment(origin.url(name, SIZE, f"{SAME};by:{header}"), "a.bin", **fields)


def test_each_way_of_asking_gets_its_own_bytes_in_each_crawl(
    project: Project, origin: Origin, mode: str, naming: str
) -> None:
    """Whether the attachments that ask in several ways are in one item or in many."""
    project.settings |= {"USER_AGENT": "probe", "DEFAULT_REQUEST_HEADERS": {}}
    for header, ways in WAYS.items():
        for name, items in ((header, [ways]), (f"{header}-apart", [[way] for way in ways])):
            project.items += [
                item(
                    *(wants(origin, name, header, way) for way in together),
                    keys=[key_of(name, header, way) for way in together],
                )
                for together in items
            ]

    crawl = crawl_twice(project)

    got = project.scraped()
    assert len(got) == len(project.items)
    assert [wrong for finished in got if (wrong := not_as_wanted(finished))] == []
    assert crawl.stats["chunkdl/files/uptodate"] == 2 * sum(map(len, WAYS.values()))
    assert crawl.stats["chunkdl/bytes/fetched"] == 0
    assert b"secret" not in b"".join(project.files().values())


def not_as_wanted(finished: dict[str, Any]) -> list[str]:
    pairs = zip(finished["keys"], paths(finished), strict=True)
    return [key for key, path in pairs if not path or Path(path).read_bytes() != content(key, SIZE)]


def test_two_logins_of_one_spider_get_each_their_own_bytes(
    project: Project, origin: Origin, mode: str, naming: str
) -> None:
    url = origin.url("a.bin", SIZE, f"{SAME};by:cookie")
    project.spider = LOGINS
    project.settings |= {
        "CHUNKDL_COOKIES": True,
        "PAGES": [origin.redirect(f"login-{n}", origin.url(f"page-{n}", 10), cookie=f"who={n}") for n in range(2)],
    }
    project.items = [item(attachment(url, "a.bin", cookiejar=n), keys=[f"a.bin/who={n}"]) for n in range(2)]

    crawl = crawl_twice(project)

    assert [wrong for finished in project.scraped() if (wrong := not_as_wanted(finished))] == []
    assert crawl.stats["chunkdl/files/uptodate"] == 2


CHECKED: list[list[str]] = [
    ["none", "wrong"],
    ["wrong", "none"],
    ["right", "wrong", "right"],
    ["right", "md5"],
    ["none", "right", "wrong md5", "sha1"],
]
"""The checksums that the attachments of one item give, all of one URL."""


def checksum_of(kind: str, key: str) -> dict[str, str]:
    if kind == "none":
        return {}
    algorithm = next((name for name in ("md5", "sha1") if name in kind), "sha256")
    data = content("another" if "wrong" in kind else key, SIZE)
    return {"checksum": f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"}


def test_each_checksum_is_checked_for_whom_it_was_given(
    project: Project, origin: Origin, mode: str, naming: str
) -> None:
    for number, kinds in enumerate(CHECKED):
        url, key = origin.url(f"{number}.bin", SIZE), f"{number}.bin"
        project.items.append(item(*(attachment(url, "a.bin", **checksum_of(kind, key)) for kind in kinds), row=number))

    crawl = crawl_twice(project)

    got = {finished["row"]: [bool(path) for path in paths(finished)] for finished in project.scraped()}
    assert got == {row: ["wrong" not in kind for kind in kinds] for row, kinds in enumerate(CHECKED)}, crawl.log
    for finished in project.scraped():
        key = f"{finished['row']}.bin"
        assert {Path(path).read_bytes() == content(key, SIZE) for path in paths(finished) if path} == {True}
    assert crawl.stats["chunkdl/failures/checksum"] == sum("wrong" in kind for kinds in CHECKED for kind in kinds)


def test_what_is_sent_to_everybody_anyway_makes_no_other_file(project: Project, origin: Origin) -> None:
    project.settings["DEFAULT_REQUEST_HEADERS"] = {"Accept-Language": "en"}
    url = origin.url("a.bin", SIZE)
    ways: list[dict[str, Any]] = [{}, {"accept-language": "en"}, {"Range": "bytes=0-1"}, {"If-Range": '"x"'}]
    project.items = [item(*(attachment(url, "a.bin", headers=way) for way in ways))]

    crawl = project.crawl()

    assert len(set(paths(project.scraped()[0]))) == 1
    assert crawl.stats["chunkdl/bytes/fetched"] == SIZE
