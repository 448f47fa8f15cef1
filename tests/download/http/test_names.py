"""The name of a file, of what its answer, its URLs and its type say."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from fetching import SIZE, Client, names_in
from hypothesis import given
from hypothesis import strategies as st
from origin import Origin

from scrapy_chunkdl.download.http.names import name_of


@pytest.mark.parametrize(
    ("disposition", "led_to", "url", "kind", "name"),
    [
        (None, None, "/get?id=5", "application/pdf", "get.pdf"),
        (None, None, "/get?id=5", "application/octet-stream", "get"),
        (None, None, "/get?id=5", None, "get"),
        (None, None, "/doi/10.1", "application/pdf", "10.1.pdf"),
        (None, "/real.pdf", "/doi/10.1", "application/pdf", "real.pdf"),
        (None, "/s3/key.pdf?sig=1", "/dl?id=3", "application/pdf", "key.pdf"),
        (None, "/r/b.zip", "/a.pdf", "application/pdf", "a.pdf"),
        (None, "/files/5", "/get", "image/png", "get.png"),
        (None, None, "/LICENSE", "text/plain", "LICENSE"),
        (None, None, "/get.php?id=1", "application/pdf", "get.php"),
        (None, None, "/x/report.pdf/download", "application/octet-stream", "download"),
        (None, None, "/", "text/html; charset=utf-8", "file.html"),
        (None, None, "/a.v2final", "application/pdf", "a.v2final"),
        (None, None, "/%C4%EA%B1%A8.pdf", None, "年报.pdf"),
        (None, None, "/caf%E9.pdf", None, "café.pdf"),
        ('attachment; filename="real.zip"', None, "/dl", "application/zip", "real.zip"),
        ('attachment; filename="report"', None, "/dl.zip", "application/pdf", "report.pdf"),
        ('attachment; filename="a.tar.gz"', None, "/dl", "application/gzip", "a.tar.gz"),
        ("attachment; filename=UTF-8''%E5%B9%B4.pdf", None, "/dl", None, "年.pdf"),
        ("attachment; filename=\"gbk''%C4%EA.pdf\"", None, "/dl", None, "年.pdf"),
        ('attachment; filename="%C4%EA%B1%A8.pdf"', None, "/dl", None, "年报.pdf"),
        ('attachment; filename="caf\udce9.pdf"', None, "/dl", None, "café.pdf"),
        ('attachment; filename="%25E5.pdf"', None, "/dl", None, "%25E5.pdf"),
        ('attachment; filename=""', None, "/u.pdf", None, "u.pdf"),
    ],
)
def test_what_a_file_is_called(
    disposition: str | None, led_to: str | None, url: str, kind: str | None, name: str
) -> None:
    assert name_of(disposition, f"http://h{led_to or url}", f"http://h{url}", kind) == name


@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from([None, "application/pdf", "text/html", "x"]))
def test_whatever_is_said_the_name_is_one_safe_segment(disposition: str, path: str, kind: str | None) -> None:
    name = name_of(f'attachment; filename="{disposition}"', "http://h/", f"http://h/{path}", kind)

    assert name
    assert not set(name) & set('/\\\0\n<>:"|?*')
    assert len(name.encode()) <= 240


def header(name: str, value: bytes | str, when: str = "") -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return f"header:{name}={quote(text)}{when}"


@pytest.mark.parametrize("more", ["", ";ranges:none", ";framing:chunked;ranges:none"])
@pytest.mark.parametrize("size", [1000, SIZE])
async def test_the_name_is_the_one_of_the_get(client: Client, more: str, size: int) -> None:
    faults = header("Content-Disposition", 'attachment; filename="real.zip"', "@get") + more

    first = await client.right(client.url(faults, size=size), size=size, name=None)
    second = await client.fetch(client.url(faults, size=size), name=None)

    assert first.path.name == second.path.name == "real.zip"
    assert names_in(client.folder) == ["real.zip"]


async def test_a_file_that_is_up_to_date_is_found_by_its_record(client: Client) -> None:
    faults = header("Content-Disposition", 'attachment; filename="real.zip"', "@get")
    await client.right(client.url(faults), name=None)
    sent = client.origin.stats("file.bin").sent

    assert (await client.fetch(client.url(faults), name=None)).status == "uptodate"
    assert client.origin.stats("file.bin").sent == sent


async def test_two_files_of_one_name_in_one_folder_do_not_meet(client: Client) -> None:
    faults = header("Content-Disposition", 'attachment; filename="real.zip"')

    one = await client.right(client.url(faults, name="a.bin"), key="a.bin", name=None)
    other = await client.right(client.url(faults, name="b.bin"), key="b.bin", name=None)

    assert one.path != other.path
    assert one.path.exists()


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("年报.pdf".encode("gbk"), "年报.pdf"),
        ("財務報表.pdf".encode("big5"), "財務報表.pdf"),
        ("사업보고서.pdf".encode("euc_kr"), "사업보고서.pdf"),
        ("お知らせ.pdf".encode("cp932"), "お知らせ.pdf"),
        (b"caf\xe9.pdf", "café.pdf"),
    ],
)
async def test_raw_bytes_of_a_header_are_a_name(client: Client, raw: bytes, name: str) -> None:
    result = await client.right(
        client.url(header("Content-Disposition", b'attachment; filename="' + raw + b'"')), name=None
    )

    assert result.path.name == name


async def test_where_a_redirect_led_names_what_has_no_extension(client: Client, origin: Origin) -> None:
    result = await client.right(origin.redirect("10.1", client.url(name="real.pdf")), key="real.pdf", name=None)

    assert result.path.name == "real.pdf"
