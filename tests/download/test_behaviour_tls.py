"""Custom authorities, client certificates, and the address that connections come from."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fetching import QUICK, Client
from origin import Origin


@pytest.fixture(scope="module")
def _strict_origin() -> Iterator[Origin]:
    with Origin(tls=True, asks_clients=True) as origin:
        yield origin


@pytest.fixture
def strict(_strict_origin: Origin, tmp_path: Path) -> Client:
    """A client of an origin that lets only those in who show a certificate. It trusts the origin, and shows none."""
    _strict_origin.reset()
    (tmp_path / "ca.pem").write_bytes(_strict_origin.ca_pem)
    (tmp_path / "client.pem").write_bytes(_strict_origin.client_pem)
    return Client(tmp_path / "store", _strict_origin, replace(QUICK, ca_file=str(tmp_path / "ca.pem")))


async def test_an_authority_of_ones_own_is_trusted(tls_origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(tls_origin.ca_pem)
    client = Client(tmp_path / "store", tls_origin)

    await client.fails(client.url(), "tls")
    await client.with_options(ca_file=str(tmp_path / "ca.pem")).right(client.url())


async def test_a_client_certificate_is_shown(strict: Client, tmp_path: Path) -> None:
    await strict.with_options(client_cert=(str(tmp_path / "client.pem"),)).right(strict.url())


async def test_certificate_and_key_may_be_two_files(strict: Client, tmp_path: Path) -> None:
    text = (tmp_path / "client.pem").read_text()
    key_end = text.index("-----BEGIN CERTIFICATE")
    (tmp_path / "key.pem").write_text(text[:key_end])
    (tmp_path / "cert.pem").write_text(text[key_end:])

    await strict.with_options(client_cert=(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))).right(strict.url())


async def test_without_the_certificate_the_server_refuses(strict: Client) -> None:
    await strict.fails(strict.url(), "tls", "connection_lost", "connect_failed")


async def test_connections_come_from_the_address_given(client: Client, origin: Origin) -> None:
    await client.with_options(bind_address="127.0.0.9").right(client.url())
    assert {seen.peer for seen in origin.stats("file.bin").seen} == {"127.0.0.9"}


async def test_further_connections_to_a_host_resume_the_session_of_the_first(
    tls_origin: Origin, tmp_path: Path
) -> None:
    tls_origin.reset()
    client = Client(tmp_path / "store", tls_origin, replace(QUICK, verify_tls=False, chunks_per_file=4))

    await client.right(client.url())

    resumed = {seen.connection: seen.resumed for seen in tls_origin.stats("file.bin").seen}
    assert len(resumed) > 1
    assert list(resumed.values()) == [False] + [True] * (len(resumed) - 1)


@pytest.mark.parametrize("cache", [True, False])
async def test_a_name_is_asked_for_once_unless_the_cache_is_off(
    client: Client, monkeypatch: pytest.MonkeyPatch, cache: bool
) -> None:
    lookup, names = socket.getaddrinfo, []

    def ask(host: Any, *rest: Any, **more: Any) -> Any:
        names.append(host)
        return lookup(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", ask)

    await client.with_options(dns_cache=cache).right(client.url(host="localhost"))

    assert (names.count("localhost") == 1) is cache
    assert names.count("localhost") >= 1
