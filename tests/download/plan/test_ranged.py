"""Ranges ignored, unsupported, answered with others, or wrongly refused: no byte lands at a wrong place."""

from __future__ import annotations

import pytest
from fetching import CHUNK, Client


@pytest.mark.parametrize("head", ["ranges:none", "ranges:ignored"])
async def test_ranges_never_honoured_cost_one_stream(client: Client, head: str) -> None:
    await client.right(client.url(head))
    stats = client.origin.stats("file.bin")
    # Each connection may ask with If-Range and without, before one stream brings it.
    assert stats.methods["GET"] <= 1 + 2 * client.options.chunks_per_file


@pytest.mark.parametrize("when", ["@range@1", "@range@3-3", "@range@2-", "@range@40%", "@range@4-5"])
async def test_ranges_ignored_now_and_then(client: Client, when: str) -> None:
    await client.right(client.url(f"ranges:ignored{when}", seed=5))


@pytest.mark.parametrize("when", ["@range@2", "@range@50%"])
@pytest.mark.parametrize(
    "fault",
    [
        "ranges:shift:1",
        f"ranges:shift:{CHUNK}",
        "ranges:shorter:1",
        f"ranges:shorter:{CHUNK // 2}",
        "ranges:longer:1",
        f"ranges:longer:{CHUNK}",
        "ranges:earlier:1",
        f"ranges:earlier:{3 * CHUNK}",
        "ranges:unbounded",
        "ranges:multipart",
        "ranges:416",
        "ranges:416:none",
        "ranges:unlabelled",
        "ranges:invalid",
        "ranges:empty",
    ],
)
async def test_other_range_now_and_then(client: Client, fault: str, when: str) -> None:
    # Half of all answers wrong: the budget is for failures in a row, so it is wide here.
    wide = client.with_options(retry_times=30)
    await wide.right(client.url(f"{fault}{when}", seed=3))


@pytest.mark.parametrize(
    "fault",
    ["ranges:shorter:1", f"ranges:shorter:{CHUNK // 2}", "ranges:longer:100", "ranges:earlier:100", "ranges:unbounded"],
)
async def test_honest_other_range_each_time_still_yields_the_file(client: Client, fault: str) -> None:
    await client.right_or_fails(client.url(fault))


@pytest.mark.parametrize(
    "fault",
    [
        "ranges:shift:1",
        "ranges:multipart",
        "ranges:416",
        "ranges:416:none",
        "ranges:unlabelled",
        "ranges:invalid",
        "ranges:empty",
    ],
)
async def test_unusable_range_each_time_ends_in_one_stream_or_a_failure(client: Client, fault: str) -> None:
    await client.right_or_fails(client.url(fault))
    stats = client.origin.stats("file.bin")
    assert stats.requests <= 2 + 2 * client.options.chunks_per_file * (client.options.retry_times + 1)


async def test_416_whose_total_agrees_with_nothing_is_not_complete(client: Client) -> None:
    await client.right_or_fails(client.url(f"ranges:416:{CHUNK}@range@2-"))


@pytest.mark.parametrize("total", ["+1", "-1", f"+{CHUNK}", f"-{CHUNK}"])
async def test_total_that_always_disagrees_with_head(client: Client, total: str) -> None:
    await client.right_or_fails(client.url(f"ranges:total:{total}"))


@pytest.mark.parametrize("total", ["+1", "-1", f"+{CHUNK}"])
async def test_total_that_disagrees_once(client: Client, total: str) -> None:
    await client.right_or_fails(client.url(f"ranges:total:{total}@range@3-3"))


async def test_total_unknown(client: Client) -> None:
    await client.right(client.url("ranges:total:*"))


async def test_total_unknown_and_head_without_length(client: Client) -> None:
    await client.right(client.url("ranges:total:*;length:none@head"))


async def test_if_range_is_sent_once_a_validator_is_known(client: Client) -> None:
    await client.right(client.url())
    stats = client.origin.stats("file.bin")
    assert stats.headers("If-Range") != []
    assert not any(value.startswith("W/") for value in stats.headers("If-Range"))
