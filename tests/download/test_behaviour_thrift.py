"""What a file may cost: requests, and bytes that come twice."""

from __future__ import annotations

import pytest
from fetching import CHUNK, SIZE, Client
from origin import Origin

WAYS = {
    "usual": "",
    "weak ETag alone": "etag:weak;date:none",
    "no validator": "etag:none;date:none",
    "an ETag for each backend": "etag:backend",
    "ranges not told": "ranges:silent",
    "no ranges": "ranges:none",
    "ranges ignored": "ranges:ignored",
    "a part is all of it": "ranges:whole",
    "If-Range never holds": "ifrange:never",
    "chunked": "framing:chunked",
    "HEAD without length": "length:none@head",
    "no Date": "clock:none",
}


@pytest.mark.parametrize("faults", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1])
@pytest.mark.parametrize(("probe", "most"), [("head", 2), ("range", 1), ("get", 1)])
async def test_a_small_file_takes_one_head_and_one_get_at_most(
    client: Client, faults: str, size: int, probe: str, most: int
) -> None:
    await client.with_options(probe=probe).right(client.url(faults, size=size), size=size)
    stats = client.origin.stats("file.bin")
    # Of an empty file a range can say no more than that; the next run wants its validators.
    assert stats.requests <= most + (size == 0)
    assert stats.sent <= size + 100, "no more than the words of an error"


@pytest.mark.parametrize(
    "faults", ["", "ranges:silent", "ranges:silent;etag:none", "status:405@head", "ranges:none", "etag:weak;date:none"]
)
@pytest.mark.parametrize("size", [0, 1000, SIZE])
@pytest.mark.parametrize("probe", ["head", "range", "get"])
async def test_an_unchanged_file_costs_no_body(client: Client, faults: str, size: int, probe: str) -> None:
    asking = client.with_options(probe=probe)
    await asking.right(client.url(faults, size=size), size=size)
    sent = client.origin.stats("file.bin").sent
    again = await asking.right(client.url(faults, size=size), size=size)

    assert again.status == "uptodate"
    assert client.origin.stats("file.bin").sent - sent <= 100, "no more than the words of an error"


@pytest.mark.parametrize("tail", [1, 3, CHUNK // 4])
async def test_a_short_tail_takes_no_request_of_its_own(client: Client, tail: int) -> None:
    size = 5 * CHUNK + tail
    many = client.with_options(chunks_per_file=8)
    await many.right(client.url(size=size), size=size)
    assert client.origin.stats("file.bin").methods["GET"] == 5


@pytest.mark.parametrize("faults", ["clock:none;etag:none", "etag:bare;date:none"])
async def test_what_came_stays_where_the_validator_is_odd(client: Client, origin: Origin, faults: str) -> None:
    url = client.url(faults)
    origin.set_faults(client.key, f"{faults};status:500@over={SIZE - 10}")
    left = await client.fails(url)
    origin.set_faults(client.key, faults)
    result = await client.right(url)

    assert result.resumed == left.bytes_done > 0


@pytest.mark.parametrize("head", ["length:10@head", "length:1000@head", "length:none@head"])
async def test_a_file_larger_than_head_told_can_be_resumed(client: Client, origin: Origin, head: str) -> None:
    url = client.url(head)
    origin.set_faults(client.key, f"{head};cut:{2 * CHUNK}@plain;status:500@over={SIZE - 10}@range")
    left = await client.fails(url)
    origin.set_faults(client.key, head)
    result = await client.right(url)

    assert result.resumed == left.bytes_done > 0
