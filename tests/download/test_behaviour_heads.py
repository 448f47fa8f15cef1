"""Heads and ends of bodies as servers of the field send them, over real connections."""

from __future__ import annotations

import pytest
from fetching import CHUNK, SIZE, Client
from origin import Origin


@pytest.mark.parametrize(
    "faults",
    [
        "bighead:9000",
        "bighead:90000",
        "manyheads:200",
        "reason:9000",
        "line:Content-Length%3A {length}",
        "line:PHP Warning%3A  foo in /x.php on line 3",
        "line:X A%3A 1",
        "line:Notice without a colon",
        "line:Transfer-Encoding%3A identity",
    ],
)
@pytest.mark.parametrize("size", [1000, SIZE])
async def test_a_head_that_can_be_understood_costs_nothing(client: Client, faults: str, size: int) -> None:
    result = await client.right(client.url(faults.replace("line:", "headline:", 1), size=size), size=size)

    assert not result.retries


@pytest.mark.parametrize("extra", [1, 3, 5000])
@pytest.mark.parametrize("size", [10, 1000, CHUNK + 1, SIZE])
async def test_what_follows_a_body_is_dropped(client: Client, extra: int, size: int) -> None:
    for number in range(3):
        await client.right(client.url(f"extra:{extra}", size=size), size=size, name=f"out{number}.bin")


async def test_a_head_that_nobody_can_read_is_told_in_one_short_sentence(client: Client) -> None:
    error = await client.fails(client.url("garbage"), "bad_response")

    assert " 400" not in str(error)
    assert len(str(error)) <= 300
    assert error.status is None


async def test_a_location_of_any_usual_length_is_followed(client: Client, origin: Origin) -> None:
    await client.right(origin.redirect("r", client.url() + "&sig=" + "a" * 9000))
