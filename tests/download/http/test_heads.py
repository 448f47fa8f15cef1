"""Heads as servers send them become heads that a strict parser reads, or are refused in a few words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapy_chunkdl.download.http.heads import BadHead, body_length, end_of_head, read_head

OK = b"HTTP/1.1 200 OK\r\n"


def head(*lines: bytes, first: bytes = OK) -> bytes:
    return first + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.mark.parametrize(
    ("raw", "length"),
    [
        (head(b"Content-Length: 5"), 5),
        (head(b"content-length:5", b"X-A: \xe9 \xe5\xb9\xb4"), 5),
        (head(b"X-A: 1"), None),
        (head(b"X-Y: " + b"x" * 50_000, b"Content-Length:   7  "), 7),
    ],
)
def test_a_clean_head_is_passed_on_as_it_is(raw: bytes, length: int | None) -> None:
    found = read_head(raw)

    assert (found.raw, found.length, found.status) == (raw, length, 200)


@pytest.mark.parametrize(
    ("raw", "length"),
    [
        (head(b"Content-Length: 5", b"Content-Length: 5"), 5),
        (head(b"Content-Length: 5, 5"), 5),
        (head(b"Content-Length: 5", b"Transfer-Encoding: chunked"), None),
        (head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked"), None),
        (head(b"Transfer-Encoding: identity", b"Content-Length: 5"), 5),
        (head(b"Content-Length: -1"), None),
        (head(b"Content-Length: "), None),
        (head(b"Content-Length : 5"), 5),
        (head(b"Content-Length: five", b"Content-Length: 5"), 5),
        (head(b"PHP Warning:  foo in /x.php on line 3", b"Content-Length: 5"), 5),
        (head(b"<br />", b"Notice in x.php", b"Content-Length: 5"), 5),
        (head(b"X A: 1", b" folded junk", b"Content-Length: 5"), 5),
        (head(b": x", b"Content-Length: 5"), 5),
        (head(b"X-A: a\0b", b"Content-Length: 5"), 5),
        (head(b"Content-Length: 5\r", b"X-A: 1\r"), 5),
        (head(b"Content-Length: 5").replace(b"\r\n", b"\n"), 5),
        (head(b"Content-Length: 5", first=b"HTTP/1.1 200 " + b"O" * 90_000 + b"\r\n"), 5),
        (head(b"Content-Length: 5", first=b"HTTP/1.1 200\r\n"), 5),
        (head(b"Content-Length: 5", first=b"HTTP/1.1  200 OK\r\n"), 5),
        (head(b"Content-Length: 5", first=b"HTTP/2 200\r\n"), 5),
        (head(b"Content-Length: 5", first=b"ICY 200 OK\r\n"), 5),
        (OK + b"\r\n", None),
    ],
)
def test_what_can_be_understood_is_put_right(raw: bytes, length: int | None) -> None:
    found = read_head(raw)

    assert (found.status, found.length) == (200, length)
    assert read_head(found.raw) == found
    assert found.raw.lower().count(b"content-length:") == (length is not None)
    assert b"\0" not in found.raw


def test_folded_lines_are_one_value() -> None:
    raw = head(b"Content-Disposition: attachment;", b'  filename="fold.pdf"', b"X-A: 1", b"\tb")

    assert b'Content-Disposition: attachment; filename="fold.pdf"\r\n' in read_head(raw).raw


@pytest.mark.parametrize(
    "raw",
    [
        head(b"Content-Length: 5", b"Content-Length: 6"),
        head(b"Content-Length: 5, 6"),
        head(b"X: y", first=b"\x16\x03\x01 no HTTP\r\n"),
        head(b"X: y", first=b"SSH-2.0-OpenSSH\r\n"),
        head(b"X-A: " + b"x" * 200_000, b"X B: 1"),
    ],
)
def test_what_nobody_can_read_is_refused(raw: bytes) -> None:
    with pytest.raises(BadHead) as caught:
        read_head(raw)
    assert len(str(caught.value)) <= 100


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\r\n\r\r\n", b"\n\r\n"])
def test_where_a_head_ends(end: bytes) -> None:
    assert end_of_head(OK[:-2] + end + b"body") == len(OK[:-2] + end)
    assert end_of_head(OK) == -1


@pytest.mark.parametrize(
    ("status", "to_head", "length"), [(200, True, 0), (204, False, 0), (304, False, 0), (206, False, 5)]
)
def test_how_much_follows(status: int, to_head: bool, length: int) -> None:
    found = read_head(head(b"Content-Length: 5", first=b"HTTP/1.1 %d X\r\n" % status))

    assert body_length(found, to_head=to_head) == length


_line = st.one_of(
    st.sampled_from(
        [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X-A: 1", b"junk", b" fold", b": x", b"A B: c"]
    ),
    st.binary(max_size=20).filter(lambda line: b"\n" not in line and line.strip(b"\r")),
)


@given(st.lists(_line, max_size=8), st.sampled_from([OK, b"HTTP/1.0 206\r\n", b"HTTP/1.1 404 \0\r\n"]))
def test_whatever_comes_is_refused_or_becomes_a_clean_head(lines: list[bytes], first: bytes) -> None:
    try:
        found = read_head(head(*lines, first=first))
    except BadHead:
        return

    assert read_head(found.raw) == found
    assert found.raw.endswith(b"\r\n\r\n")
    assert found.raw.count(b"\n") == found.raw.count(b"\r\n")
