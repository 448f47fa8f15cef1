"""SOCKS5 proxies: who resolves names, logins, TLS through them, and what a refusal means."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fetching import QUICK, Client
from origin import Origin
from socks_server import SocksServer

from scrapy_chunkdl.download.http.proxies import Proxy


@pytest.fixture
def socks() -> Iterator[SocksServer]:
    with SocksServer() as server:
        yield server


async def test_a_file_comes_in_parts_through_a_socks_proxy(client: Client, socks: SocksServer) -> None:
    result = await client.right(client.url(), proxy=socks.url("socks5"))

    assert len(socks.asked) > 1
    assert result.requests > 2


async def test_the_server_behind_a_socks_proxy_is_asked_for_a_path_not_for_a_url(
    client: Client, socks: SocksServer
) -> None:
    await client.right(client.url(), proxy=socks.url())

    assert socks.begun
    assert {begun.split(b" ")[1][:1] for begun in socks.begun} == {b"/"}


async def test_socks5h_has_names_resolved_by_the_proxy(client: Client, origin: Origin, socks: SocksServer) -> None:
    socks.names["only.the.proxy.knows"] = "127.0.0.1"

    await client.right(client.url().replace("127.0.0.1", "only.the.proxy.knows"), proxy=socks.url("socks5h"))

    assert {host for host, _ in socks.asked} == {"only.the.proxy.knows"}


async def test_socks5_has_names_resolved_here(client: Client, socks: SocksServer) -> None:
    await client.right(client.url().replace("127.0.0.1", "localhost"), proxy=socks.url("socks5"))

    assert {host for host, _ in socks.asked} <= {"127.0.0.1", "::1"}


async def test_tls_goes_through_a_socks_proxy(tmp_path_factory: pytest.TempPathFactory, tls_origin: Origin) -> None:
    client = Client(tmp_path_factory.mktemp("store"), tls_origin, replace(QUICK, verify_tls=False))
    with SocksServer() as socks:
        await client.right(client.url(), proxy=socks.url())

        assert socks.asked


async def test_a_login_of_a_socks_proxy_is_sent_to_it_alone(client: Client, origin: Origin) -> None:
    with SocksServer(login=("user", "pass:word@")) as socks:
        await client.right(client.url(), proxy=socks.url(login="user:pass%3Aword%40"))

    assert origin.stats(client.key).headers("Proxy-Authorization") == []
    assert origin.stats(client.key).headers("Authorization") == []


async def test_the_environments_socks_proxy_is_taken_for_its_scheme(client: Client, socks: SocksServer) -> None:
    through = client.with_options(proxies={"http": Proxy.parse(socks.url())})

    await through.right(client.url())

    assert socks.asked


@pytest.mark.parametrize(
    ("reply", "reason", "attempts"),
    [
        pytest.param(2, "proxy_refused", 1, id="not allowed"),
        pytest.param(7, "proxy_refused", 1, id="no CONNECT"),
        pytest.param(4, "connect_failed", QUICK.retry_times + 1, id="host unreachable"),
        pytest.param(5, "connect_failed", QUICK.retry_times + 1, id="connection refused"),
    ],
)
async def test_what_a_socks_proxy_refuses_for_good_is_not_asked_again(
    client: Client, socks: SocksServer, reply: int, reason: str, attempts: int
) -> None:
    socks.refuse = reply

    error = await client.with_options(probe="get").fails(client.url(), reason, proxy=socks.url())

    assert len(socks.asked) == attempts
    assert f"127.0.0.1:{socks.port}" in str(error)


async def test_a_wrong_login_is_refused_without_its_password(client: Client) -> None:
    with SocksServer(login=("user", "right")) as socks:
        error = await client.fails(client.url(), "proxy_refused", proxy=socks.url(login="user:wr0ng"))

    assert "wr0ng" not in str(error)


async def test_a_socks_proxy_that_is_not_there_is_no_connection(client: Client) -> None:
    await client.fails(client.url(), "connect_failed", proxy="socks5://127.0.0.1:1")


async def test_without_the_library_the_extra_is_named(
    client: Client, socks: SocksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)

    error = await client.fails(client.url(), "missing_extra", proxy=socks.url())

    assert "pip install 'scrapy-chunkdl[socks]'" in str(error)
