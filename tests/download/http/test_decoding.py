"""Decoding a body that came encoded unasked."""

from __future__ import annotations

import gzip
import zlib

import pytest

from scrapy_chunkdl.download.errors import Permanent, Transient
from scrapy_chunkdl.download.http.coding import Coding, meaning_of_coding
from scrapy_chunkdl.download.http.decoding import Decoder

PLAIN = b"a line of text\n" * 1000


def decoded(coding: str, body: bytes, step: int) -> bytes:
    decoder = Decoder(meaning_of_coding([coding], "a.csv", "text/csv"))
    plain = b"".join(piece for at in range(0, len(body), step) for piece in decoder.decode(body[at : at + step]))
    assert decoder.is_complete
    return plain


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(PLAIN)),
        ("x-gzip", gzip.compress(PLAIN[:5000]) + gzip.compress(PLAIN[5000:])),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", zlib.compress(PLAIN)[2:-4]),
    ],
    ids=["gzip", "gzip of two members", "deflate", "deflate without wrapper"],
)
def test_it_gives_what_was_encoded_however_it_arrives(coding: str, body: bytes, step: int) -> None:
    assert decoded(coding, body, step) == PLAIN


def test_a_small_body_of_a_huge_file_comes_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    sizes = [len(piece) for piece in Decoder(Coding(undo=("gzip",))).decode(bomb)]

    assert sum(sizes) == 100_000_000
    assert max(sizes) <= 1 << 20


def test_a_broken_body_is_worth_another_try() -> None:
    with pytest.raises(Transient, match="broken"):
        list(Decoder(Coding(undo=("gzip",))).decode(b"no gzip at all"))


def test_an_unknown_coding_is_refused() -> None:
    with pytest.raises(Permanent, match="br"):
        Decoder(Coding(refused="br"))
