"""A piece that is wrong by its own hash is fetched again alone, of another source first."""

from __future__ import annotations

import hashlib

import pytest
from fetching import CHUNK, SIZE, Client, payload
from origin import Origin

from scrapy_chunkdl.download.model import Pieces

PIECE = 2 * CHUNK
RIGHT = f"sha256:{hashlib.sha256(payload()).hexdigest()}"


def pieces_of(data: bytes, length: int = PIECE, algorithm: str = "sha1") -> Pieces:
    parts = [data[at : at + length] for at in range(0, len(data), length)]
    return Pieces(length, algorithm, tuple(hashlib.new(algorithm, part).hexdigest() for part in parts))


def mirror(client: Client, faults: str = "", name: str = "m", host: str = "127.0.0.1") -> str:
    return client.url(faults, name=name, key="file.bin", host=host)


@pytest.mark.parametrize("checksum", [None, RIGHT])
@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
@pytest.mark.parametrize("at", [0, PIECE, SIZE // 2, SIZE - 1])
async def test_a_wrong_piece_costs_one_piece(
    client: Client, origin: Origin, checksum: str | None, algorithm: str, at: int
) -> None:
    pieces = pieces_of(payload(), algorithm=algorithm)
    start, stop = pieces.range_of(at // PIECE, SIZE)

    result = await client.right(
        client.url(f"corrupt:{at}@over={at}@1"), checksum=checksum, pieces=pieces, size_bytes=SIZE
    )

    assert origin.stats("file.bin").sent == SIZE + stop - start
    assert result.retries == {"checksum": 1}
    assert result.checksum == checksum


@pytest.mark.parametrize("checksum", [None, RIGHT])
async def test_a_wrong_piece_is_asked_of_another_mirror_first(
    client: Client, origin: Origin, checksum: str | None
) -> None:
    client = client.with_options(chunks_per_file=1)
    bad, good = client.url(f"corrupt:{SIZE // 2}"), mirror(client, "etag:none;date:none")

    await client.right(bad, mirrors=(good,), checksum=checksum, pieces=pieces_of(payload()), size_bytes=SIZE)

    assert (origin.stats("file.bin").sent, origin.stats("m").sent) in [(SIZE, PIECE), (0, SIZE)]


async def test_pieces_wrong_at_different_mirrors_come_from_the_others(client: Client, origin: Origin) -> None:
    first = client.url(f"corrupt:{CHUNK}", name="a", key="file.bin")
    second = mirror(client, f"corrupt:{SIZE - CHUNK}", name="b")

    result = await client.right(first, mirrors=(second,), checksum=RIGHT, pieces=pieces_of(payload()), size_bytes=SIZE)

    assert result.fetched <= SIZE + 2 * PIECE


@pytest.mark.parametrize("fault", ["status:404@get", "status:500@get", "ranges:ignored", "cut:0@get"])
async def test_a_mirror_that_does_not_have_the_piece_is_passed_over(client: Client, fault: str) -> None:
    bad, worse = client.url(f"corrupt:{SIZE // 2}@over={SIZE // 2}@1"), mirror(client, fault)

    await client.right(bad, mirrors=(worse,), checksum=RIGHT, pieces=pieces_of(payload()), size_bytes=SIZE)


@pytest.mark.parametrize("checksum", [None, RIGHT])
async def test_a_piece_that_is_wrong_everywhere_gives_the_file_up_and_keeps_the_rest(
    client: Client, origin: Origin, checksum: str | None
) -> None:
    url = client.url(f"corrupt:{SIZE // 2}@over={SIZE // 2}@1-2")

    error = await client.fails(url, "checksum", checksum=checksum, pieces=pieces_of(payload()), size_bytes=SIZE)
    assert error.resumable
    assert origin.stats("file.bin").sent == SIZE + PIECE

    result = await client.right(url, checksum=checksum, pieces=pieces_of(payload()), size_bytes=SIZE)
    assert result.resumed == SIZE - PIECE


async def test_a_file_without_ranges_comes_again_as_a_whole(client: Client, origin: Origin) -> None:
    url = client.url(f"corrupt:{SIZE // 2}@get@1;ranges:none")

    await client.right(url, checksum=RIGHT, pieces=pieces_of(payload()), size_bytes=SIZE)

    assert origin.stats("file.bin").sent == 2 * SIZE


async def test_without_a_checksum_of_the_whole_nothing_is_read_but_what_came_out_of_order(client: Client) -> None:
    client = client.with_options(chunks_per_file=1)

    result = await client.right(client.url(), pieces=pieces_of(payload()), size_bytes=SIZE)

    assert result.fetched == SIZE


@pytest.mark.parametrize(
    ("pieces", "size", "reason"),
    [
        (pieces_of(payload()), SIZE + 1, "other_size"),
        (pieces_of(payload()[:PIECE]), None, "checksum"),
        (pieces_of(payload(key="another")), SIZE, "checksum"),
    ],
)
async def test_a_file_that_the_pieces_are_not_of_is_given_up(
    client: Client, pieces: Pieces, size: int | None, reason: str
) -> None:
    await client.fails(client.url(), reason, pieces=pieces, size_bytes=size)


async def test_a_size_that_head_alone_tells_otherwise_is_asked_of_a_get(client: Client) -> None:
    await client.right(client.url("length:+7@head"), pieces=pieces_of(payload()), size_bytes=SIZE)


async def test_a_mirror_of_another_size_takes_the_place_of_a_first_source_that_has_another(client: Client) -> None:
    other = client.url(name="old", key="old", size_bytes=SIZE - 5)

    await client.right(other, mirrors=(mirror(client),), checksum=RIGHT, pieces=pieces_of(payload()), size_bytes=SIZE)


async def test_killed_before_a_wrong_piece_came_again_the_next_run_finds_it(client: Client) -> None:
    at = SIZE // 2
    client = client.with_options(chunks_per_file=1, retry_times=0)
    url = client.url(f"corrupt:{at}@over={at}@1;status:500@get@2-2")
    await client.fails(url, "http_500", pieces=pieces_of(payload()), size_bytes=SIZE)

    result = await client.right(url, pieces=pieces_of(payload()), size_bytes=SIZE)

    assert result.resumed == SIZE - PIECE
    assert result.fetched == PIECE
