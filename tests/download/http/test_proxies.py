"""Proxies: a real squid where it is installed, which wants a password, in front of the origin."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fetching import QUICK, Client
from origin import Origin
from servers import free_port, wait_for, wait_for_port

from scrapy_chunkdl.download.host_rules import HostRule, HostRules, NamedRule
from scrapy_chunkdl.download.http import proxies
from scrapy_chunkdl.download.http.proxies import Proxy

SQUID = """
http_port 127.0.0.1:{port}
pid_filename none
cache deny all
cache_mem 1 MB
access_log stdio:{folder}/access.log
cache_log {folder}/cache.log
coredump_dir {folder}
shutdown_lifetime 0 seconds
auth_param basic program {folder}/logins
auth_param basic children 1 startup=1
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
"""

LOGINS = """#!/bin/sh
while read login; do
    if [ "$login" = "user pass%20word" ]; then echo OK; else echo ERR; fi
done
"""


class Squid:
    """A running squid that lets ``user`` in with ``pass word``."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.url = f"http://user:pass%20word@127.0.0.1:{self.port}"
        self._log = folder / "access.log"
        self._read = 0

    def asked(self) -> str:
        """Return what it logged since the last look."""
        text = self._log.read_text()
        fresh, self._read = text[self._read :], len(text)
        return fresh


@pytest.fixture(scope="module")
def _squid() -> Iterator[Squid]:
    if shutil.which("squid") is None:
        pytest.skip("squid is not installed")
    folder = Path(tempfile.mkdtemp(prefix="chunkdl-"))
    folder.chmod(0o777)  # squid gives up root's rights
    squid = Squid(folder)
    (folder / "logins").write_text(LOGINS)
    (folder / "logins").chmod(0o755)
    (folder / "squid.conf").write_text(SQUID.format(port=squid.port, folder=folder))
    process = subprocess.Popen(
        ["squid", "-N", "-f", str(folder / "squid.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        wait_for_port(squid.port, process)
        yield squid
    finally:
        process.terminate()
        process.communicate()
        shutil.rmtree(folder)


@pytest.fixture
def squid(_squid: Squid) -> Squid:
    _squid.asked()
    return _squid


@pytest.fixture
def tls_client(tls_origin: Origin, tmp_path: Path) -> Client:
    tls_origin.reset()
    (tmp_path / "ca.pem").write_bytes(tls_origin.ca_pem)
    return Client(tmp_path / "store", tls_origin, replace(QUICK, ca_file=str(tmp_path / "ca.pem")))


async def test_a_file_is_fetched_in_parts_through_the_proxy(client: Client, origin: Origin, squid: Squid) -> None:
    await client.right(client.url(), proxy=squid.url)

    seen = origin.stats("file.bin").seen
    assert len(seen) > 2
    assert all("via" in one.headers for one in seen)
    assert all("proxy-authorization" not in one.headers for one in seen)


async def test_tls_goes_through_a_tunnel(tls_client: Client, squid: Squid) -> None:
    await tls_client.right(tls_client.url(), proxy=squid.url)

    seen = tls_client.origin.stats("file.bin").seen
    assert len(seen) > 2
    assert all("proxy-authorization" not in one.headers for one in seen)
    tls_client.origin.drop_connections()  # a tunnel is logged when it ends
    wait_for(lambda: "CONNECT 127.0.0.1:" in squid.asked(), "squid was asked for no tunnel")


async def test_a_wrong_password_gives_the_file_up_and_is_not_shown(
    client: Client, tls_client: Client, squid: Squid
) -> None:
    wrong = squid.url.replace("pass%20word", "secret")
    plain = await client.fails(client.url(), "http_407", proxy=wrong)
    tunnel = await tls_client.fails(tls_client.url(), "proxy_407", proxy=wrong)

    assert "secret" not in f"{plain}{tunnel}"
    assert client.origin.stats("file.bin").requests == 0


async def test_a_host_is_asked_through_the_proxy_that_its_rule_names(client: Client, squid: Squid) -> None:
    rules = HostRules([NamedRule("127.0.0.1", HostRule(via=squid.url))])

    await client.with_options(host_rules=rules).right(client.url())
    assert all("via" in one.headers for one in client.origin.stats("file.bin").seen)

    client.origin.reset()
    await client.with_options(host_rules=rules).right(client.url(), proxy="direct")
    assert not any("via" in one.headers for one in client.origin.stats("file.bin").seen)


async def test_the_proxy_of_the_environment_is_used_but_for_no_proxy(
    client: Client, origin: Origin, squid: Squid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", squid.url)
    monkeypatch.setenv("no_proxy", "localhost")
    ours = client.with_options(proxies=proxies.of_environment())
    await ours.right(origin.redirect("r", client.url(host="localhost")))

    assert all("via" in one.headers for one in origin.stats("/redirect/r").seen)
    assert not any("via" in one.headers for one in origin.stats("file.bin").seen)


async def test_a_file_may_go_direct(client: Client, origin: Origin) -> None:
    ours = client.with_options(proxies={"http": Proxy("http://127.0.0.1:1")})
    await ours.right(client.url(), proxy="direct")
    await ours.fails(client.url(name="b"), "connect_failed", name="b")


@pytest.mark.parametrize(
    "proxy", ["socks4://user:secret@host:1", "http://user:secret@", "http://user:secret@[::1", "x:y"]
)
async def test_what_is_no_proxy_gives_the_file_up_and_is_not_shown(client: Client, proxy: str) -> None:
    error = await client.fails(client.url(), "bad_proxy", proxy=proxy)
    assert "secret" not in str(error)


async def test_a_proxy_inside_may_be_used_with_private_addresses_blocked(
    client: Client, origin: Origin, squid: Squid
) -> None:
    inside = squid.url.replace("127.0.0.1", "localhost")
    ours = client.with_options(block_private_addresses=True, proxies={"http": Proxy.parse(inside)})
    await ours.fails("http://nowhere.invalid/a", "http_503", "http_504", "http_502", "throttled")
    assert "nowhere.invalid" in squid.asked()


@pytest.mark.parametrize(
    ("text", "url", "login"),
    [
        ("http://host:3128", "http://host:3128", None),
        ("host:3128", "http://host:3128", None),
        ("https://host", "https://host:443", None),
        ("http://[::1]:80", "http://[::1]:80", None),
        ("http://user@host", "http://host:80", "Basic dXNlcjo="),
        ("http://us%40er:p%3Ass@host", "http://host:80", "Basic dXNAZXI6cDpzcw=="),
    ],
)
def test_a_proxy_is_read_as_its_url_and_its_login(text: str, url: str, login: str | None) -> None:
    assert Proxy.parse(text) == Proxy(url, login)


def test_logins_are_written_in_the_encoding_asked_for() -> None:
    assert Proxy.parse("http://us%C3%A9r:@h", "utf-8").authorization == "Basic dXPDqXI6"
    assert Proxy.parse("http://us%C3%A9r:@h", "latin-1").authorization == "Basic dXPpcjo="


def test_the_environment_has_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://host:1")
    monkeypatch.setenv("http_proxy", "/var/run/docker.sock")
    assert proxies.of_environment() == {"https": Proxy("http://host:1")}
