"""SOCKS5 proxies: who resolves names, logins, TLS through them, and what a refusal means."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fetching import QUICK, Client
from origin import Origin
from socks_server import SocksServer

from scrapy_chunkdl.download import Downloader, FileRequest
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


BROKEN = {
    "closes on the greeting": ("greeting", b"", "connect_failed"),
    "speaks HTTP": ("greeting", b"HTTP/1.1 400 Bad Request\r\n\r\n", "connect_failed"),
    "speaks SOCKS4": ("greeting", b"\x00\x5b", "connect_failed"),
    "closes in the middle of a greeting": ("greeting", b"\x05", "connect_failed"),
    "closes on the login": ("login", b"", "connect_failed"),
    "closes instead of a reply": ("reply", b"", "connect_failed"),
    "closes in the middle of a reply": ("reply", b"\x05\x00\x00\x01", "connect_failed"),
    "gives a reply that is none": ("reply", b"\x05\xee\x00\x01\x00\x00\x00\x00\x00\x00", "connect_failed"),
}
"""By what a proxy does: where, what it sends before it closes, and the reason."""


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_proxy_that_breaks_off_a_handshake_is_no_connection(client: Client, fault: str) -> None:
    where, sent, reason = BROKEN[fault]
    with SocksServer(login=("user", "pw")) as socks:
        socks.breaks = where, sent
        error = await client.with_options(probe="get").fails(client.url(), reason, proxy=socks.url(login="user:pw"))

    assert f"127.0.0.1:{socks.port}" in str(error)
    gc.collect()  # what was not closed is told here


@pytest.mark.parametrize("where", ["greeting", "login", "reply"])
async def test_a_handshake_that_is_given_up_leaves_no_connection(client: Client, where: str) -> None:
    impatient = client.with_options(probe="get", connect_timeout=0.2, dns_timeout=0.2, retry_times=0)
    with SocksServer(login=("user", "pw")) as socks:
        socks.breaks = where, None
        await impatient.fails(client.url(), "connect_timeout", proxy=socks.url(login="user:pw"))

        while not socks.ended:  # noqa: ASYNC110 -- the proxy is in another thread
            await asyncio.sleep(0.01)
    gc.collect()


@pytest.mark.parametrize("where", ["greeting", "login", "reply"])
async def test_a_file_that_is_stopped_in_a_handshake_leaves_no_connection(
    client: Client, tmp_path: Path, where: str
) -> None:
    with SocksServer(login=("user", "pw")) as socks:
        socks.breaks = where, None
        async with Downloader(client.with_options(connect_timeout=60.0).options) as downloader:
            request = FileRequest(client.url(), tmp_path / "stopped", proxy=socks.url(login="user:pw"))
            fetching = asyncio.ensure_future(downloader.fetch(request))
            while not socks.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
            while not socks.ended:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    gc.collect()


async def test_a_proxy_that_dies_in_the_middle_is_gone_on_without_its_connections(
    client: Client, socks: SocksServer
) -> None:
    socks.breaks = "body", b""

    patient = client.with_options(retry_times=50)  # how much comes before it breaks is up to the machine
    result = await patient.right(client.url(), proxy=socks.url())

    assert set(result.retries) <= {"connection_lost", "short_body", "connect_failed"}
    assert result.retries


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
