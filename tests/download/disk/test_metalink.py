"""Metalink documents: which file, which URLs in which order, which checksum; and what is no metalink."""

from __future__ import annotations

import pytest

from scrapy_chunkdl.download.disk.metalink import find_file, read_metalink
from scrapy_chunkdl.download.errors import Permanent

SHA256, SHA1 = "a" * 64, "b" * 40
SCHEMES = {"http", "https", "ftp"}


def document(files: str) -> bytes:
    return f'<?xml version="1.0"?><metalink xmlns="urn:ietf:params:xml:ns:metalink">{files}</metalink>'.encode()


def test_urls_come_by_priority_and_those_that_cannot_be_fetched_are_left_out() -> None:
    [file] = read_metalink(
        document(
            '<file name="a.iso"><size>5</size>'
            '<url>http://last/a.iso</url><url priority="2">ftp://second/a.iso</url>'
            '<url priority="1" location="de"> https://first/a.iso </url><url priority="1">rsync://no/a.iso</url>'
            '<url priority="3">https://first/a.iso</url><metaurl mediatype="torrent">http://h/a.torrent</metaurl></file>'
        ),
        SCHEMES,
    )

    assert file.urls == ("https://first/a.iso", "ftp://second/a.iso", "http://last/a.iso")


def test_the_strongest_checksum_of_the_whole_counts_not_those_of_pieces() -> None:
    pieces = f'<pieces length="1" type="sha-256"><hash>{"c" * 64}</hash></pieces>'
    [file] = read_metalink(
        document(
            f'<file name="a"><hash type="sha-1">{SHA1}</hash><hash type="sha-256"> {SHA256.upper()} </hash>'
            f'<hash type="what">1</hash>{pieces}</file>'
        ),
        SCHEMES,
    )

    assert file.checksum == f"sha256:{SHA256}"


@pytest.mark.parametrize(
    ("names", "found"), [(["b.iso"], "x/b.iso"), (["c.iso"], None), (["", "a.iso"], "a.iso"), ([], None)]
)
def test_of_several_files_the_name_decides(names: list[str], found: str | None) -> None:
    files = read_metalink(document('<file name="a.iso"/><file name="x/b.iso"/>'), SCHEMES)

    file = find_file(files, names)

    assert (file and file.name) == found


def test_a_document_of_one_file_needs_no_name() -> None:
    assert find_file(read_metalink(document('<file name="a.iso"/>'), SCHEMES), ["other"]) is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"<html><body>404</body></html>", "bad_metalink"),
        (b"not xml", "bad_metalink"),
        (b"", "bad_metalink"),
        (b'<metalink version="3.0" xmlns="http://www.metalinker.org/"/>', "bad_metalink"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><metalink xmlns="urn:ietf:params:xml:ns:metalink"/>', "bad_metalink"),
        (document('<file name="a"><hash type="sha-256">xyz</hash></file>'), "bad_checksum"),
    ],
)
def test_what_is_no_metalink_is_told_so(text: bytes, reason: str) -> None:
    with pytest.raises(Permanent) as caught:
        read_metalink(text, SCHEMES)

    assert caught.value.reason == reason
