"""Redirects: limited, checked at each hop, cookies kept, credentials kept at home, expired targets resolved again."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest
from fetching import CHUNK, SIZE, Client
from origin import Origin

from scrapy_chunkdl.download import Renewed


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirect_is_followed(client: Client, origin: Origin, code: int) -> None:
    result = await client.right(origin.redirect("r", client.url(), code=code))
    assert result.final_url.partition("?")[0].endswith("/f/file.bin")


async def test_chunks_go_to_the_final_url(client: Client, origin: Origin) -> None:
    await client.right(origin.redirect("r", client.url(), hops=3))
    # HEAD's way is a hint only: one GET goes it, too, and the others go where that one led.
    assert origin.stats("/redirect/r").requests == 2 * 3


async def test_relative_location(client: Client, origin: Origin) -> None:
    await client.right(origin.redirect("r", client.url().removeprefix(origin.base)))


async def test_hops_are_limited(client: Client, origin: Origin) -> None:
    strict = client.with_options(max_redirects=4)
    await strict.right(origin.redirect("four", client.url(), hops=4))
    await strict.fails(origin.redirect("many", client.url(), hops=5), "too_many_redirects", name="many")
    assert origin.stats("/redirect/many").requests <= 3 * 5  # by HEAD, by range, and plainly


async def test_loop_is_refused(client: Client, origin: Origin) -> None:
    await client.fails(origin.redirect("loop", None), "redirect_loop")
    assert origin.stats("/redirect/loop").requests <= 3  # by HEAD, by range, and plainly


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://x/", "http://", "data:,x"])
async def test_redirect_to_something_else_than_http_is_refused(client: Client, origin: Origin, target: str) -> None:
    await client.fails(origin.redirect("r", target), "bad_url", "redirect_loop")


async def test_redirect_without_location_is_an_error(client: Client, origin: Origin) -> None:
    await client.fails(origin.redirect("r", ""))


async def test_head_redirected_elsewhere_than_get_is_not_believed(client: Client, origin: Origin) -> None:
    # The page HEAD is sent to has its own length.
    login = origin.url("login", 77)
    faults = f"status:302@head;header:Location={quote(login, safe='')}@head"
    await client.right_or_fails(client.url(faults))


async def test_cookie_set_on_the_way_is_sent_from_then_on(client: Client, origin: Origin) -> None:
    await client.right(origin.redirect("r", client.url("cookie:session=42"), cookie="session=42"))
    assert set(origin.stats("file.bin").headers("Cookie")) == {"session=42"}


async def test_cookie_of_the_item_and_of_the_redirect_go_together(client: Client, origin: Origin) -> None:
    url = origin.redirect("r", client.url("cookie:session=42"), cookie="session=42")
    await client.right(url, headers={"cookie": "mine=1"})
    for value in origin.stats("file.bin").headers("Cookie"):
        assert sorted(value.replace(",", ";").split("; ")) == ["mine=1", "session=42"]


async def test_cookies_of_one_file_are_not_sent_for_another(client: Client, origin: Origin) -> None:
    await client.right(origin.redirect("r", client.url("cookie:session=42"), cookie="session=42"))
    await client.right(client.url(name="other"), key="other", name="other")
    assert origin.stats("other").headers("Cookie") == []


@pytest.mark.parametrize("header", ["Authorization", "authorization", "Cookie", "Proxy-Authorization"])
async def test_credentials_are_not_sent_to_another_host(client: Client, origin: Origin, header: str) -> None:
    elsewhere = client.url(host="localhost")
    await client.right(origin.redirect("r", elsewhere), headers={header: "a=secret", "X-Plain": "kept"})
    assert origin.stats("/redirect/r").headers(header) != []
    assert origin.stats("file.bin").headers(header) == []
    assert origin.stats("file.bin").headers("X-Plain") != []


async def test_credentials_are_sent_along_within_the_host(client: Client, origin: Origin) -> None:
    url = origin.redirect("r", client.url("auth:Bearer%20token"))
    await client.right(url, headers={"Authorization": "Bearer token"})


async def test_userinfo_in_the_url_is_not_sent_to_another_host(client: Client, origin: Origin) -> None:
    url = origin.redirect("r", client.url(host="localhost")).replace("http://", "http://user:word@")
    await client.right(url)
    assert origin.stats("file.bin").headers("Authorization") == []


@pytest.mark.parametrize("code", [401, 403, 404, 410])
async def test_signed_url_that_expires_is_resolved_again(client: Client, origin: Origin, code: int) -> None:
    narrow = client.with_options(chunks_per_file=2)
    target = client.url(f"cut:{2 * CHUNK}@get")
    await narrow.right(origin.signed("s", target, uses=3, code=code))
    assert origin.stats("/signed/s").requests > 1


async def test_signed_url_good_for_head_alone_is_resolved_again(client: Client, origin: Origin) -> None:
    await client.right_or_fails(origin.signed("s", client.url(), uses=1))


async def test_signed_url_that_is_never_good_is_given_up(client: Client, origin: Origin) -> None:
    await client.fails(origin.signed("s", client.url(), uses=0), "http_403")
    assert origin.stats("/signed/s").requests <= 4
    assert origin.stats("file.bin").requests <= 2 * client.options.chunks_per_file


async def test_signed_redirect_is_not_resolved_for_each_chunk(client: Client, origin: Origin) -> None:
    await client.right(origin.signed("s", client.url(), uses=1000))
    assert origin.stats("/signed/s").requests == 2
    assert origin.stats("file.bin").sent == SIZE


@pytest.mark.parametrize(("status", "parameter"), [(403, "v"), (401, "v"), (410, "v"), (400, "X-Amz-Security-Token")])
async def test_an_expired_link_is_renewed_and_the_download_goes_on_from_there(
    client: Client, origin: Origin, status: int, parameter: str
) -> None:
    expired = client.url(f"cut:65536@range@2;status:{status}@range@3-", **{parameter: "old"})
    fresh = client.url(v="new")
    asked: list[int] = []

    async def renew() -> str:
        asked.append(1)
        return fresh

    ranged = client.with_options(chunks_per_file=2, chunk_size=CHUNK, probe="head")
    result = await ranged.right(expired, renew=renew)

    assert len(asked) == 1
    assert result.url == expired
    assert result.retries["link_expired"] >= 1


async def test_a_link_is_renewed_three_times_at_most_and_not_again_once_there_is_none(
    client: Client, origin: Origin
) -> None:
    dead = [client.url("status:410", v=str(number)) for number in range(10)]
    asked: list[int] = []

    async def renew() -> str:
        asked.append(1)
        return dead[len(asked)]

    await client.fails(dead[0], "http_410", renew=renew)
    assert len(asked) == 3

    async def none() -> None:
        asked.append(1)

    await client.fails(dead[0], "http_410", renew=none)
    assert len(asked) == 4


async def test_a_head_that_is_refused_renews_nothing(client: Client, origin: Origin) -> None:
    async def renew() -> str:
        raise AssertionError("not asked for")

    await client.right(client.url("status:403@head"), renew=renew)


async def test_a_login_in_a_renewed_link_is_sent_as_a_header(client: Client, origin: Origin) -> None:
    needed = client.url("auth:Basic bWU6c2VjcmV0").replace("//", "//me:secret@", 1)

    async def renew() -> str:
        return needed

    result = await client.right(client.url("status:401"), renew=renew)

    assert "secret" not in result.final_url


async def test_connections_that_find_the_link_dead_together_ask_for_a_fresh_one_once(
    client: Client, origin: Origin
) -> None:
    asked: list[int] = []

    async def none() -> None:
        asked.append(1)
        await asyncio.sleep(0.05)  # the others are refused meanwhile

    await client.with_options(retry_times=0).fails(client.url("status:403@get"), "http_403", renew=none)
    assert len(asked) == 1

    async def fresh() -> str:
        asked.append(1)
        await asyncio.sleep(0.05)
        return client.url(v="fresh")

    await client.right(client.url("status:403@range"), renew=fresh)
    assert len(asked) == 2


@pytest.mark.parametrize("head", ["", "@get"])
async def test_a_link_whose_token_ran_out_is_renewed_by_a_header_at_the_same_url(
    client: Client, origin: Origin, head: str
) -> None:
    url = client.url(f"auth:new{head}")
    asked: list[int] = []

    async def renew() -> Renewed:
        asked.append(1)
        return Renewed(url, {"Authorization": "new"})

    many = client.with_options(chunks_per_file=4, chunk_size=CHUNK)
    result = await many.right(url, headers={"Authorization": "old", "Cookie": "a=b"}, renew=renew)

    assert len(asked) == 1
    assert result.url == url
    assert set(origin.stats("file.bin").headers("Cookie")) == {"a=b"}


async def test_credentials_of_the_item_do_not_go_to_another_origin_with_a_renewed_link(
    client: Client, origin: Origin
) -> None:
    expired = client.url("status:401@get")
    with Origin() as other:
        fresh = client.url().replace(origin.base, other.base)

        async def renew() -> Renewed:
            return Renewed(fresh, {"X-Token": "new"})

        await client.right(expired, headers={"Authorization": "secret", "Cookie": "a=b", "X-A": "1"}, renew=renew)

        stats = other.stats("file.bin")
        assert set(stats.headers("X-Token")) == {"new"}
        assert set(stats.headers("X-A")) == {"1"}
        assert stats.headers("Authorization") == stats.headers("Cookie") == []
