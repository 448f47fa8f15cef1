"""Checksums, expected and sent: verified; on mismatch fetched again once, then given up with both values."""

from __future__ import annotations

import hashlib

import pytest
from fetching import SIZE, Client, payload

from scrapy_chunkdl.download import DownloadError

FORMS = ["repr", "digest", "md5", "goog"]


@pytest.mark.parametrize("algorithm", ["sha256", "md5", "sha1", "sha512"])
async def test_expected_checksum_that_holds(client: Client, algorithm: str) -> None:
    expected = f"{algorithm}:{hashlib.new(algorithm, payload()).hexdigest()}"
    result = await client.right(client.url(), checksum=expected)
    assert result.checksum == expected
    assert client.origin.stats("file.bin").sent == SIZE


async def test_expected_checksum_in_capitals(client: Client) -> None:
    await client.right(client.url(), checksum=f"SHA256:{hashlib.sha256(payload()).hexdigest().upper()}")


async def test_wrong_checksum_is_fetched_again_once_then_given_up_with_both_values(client: Client) -> None:
    wrong, found = "0" * 64, hashlib.sha256(payload()).hexdigest()
    error = await client.fails(client.url(), "checksum", checksum=f"sha256:{wrong}")
    assert wrong in str(error)
    assert found in str(error)
    assert client.origin.stats("file.bin").sent == 2 * SIZE
    assert not error.resumable
    assert list(client.folder.glob("*.part")) == []


async def test_byte_spoiled_once_is_right_the_second_time(client: Client) -> None:
    expected = f"sha256:{hashlib.sha256(payload()).hexdigest()}"
    result = await client.right(client.url(f"corrupt:{SIZE // 2}@over={SIZE // 2}@1"), checksum=expected)
    assert result.fetched == 2 * SIZE


@pytest.mark.parametrize("checksum", ["nonsense", "sha256:xyz", "sha256:00", "crc99:00", ":", "sha256:"])
async def test_checksum_that_makes_no_sense_is_refused_before_any_request(client: Client, checksum: str) -> None:
    error = await client.fails(client.url(), "bad_checksum", checksum=checksum)
    assert checksum in str(error)
    assert client.origin.stats("file.bin").requests == 0


@pytest.mark.parametrize("form", FORMS)
async def test_checksum_of_the_server_that_holds(client: Client, form: str) -> None:
    await client.right(client.url(f"digest:{form}"))
    assert client.origin.stats("file.bin").sent == SIZE


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("more", ["", ";ranges:none"])
async def test_wrong_checksum_of_the_server(client: Client, form: str, more: str) -> None:
    await client.fails(client.url(f"digest:{form}:wrong{more}"), "checksum")
    assert client.origin.stats("file.bin").sent <= 2 * SIZE


async def test_content_md5_of_a_part_is_not_taken_for_that_of_the_file(client: Client) -> None:
    # Content-MD5 on a 206 is of the part (RFC 2616 §14.15): there it says nothing of the whole.
    await client.right(client.url("digest:md5:wrong@range"))


async def test_digest_of_the_coded_form_is_not_compared_with_the_decoded_file(client: Client) -> None:
    await client.right(client.url("encode:gzip;ranges:none;digest:repr:wrong"))


@pytest.mark.parametrize("size", [0, 1, SIZE])
async def test_checksum_computed_on_request(client: Client, size: int) -> None:
    result = await client.with_options(checksum="sha256").right(client.url(size=size), size=size)
    assert result.checksum == f"sha256:{hashlib.sha256(payload(size)).hexdigest()}"


async def test_expected_checksum_is_checked_on_a_file_that_is_there_already(client: Client) -> None:
    await client.right(client.url())
    expected = f"md5:{hashlib.md5(payload()).hexdigest()}"
    again = await client.right(client.url(), checksum=expected)
    assert again.checksum == expected


async def test_spoiled_byte_of_one_mirror_is_healed_by_another(client: Client) -> None:
    expected = f"sha256:{hashlib.sha256(payload()).hexdigest()}"
    bad = client.url(f"corrupt:{SIZE // 2}", name="bad", key="file.bin")
    good = client.url(name="good", key="file.bin")
    await client.right_or_fails(bad, mirrors=(good,), checksum=expected)


def checksum_of(algorithm: str) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, payload()).hexdigest()}"


@pytest.mark.parametrize("served", ["", "digest:md5", "digest:repr"])
@pytest.mark.parametrize("reported", ["", "sha256", "md5", "blake2b"])
@pytest.mark.parametrize("wanted", ["md5", "sha1", "sha256"])
async def test_the_wanted_and_the_reported_checksum_are_both_kept_with_the_file(
    client: Client, wanted: str, reported: str, served: str
) -> None:
    client = client.with_options(checksum=reported or None)
    url = client.url(served)
    await client.right(url, checksum=checksum_of(wanted))

    again = await client.right(url, checksum=checksum_of(wanted))

    assert (again.status, again.checksum) == ("uptodate", checksum_of(reported or wanted))
    assert client.origin.stats("file.bin").sent == SIZE


async def test_a_checksum_of_the_server_is_known_when_an_item_wants_it(client: Client) -> None:
    client = client.with_options(checksum="sha256")
    await client.right(client.url("digest:md5"))

    again = await client.right(client.url("digest:md5"), checksum=checksum_of("md5"))

    assert again.status == "uptodate"


async def test_a_kept_checksum_that_is_not_the_wanted_one_does_not_do(client: Client) -> None:
    client = client.with_options(checksum="sha256")
    await client.right(client.url(), checksum=checksum_of("md5"))

    with pytest.raises(DownloadError) as caught:
        await client.fetch(client.url(), checksum="md5:" + "0" * 32)

    assert caught.value.reason == "checksum"
    assert client.target.read_bytes() == payload()
