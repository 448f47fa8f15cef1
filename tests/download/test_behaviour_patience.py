"""Time-outs of the first byte, redirects that wait for a cookie, and cookies that go back as they came."""

from __future__ import annotations

from importlib.util import find_spec
from urllib.parse import quote

import pytest
from fetching import Client
from origin import Origin


@pytest.mark.parametrize(
    "faults", ["delay:0.8@get", "delay:0.8@get;ranges:none", "delay:0.8@get;framing:chunked;ranges:none"]
)
async def test_an_answer_that_begins_late_is_made_twice_at_most(client: Client, faults: str) -> None:
    patient = client.with_options(first_byte_timeout=30.0, stall_timeout=0.2)

    await patient.right(client.url(faults, size=1000), size=1000)

    assert client.origin.stats("file.bin").methods["GET"] <= 2


async def test_an_answer_that_never_begins_ends_with_its_own_time_out(client: Client) -> None:
    await client.with_options(first_byte_timeout=0.3, retry_times=1).fails(client.url("hang@get"), "stalled")


async def test_between_its_bytes_the_stall_time_out_holds(client: Client) -> None:
    patient = client.with_options(first_byte_timeout=600.0, retry_times=1)

    await patient.fails(client.url("stall:0.5;ranges:none"), "stalled")


async def test_a_redirect_to_itself_with_a_new_cookie_is_no_loop(client: Client, origin: Origin) -> None:
    await client.right(origin.redirect("r", client.url(), cookie="s=1") + "&until=s%3D1")


async def test_one_with_nothing_new_is(client: Client, origin: Origin) -> None:
    await client.fails(origin.redirect("r", None, cookie="s=1"), "redirect_loop")


@pytest.mark.parametrize(("hops", "is_followed"), [(3, True), (4, False)])
async def test_as_many_redirects_are_followed_as_the_setting_says(
    client: Client, origin: Origin, hops: int, is_followed: bool
) -> None:
    few = client.with_options(max_redirects=3)
    url = origin.redirect("r", client.url(), hops=hops)

    await (few.right(url) if is_followed else few.fails(url, "too_many_redirects"))


as_browsers = pytest.mark.skipif(
    find_spec("aiohttp._cookie_helpers") is None, reason="aiohttp before 3.12 drops a cookie with a bare quote or brace"
)


@pytest.mark.parametrize(
    "cookie",
    [
        's="a b=c/d"',
        "s=a/b=c",
        "s=%7B%22a%22%7D",
        pytest.param('p={"a":1}', marks=as_browsers),
        'tok="x==|1"',
        "s=",
    ],
)
async def test_a_cookie_goes_back_as_it_came(client: Client, origin: Origin, cookie: str) -> None:
    await client.right(origin.redirect("r", client.url(f"cookie:{quote(cookie)}"), cookie=cookie))
