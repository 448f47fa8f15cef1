"""Whole crawls whose files end up elsewhere: on S3, in a store of one's own; and stores that cannot be used."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import redis
from origin import Origin
from origin_content import content
from project import Project, attachment, item, paths
from s3_server import BUCKET, S3
from scrapy import Spider
from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured
from scrapy.logformatter import LogFormatter
from scrapy.statscollectors import StatsCollector

from scrapy_chunkdl import storage
from scrapy_chunkdl.extension import ChunkDownloader
from scrapy_chunkdl.settings.config import ConfigError
from scrapy_chunkdl.text import naming

MB = 1_000_000
BIG = 20 * MB
"""Four parts of an upload."""


@pytest.fixture
def cloud(project: Project, s3: S3) -> Project:
    """A project whose files go to S3."""
    pytest.importorskip("obstore", reason="obstore needs Python 3.11 or later")
    project.settings |= {"CHUNKDL_STORE": f"s3://{BUCKET}/reports"} | s3.settings()
    return project


def parts_left(project: Project) -> list[str]:
    return sorted(path.name for path in (project.folder / ".scrapy/chunkdl-parts").rglob("*") if path.is_file())


def test_files_go_to_s3_and_the_next_crawl_finds_them_up_to_date(cloud: Project, origin: Origin, s3: S3) -> None:
    sizes = {"small.pdf": 10, "big.bin": BIG}
    cloud.items = [item(*(attachment(origin.url(name, size), name) for name, size in sizes.items()))]

    crawl = cloud.crawl()

    [finished] = cloud.scraped()
    for path, (name, size) in zip(paths(finished), sizes.items(), strict=True):
        key = f"reports/{naming.folder_for(origin.url(name, size))}/{name}"
        assert path == f"s3://{BUCKET}/{key}"
        assert s3.read(key) == content(name, size)
    assert s3.unfinished() == []
    assert parts_left(cloud) == []
    assert crawl.stats["chunkdl/bytes/uploaded"] == sum(sizes.values())
    assert not (cloud.folder / "downloads").exists()
    sent = origin.stats("big.bin").sent
    for folder in (cloud.folder / ".scrapy/chunkdl-parts").glob("*/*"):
        os.utime(folder, (0, 0))

    again = cloud.crawl()

    assert again.stats["chunkdl/files/uptodate"] == 2
    assert list((cloud.folder / ".scrapy/chunkdl-parts").glob("*/*")) == []
    assert origin.stats("big.bin").sent == sent
    assert [paths(scraped) for scraped in cloud.scraped()] == [paths(finished)] * 2


def test_killed_in_the_middle_of_an_upload_the_next_crawl_delivers_without_fetching_again(
    cloud: Project, origin: Origin, client: redis.Redis, s3: S3
) -> None:
    cloud.settings |= {"CHUNKDL_LEASE": 1}
    cloud.items = [item(attachment(origin.url("big.bin", BIG), "big.bin"))]
    s3.hold(part=2)

    process = cloud.start()
    s3.wait_until_held()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    s3.release()
    assert s3.keys() == []
    assert len(s3.unfinished()) == 1
    assert parts_left(cloud) == ["big.bin", "big.bin.part"]
    sent = origin.stats("big.bin").sent
    cloud.items = []
    client.zadd("{files:items}:leases", {client.zrange("{files:items}:leases", 0, 0)[0]: 1})  # its time has passed
    cloud.crawl()

    [finished] = cloud.scraped()
    assert s3.read(paths(finished)[0].removeprefix(f"s3://{BUCKET}/")) == content("big.bin", BIG)
    assert origin.stats("big.bin").sent == sent
    assert s3.unfinished() == []
    assert parts_left(cloud) == []
    assert client.exists("{files:items}:leases", "{files:items}:payload") == 0


def test_ctrl_c_ends_an_upload_that_hangs_and_the_next_crawl_delivers(
    cloud: Project, origin: Origin, client: redis.Redis, s3: S3
) -> None:
    cloud.settings |= {"CHUNKDL_SHUTDOWN_GRACE": 0.1}
    cloud.items = [item(attachment(origin.url("big.bin", BIG), "big.bin"))]
    s3.hold(part=2)

    process = cloud.start()
    s3.wait_until_held()
    process.send_signal(signal.SIGINT)
    crawl = cloud.finish(process)
    assert crawl.returncode == 0
    assert crawl.stats["chunkdl/items/released"] == 1
    assert s3.keys() == []
    s3.release()
    sent = origin.stats("big.bin").sent
    cloud.items = []
    cloud.crawl()

    assert len(cloud.scraped()) == 1
    assert origin.stats("big.bin").sent == sent
    assert s3.unfinished() == []


def test_memory_does_not_grow_with_the_file_that_is_uploaded(cloud: Project, origin: Origin, s3: S3) -> None:
    size = 200 * MB
    cloud.items = [item(attachment(origin.url("big.bin", size), "big.bin"))]

    crawl = cloud.crawl()

    [key] = s3.keys()
    assert s3.client().head_object(Bucket=BUCKET, Key=key)["ContentLength"] == size
    assert crawl.stats["max_rss"] < 180 * MB  # 140 as a rule; nearly 110 without any upload


def test_a_bucket_that_does_not_exist_closes_the_crawl_before_the_first_item(
    cloud: Project, origin: Origin, client: redis.Redis
) -> None:
    cloud.settings["CHUNKDL_STORE"] = "s3://nowhere"
    client.rpush("files:items", '{"data": []}')

    crawl = cloud.crawl()

    assert crawl.stats["finish_reason"] == "chunkdl_store_unusable"
    assert "CHUNKDL_STORE = 's3://nowhere' cannot be used: there is no bucket" in crawl.log
    assert client.llen("files:items") == 1


def extension(**settings: object) -> ChunkDownloader:
    crawler = Crawler(Spider, {"CHUNKDL_MODE": "inline", **settings})
    crawler.spider, crawler.stats = Spider("files"), StatsCollector(crawler)
    crawler.logformatter = LogFormatter()
    return ChunkDownloader.from_crawler(crawler)


def test_an_acl_that_cannot_be_set_is_refused_before_the_crawl_begins() -> None:
    pytest.importorskip("obstore", reason="obstore needs Python 3.11 or later")
    with pytest.raises(ConfigError, match="CHUNKDL_STORE: FILES_STORE_S3_ACL = 'public-read'"):
        extension(CHUNKDL_STORE="s3://bucket", FILES_STORE_S3_ACL="public-read")


@pytest.mark.parametrize(
    ("store", "library", "extra"),
    [("s3://b", "obstore", "s3"), ("gs://b", "obstore", "cloud"), ("ftp://h", "fsspec", "fsspec")],
)
def test_a_missing_library_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, store: str, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.core", None)  # else found there, if another test has imported it
    for module in ("cloud", "filesystem"):
        monkeypatch.delitem(sys.modules, f"scrapy_chunkdl.storage.{module}", raising=False)
        monkeypatch.delattr(storage, module, raising=False)

    with pytest.raises(NotConfigured, match=rf"CHUNKDL_STORE: .*{library}: pip install 'scrapy-chunkdl\[{extra}\]'"):
        extension(CHUNKDL_STORE=store)


def test_a_store_of_ones_own_is_named_by_its_scheme(project: Project, origin: Origin) -> None:
    project.settings |= {"CHUNKDL_STORE": "shelf://top", "CHUNKDL_STORES": {"shelf": "probe.support.Shelf"}}
    project.items = [item(attachment(origin.url("a.bin", 1000), "a.bin"))]
    project.support = (Path(__file__).parents[2] / "examples" / "own_store.py").read_text()

    project.crawl()

    [path] = paths(project.scraped()[0])
    assert path.startswith("shelf://top/")
    assert (project.folder / "top" / path.removeprefix("shelf://top/")).read_bytes() == content("a.bin", 1000)
