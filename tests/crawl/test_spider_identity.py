"""Downloads ask as the spider does: with its headers, cookies and logins, and where robots.txt lets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import scrapy
from origin import Origin
from project import Project, attachment, item, paths
from scrapy import Spider
from scrapy.utils.test import get_crawler

from scrapy_chunkdl.crawl.spider_identity import as_the_spider
from scrapy_chunkdl.download import Options
from scrapy_chunkdl.settings.config import Config

SPIDER = """
import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"
    http_user, http_pass, http_auth_domain = "user", "word", "127.0.0.1"

    async def start(self):
        for key, page in self.settings["PAGES"]:
            yield scrapy.Request(page, meta={"cookiejar": key})

    def parse(self, response):
        for item in ITEMS:
            if item["jar"] == response.meta["cookiejar"]:
                yield item
"""


@pytest.fixture
def inline(tmp_path: Path) -> Project:
    """A project in inline mode, with a spider that logs in before it yields the item of each cookie jar."""
    return Project(tmp_path / "project", {"CHUNKDL_MODE": "inline"}, spider=SPIDER)


def page(origin: Origin, name: str, cookie: str) -> str:
    """Return the address of a page that sets a cookie."""
    return origin.redirect(name, origin.url(name, 10), cookie=cookie)


def test_headers_cookies_and_login_are_the_spiders(inline: Project, origin: Origin) -> None:
    inline.settings |= {
        "USER_AGENT": "spider/1",
        "DEFAULT_REQUEST_HEADERS": {"Accept-Language": "nl", "Accept": None, b"X-Plain": "1"},
        "CHUNKDL_COOKIES": True,
        "PAGES": [(None, page(origin, "login", "session=1")), ("b", page(origin, "login-b", "session=2"))],
    }
    inline.items = [
        item(attachment(origin.url("a", 100_000)), jar=None),
        item(attachment(origin.url("b", 10, host="localhost")), jar=None),
        item(attachment(origin.url("c", 10), cookiejar="b"), jar="b"),
    ]

    crawl = inline.crawl()

    assert crawl.stats["chunkdl/files/downloaded"] == 3, crawl.log
    a, b, c = (origin.stats(name) for name in "abc")
    assert set(a.headers("User-Agent")) == {"spider/1"}
    assert set(a.headers("Accept-Language")) == {"nl"}
    assert set(a.headers("X-Plain")) == {"1"}
    assert set(a.headers("Cookie")) == {"session=1"}
    assert set(c.headers("Cookie")) == {"session=2"}
    assert set(a.headers("Authorization")) == {"Basic dXNlcjp3b3Jk"}
    assert b.headers("Cookie") == b.headers("Authorization") == []


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, ["session=1"]),
        ({"CHUNKDL_COOKIES": False}, []),
        ({"COOKIES_ENABLED": False}, []),
        ({"DOWNLOADER_MIDDLEWARES": {"scrapy.downloadermiddlewares.cookies.CookiesMiddleware": None}}, []),
    ],
    ids=str,
)
def test_the_sessions_cookies_are_sent_where_filespipeline_would_send_them(
    inline: Project, origin: Origin, settings: dict[str, Any], sent: list[str]
) -> None:
    inline.settings |= {"PAGES": [(None, page(origin, "login", "session=1"))], **settings}
    inline.items = [item(attachment(origin.url("a", 10)), jar=None)]

    crawl = inline.crawl()

    assert origin.stats("a").requests > 0
    assert sorted(set(origin.stats("a").headers("Cookie"))) == sent
    assert "no cookies are sent" not in crawl.log


def test_a_middleware_of_the_project_is_told_not_to_see_files(inline: Project, origin: Origin) -> None:
    inline.settings |= {
        "DOWNLOADER_MIDDLEWARES": {
            "probe.support.Signing": 543,
            "probe.support.Cookies": 700,
            "scrapy.downloadermiddlewares.cookies.CookiesMiddleware": None,
            "scrapy.downloadermiddlewares.stats.DownloaderStats": 850,
        },
        "PAGES": [(None, page(origin, "login", "session=1"))],
    }
    inline.support = """
    from scrapy.downloadermiddlewares.cookies import CookiesMiddleware

    class Cookies(CookiesMiddleware):
        pass

    class Signing:
        def process_request(self, request, spider=None):
            request.headers["X-Sign"] = "1"
    """
    inline.items = [item(attachment(origin.url("a", 10)), jar=None)]

    crawl = inline.crawl()

    told = "Requests for files do not pass downloader middlewares of the project (Signing)"
    assert crawl.log.count(told) == 1
    assert set(origin.stats("a").headers("Cookie")) == {"session=1"}
    assert origin.stats("a").headers("X-Sign") == []


def test_cookies_that_nobody_keeps_are_told(inline: Project, origin: Origin) -> None:
    inline.settings |= {
        "CHUNKDL_COOKIES": True,
        "DOWNLOADER_MIDDLEWARES": {"scrapy.downloadermiddlewares.cookies.CookiesMiddleware": None},
        "PAGES": [(None, page(origin, "login", "session=1"))],
    }
    inline.items = [item(attachment(origin.url("a", 10)), jar=None)]

    crawl = inline.crawl()

    assert crawl.log.count("DOWNLOADER_MIDDLEWARES has no CookiesMiddleware: no cookies are sent") == 1
    assert origin.stats("a").headers("Cookie") == []


def test_a_file_that_robots_txt_refuses_is_given_up(inline: Project, origin: Origin) -> None:
    origin.robots = "User-agent: *\nDisallow: /f/secret"
    inline.settings |= {"ROBOTSTXT_OBEY": True, "PAGES": [(None, origin.url("page", 10))]}
    inline.items = [item(attachment(origin.url("secret", 10)), attachment(origin.url("open", 10)), jar=None)]

    crawl = inline.crawl()

    assert [bool(path) for path in paths(inline.scraped()[0])] == [False, True]
    assert crawl.stats["chunkdl/failures/robots"] == 1
    assert origin.stats("secret").requests == 0
    assert origin.stats("/robots.txt").requests == 2  # Scrapy's own, and that of all downloads


def test_a_login_in_a_url_is_in_no_log_line(inline: Project, origin: Origin) -> None:
    secret = origin.url("a", 10, "status:404").replace("://", "://user:hush@")
    inline.settings |= {"LOG_LEVEL": "DEBUG", "PAGES": [(None, origin.url("page", 10))]}
    inline.settings["LOG_FORMATTER"] = "probe.support.NoItems"
    inline.support = """
    from scrapy import logformatter

    class NoItems(logformatter.LogFormatter):
        def scraped(self, item, response, spider):
            return None
    """
    inline.items = [item(attachment(secret), attachment(secret, "no\x00name"), jar=None)]

    crawl = inline.crawl()

    assert "Gave up http://user:***@127.0.0.1" in crawl.log
    assert set(origin.stats("a").headers("Authorization")) == {"Basic dXNlcjpodXNo"}
    assert "hush" not in crawl.log


def test_a_proxy_of_the_attachment_is_used(inline: Project, origin: Origin) -> None:
    inline.settings["PAGES"] = [(None, origin.url("page", 10))]
    through = origin.url("a", 10).replace(origin.base, "http://nowhere.invalid")
    inline.items = [item(attachment(through, proxy=origin.base), jar=None)]

    inline.crawl()

    assert paths(inline.scraped()[0]) != [""]
    assert set(origin.stats("a").headers("Host")) == {"nowhere.invalid"}


def test_the_page_a_link_is_on_is_told_as_the_docs_show(inline: Project, origin: Origin) -> None:
    inline.settings |= {"PAGES": [], "START": origin.url("page", 10)}
    inline.items = [origin.url("a", 10)]
    inline.spider = """
    import scrapy

    class FilesSpider(scrapy.Spider):
        name = "files"

        async def start(self):
            yield scrapy.Request(self.settings["START"])

        def parse(self, response):
            links = [{"ori_url": link, "path": "", "headers": {"Referer": response.url}} for link in ITEMS]
            yield {"data": [{"attachments": links}]}
    """

    inline.crawl()

    assert paths(inline.scraped()[0]) != [""]
    assert set(origin.stats("a").headers("Referer")) == {origin.url("page", 10)}


def test_an_attachment_beats_the_settings(inline: Project, origin: Origin) -> None:
    inline.settings |= {
        "PAGES": [(None, page(origin, "login", "session=1"))],
        "CHUNKDL_COOKIES": True,
        "DEFAULT_REQUEST_HEADERS": {"Accept": "*/*", "Accept-Language": "nl"},
    }
    own = {"Accept-Language": "en", "Authorization": "Bearer own", "Cookie": "session=own"}
    inline.items = [item(attachment(origin.url("a", 10), headers=own), jar=None)]

    inline.crawl()

    seen = origin.stats("a")
    assert {name: set(seen.headers(name)) for name in own} == {name: {value} for name, value in own.items()}
    assert set(seen.headers("Accept")) == {"*/*"}


def test_authority_certificate_and_address_are_settings(inline: Project) -> None:
    inline.folder.mkdir()
    with Origin(tls=True, asks_clients=True) as strict:
        (inline.folder / "ca.pem").write_bytes(strict.ca_pem)
        (inline.folder / "client.pem").write_bytes(strict.client_pem)
        inline.spider = (
            inline.spider.partition("class")[0]
            + """
class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        for item in ITEMS:
            yield item
"""
        )
        inline.settings |= {
            "CHUNKDL_CA_FILE": "ca.pem",
            "CHUNKDL_CLIENT_CERT": "client.pem",
            "DOWNLOAD_BIND_ADDRESS": ("127.0.0.1", 0),
            "CHUNKDL_BIND_ADDRESS": "127.0.0.9",
        }
        inline.items = [item(attachment(strict.url("a", 10)))]

        inline.crawl()

        assert paths(inline.scraped()[0]) != [""]
        assert {seen.peer for seen in strict.stats("a").seen} == {"127.0.0.9"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"CHUNKDL_COOKIES": True, "COOKIES_ENABLED": False}, "but COOKIES_ENABLED is off"),
        ({"CHUNKDL_CA_FILE": "nowhere.pem"}, "CHUNKDL_CA_FILE = 'nowhere.pem'"),
        ({"CHUNKDL_CLIENT_CERT": ["scrapy.cfg"]}, "CHUNKDL_CLIENT_CERT = ('scrapy.cfg',) cannot be used"),
        ({"CHUNKDL_BIND_ADDRESS": "eth0"}, "CHUNKDL_BIND_ADDRESS = 'eth0': should be an IP address of this machine"),
    ],
)
def test_what_cannot_be_used_ends_the_crawl_with_one_clear_message(
    inline: Project, settings: dict[str, Any], message: str
) -> None:
    inline.settings |= {**settings, "PAGES": []}

    crawl = inline.crawl()

    assert crawl.returncode != 0
    assert message in crawl.log


@pytest.mark.skipif(scrapy.version_info < (2, 14), reason="a crawler of Scrapy 2.13 is not made without a reactor")
@pytest.mark.parametrize(
    ("settings", "first_byte_timeout", "max_redirects"),
    [
        ({}, 180.0, 20),
        ({"DOWNLOAD_TIMEOUT": 7, "REDIRECT_MAX_TIMES": 3}, 7.0, 3),
        ({"DOWNLOAD_TIMEOUT": 0}, 86_400.0, 20),
    ],
)
def test_limits_of_scrapys_settings_are_read(
    settings: dict[str, Any], first_byte_timeout: float, max_redirects: int
) -> None:
    crawler = get_crawler(Spider, settings)
    crawler.spider = Spider.from_crawler(crawler, name="x")

    options = as_the_spider(crawler, Config.read(crawler.settings), Options())

    assert (options.first_byte_timeout, options.max_redirects) == (first_byte_timeout, max_redirects)
