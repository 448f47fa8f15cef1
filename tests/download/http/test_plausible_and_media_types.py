"""Is it the file at all: decided by what the bytes are and by what was promised, together."""

from __future__ import annotations

import gzip
import io
import random
import zipfile

import pytest

from scrapy_chunkdl.download.http.plausible import FIRST_BYTES, shown, why_not


def _zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


HTML = b"<!DOCTYPE html><html><head><title>Log in</title></head><body>please</body></html>"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< >>\n"
ASCII_PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" * 20
LATE_PDF = b"\r\n" + b" " * 500 + ASCII_PDF
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(40)
CSV = b"name,value\n1,2\n" * 20
JSON = b'{"code":403,"message":"too many requests"}'
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'
XHTML = b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x">\n<html>'
NOISE = random.Random(1).randbytes(4096)
DOCX = _zip("[Content_Types].xml", "word/document.xml")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)


def judged(name: str, announced: str | None, body: bytes, **more: object) -> str | None:
    return why_not(name, announced, len(body), body[:FIRST_BYTES], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "announced", "body"),
    [
        *[
            ("a.pdf", kind, HTML)
            for kind in ("text/html; charset=utf-8", "application/pdf", "binary/octet-stream", None)
        ],
        *[
            (f"a.{ext}", "text/html", HTML)
            for ext in (
                "zip",
                "docx",
                "PNG",
                "tar.gz",
                "mp4",
                "7z",
                "exe",
                "xls",
                "epub",
                "torrent",
                "hwp",
                "ofd",
                "dwg",
            )
        ],
        *[(f"a.{ext}", "text/html", HTML) for ext in ("csv", "json", "xml", "txt", "svg", "bin")],
        ("a.csv", "application/octet-stream", HTML),
        *[("a.pdf", kind, body) for body in (b"\n", b" \r\n" * 9) for kind in ("application/pdf", "text/html")],
        ("a.pdf", "text/html", HTML + b"\0"),
        ("a.pdf", "text/html", b"\xef\xbb\xbf\r\n <HTML>"),
        ("a.pdf", "text/html", "<html><body>".encode("utf-16")),
        ("a.pdf", "text/html", b"<!-- ad --> <!-- ad -->\n<html>"),
        ("a.pdf", "text/html", b"<!--" + b"x" * 5000),
        ("a.pdf", "text/html", XHTML),
        ("a.pdf", "text/html", b"<br />\n<b>Warning</b>:  fopen() in x.php"),
        ("a.pdf", "text/html", b"<script>location.href='/login'</script>"),
        ("a.pdf", "text/html", b"please log in"),
        ("a.pdf", "text/plain", b"Rate limit exceeded"),
        ("a.pdf", "application/json", JSON),
        ("a.pdf", "application/octet-stream", JSON),
        ("a.pdf", "application/problem+json", b'{"title": "x", "detail": "' + b"x" * 5000),
        ("a.pdf", "application/json", b"null"),
        ("a.csv", "application/json", JSON),
        ("a.xls", "application/json", JSON),
        ("a.pdf", "application/xml", XML),
        ("a.zip", "application/octet-stream", XML),
        ("sitemap.xml.gz", "text/html", HTML),
        ("a.pdf", "application/pdf", b""),
        ("a.zip", None, b""),
        ("get", "application/pdf", b""),
        ("get", "application/pdf", HTML),
    ],
)
def test_a_page_in_place_of_another_type_is_refused(name: str, announced: str | None, body: bytes) -> None:
    assert judged(name, announced, body) is not None


@pytest.mark.parametrize(
    ("name", "announced", "body"),
    [
        *[
            ("a.pdf", kind, body)
            for body in (PDF, ASCII_PDF, LATE_PDF, NOISE)
            for kind in ("text/html", "text/plain", None)
        ],
        *[(name, "text/html", HTML) for name in ("page.html", "index.htm", "a.php", "view.aspx", "get", "10.1", "")],
        ("a.bin", "application/octet-stream", HTML),
        ("a.txt", "text/plain", HTML),
        ("a.dat", "application/octet-stream", b"\n"),
        ("a.torrent", "application/x-bittorrent", b"d8:announce30:http://tracker.example"),
        ("a.csv", "text/csv", CSV),
        ("a.csv", "text/html", CSV),
        ("a.csv", "application/vnd.ms-excel", CSV),
        ("a.json", "application/json", JSON),
        ("a.json", "text/html", JSON),
        ("a.txt", "application/json", JSON),
        ("a.xml", "text/xml", XML),
        ("a.xml", "text/html", XML),
        ("a.svg", "image/svg+xml", b"<svg xmlns='x'>"),
        ("a.xls", "application/vnd.ms-excel", b"<html><table><tr>"),
        ("a.xls", "application/octet-stream", b"<table>"),
        ("a.xls", "text/plain", CSV),
        ("a.doc", "application/msword", b"{\\rtf1\\ansi x}"),
        ("a.doc", "text/plain", OLE),
        ("a.docx", "text/plain", DOCX),
        ("a.jpg", "text/html", PNG),
        ("a.gz", "text/html", gzip.compress(HTML, mtime=0)),
        ("log.txt.gz", "text/plain", b"decompressed on the way"),
        ("sitemap.xml.gz", "application/xml", XML),
        ("a.rtf", "text/plain", b"{\\rtf1 x}"),
        ("a.ps", "text/plain", b"%!PS-Adobe-3.0\n"),
        ("a.pdf", "application/pdf", b"plain, and who knows"),
        ("a.xyz", "x/y", b"anything"),
        ("a.csv", "text/csv", b""),
        ("a.bin", None, b""),
        ("get", None, b""),
    ],
)
def test_what_may_be_the_file_is_taken(name: str, announced: str | None, body: bytes) -> None:
    assert judged(name, announced, body) is None


@pytest.mark.parametrize(
    ("body", "told", "told_size"),
    [(HTML, "application/pdf", 0), (HTML, "text/csv", 0), (b"", None, 5), (b"", "image/png", 0)],
)
def test_what_an_earlier_answer_told_counts_where_the_name_says_nothing(body: bytes, told: str, told_size: int) -> None:
    assert judged("get", "text/html", body, told=told, told_size=told_size) is not None


@pytest.mark.parametrize(
    ("accept", "announced", "body", "is_taken"),
    [
        ("application/pdf", "text/html", PDF, True),
        ("application/pdf", None, HTML, False),
        ("application/pdf", "application/octet-stream", NOISE, False),
        ("application/pdf", "application/pdf", NOISE, True),
        (".pdf", None, ASCII_PDF, True),
        ("image/*", "application/octet-stream", PNG, True),
        ("image/*", "image/png", PDF, False),
        (".docx", None, DOCX, True),
        ("application/zip", None, DOCX, True),
        (".doc", None, OLE, True),
        (".tar.gz", None, gzip.compress(b"x", mtime=0), True),
        ("text/csv", "application/octet-stream", CSV, True),
        ("text/csv", "text/csv", HTML, False),
        ("text/csv", "text/csv", JSON, False),
        (".json", None, JSON, True),
        ("application/json", "text/html", HTML, False),
        ("application/xml", None, XML, True),
        ("text/html", "text/html", HTML, True),
        ("*/*", "x/y", NOISE, True),
        ("text/*", None, b"", False),
    ],
)
def test_what_an_attachment_accepts_decides_alone(
    accept: str, announced: str | None, body: bytes, is_taken: bool
) -> None:
    assert (judged("a.pdf" if body is HTML else "get", announced, body, accept=(accept,)) is None) == is_taken


def test_how_bytes_begin_is_told_without_secrets_and_in_one_line() -> None:
    told = shown(b"<html>\n<a href='http://h/?token=s3cr3t'>" + b"x" * 5000)

    assert "s3cr3t" not in told
    assert "\n" not in told
    assert len(told) < 80
