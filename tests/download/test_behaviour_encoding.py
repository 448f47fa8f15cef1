"""Content-Encoding forced by the server: the file as the server means it, or a clear refusal; never the coded bytes."""

from __future__ import annotations

import gzip
import hashlib
import zlib

import pytest
from fetching import CHUNK, SIZE, Client, payload


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "faults", ["encode:{}", "encode:{};ranges:none", "encode:{};framing:chunked", "encode:{}@get", "encode:{}@plain"]
)
async def test_forced_coding(client: Client, coding: str, faults: str) -> None:
    result = await client.right_or_fails(client.url(faults.format(coding)))
    if isinstance(result, Exception):
        assert result.reason == "encoded"  # type: ignore[attr-defined]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_forced_coding_of_a_stream_is_decoded(client: Client, coding: str) -> None:
    await client.right(client.url(f"encode:{coding};ranges:none"))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [0, 1, CHUNK, SIZE])
async def test_forced_coding_of_any_size(client: Client, coding: str, size: int) -> None:
    await client.right_or_fails(client.url(f"encode:{coding}", size=size), size=size)


async def test_coded_partial_answers_are_never_stored(client: Client) -> None:
    result = await client.right_or_fails(client.url("encode:gzip@range"))
    if isinstance(result, Exception):
        assert result.reason == "encoded"  # type: ignore[attr-defined]


async def test_coding_now_and_then(client: Client) -> None:
    await client.right_or_fails(client.url("encode:gzip@range@3-3"))


@pytest.mark.parametrize("fault", ["encode:br", "encode:br;ranges:none", "encode:br;framing:chunked"])
async def test_unknown_coding_is_refused(client: Client, fault: str) -> None:
    await client.fails(client.url(fault), "encoded")


@pytest.mark.parametrize("more", ["", ";ranges:none", ";framing:chunked;ranges:none"])
async def test_body_that_is_not_in_the_coding_it_claims(client: Client, more: str) -> None:
    await client.fails(client.url("encode:mislabel" + more))


async def test_coded_stream_that_is_cut_is_not_whole(client: Client) -> None:
    await client.fails(client.url("encode:gzip;ranges:none;framing:close;cut:0.9@get"))


async def test_identity_named_as_a_coding_is_none(client: Client) -> None:
    await client.right(client.url("header:Content-Encoding=identity"))


async def test_coded_file_larger_than_allowed_is_stopped_while_it_is_decoded(client: Client) -> None:
    small = client.with_options(max_file_size=SIZE // 2)
    await small.fails(client.url("encode:gzip;ranges:none;framing:chunked;length:none@head"), "too_large")


@pytest.mark.parametrize("of_coded", [True, False])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("faults", ["encode:{}", "encode:{}@get", "encode:{}@get;framing:close@get;length:+9999@head"])
async def test_the_form_that_a_checksum_is_of_is_the_file(
    client: Client, faults: str, coding: str, of_coded: bool
) -> None:
    plain = payload(SIZE, key="r.csv")
    coded = gzip.compress(plain, 1, mtime=0) if coding == "gzip" else zlib.compress(plain, 1)
    wanted = coded if of_coded else plain

    result = await client.fetch(
        client.url(f"{faults.format(coding)};ranges:none", name="r.csv"),
        checksum=f"sha256:{hashlib.sha256(wanted).hexdigest()}",
    )

    assert result.path.read_bytes() == wanted


async def test_a_wrong_checksum_of_what_was_decoded_says_so(client: Client) -> None:
    error = await client.fails(
        client.url("encode:gzip;ranges:none", name="r.csv"), "checksum", checksum="sha256:" + "0" * 64
    )

    assert "gzip" in str(error)
