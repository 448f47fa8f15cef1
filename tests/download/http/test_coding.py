"""What a Content-Encoding means for a file that was asked for as it is."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from scrapy_chunkdl.download.http.coding import KEEP, Coding, meaning_of_coding
from scrapy_chunkdl.download.http.decoding import Decoder
from scrapy_chunkdl.download.http.headers import parse_digests

CSV = ("report.csv", "text/csv")


@pytest.mark.parametrize(
    "fields",
    [
        *[[], ["identity"], ["none"], ["UTF-8"], [""], ["text/plain"], ["identity, identity"], ["utf-8", "binary"]],
        *[["8bit"], ["x-bzip2"], ["bzip2"], ["aws-chunked"], ["gzip;q=1"], ['"gzip"'], [" , "]],
    ],
)
def test_what_is_no_registered_coding_is_none(fields: list[str]) -> None:
    assert meaning_of_coding(fields, *CSV) == KEEP


@pytest.mark.parametrize(
    ("fields", "undo"),
    [
        (["gzip"], ("gzip",)),
        (["X-GZIP"], ("gzip",)),
        (["gzip, identity"], ("gzip",)),
        (["gzip", "utf-8"], ("gzip",)),
        (["deflate, gzip"], ("gzip", "deflate")),
        (["gzip", "deflate"], ("deflate", "gzip")),
        (["gzip, gzip"], ("gzip", "gzip")),
    ],
)
def test_a_list_is_undone_from_its_end(fields: list[str], undo: tuple[str, ...]) -> None:
    assert meaning_of_coding(fields, *CSV).undo == undo


@pytest.mark.parametrize("fields", [["br"], ["zstd"], ["compress"], ["x-compress"], ["gzip, br"], ["br, gzip"]])
def test_what_cannot_be_undone_is_refused(fields: list[str]) -> None:
    assert meaning_of_coding(fields, *CSV).refused in ("br", "zstd", "compress")


@pytest.mark.parametrize(
    ("fields", "name", "kind"),
    [
        (["x-gzip"], "a.tar.gz", "application/x-gzip"),
        (["gzip"], "A.TGZ", "application/octet-stream"),
        (["gzip"], "a.svgz", "image/svg+xml"),
        (["gzip"], "a.tar.gz", "application/x-tar"),
        (["gzip"], "a.csv.gz", "text/csv"),
        (["gzip"], "get", "application/gzip"),
        (["gzip"], "get", "application/x-tgz; charset=binary"),
        (["gzip"], "get", "application/x-gzip-compressed"),
        (["gzip"], "get", "multipart/x-gzip"),
        (["gzip"], "get", "application/gzipped"),
        (["gzip"], "get", "application/tar+gzip"),
        (["zstd"], "get", "application/x-zst"),
        (["br"], "a.js.br", "text/javascript"),
        (["zstd"], "a.tar.zst", None),
        (["compress"], "a.tar.Z", "application/x-tar"),
    ],
)
def test_a_coding_that_is_the_files_own_format_is_the_file(fields: list[str], name: str, kind: str | None) -> None:
    assert meaning_of_coding(fields, name, kind) == KEEP


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.tar.gz", "text/html"), ("a.csv", "text/csv"), ("a.tar", "application/x-tar"), ("a.zst", None)],
)
def test_a_coding_that_is_not_is_undone(name: str, kind: str | None) -> None:
    assert meaning_of_coding(["gzip"], name, kind) == Coding(undo=("gzip",))


_CODE = {"gzip": lambda body: gzip.compress(body, 1, mtime=0), "deflate": lambda body: zlib.compress(body, 1)}


@given(
    st.binary(max_size=2000),
    st.lists(st.sampled_from(["gzip", "deflate", "identity", "utf-8", "x-gzip", ""]), max_size=4),
    st.integers(1, 500),
)
def test_whatever_was_done_is_undone(plain: bytes, tokens: list[str], step: int) -> None:
    body = plain
    for token in tokens:
        body = _CODE.get(token.removeprefix("x-"), lambda same: same)(body)

    coding = meaning_of_coding([", ".join(tokens)], *CSV)
    decoder = Decoder(coding)
    found = b"".join(piece for at in range(0, len(body), step) for piece in decoder.decode(body[at : at + step]))

    assert found == plain
    assert not body or decoder.is_complete


def test_a_body_cut_between_two_members_is_not_complete_where_its_length_is_known() -> None:
    members = gzip.compress(b"one") + gzip.compress(b"two")
    decoder = Decoder(Coding(undo=("gzip",), coded_size=len(members)))

    first = b"".join(decoder.decode(members[: len(gzip.compress(b"one"))]))

    assert (first, decoder.is_complete) == (b"one", False)


@pytest.mark.parametrize("step", [1, 100, 10_000])
def test_zeros_behind_a_gzip_stream_mean_nothing(step: int) -> None:
    body = gzip.compress(b"one") + bytes(512) + gzip.compress(b"two") + bytes(512)
    decoder = Decoder(Coding(undo=("gzip",)))

    assert b"".join(p for at in range(0, len(body), step) for p in decoder.decode(body[at : at + step])) == b"onetwo"
    assert decoder.is_complete


@pytest.mark.parametrize(
    ("stored", "sent", "is_taken"),
    [
        ("gzip", None, False),
        ("gzip", "gzip", True),
        ("identity", None, True),
        (None, None, True),
        ("GZIP", "gzip", True),
    ],
)
def test_the_hash_of_an_object_stored_in_another_coding_is_not_taken(
    stored: str | None, sent: str | None, is_taken: bool
) -> None:
    headers = CIMultiDict({"x-goog-hash": "md5=rL0Y20zC+Fzt72VPzMSk2A=="})
    if stored:
        headers["x-goog-stored-content-encoding"] = stored
    if sent:
        headers["Content-Encoding"] = sent

    assert bool(parse_digests(headers)) == is_taken
