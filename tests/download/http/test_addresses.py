"""Inner addresses: the address that is connected to decides, whoever named it."""

from __future__ import annotations

import pytest
from fetching import Client
from origin import Origin

from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.http.addresses import refuse_private
from scrapy_chunkdl.download.http.proxies import Proxy


@pytest.fixture
def guarded(client: Client) -> Client:
    return client.with_options(block_private_addresses=True, retry_times=0)


@pytest.mark.parametrize("probe", ["head", "range"])
@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "localhost",
            "①②⑦.⓪.⓪.①",
            "１２７.０.０.１",
            "127。0。0。1",
            "0x7f.1",
            "2130706433",
            "017700000001",
        ),
        *("127.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "ｌocalhost", "LOCALHOST", "a.localhost"),
    ],
)
async def test_the_inside_is_not_asked_however_its_host_is_written(guarded: Client, host: str, probe: str) -> None:
    url = f"http://{host}:{guarded.origin.port}/f/file.bin?size=10"

    await guarded.with_options(probe=probe).fails(url, "private_address")

    assert guarded.origin.stats("file.bin").requests == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "①②⑦.⓪.⓪.①"])
@pytest.mark.parametrize("allowed", [frozenset(), frozenset({"example.com"})])
async def test_a_proxy_that_an_item_names_is_held_to_the_same_rules(
    guarded: Client, origin: Origin, host: str, allowed: frozenset[str]
) -> None:
    before = origin.requests

    await guarded.with_options(allowed_hosts=allowed).fails(
        "http://example.com/latest/meta-data/iam",
        *("private_address", "host_not_allowed"),
        proxy=f"http://{host}:{origin.port}",
    )

    assert origin.requests == before


async def test_a_proxy_outside_what_is_allowed_is_refused(client: Client, origin: Origin) -> None:
    allowed = client.with_options(allowed_hosts=frozenset({"example.com"}))

    await allowed.fails("http://example.com/f", "host_not_allowed", proxy=origin.base)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_the_operators_proxy_is_trusted_for_the_connection_to_it_alone(
    guarded: Client, origin: Origin, host: str
) -> None:
    known = {"http": Proxy.parse(f"http://{host}:{origin.port}")}
    ours = guarded.with_options(proxies=known)

    await ours.fails("http://example.com/f", "http_404")  # the origin is no proxy, but was asked
    asked = origin.requests
    assert asked > 0
    await ours.fails(f"http://{host}:{origin.port}/f/file.bin?size=10", "private_address", proxy="direct")
    assert origin.requests == asked


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_redirects_do_not_lead_inside(client: Client, origin: Origin, host: str) -> None:
    known = {"http": Proxy.parse(origin.base)}
    inside = origin.redirect("r", f"http://{host}:{origin.port}/f/file.bin?size=10")
    ours = client.with_options(block_private_addresses=True, retry_times=0, proxies=known)

    await ours.fails(inside.replace("127.0.0.1", "example.com", 1), "private_address", "http_404")

    assert origin.stats("file.bin").requests == 0


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "[::1]"),
        *("localhost", "a.localhost."),
    ],
)
def test_what_is_inside(address: str) -> None:
    with pytest.raises(Permanent, match="private"):
        refuse_private(address, "h")


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "example.com", "64:ff9b::808:808"]
)
def test_what_is_not(address: str) -> None:
    refuse_private(address, "h")
