"""Inline mode: no Redis at all; the pipeline returns the finished item."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from ftp_server import PASSWORD, USER, Ftp
from origin import Origin
from origin_content import content
from project import FROM_A_PAGE, Project, attachment, item, paths


@pytest.fixture
def inline(tmp_path: Path) -> Project:
    """A project in inline mode, whose Redis address leads nowhere."""
    return Project(tmp_path / "project", {"CHUNKDL_MODE": "inline", "REDIS_URL": "redis://127.0.0.1:1"})


def test_the_item_goes_on_with_its_files(inline: Project, origin: Origin) -> None:
    sizes = {"a.bin": 0, "b.bin": 5_000_000}
    inline.items = [item(*(attachment(origin.url(name, size), name) for name, size in sizes.items())), {"plain": 1}]

    crawl = inline.crawl()

    assert crawl.returncode == 0
    plain, finished = sorted(inline.scraped(), key=len)
    assert plain == {"plain": 1}
    for path, (name, size) in zip(paths(finished), sizes.items(), strict=True):
        assert Path(path).read_bytes() == content(name, size)
    assert inline.seen() == inline.scraped()
    assert crawl.stats["chunkdl/files/downloaded"] == 2


def test_a_file_given_up_leaves_its_path_empty(inline: Project, origin: Origin) -> None:
    inline.items = [item(attachment(origin.url("gone", 10, "status:404")), attachment(origin.url("there", 10)))]

    crawl = inline.crawl()

    [finished] = inline.scraped()
    assert [bool(path) for path in paths(finished)] == [False, True]
    assert crawl.log.count("Gave up") == 1


def test_an_item_type_without_the_field_is_an_error_that_names_it(inline: Project, origin: Origin) -> None:
    inline.items = [origin.url("a", 10)]
    inline.spider = """
    import scrapy

    class File(scrapy.Item):
        ori_url = scrapy.Field()

    class FilesSpider(scrapy.Spider):
        name = "files"

        async def start(self):
            for url in ITEMS:
                yield {"data": [{"attachments": [File(ori_url=url)]}]}
    """

    crawl = inline.crawl()

    assert crawl.returncode == 0
    assert "path cannot be written into an attachment of type File" in crawl.log
    assert inline.scraped() == []


def test_the_other_reactor_does_it_as_well(inline: Project, origin: Origin) -> None:
    inline.settings["TWISTED_REACTOR"] = "twisted.internet.selectreactor.SelectReactor"
    inline.items = [item(attachment(origin.url("a", 100_000)))]

    crawl = inline.crawl()

    assert crawl.returncode == 0
    assert Path(paths(inline.scraped()[0])[0]).stat().st_size == 100_000


def test_ctrl_c_ends_a_download_that_hangs_after_the_grace(inline: Project, origin: Origin) -> None:
    inline.settings |= {"CHUNKDL_SHUTDOWN_GRACE": 0.2, "PAGE": origin.url("page", 10)}
    inline.items = [item(attachment(origin.url("slow", 5_000_000, "hold:gate:100000@get")))]
    inline.spider = FROM_A_PAGE
    begun = origin.when("slow", lambda stats: stats.sent >= 100_000)

    process = inline.start()
    begun.result(60)
    process.send_signal(signal.SIGINT)
    crawl = inline.finish(process)

    assert crawl.stats["finish_reason"] == "shutdown"
    assert crawl.stats["chunkdl/failures/shutdown"] == 1
    assert paths(inline.scraped()[0]) == [""]


def test_named_by_content_equal_files_are_stored_once_and_not_fetched_again(inline: Project, origin: Origin) -> None:
    inline.settings |= {"CHUNKDL_NAMING": "content", "CHUNKDL_FILES_FIELD": "files"}
    urls = [origin.url("a", 100_000, content="same"), origin.url("b", 100_000, content="same")]
    inline.items = [item(*(attachment(url, "file.bin") for url in urls))]

    first = inline.crawl()
    second = inline.crawl()

    for finished in inline.scraped():
        one, other = paths(finished)
        assert one == other
        assert Path(one).read_bytes() == content("same", 100_000)
        assert [inline.folder / "downloads" / file["path"] for file in finished["files"]] == [Path(one)] * 2
    assert [name for name in inline.files() if not name.startswith(".chunkdl")] == [
        str(Path(one).relative_to(inline.folder / "downloads"))
    ]
    assert not [name for name in inline.files() if name.startswith(".chunkdl/parts/")]
    assert first.stats["chunkdl/files/downloaded"] == 2
    assert second.stats["chunkdl/files/uptodate"] == 2


def test_a_file_of_an_ftp_server_comes_with_the_login_of_scrapys_settings(inline: Project, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.bin").write_bytes(content("a.bin", 3_000_000))
    inline.settings |= {"FTP_USER": USER, "FTP_PASSWORD": PASSWORD}
    with Ftp(tmp_path / "served") as ftp:
        inline.items = [item(attachment(ftp.url("a.bin"))), item(attachment(ftp.url("gone.bin")))]

        crawl = inline.crawl("-s", "LOG_LEVEL=DEBUG")

        assert {argument for command, argument in ftp.commands if command == "USER"} == {USER}
    [path] = [path for finished in inline.scraped() for path in paths(finished) if path]
    assert Path(path).read_bytes() == content("a.bin", 3_000_000)
    assert crawl.stats["chunkdl/failures/not_found"] == 1
    assert PASSWORD not in crawl.log.partition("Spider opened")[2]  # Scrapy shows all settings before
