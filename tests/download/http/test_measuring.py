"""HEAD refused, hanging, without a length, or lying: the file is right all the same."""

from __future__ import annotations

import asyncio

import pytest
from fetching import CHUNK, SIZE, Client
from origin import Origin
from patience import HANG

from scrapy_chunkdl.download import Downloader, FileRequest, Limits


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 429, 500, 501, 503])
async def test_head_refused(client: Client, status: int) -> None:
    await client.right(client.url(f"status:{status}@head"))
    assert client.origin.stats("file.bin").sent < 2 * SIZE


@pytest.mark.parametrize("fault", ["hang@head", "reset@head", "close@head", "garbage@head"])
async def test_head_that_gets_no_answer(client: Client, fault: str) -> None:
    await client.right(client.url(fault))


@pytest.mark.parametrize(
    "fault",
    ["length:none", "length:0", "length:1", f"length:-{CHUNK}", "length:-1", "length:+1", f"length:+{5 * CHUNK}"],
)
async def test_head_without_or_with_a_wrong_length(client: Client, fault: str) -> None:
    await client.right(client.url(f"{fault}@head"))


@pytest.mark.parametrize("size", [0, 1, CHUNK])
@pytest.mark.parametrize("fault", ["length:0", "length:+7", "length:none"])
async def test_wrong_length_of_a_small_file(client: Client, size: int, fault: str) -> None:
    url = client.url(f"{fault}@head", size=size)
    if (size, fault) == (0, "length:+7"):
        await client.fails(url, "contradiction")  # nothing, where the same version has seven bytes
    else:
        await client.right(url, size=size)


async def test_head_length_of_the_gzip_form(client: Client) -> None:
    await client.right(client.url("encode:gzip@head"))


async def test_wrong_head_where_ranges_are_not_supported(client: Client) -> None:
    await client.right(client.url("length:-1000@head;ranges:none"))


async def test_head_that_hides_range_support(client: Client) -> None:
    await client.right(client.url("ranges:silent"))


async def test_file_gone_for_head_and_get_is_given_up_after_two_requests(client: Client) -> None:
    error = await client.fails(client.url("status:404"), "http_404")
    assert error.status == 404
    assert client.origin.stats("file.bin").requests <= 2


async def test_accept_encoding_identity_is_always_sent(client: Client) -> None:
    await client.right(client.url())
    stats = client.origin.stats("file.bin")
    assert stats.headers("Accept-Encoding") == ["identity"] * stats.requests


async def test_plain_case_asks_head_once_and_each_byte_once(client: Client) -> None:
    result = await client.right(client.url())
    stats = client.origin.stats("file.bin")
    assert stats.methods["HEAD"] == 1
    assert stats.sent == SIZE == result.fetched
    assert stats.peak <= client.options.chunks_per_file
    assert result.requests == stats.requests


async def test_chunks_are_fetched_side_by_side(client: Client, origin: Origin) -> None:
    # Nothing comes until as many requests as allowed are there at once.
    patient = client.with_options(stall_timeout=HANG)
    running = asyncio.ensure_future(patient.right(client.url("hold:gate@get")))
    await origin.begun("file.bin", 1 + client.options.chunks_per_file)
    assert origin.stats("file.bin").running == client.options.chunks_per_file
    origin.release("gate")
    await running


async def test_range_probe_needs_no_head(client: Client) -> None:
    probing = client.with_options(probe="range")
    await probing.right(client.url())
    assert client.origin.stats("file.bin").methods["HEAD"] == 0
    assert client.origin.stats("file.bin").sent == SIZE


async def test_range_probe_of_a_small_file_is_one_request(client: Client) -> None:
    await client.with_options(probe="range").right(client.url(size=1000), size=1000)
    assert client.origin.stats("file.bin").requests == 1


@pytest.mark.parametrize(
    "faults",
    [
        "",
        "ranges:none",
        "framing:chunked",
        "ranges:416@1",
        "status:503@1",
        "cut:0.5@1",
        "etag:none;date:none",
        "hang@1",
    ],
)
@pytest.mark.parametrize("size", [0, 1, CHUNK, SIZE])
async def test_range_probe_meets_the_same_servers(client: Client, faults: str, size: int) -> None:
    await client.with_options(probe="range").right(client.url(faults, size=size), size=size)


async def test_several_files_share_the_connections_of_a_host(client: Client, origin: Origin) -> None:

    options = client.options
    async with Downloader(options, Limits(options)) as downloader:
        for round_ in range(3):
            requests = [
                FileRequest(origin.url(f"{round_}-{n}", SIZE), client.folder, f"{round_}-{n}") for n in range(4)
            ]
            await asyncio.wait_for(asyncio.gather(*map(downloader.fetch, requests)), HANG)
    used = set().union(*(origin.stats(f"{round_}-{n}").connections for round_ in range(3) for n in range(4)))
    assert len(used) <= options.chunks_per_host + 4
