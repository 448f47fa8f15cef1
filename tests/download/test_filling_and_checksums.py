"""Checksums, expected and sent: verified; on mismatch fetched again once, then given up with both values."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from fetching import CHUNK, SIZE, Client, payload
from origin import Origin
from origin_content import content_hash

from scrapy_chunkdl.download import DownloadError
from scrapy_chunkdl.download.disk import platform

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


# --- without a second reading

CLOUDS = ["goog-crc", "aws-crc32", "aws-crc32c", "aws-crc64nvme"]
HASHES = ["repr", "content", "digest", "md5", "aws-sha1", "aws-sha256"]


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes of part files are read, call by call; looks at a few KiB left out."""
    read: list[int] = []
    read_at = platform.read_at

    def counted(fd: int, size: int, offset: int) -> bytes:
        data = read_at(fd, size, offset)
        if size > 4096:
            read.append(len(data))
        return data

    monkeypatch.setattr(platform, "read_at", counted)
    return read


@pytest.mark.parametrize("form", CLOUDS)
@pytest.mark.parametrize("more", ["", ";ranges:none", ";length:none;framing:chunked;ranges:none"])
async def test_crcs_of_the_server_are_checked_without_reading_the_file(
    client: Client, bytes_read: list[int], form: str, more: str
) -> None:
    result = await client.right(client.url(f"digest:{form}{more}"))

    assert (result.checksum or "").startswith("crc")
    assert sum(bytes_read) == 0
    assert client.origin.stats("file.bin").sent == SIZE


@pytest.mark.parametrize("form", CLOUDS)
@pytest.mark.parametrize("more", ["", ";ranges:none"])
async def test_a_wrong_crc_of_the_server_is_fetched_again_and_given_up(client: Client, form: str, more: str) -> None:
    error = await client.fails(client.url(f"digest:{form}:wrong{more}"), "checksum")

    assert "crc" in str(error)
    assert client.origin.stats("file.bin").sent == 2 * SIZE


@pytest.mark.parametrize("form", HASHES)
async def test_hashes_of_what_comes_in_one_stream_need_no_reading(
    client: Client, bytes_read: list[int], form: str
) -> None:
    await client.right(client.url(f"digest:{form};ranges:none"))

    assert sum(bytes_read) == 0


@pytest.mark.parametrize("form", HASHES)
@pytest.mark.parametrize("more", ["", ";ranges:none"])
async def test_a_wrong_hash_of_the_server_is_fetched_again_and_given_up(client: Client, form: str, more: str) -> None:
    await client.fails(client.url(f"digest:{form}:wrong{more}"), "checksum")

    assert client.origin.stats("file.bin").sent <= 2 * SIZE


@pytest.mark.parametrize("algorithm", ["crc32", "crc32c", "crc64nvme", "md5", "sha1", "sha256", "blake2b"])
@pytest.mark.parametrize("connections", [1, 4])
async def test_the_items_checksum_is_made_of_the_bytes_as_they_come(
    client: Client, bytes_read: list[int], algorithm: str, connections: int
) -> None:
    client = client.with_options(chunks_per_file=connections)
    expected = f"{algorithm}:{content_hash('file.bin', SIZE, 1, algorithm)}"

    result = await client.right(client.url(), checksum=expected)

    assert result.checksum == expected
    if connections == 1 or algorithm.startswith("crc"):
        assert sum(bytes_read) == 0
    else:  # of what came in another order each byte is read once
        assert sum(bytes_read) <= SIZE


@pytest.mark.parametrize("algorithm", ["crc32", "crc32c", "crc64nvme", "sha256"])
@pytest.mark.parametrize("size", [0, 1000, SIZE])
async def test_the_checksum_that_the_settings_ask_for_is_reported(client: Client, algorithm: str, size: int) -> None:
    client = client.with_options(checksum=algorithm)

    result = await client.right(client.url(size=size), size=size)
    again = await client.fetch(client.url(size=size))

    assert result.checksum == again.checksum == f"{algorithm}:{content_hash('file.bin', size, 1, algorithm)}"


@pytest.mark.parametrize("algorithm", ["crc32", "crc32c", "crc64nvme", "md5", "sha256"])
@pytest.mark.parametrize("more", ["", "ranges:none"])
async def test_a_wrong_checksum_of_the_item_is_fetched_again_and_given_up(
    client: Client, algorithm: str, more: str
) -> None:
    expected = f"{algorithm}:{content_hash('another', SIZE, 1, algorithm)}"

    error = await client.fails(client.url(more), "checksum", checksum=expected)

    assert content_hash("file.bin", SIZE, 1, algorithm) in str(error)
    assert client.origin.stats("file.bin").sent == 2 * SIZE


@pytest.mark.parametrize("algorithm", ["crc32c", "crc64nvme"])
async def test_bytes_spoiled_once_are_right_the_second_time_by_crc(client: Client, algorithm: str) -> None:
    expected = f"{algorithm}:{content_hash('file.bin', SIZE, 1, algorithm)}"

    result = await client.right(client.url(f"corrupt:{SIZE // 2}@over={SIZE // 2}@1"), checksum=expected)

    assert result.fetched == 2 * SIZE


@pytest.mark.parametrize("fault", [f"cut:{CHUNK // 2}@get@3", f"cut:{3 * CHUNK}@get@1;ranges:none", "rst:0.5@get@2"])
async def test_connections_that_break_cost_no_reading(client: Client, bytes_read: list[int], fault: str) -> None:
    await client.right(client.url(f"digest:goog-crc;{fault}"))

    assert sum(bytes_read) == 0


async def test_what_an_earlier_run_brought_is_read_once_for_a_crc(
    client: Client, origin: Origin, bytes_read: list[int]
) -> None:
    client = client.with_options(chunks_per_file=1, retry_times=0)
    left = 4 * CHUNK
    url = client.url(f"digest:goog-crc;cut:{left}@get@1")
    error = await client.fails(url)
    assert error.bytes_done == left

    result = await client.right(url)

    assert result.resumed == left
    assert sum(bytes_read) == left


async def test_a_checksum_of_s3_on_a_part_is_not_taken_for_that_of_the_file(client: Client) -> None:
    await client.right(client.url("digest:aws-crc32c:wrong@range"))


@pytest.mark.parametrize("kind", ["x-amz-checksum-crc32c=AAAAAA==-3", "x-amz-checksum-crc64nvme=nonsense"])
async def test_checksums_that_cannot_be_compared_are_passed_over(client: Client, kind: str) -> None:
    await client.right(client.url(f"header:{kind}"))


async def test_a_small_file_is_checked_by_its_crc(client: Client) -> None:
    client = replace(client, is_known=True)

    result = await client.right(client.url("digest:aws-crc64nvme", size=1000), size=1000)

    assert result.checksum == f"crc64nvme:{content_hash('file.bin', 1000, 1, 'crc64nvme')}"
    await client.fails(client.url("digest:aws-crc64nvme:wrong", name="b", size=1000), "checksum", name="b")
