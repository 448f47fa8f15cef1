"""Mirrors share the chunks; a dead, different or slow one is dropped, and the file is right."""

from __future__ import annotations

import pytest
from fetching import CHUNK, Client
from origin import Origin
from origin_content import expected_sha256

from scrapy_chunkdl.download.schemes import MOST_SOURCES

# Slow enough that every source gets its share.
PACED = "rate:2000000"


def _mirror(client: Client, name: str, faults: str = "", **more: object) -> str:
    return client.url(faults, name=name, key="file.bin", **more)


async def test_mirrors_share_the_chunks(client: Client, origin: Origin) -> None:
    size = 60 * CHUNK
    url = client.url(PACED, size=size)
    mirrors = tuple(_mirror(client, name, PACED, size=size) for name in ("m1", "m2"))
    result = await client.right(url, size=size, mirrors=mirrors)
    shares = [origin.stats(name).sent for name in ("file.bin", "m1", "m2")]
    assert all(share > 0 for share in shares)
    assert sum(shares) == result.fetched


@pytest.mark.parametrize("fault", ["status:404", "status:500", "reset", "status:403@get", "hang", "cut:0@get"])
async def test_dead_mirror_is_dropped(client: Client, origin: Origin, fault: str) -> None:
    size = 60 * CHUNK
    await client.right(client.url(PACED, size=size), size=size, mirrors=(_mirror(client, "dead", fault, size=size),))
    assert origin.stats("dead").requests <= 2 * (client.options.retry_times + 1) * client.options.chunks_per_file


async def test_mirror_of_another_size_is_dropped(client: Client, origin: Origin) -> None:
    size = 60 * CHUNK
    await client.right(client.url(PACED, size=size), size=size, mirrors=(_mirror(client, "m", size=size - 1),))


async def test_mirror_with_another_digest_is_dropped(client: Client) -> None:
    size = 60 * CHUNK
    other = client.url("digest:repr", name="m", key="another", size=size)
    await client.right(client.url(f"digest:repr;{PACED}", size=size), size=size, mirrors=(other,))


async def test_mirror_that_cannot_be_told_to_be_the_same_file_is_dropped(client: Client, origin: Origin) -> None:
    # The same size, and not a word about which bytes.
    size = 60 * CHUNK
    other = client.url("etag:none;date:none", name="m", key="another", size=size)
    await client.right(client.url(PACED, size=size), size=size, mirrors=(other,))
    assert origin.stats("m").requests > 0


async def test_mirror_with_other_validators_is_used_where_a_checksum_decides(client: Client, origin: Origin) -> None:
    size = 60 * CHUNK
    expected = f"sha256:{expected_sha256('file.bin', size)}"
    mirror = _mirror(client, "m", f"etag:none;date:none;{PACED}", size=size)
    await client.right(client.url(PACED, size=size), size=size, mirrors=(mirror,), checksum=expected)
    assert origin.stats("m").sent > 0


@pytest.mark.parametrize("fault", ["status:404", "status:500", "status:404@get", "reset"])
async def test_dead_first_source_is_replaced_by_a_mirror(client: Client, fault: str) -> None:
    await client.right(client.url(fault, name="dead"), mirrors=(_mirror(client, "m"),))


async def test_source_that_dies_in_the_middle_is_replaced(client: Client) -> None:
    size = 40 * CHUNK
    url = client.url(f"cut:{CHUNK}@get@4;status:410@get@5-", name="dying", key="file.bin", size=size)
    await client.right(url, size=size, mirrors=(_mirror(client, "m", size=size),))


async def test_all_sources_dead_is_a_failure(client: Client, origin: Origin) -> None:
    mirrors = tuple(_mirror(client, name, "status:404") for name in ("m1", "m2"))
    error = await client.fails(client.url("status:404"), "http_404", mirrors=mirrors)
    assert error.attempts == sum(origin.stats(name).requests for name in ("file.bin", "m1", "m2"))


async def test_only_so_many_places_are_asked_and_what_is_named_twice_is_one(
    client: Client, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    named_twice = client.url("status:404")
    mirrors = (named_twice, *(_mirror(client, f"m{n}", "status:404") for n in range(5000)))

    await client.fails(named_twice, "http_404", mirrors=mirrors)

    asked = [name for name in ("file.bin", *(f"m{n}" for n in range(5000))) if origin.stats(name).requests]
    assert len(asked) == MOST_SOURCES
    assert caplog.text.count(f"has 5001 places: the first {MOST_SOURCES} are asked") == 1


async def test_mirror_without_ranges_does_no_harm(client: Client) -> None:
    size = 60 * CHUNK
    await client.right(
        client.url(PACED, size=size), size=size, mirrors=(_mirror(client, "m", "ranges:ignored", size=size),)
    )


async def test_small_file_asks_no_mirror(client: Client, origin: Origin) -> None:
    await client.right(client.url(size=10), size=10, mirrors=(_mirror(client, "m", size=10),))
    assert origin.stats("m").requests == 0


async def test_credentials_of_the_item_are_not_sent_to_a_mirror_on_another_host(client: Client, origin: Origin) -> None:
    size = 60 * CHUNK
    mirror = _mirror(client, "m", PACED, size=size, host="localhost")
    await client.right(
        client.url(PACED, size=size), size=size, mirrors=(mirror,), headers={"Authorization": "Bearer secret"}
    )
    assert origin.stats("file.bin").headers("Authorization") != []
    assert origin.stats("m").headers("Authorization") == []
