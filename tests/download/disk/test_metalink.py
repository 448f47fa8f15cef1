"""Metalink documents: which file, which URLs in which order, which checksum; and what is no metalink."""

from __future__ import annotations

import pytest

from scrapy_chunkdl.download.disk.metalink import find_file, read_metalink
from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.model import Pieces

SHA256, SHA1 = "a" * 64, "b" * 40
SCHEMES = {"http", "https", "ftp"}


BAD = [
    "<size>many</size>",
    "<size>-5</size>",
    '<pieces length="0" type="sha-1"/>',
    '<pieces length="x" type="sha-1"/>',
    '<pieces type="sha-1"/>',
    '<pieces length="5" type="sha-1"><hash>12</hash></pieces>',
    f'<size>11</size><pieces length="5" type="sha-1"><hash>{"b" * 40}</hash></pieces>',
]
ENTITIES = (
    '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]>'
    '<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="a"><url>http://h/&c;</url></file></metalink>'
)


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
            f'<hash type="what">1</hash><hash>2</hash><hash type="sha-512/256">{SHA256[:-1]}b</hash>{pieces}</file>'
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
        (document('<file name="a"><hash type="sha-256">xyz</hash></file>'), "bad_metalink"),
        *((document(f'<file name="a">{bad}</file>'), "bad_metalink") for bad in BAD),
        (ENTITIES.encode("utf-16"), "bad_metalink"),
        (ENTITIES.encode(), "bad_metalink"),
        (b'<?xml version="1.0" encoding="no-such"?><a/>', "bad_metalink"),
        (document("<file/>" * (1 << 21)), "bad_metalink"),
        (document("<file/>" * (1 << 20)), "bad_metalink"),
        (document("<a>" * (1 << 20)), "bad_metalink"),
        (document("")[:-3], "bad_metalink"),
        (document("") + b"more", "bad_metalink"),
    ],
)
def test_what_is_no_metalink_is_told_so(text: bytes, reason: str) -> None:
    with pytest.raises(Permanent) as caught:
        read_metalink(text, SCHEMES)

    assert caught.value.reason == reason
    assert len(str(caught.value)) <= 300


def test_what_is_relative_is_so_to_the_document() -> None:
    [file] = read_metalink(
        document('<file name="a"><url>a.iso</url><url>/b.iso</url><url>//other/c.iso</url></file>'),
        SCHEMES,
        "https://h/pub/a.meta4",
    )

    assert file.urls == ("https://h/pub/a.iso", "https://h/b.iso", "https://other/c.iso")


@pytest.mark.parametrize(
    ("attributes", "order"),
    [
        (['priority="2"', 'priority="1"', ""], "bac"),
        (['preference="10"', 'preference="100"', ""], "bac"),
        (['priority="x"', 'priority="5"', 'priority=""'], "bac"),
        (['priority="2"', 'priority=" 1 "', f'priority="{"9" * 5000}"'], "bac"),
        (['location="de"', 'location="us" priority="999999"', ""], "bac"),
    ],
)
def test_urls_come_in_the_order_that_is_told(attributes: list[str], order: str) -> None:
    urls = "".join(f"<url {one}>http://h/{name}</url>" for name, one in zip("abc", attributes, strict=True))

    [file] = read_metalink(document(f'<file name="f">{urls}</file>'), SCHEMES)

    assert "".join(url[-1] for url in file.urls) == order


def test_size_and_the_strongest_pieces_are_read() -> None:
    weak = f'<pieces length="4" type="sha-1"><hash>{SHA1}</hash><hash>{SHA1}</hash></pieces>'
    strong = f'<pieces length="8" type="sha-256"><hash> {SHA256.upper()} </hash></pieces>'
    unknown = '<pieces length="8" type="what"><hash>1</hash></pieces>'

    [file] = read_metalink(document(f'<file name="f"><size> 8 </size>{weak}{strong}{unknown}</file>'), SCHEMES)

    assert file.size == 8
    assert file.pieces == Pieces(8, "sha256", (SHA256,))


def test_elements_of_other_namespaces_and_deeper_ones_are_passed_over() -> None:
    foreign = '<x:url xmlns:x="urn:x">http://no/a</x:url><signature><url>http://no/b</url></signature>'

    [file] = read_metalink(
        document(f'<file name="f">{foreign}<url>http://h/a</url></file><url>http://no/c</url>'), SCHEMES
    )

    assert file.urls == ("http://h/a",)
