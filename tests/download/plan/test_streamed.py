"""Bodies of unknown length, empty, tiny, and of exactly so many chunks; why a file comes in one stream."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from fetching import CHUNK, Client

from scrapy_chunkdl.download.remote import ONE_STREAM

SIZES = [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 8 * CHUNK, 8 * CHUNK + 1]


@pytest.mark.parametrize("size", SIZES)
async def test_size_with_ranges(client: Client, size: int) -> None:
    result = await client.right(client.url(size=size), size=size)
    assert result.fetched == size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["chunked", "close", "http10"])
async def test_unknown_length_without_ranges(client: Client, framing: str, size: int) -> None:
    await client.right(client.url(f"framing:{framing};ranges:none;length:none@head", size=size), size=size)


@pytest.mark.parametrize("framing", ["chunked", "close", "http10"])
async def test_framing_without_length_where_ranges_work(client: Client, framing: str) -> None:
    await client.right(client.url(f"framing:{framing}"))


async def test_chunked_body_that_is_cut_is_not_taken_for_whole(client: Client) -> None:
    url = client.url("framing:chunked;ranges:none;length:none@head;cut:0.5@plain@1")
    await client.right(url)
    never = client.url("framing:chunked;ranges:none;length:none@head;cut:0.5", name="never")
    error = await client.fails(never, name="never")
    assert error.attempts <= 2 + 2 * (client.options.retry_times + 1)


async def test_close_delimited_body_shorter_than_a_known_size_is_not_whole(client: Client) -> None:
    await client.right(client.url("framing:close@get;ranges:none;cut:0.5@get@2"))
    await client.fails(
        client.url("framing:close@get;ranges:none;cut:0.5@get", name="never"), "short_body", name="never"
    )


@pytest.mark.parametrize("faults", ["extra:10@get@1", "extra:10@get", "ranges:none;extra:10"])
async def test_bytes_behind_the_declared_end_are_no_part_of_the_file(client: Client, faults: str) -> None:
    await client.right_or_fails(client.url(faults))


@pytest.mark.parametrize("faults", ["length:+10@get", "length:+10@plain;ranges:none"])
async def test_get_that_declares_more_than_it_sends(client: Client, faults: str) -> None:
    await client.right_or_fails(client.url(faults))


async def test_large_file_of_many_chunks(client: Client) -> None:
    size = 300 * CHUNK + 1
    result = await client.right(client.url(size=size), size=size)
    assert size <= result.fetched <= size + 4 * CHUNK, "the last chunks may be asked for twice where one is slow"


@pytest.mark.parametrize(
    ("faults", "options", "why"),
    [
        ("", {}, ""),
        ("ranges:none", {}, "no_ranges"),
        ("ranges:ignored", {}, "range_ignored"),
        ("ranges:silent;length:none@head", {}, ""),
        ("hang@range", {}, "range_refused"),
        ("ranges:416:none", {}, "range_refused"),
        ("status:403@range", {}, "range_refused"),
        ("ranges:shift:5", {}, "range_mismatch"),
        ("framing:chunked;ranges:none", {}, "size_unknown"),
        ("encode:gzip", {}, "coded"),
        ("etag:none;date:none", {}, "no_validator"),
        ("etag:per-request;date:none", {}, "keeps_changing"),
        ("", {"probe": "get"}, "one_request"),
        ("", {"chunk_size": 16 * CHUNK}, "small"),
    ],
)
async def test_why_a_file_came_in_one_stream_is_told(
    client: Client, caplog: pytest.LogCaptureFixture, faults: str, options: dict[str, Any], why: str
) -> None:
    with caplog.at_level(logging.DEBUG, "scrapy_chunkdl"):
        result = await client.with_options(**options).right(client.url(faults))

    assert result.one_stream == why
    lines = [line for line in caplog.messages if "came in one stream" in line]
    assert [line.endswith(ONE_STREAM[why]) for line in lines] == ([True] if why not in ("", "small") else [])


def test_the_page_of_stats_has_each_reason_for_one_stream() -> None:
    page = (Path(__file__).parents[3] / "docs" / "stats.md").read_text("utf-8")

    assert [why for why, meaning in ONE_STREAM.items() if f"| `{why}` | {meaning} |" not in page] == []
