"""Custom authorities, client certificates, and the address that connections come from."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fetching import QUICK, SIZE, Client
from origin import Origin
from patience import HANG
from relay import Relay, received

from scrapy_chunkdl.download import Options, tls_context


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


class BadLine(Relay):
    """Turns over one bit of what the server sends on one connection, once: behind so many bytes of it."""

    def __init__(self, port: int, at: int) -> None:
        super().__init__(port)
        self._at = at
        self.spoilt = threading.Lock()

    def pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := bytearray(received(server)):
                if passed <= self._at < passed + len(data) and self.spoilt.acquire(blocking=False):
                    data[self._at - passed] ^= 1
                passed += len(data)
                client.sendall(data)
        self.end(client, server)


class Forgetful(Relay):
    """A server that answers each handshake that offers it a session with an alert (RFC 8446 §6)."""

    def __init__(self, port: int, alert: int) -> None:
        super().__init__(port)
        self._alert = alert
        self.refused = 0

    def pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        hello = received(client)
        if not offers_session(hello):
            server.sendall(hello)
            super().pass_requests(client, server)
            return
        self.refused += 1
        with suppress(OSError):
            client.sendall(bytes([21, 3, 3, 0, 2, 2, self._alert]))
        self.end(client, server)


def offers_session(hello: bytes) -> bool:
    """Tell whether a ClientHello (RFC 8446 §4.1.2) has a session ticket (RFC 5077) or a pre-shared key in it."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 1 + hello[at]
    at += 2
    while at + 4 <= len(hello):
        kind, size = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
        if kind == 41 or (kind == 35 and size):
            return True
        at += 4 + size
    return False


def through(relay: Relay, origin: Origin, client: Client, **more: Any) -> str:
    return client.url(**more).replace(f":{origin.port}/", f":{relay.port}/")


@pytest.fixture
def trusting(tls_origin: Origin, tmp_path: Path) -> Client:
    tls_origin.reset()
    return Client(
        tmp_path / "store", tls_origin, replace(QUICK, verify_tls=False, connect_timeout=HANG, first_byte_timeout=HANG)
    )


@pytest.mark.parametrize("faults", ["", "ranges:none"], ids=["ranges", "whole"])
@pytest.mark.parametrize("at", [300, 60_000, 100_000, 150_000])
async def test_one_damaged_record_costs_a_connection_and_no_file(
    tls_origin: Origin, trusting: Client, at: int, faults: str
) -> None:
    with BadLine(tls_origin.port, at) as line:
        await trusting.right(through(line, tls_origin, trusting, faults=faults))

        assert line.spoilt.locked()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize(
    "alert",
    [
        pytest.param(47, id="illegal_parameter"),
        pytest.param(20, id="bad_record_mac"),
        pytest.param(80, id="internal_error"),
        pytest.param(51, id="decrypt_error"),
        pytest.param(40, id="handshake_failure"),
        pytest.param(70, id="protocol_version"),
        pytest.param(115, id="unknown_psk_identity"),
    ],
)
async def test_a_server_that_refuses_sessions_is_met_with_whole_handshakes(
    tls_origin: Origin, trusting: Client, monkeypatch: pytest.MonkeyPatch, alert: int, version: ssl.TLSVersion
) -> None:
    make = ssl.create_default_context

    def make_of_version(**arguments: Any) -> ssl.SSLContext:
        context = make(**arguments)
        context.maximum_version = version
        return context

    monkeypatch.setattr(ssl, "create_default_context", make_of_version)
    with Forgetful(tls_origin.port, alert) as server:
        await trusting.right(through(server, tls_origin, trusting))

        assert server.refused >= 1
    assert tls_origin.stats("file.bin").sent >= SIZE


@pytest.mark.parametrize("alert", [40, 70])
async def test_a_server_that_refuses_every_handshake_is_asked_no_more_than_once(
    tls_origin: Origin, trusting: Client, monkeypatch: pytest.MonkeyPatch, alert: int
) -> None:
    monkeypatch.setitem(globals(), "offers_session", lambda hello: True)
    with Forgetful(tls_origin.port, alert) as server:
        await trusting.fails(through(server, tls_origin, trusting), "tls")

        assert server.refused <= 2  # the HEAD's, and the GET's


@pytest.mark.parametrize("has_folder", [True, False])
def test_the_systems_authorities_are_there_by_the_first_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_folder: bool
) -> None:
    """Also where OpenSSL has no folder of them to look into one at a time: there they are loaded at once."""
    paths = ssl.get_default_verify_paths()._replace(capath=str(tmp_path) if has_folder else None)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    all_of_them = ssl.create_default_context().cert_store_stats()

    context = tls_context(Options())
    before = context.cert_store_stats()
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="example.org")

    assert before == ({"x509": 0, "crl": 0, "x509_ca": 0} if has_folder else all_of_them)
    assert context.cert_store_stats() == all_of_them
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
