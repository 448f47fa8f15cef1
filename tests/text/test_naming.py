"""Names from items, servers and URLs: safe whatever they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapy_chunkdl.text import naming

URL = "https://example.org/files/a.pdf"


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("年报 2022.pdf", "年报 2022.pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/passwd", "passwd"),
        ("C:\\Windows\\notes.txt", "notes.txt"),
        ("a\x00b.pdf", "ab.pdf"),
        ("a\r\nb\x1b[31m.pdf", "ab[31m.pdf"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("console.txt", "console.txt"),
        ("name. . .", "name"),
        ("  spaced.pdf  ", "spaced.pdf"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("zero\u200bwidth.pdf", "zerowidth.pdf"),
        ('a<b>c:"d|e?f*.pdf', "a_b_c__d_e_f_.pdf"),
        ("e\u0301.pdf", "\u00e9.pdf"),
        ("a.pdf.part", "a.pdf.part_"),
        ("a.pdf.part.journal", "a.pdf.part.journal_"),
        ("a.pdf.part.journal~", "a.pdf.part.journal~_"),
        ("a.pdf.PART", "a.pdf.PART_"),
        ("e\u200b\u0301.pdf", "\u00e9.pdf"),
        ("NUL .txt", "_NUL .txt"),
        ("conin$", "_conin$"),
        (".htaccess", "htaccess"),
    ],
)
def test_a_name_is_made_safe(raw: str, safe: str) -> None:
    assert naming.safe_name(raw) == safe


@pytest.mark.parametrize("raw", ["", ".", "..", "...", "/", "\\", " ", "\x00", "\u202e", "a/.."])
def test_nothing_left_is_no_name(raw: str) -> None:
    assert naming.safe_name(raw) is None


def test_a_long_name_is_cut_on_a_character_and_keeps_its_extension() -> None:
    name = naming.safe_name("报" * 200 + ".tar.xz")

    assert name is not None
    assert len(name.encode()) <= naming.MOST_BYTES
    assert name.endswith("报.xz") or name.endswith(".xz")
    assert "\ufffd" not in name


@pytest.mark.parametrize("length", range(230, 250))
def test_no_cut_makes_a_part_file_of_a_name(length: int) -> None:
    name = naming.safe_name("x" * length + ".part" + "y" * 30)

    assert name is not None
    assert not name.endswith(".part")
    assert naming.safe_name(name) == name


TRICKY_PARTS = (
    "..",
    "/",
    "\\",
    ".",
    " ",
    "\0",
    "con",
    ".part",
    ".journal",
    "~",
    "\u200b",
    "\u0301",
    "e",
    "报",
    "x" * 100,
)
TRICKY = st.lists(st.sampled_from(TRICKY_PARTS) | st.text(max_size=40), max_size=20).map("".join)


@given(st.text(max_size=600) | TRICKY)
def test_whatever_comes_in_one_harmless_segment_comes_out(raw: str) -> None:
    name = naming.safe_name(raw)

    if name is not None:
        assert 0 < len(name.encode()) <= naming.MOST_BYTES
        assert not set(name) & set('/\\\0<>:"|?*\r\n')
        assert name not in (".", "..")
        assert name == name.strip(" .")
        assert naming.safe_name(name) == name
        assert len((name + ".part.journal~").encode()) <= 255
        assert not name.endswith((".part", ".part.journal", ".part.journal~"))
        assert naming.inside(Path("/store"), naming.file_path(URL, raw)).is_relative_to("/store")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="report.pdf"', "report.pdf"),
        ("attachment; filename=report.pdf", "report.pdf"),
        ("attachment; filename*=UTF-8''%e5%b9%b4%e6%8a%a5.pdf", "年报.pdf"),
        ("attachment; filename=\"x.pdf\"; filename*=UTF-8''y.pdf", "y.pdf"),
        ("attachment; filename*=UTF-8''%ff.pdf; filename=\"x.pdf\"", "x.pdf"),
        ("attachment; filename*=klingon''%61.pdf; filename=x.pdf", "x.pdf"),
        (r'attachment; filename="a\"b.pdf"', "a_b.pdf"),
        ('inline; filename="../../evil.sh"', "evil.sh"),
        ('attachment; filename="年报.pdf"', "年报.pdf"),
        ('attachment; filename="%E5%B9%B4%E6%8A%A5.pdf"', "年报.pdf"),
        ('attachment; filename="100%25.pdf"', "100%25.pdf"),
        ('attachment; filename="100%E5%.pdf"', "100%E5%.pdf"),
        ('attachment; filename="=?UTF-8?B?5bm05oqlLnBkZg==?="', "年报.pdf"),
        ("attachment; filename*=\"UTF-8''%e5%b9%b4%e6%8a%a5.pdf\"", "年报.pdf"),
        ("attachment; FILENAME*=UTF-8'en'two words.pdf", "two words.pdf"),
        ("attachment; filename=two words.pdf", "two words.pdf"),
        ("attachment; filename*=undefined''%61; filename=x.pdf", "x.pdf"),
        ("attachment; filename*0*=idna''%61", None),
        ("attachment; filename=a\udcff.pdf", "aÿ.pdf"),
        ("inline", None),
        ("", None),
        (None, None),
    ],
)
def test_content_disposition_is_read(header: str | None, name: str | None) -> None:
    assert naming.name_from_content_disposition(header) == name


SYNTAX = (";", "filename", "*", "=", '"', "'", "\\", "0*", "1*", " ", "\t", "/", "..", "a", "年", "\udcff")
ENCODED = ("%41", "%", "UTF-8''", "idna''", "undefined''", "hex''", "utf-16''", "=?UTF-8?B?5bm0?=", "=?", "?=", "?q?")
DISPOSITION = st.lists(
    st.sampled_from(SYNTAX + ENCODED) | st.text(max_size=8),
    max_size=20,
).map("".join)


@given(DISPOSITION | DISPOSITION.map("attachment; filename{}".format))
def test_no_content_disposition_makes_the_reader_fail(header: str) -> None:
    name = naming.name_from_content_disposition(header)

    assert name is None or name == naming.safe_name(name)


@given(st.text(max_size=60).map("https://example.org/{}".format) | st.text(max_size=60))
def test_no_url_makes_the_reader_fail(url: str) -> None:
    name = naming.name_from_url(url)

    assert name is None or name == naming.safe_name(name)
    assert naming.inside(Path("/store"), naming.file_path(url)).is_relative_to("/store")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (URL, "a.pdf"),
        (URL + "?x=/b.txt#c", "a.pdf"),
        ("https://example.org/%E5%B9%B4%E6%8A%A5.pdf", "年报.pdf"),
        ("https://example.org/a%2F..%2Fb.pdf", "b.pdf"),
        ("https://example.org/", None),
        ("https://example.org", None),
        ("http://[::1", None),
    ],
)
def test_the_url_names_the_file_last(url: str, name: str | None) -> None:
    assert naming.name_from_url(url) == name


def test_two_files_of_one_name_do_not_meet_and_each_is_found_again() -> None:
    first, second = naming.file_path(URL, "a.pdf"), naming.file_path(URL + "?2", "a.pdf")

    assert first != second
    assert first == naming.file_path(URL, "a.pdf")
    assert first.endswith("/a.pdf")


def test_a_distinct_name_keeps_stem_and_extension() -> None:
    name = naming.distinct_name("a.pdf", URL)

    assert name.startswith("a-")
    assert name.endswith(".pdf")
    assert len(naming.distinct_name("x" * 236 + ".pdf", URL).encode()) <= naming.MOST_BYTES


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\0b", "", "..\\x"])
def test_a_path_that_leaves_the_store_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path inside the store"):
        naming.inside(Path("/store"), path)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("d/" * 3000 + "a", "longer than file systems take"),
        ("d" * 256 + "/a", "longer than file systems take"),
        ("a" * 241, "longer than file systems take"),
        ("\u6587" * 81, "longer than file systems take"),
        ("a\ud800/b", "half an emoji"),
    ],
    ids=["deep", "folder", "name", "in bytes", "surrogate"],
)
def test_a_path_that_no_file_system_takes_is_refused(path: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        naming.inside(Path("/store"), path)

    assert len(str(refused.value)) <= 300
