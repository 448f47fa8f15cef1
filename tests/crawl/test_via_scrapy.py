"""Files fetched by Scrapy's downloader: forms, signed requests, schemes of its handlers; and what is not sent twice."""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ftp_server import PASSWORD, USER, Ftp
from origin import Origin
from origin_content import content
from project import FROM_A_PAGE, Project, attachment, item, paths
from s3_server import BUCKET, S3

SIZE = 20_000_000


@pytest.fixture
def inline(tmp_path: Path) -> Project:
    """A project in inline mode, without Redis, whose failures are told soon."""
    settings = {"CHUNKDL_MODE": "inline", "REDIS_URL": "redis://127.0.0.1:1", "CHUNKDL_RETRY_TIMES": 2}
    return Project(tmp_path / "project", settings)


def fetched(project: Project) -> list[bytes | None]:
    """Return the files of all items, None for those given up."""
    return [Path(path).read_bytes() if path else None for one in project.scraped() for path in paths(one)]


SIGNING = """
class Signing:
    def process_request(self, request, spider=None):
        request.headers["X-Signed"] = "yes"
"""


def test_a_middleware_signs_every_request_and_the_file_comes_in_ranges(inline: Project, origin: Origin) -> None:
    inline.support = SIGNING
    inline.settings |= {"CHUNKDL_VIA_SCRAPY": "127.0.0.*", "DOWNLOADER_MIDDLEWARES": {"probe.support.Signing": 900}}
    inline.items = [item(attachment(origin.url("a.bin", SIZE)))]

    inline.crawl()

    assert fetched(inline) == [content("a.bin", SIZE)]
    stats = origin.stats("a.bin")
    assert {seen.headers.get("x-signed") for seen in stats.seen} == {"yes"}
    assert stats.statuses[206] >= 2


def test_a_host_whose_limits_name_scrapy_is_asked_by_scrapys_downloader(inline: Project, origin: Origin) -> None:
    inline.support = SIGNING
    inline.settings |= {"DOWNLOADER_MIDDLEWARES": {"probe.support.Signing": 900}}
    inline.settings["CHUNKDL_HOSTS"] = {f"127.0.0.1:{origin.port}": {"via": "scrapy", "connections": 2}}
    inline.items = [item(attachment(origin.url("a.bin", SIZE)))]

    inline.crawl()

    assert fetched(inline) == [content("a.bin", SIZE)]
    assert {seen.headers.get("x-signed") for seen in origin.stats("a.bin").seen} == {"yes"}


def test_a_host_that_is_not_named_is_asked_without_scrapys_downloader(inline: Project, origin: Origin) -> None:
    inline.support = SIGNING
    inline.settings |= {"CHUNKDL_VIA_SCRAPY": "*.example.org", "DOWNLOADER_MIDDLEWARES": {"probe.support.Signing": 900}}
    inline.items = [item(attachment(origin.url("a.bin", 1000)))]

    inline.crawl()

    assert fetched(inline) == [content("a.bin", 1000)]
    assert origin.stats("a.bin").headers("X-Signed") == []


STOPPING = """
from scrapy.exceptions import IgnoreRequest

class Stopping:
    left = 2

    def process_request(self, request, spider=None):
        if b"Range" in request.headers:
            Stopping.left -= 1
            if Stopping.left < 0:
                raise IgnoreRequest("enough for today")
"""


def test_a_file_goes_on_where_an_earlier_crawl_was_stopped(inline: Project, origin: Origin) -> None:
    inline.support = STOPPING
    inline.settings |= {"CHUNKDL_VIA_SCRAPY": "*", "CHUNKDL_CONCURRENT_CHUNKS_PER_FILE": 1}
    inline.items = [item(attachment(origin.url("a.bin", SIZE)))]
    inline.settings["DOWNLOADER_MIDDLEWARES"] = {"probe.support.Stopping": 900}
    first = inline.crawl()
    del inline.settings["DOWNLOADER_MIDDLEWARES"]

    second = inline.crawl()

    assert first.stats["chunkdl/failures/ignored"] == 1
    assert second.stats["chunkdl/bytes/resumed"] > 0
    assert second.stats["chunkdl/bytes/fetched"] < SIZE
    assert fetched(inline)[-1] == content("a.bin", SIZE)


@pytest.mark.parametrize("cached", [False, True])
def test_scrapys_cache_does_not_take_one_range_for_another(inline: Project, origin: Origin, cached: bool) -> None:
    inline.settings |= {"CHUNKDL_VIA_SCRAPY": "*", "HTTPCACHE_ENABLED": cached}
    inline.items = [item(attachment(origin.url("a.bin", SIZE)))]

    inline.crawl()

    assert fetched(inline) == [content("a.bin", SIZE)]


def test_an_unchanged_file_is_not_fetched_again(inline: Project, origin: Origin) -> None:
    inline.settings |= {"CHUNKDL_VIA_SCRAPY": "*"}
    inline.items = [item(attachment(origin.url("a.bin", SIZE)))]
    inline.crawl()

    crawl = inline.crawl()

    assert crawl.stats["chunkdl/files/uptodate"] == 1


def test_a_redirect_to_a_host_that_is_not_allowed_is_not_followed(inline: Project, origin: Origin) -> None:
    inline.settings |= {"CHUNKDL_VIA_SCRAPY": "*", "CHUNKDL_ALLOWED_HOSTS": "127.0.0.1"}
    other = origin.url("secret.bin", 1000).replace("127.0.0.1", "localhost")
    with Forms() as forms:
        forms.redirect_to = other
        inline.items = [item(attachment(forms.url + "/moved.bin"))]

        crawl = inline.crawl()

    assert crawl.stats["chunkdl/failures/host_not_allowed"] == 1
    assert origin.stats("secret.bin").requests == 0


def test_a_redirect_in_a_circle_is_told_as_one(inline: Project, origin: Origin) -> None:
    inline.settings |= {"CHUNKDL_VIA_SCRAPY": "*", "CHUNKDL_ALLOWED_HOSTS": "127.0.0.1"}
    inline.items = [item(attachment(origin.redirect("loop", None)))]

    crawl = inline.crawl()

    assert crawl.stats["chunkdl/failures/redirect_loop"] == 1


class Forms:
    """A server that answers a POST with its body, doubled, and says how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.status = 200
        self.redirect_to = ""

    def __enter__(self) -> Forms:
        told = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                told.asked.append((self.command, body))
                self._answer(body * 2)

            def do_GET(self) -> None:
                told.asked.append((self.command, b""))
                self._answer(b"")

            do_HEAD = do_GET

            def _answer(self, body: bytes) -> None:
                self.send_response(302 if told.redirect_to else told.status)
                if told.redirect_to:
                    self.send_header("Location", told.redirect_to)
                self.send_header("Content-Disposition", 'attachment; filename="report.csv"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Nothing is printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def forms() -> Iterator[Forms]:
    with Forms() as server:
        yield server


POSTING = """
import scrapy
from scrapy.http import JsonRequest

from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class Posting(ChunkDownloadPipeline):
    def get_media_requests(self, item, info):
        for wanted in item["wanted"]:
            if isinstance(wanted, dict):
                yield JsonRequest(item["at"], data=wanted)
            else:
                yield scrapy.FormRequest(item["at"], formdata={"report": wanted})

    def item_completed(self, results, item, info):
        item["got"] = [file["path"] if ok else file.value.reason for ok, file in results]
        return item
"""


def posting(project: Project, at: str, *wanted: object) -> Project:
    project.support = POSTING
    project.settings["ITEM_PIPELINES"] = {"probe.support.Posting": 1}
    project.items = [{"at": at, "wanted": list(wanted)}]
    return project


def test_forms_to_one_url_are_files_of_their_own_and_each_is_sent_once(inline: Project, forms: Forms) -> None:
    posting(inline, forms.url + "/export", "one", "two", {"three": 3})

    inline.crawl()

    [got] = [one["got"] for one in inline.scraped()]
    written = [(inline.folder / "downloads" / path).read_bytes() for path in got]
    assert written == [b"report=one" * 2, b"report=two" * 2, b'{"three": 3}' * 2]
    assert sorted(forms.asked) == [
        ("POST", b"report=one"),
        ("POST", b"report=two"),
        ("POST", b'{"three": 3}'),
    ]
    assert all(path.endswith("report.csv") for path in got)


@pytest.mark.parametrize("status", [503, 429, 500, 404])
def test_a_form_that_was_answered_is_not_sent_again(inline: Project, forms: Forms, status: int) -> None:
    forms.status = status
    posting(inline, forms.url + "/export", "one")

    inline.crawl()

    assert forms.asked == [("POST", b"report=one")]
    assert inline.scraped()[0]["got"] in (["not_repeated"], [f"http_{status}"])


@pytest.mark.parametrize(("days", "sent"), [(1, 1), (0, 2)])
def test_a_form_whose_file_is_young_is_not_sent_again_by_another_process(
    inline: Project, forms: Forms, days: int, sent: int
) -> None:
    inline.settings["CHUNKDL_EXPIRES"] = days
    posting(inline, forms.url + "/export", "one")

    inline.crawl()
    inline.crawl()

    assert forms.asked == [("POST", b"report=one")] * sent
    assert len({tuple(one["got"]) for one in inline.scraped()}) == 1


def test_a_form_that_could_not_be_sent_is_tried_again(inline: Project) -> None:
    posting(inline, "http://127.0.0.1:1/export", "one")

    crawl = inline.crawl()

    assert inline.scraped()[0]["got"] == ["connect_failed"]
    assert crawl.stats["chunkdl/retries/connect_failed"] == 2


def test_a_url_that_is_the_data_itself_becomes_a_file_named_by_its_type(inline: Project) -> None:
    inline.items = [
        item(attachment("data:text/csv;base64," + base64.b64encode(b"a,b\n1,2\n").decode())),
        item(attachment("data:application/pdf;base64," + base64.b64encode(b"%PDF-1.7 " + bytes(100_000)).decode())),
        item(attachment("data:,plain%20text")),
    ]

    inline.crawl()

    assert sorted(found or b"" for found in fetched(inline)) == [
        b"%PDF-1.7 " + bytes(100_000),
        b"a,b\n1,2\n",
        b"plain text",
    ]
    assert {Path(path).suffix for one in inline.scraped() for path in paths(one)} >= {".csv", ".pdf"}


def test_a_file_of_this_machine_is_read_only_where_a_setting_says_so(inline: Project, tmp_path: Path) -> None:
    (tmp_path / "here.bin").write_bytes(content("here.bin", SIZE))
    inline.items = [item(attachment((tmp_path / name).as_uri())) for name in ("here.bin", "gone.bin", ".")]

    refused = inline.crawl("-s", "CHUNKDL_VIA_SCRAPY=*")
    allowed = inline.crawl("-s", "CHUNKDL_VIA_SCRAPY=file:")

    assert refused.stats["chunkdl/failures/bad_url"] == 3
    assert allowed.stats["chunkdl/failures/not_found"] == 2
    assert [found for found in fetched(inline) if found] == [content("here.bin", SIZE)]


def test_an_ftp_file_comes_through_scrapys_handler_where_a_setting_says_so(inline: Project, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.bin").write_bytes(content("a.bin", 3_000_000))
    inline.settings |= {"CHUNKDL_VIA_SCRAPY": "ftp:", "FTP_USER": USER, "FTP_PASSWORD": PASSWORD}
    with Ftp(tmp_path / "served") as ftp:
        inline.items = [item(attachment(ftp.url("a.bin"))), item(attachment(ftp.url("gone.bin")))]

        crawl = inline.crawl()

        assert ftp.count()["RETR"] >= 1
        assert ftp.count()["REST"] == 0
    assert [found for found in fetched(inline) if found] == [content("a.bin", 3_000_000)]
    assert crawl.stats["chunkdl/failures/http_404"] == 1


def test_an_answer_larger_than_scrapy_may_take_is_told_with_its_setting(inline: Project, forms: Forms) -> None:
    inline.settings["DOWNLOAD_MAXSIZE"] = 10
    posting(inline, forms.url + "/export", "one")

    crawl = inline.crawl()

    assert inline.scraped()[0]["got"] == ["too_large"]
    assert "DOWNLOAD_MAXSIZE" in crawl.log


THROUGH_A_PROXY = """
import scrapy

from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class ThroughAProxy(ChunkDownloadPipeline):
    def get_media_requests(self, item, info):
        yield scrapy.Request(item["at"], meta={"is_secure": False, "proxy": item["proxy"]})

    def item_completed(self, results, item, info):
        item["got"] = [file["path"] if ok else file.value.reason for ok, file in results]
        return item
"""


def test_a_file_of_a_bucket_comes_through_scrapys_s3_handler(inline: Project, s3: S3) -> None:
    s3.client().put_object(Bucket=BUCKET, Key="a.bin", Body=content("a.bin", 100_000))
    inline.support = THROUGH_A_PROXY
    inline.settings |= {
        "ITEM_PIPELINES": {"probe.support.ThroughAProxy": 1},
        "CHUNKDL_VIA_SCRAPY": "s3:",
        **s3.settings(),
    }
    inline.items = [{"at": f"s3://{BUCKET}/a.bin", "proxy": s3.url}]

    inline.crawl()

    [path] = inline.scraped()[0]["got"]
    assert (inline.folder / "downloads" / path).read_bytes() == content("a.bin", 100_000)


# --- one file, one request; and none that nobody waits for

SEEN_TWICE = """

import asyncio

from scrapy_chunkdl.bridge.bridge import Bridge

submit = Bridge.submit

def counted(self, jobs):
    jobs = list(jobs)
    submit(self, jobs)
    Both.submitted += len(jobs)

Bridge.submit = counted

class Both:
    # Holds a form back until the files of both items are with the bridge.
    submitted = 0

    async def process_request(self, request, spider=None):
        while Both.submitted < 2:
            await asyncio.sleep(0.01)
"""


def test_two_items_with_the_same_form_send_it_once_while_it_runs(inline: Project, forms: Forms) -> None:
    posting(inline, forms.url + "/export", "one")
    inline.items *= 2
    inline.support += SEEN_TWICE
    inline.settings["DOWNLOADER_MIDDLEWARES"] = {"probe.support.Both": 1}

    inline.crawl()

    assert forms.asked == [("POST", b"report=one")]
    assert len({tuple(one["got"]) for one in inline.scraped()}) == 1
    assert len(inline.scraped()) == 2


@pytest.mark.parametrize(
    ("fault", "sent"), [("hold:gate:100000@get", 100_000), ("hold:gate@get", 0)], ids=["in the middle", "before a byte"]
)
def test_a_crawl_that_is_stopped_does_not_wait_for_what_scrapy_reads_for_it(
    inline: Project, origin: Origin, fault: str, sent: int
) -> None:
    inline.settings |= {
        "CHUNKDL_VIA_SCRAPY": "127.0.0.1",
        "CHUNKDL_SHUTDOWN_GRACE": 0.2,
        "PAGE": origin.url("page", 10),
    }
    inline.items = [item(attachment(origin.url("slow", 5_000_000, fault)))]
    inline.spider = FROM_A_PAGE
    begun = origin.when("slow", lambda stats: stats.methods["GET"] > 0 and stats.sent >= sent)

    process = inline.start()
    begun.result(60)
    process.send_signal(signal.SIGINT)
    crawl = inline.finish(process)

    assert crawl.stats["finish_reason"] == "shutdown"
    assert crawl.stats["chunkdl/failures/shutdown"] == 1
    assert "Traceback" not in crawl.log


def test_what_waits_in_a_slot_of_scrapys_is_not_sent_any_more(inline: Project, origin: Origin) -> None:
    inline.settings |= {
        "CHUNKDL_VIA_SCRAPY": "127.0.0.1",
        "CHUNKDL_SHUTDOWN_GRACE": 0.2,
        "PAGE": origin.url("page", 10),
    }
    inline.settings |= {"CONCURRENT_REQUESTS_PER_DOMAIN": 1, "CHUNKDL_PROBE": "get"}
    inline.items = [item(attachment(origin.url(name, 5_000_000, "hold:gate:100000@get"))) for name in ("a", "b")]
    inline.spider = FROM_A_PAGE
    begun = [origin.when(name, lambda stats: stats.sent >= 100_000) for name in ("a", "b")]

    process = inline.start()
    concurrent.futures.wait(begun, 60, concurrent.futures.FIRST_COMPLETED)
    process.send_signal(signal.SIGINT)
    crawl = inline.finish(process)

    assert crawl.stats["chunkdl/failures/shutdown"] == 2
    assert sorted(origin.stats(name).requests for name in ("a", "b")) == [0, 1]


# --- what belongs to a file goes the way the file's host is asked


class Signed:
    """A server that answers requests of its own name only if they are signed; ``unsigned`` has the paths of others."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self.unsigned: list[str] = []

    def __enter__(self) -> Signed:
        told = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                is_open = "localhost" in self.headers["Host"] and "open" in self.path
                if not (self.headers.get("X-Signed") or is_open):
                    told.unsigned.append(self.path)
                    return self._answer(403, "text/plain", b"")
                return self._answer(200, *told.files[self.path])

            do_HEAD = do_GET

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Nothing is printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.port = self._server.server_port
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


BYTES = content("belonging", 300_000)
SUM = hashlib.sha256(BYTES).hexdigest()
BELONGING: dict[str, dict[str, Any]] = {
    "its list": {"ori_url": "{signed}/a.bin", "checksum_url": "SHA256SUMS"},
    "its metalink": {"ori_url": "{signed}/b.bin", "metalink": "b.bin.meta4"},
    "what its metalink leads to": {"ori_url": "{signed}/c.bin.meta4"},
    "its mirror": {"ori_url": "{other}/gone.bin", "mirrors": ["{signed}/d.bin"]},
    "the list of a file from elsewhere": {"ori_url": "{other}/open.bin", "checksum_url": "{signed}/SHA256SUMS"},
    "the mirrors in a metalink from elsewhere": {"ori_url": "{other}/gone.bin", "metalink": "{other}/open.meta4"},
}


@pytest.fixture
def signed() -> Iterator[Signed]:
    with Signed() as server:
        at = f"http://127.0.0.1:{server.port}"
        for name in ("a.bin", "b.bin", "c.bin", "d.bin", "open.bin"):
            server.files[f"/{name}"] = "application/octet-stream", BYTES
            document = (
                f'<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="{name}"><size>{len(BYTES)}</size>'
                f'<hash type="sha-256">{SUM}</hash><url>{at}/{name.replace("open", "a")}</url></file></metalink>'
            )
            server.files[f"/{name}.meta4"] = "application/metalink4+xml", document.encode()
        server.files["/open.meta4"] = server.files["/open.bin.meta4"]
        server.files["/SHA256SUMS"] = "text/plain", f"{SUM}  a.bin\n{SUM}  open.bin\n".encode()
        yield server


def at(server: Signed, value: Any) -> Any:
    """Return an attachment of the table whose servers are those of the test."""
    if isinstance(value, dict):
        return {name: at(server, one) for name, one in value.items()}
    if isinstance(value, list):
        return [at(server, one) for one in value]
    return value.format(signed=f"http://127.0.0.1:{server.port}", other=f"http://localhost:{server.port}")


def test_what_belongs_to_a_file_is_asked_for_by_scrapy_where_its_host_is(inline: Project, signed: Signed) -> None:
    inline.support = SIGNING
    inline.settings |= {"CHUNKDL_VIA_SCRAPY": "127.0.0.1", "DOWNLOADER_MIDDLEWARES": {"probe.support.Signing": 900}}
    inline.items = [item(at(signed, given), row=row) for row, given in BELONGING.items()]

    crawl = inline.crawl()

    got = {one["row"]: Path(paths(one)[0]).read_bytes() if paths(one)[0] else None for one in inline.scraped()}
    assert [row for row in BELONGING if got[row] != BYTES] == [], crawl.log
    assert {path for path in signed.unsigned if path != "/gone.bin"} == set()


BY_ITS_META = """
import scrapy

from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class ByItsMeta(ChunkDownloadPipeline):
    def get_media_requests(self, item, info):
        yield scrapy.Request(item["at"], meta={"chunkdl_via_scrapy": True, "checksum_url": "SHA256SUMS"})

    def item_completed(self, results, item, info):
        item["got"] = [file["path"] if ok else file.value.reason for ok, file in results]
        return item
"""


def test_the_list_of_a_file_that_asks_for_scrapy_itself_goes_with_it(inline: Project, signed: Signed) -> None:
    inline.support = BY_ITS_META + SIGNING
    inline.settings |= {
        "ITEM_PIPELINES": {"probe.support.ByItsMeta": 1},
        "DOWNLOADER_MIDDLEWARES": {"probe.support.Signing": 900},
    }
    inline.items = [{"at": f"http://127.0.0.1:{signed.port}/a.bin"}]

    crawl = inline.crawl()

    [path] = inline.scraped()[0]["got"]
    assert (inline.folder / "downloads" / path).read_bytes() == BYTES, crawl.log
    assert signed.unsigned == []
