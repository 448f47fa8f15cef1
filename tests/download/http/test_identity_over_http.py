"""Headers, cookies and credentials: each request has those that are for where it goes, and nobody else sees them."""

from __future__ import annotations

import base64
from http.cookiejar import Cookie, CookieJar

import pytest
from fetching import Client
from origin import Origin


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


def with_login(url: str, login: str = "user:pass%20word") -> str:
    return url.replace("://", f"://{login}@", 1)


def cookie(name: str, value: str, domain: str) -> Cookie:
    return Cookie(0, name, value, None, False, domain, True, False, "/", True, False, None, False, None, None, {})


def jar(*cookies: Cookie) -> CookieJar:
    found = CookieJar()
    for one in cookies:
        found.set_cookie(one)
    return found


def of_default_headers(client: Client, **headers: str) -> Client:
    return client.with_options(headers={name.replace("_", "-"): value for name, value in headers.items()})


async def test_default_headers_and_user_agent_go_with_every_request(client: Client, origin: Origin) -> None:
    ours = of_default_headers(client, Accept_Language="nl", X_Plain="default").with_options(user_agent="spider/1")
    await ours.right(client.url(), headers={"X-Plain": "own"})

    stats = origin.stats("file.bin")
    assert set(stats.headers("Accept-Language")) == {"nl"}
    assert set(stats.headers("User-Agent")) == {"spider/1"}
    assert set(stats.headers("X-Plain")) == {"own"}


async def test_the_user_agent_of_the_default_headers_wins(client: Client, origin: Origin) -> None:
    await of_default_headers(client, user_agent="default/1").right(client.url())
    assert set(origin.stats("file.bin").headers("User-Agent")) == {"default/1"}


@pytest.mark.parametrize("header", ["Authorization", "Cookie"])
async def test_credentials_of_default_headers_do_not_follow_to_another_host(
    client: Client, origin: Origin, header: str
) -> None:
    ours = client.with_options(headers={header: "a=secret"})
    await ours.right(origin.redirect("r", client.url(host="localhost")))

    assert set(origin.stats("/redirect/r").headers(header)) == {"a=secret"}
    assert origin.stats("file.bin").headers(header) == []


async def test_login_in_the_url_is_sent_as_authorization_with_every_part(client: Client, origin: Origin) -> None:
    await client.right(with_login(client.url()))

    stats = origin.stats("file.bin")
    assert stats.headers("Authorization") == [basic("user:pass word")] * stats.requests


async def test_login_in_the_url_is_in_no_result_error_or_journal(client: Client, origin: Origin) -> None:
    result = await client.right(with_login(client.url()))
    error = await client.fails(with_login(client.url("status:404", name="gone")), name="gone")
    broken = await client.fails(with_login(client.url("cut:70000@get@4;status:404@get@5-", name="cut")), name="cut")
    redirected = await client.fails(origin.redirect("r", with_login("ftp://127.0.0.1/x")), name="r")

    kept = b"".join(path.read_bytes() for path in client.folder.rglob("cut*journal"))
    assert kept
    shown = repr((result, str(error), str(broken), str(redirected))).encode() + kept
    assert b"pass" not in shown


async def test_login_of_a_mirror_goes_to_the_mirror(client: Client, origin: Origin) -> None:
    mirror = with_login(client.url(name="mirror", key="file.bin", host="localhost"), "mirror:word")
    await client.right(with_login(client.url("status:404")), mirrors=(mirror,), checksum=None)

    assert set(origin.stats("file.bin").headers("Authorization")) == {basic("user:pass word")}
    assert set(origin.stats("mirror").headers("Authorization")) == {basic("mirror:word")}


async def test_login_that_a_redirect_brings_is_not_sent(client: Client, origin: Origin) -> None:
    await client.right(origin.redirect("r", with_login(client.url(host="localhost"))))
    assert origin.stats("file.bin").headers("Authorization") == []


async def test_authorization_of_the_item_beats_all_others(client: Client, origin: Origin) -> None:
    ours = client.with_options(authorization=basic("spider:1"), headers={"Authorization": "default"})
    await ours.right(with_login(client.url()), headers={"authorization": "own"})
    assert set(origin.stats("file.bin").headers("Authorization")) == {"own"}


async def test_http_auth_of_the_spider_goes_to_its_domain(client: Client, origin: Origin) -> None:
    ours = client.with_options(authorization=basic("spider:1"), authorization_domain="localhost")
    await ours.right(origin.redirect("r", client.url(host="localhost")))

    assert origin.stats("/redirect/r").headers("Authorization") == []
    assert set(origin.stats("file.bin").headers("Authorization")) == {basic("spider:1")}


async def test_http_auth_for_any_domain_does_not_follow_to_another_host(client: Client, origin: Origin) -> None:
    ours = client.with_options(authorization=basic("spider:1"))
    await ours.right(origin.redirect("r", client.url(host="localhost")))

    assert set(origin.stats("/redirect/r").headers("Authorization")) == {basic("spider:1")}
    assert origin.stats("file.bin").headers("Authorization") == []


async def test_cookies_of_the_session_go_where_they_match(client: Client, origin: Origin) -> None:
    cookies = jar(cookie("session", "1", "localhost.local"), cookie("other", "2", "127.0.0.1"))
    await client.right(origin.redirect("r", client.url(host="localhost")), cookies=cookies)

    assert set(origin.stats("/redirect/r").headers("Cookie")) == {"other=2"}
    assert set(origin.stats("file.bin").headers("Cookie")) == {"session=1"}


async def test_cookie_set_on_the_way_replaces_that_of_the_item_and_of_the_session(
    client: Client, origin: Origin
) -> None:
    cookies = jar(cookie("session", "old", "127.0.0.1"), cookie("kept", "1", "127.0.0.1"))
    url = origin.redirect("r", client.url(), cookie="session=new")
    await client.right(url, cookies=cookies, headers={"Cookie": "session=own; mine=2"})

    assert origin.stats("/redirect/r").headers("Cookie")[0] == "session=own; kept=1; mine=2"
    assert set(origin.stats("file.bin").headers("Cookie")) == {"session=new; kept=1; mine=2"}


async def test_referer_of_a_secure_page_is_not_told_in_the_clear(client: Client, origin: Origin) -> None:
    await client.right(client.url(), headers={"Referer": "https://example.org/list"})
    await client.right(client.url(name="b"), key="b", name="b", headers={"Referer": "http://example.org/list"})

    assert origin.stats("file.bin").headers("Referer") == []
    assert set(origin.stats("b").headers("Referer")) == {"http://example.org/list"}


async def test_a_broken_credential_is_not_shown(client: Client) -> None:
    error = await client.fails(client.url(), "bad_header", headers={"Authorization": "secret\r\nX: y"})
    assert "secret" not in str(error)
