"""Redirects: limited, checked at each hop, cookies kept, credentials kept at home, expired targets resolved again."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from fetching import CHUNK, SIZE, Client
from origin import Origin


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirect_is_followed(client: Client, origin: Origin, code: int) -> None:
    result = await client.right(origin.redirect("r", client.url(), code=code))
    assert result.final_url.partition("?")[0].endswith("/f/file.bin")


async def test_chunks_go_to_the_final_url(client: Client, origin: Origin) -> None:
    await client.right(origin.redirect("r", client.url(), hops=3))
    assert origin.stats("/redirect/r").requests == 3


async def test_relative_location(client: Client, origin: Origin) -> None:
    await client.right(origin.redirect("r", client.url().removeprefix(origin.base)))


async def test_hops_are_limited(client: Client, origin: Origin) -> None:
    strict = client.with_options(max_redirects=4)
    await strict.right(origin.redirect("four", client.url(), hops=4))
    await strict.fails(origin.redirect("many", client.url(), hops=5), "too_many_redirects", name="many")
    assert origin.stats("/redirect/many").requests <= 10


async def test_loop_is_refused(client: Client, origin: Origin) -> None:
    await client.fails(origin.redirect("loop", None), "redirect_loop")
    assert origin.stats("/redirect/loop").requests <= 2


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
    assert origin.stats("/signed/s").requests == 1
    assert origin.stats("file.bin").sent == SIZE
