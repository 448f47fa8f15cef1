"""Redis behind TLS, a real redis-server: set-ups that work, and those that do not, each told by what to set."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from servers import binary_of, free_port, wait_for_port

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.errors import REDIS_ERRORS, Way, explain
from scrapy_chunkdl.queue.item_queue import ItemQueue


class TlsRedis:
    """A server that speaks TLS on ``port``, plain text on ``plain_port``, and wants client certificates if told so."""

    def __init__(self, *, wants_client: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chunkdl-tls-"))
        self.port, self.plain_port = free_port(), free_port()
        authority, stranger = trustme.CA(), trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        stranger.cert_pem.write_to_path(str(self.folder / "other-ca.pem"))
        self._issue(authority.issue_cert("localhost"), "server")
        self._issue(authority.issue_cert("client@queue.example"), "client")
        self._issue(stranger.issue_cert("client@queue.example"), "stranger")
        words = (
            f"--port {self.plain_port} --tls-port {self.port} --bind 127.0.0.1 --dir {self.folder} --loglevel warning"
        )
        words += f" --tls-ca-cert-file {self.path('ca.pem')} --tls-auth-clients {'yes' if wants_client else 'no'}"
        words += f" --tls-cert-file {self.path('server.pem')} --tls-key-file {self.path('server.key')}"
        self._command = [binary_of("redis7"), "--save", "", *words.split()]

    def __enter__(self) -> TlsRedis:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_for_port(self.port, self._process)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def settings(self, url: str, params: dict[str, Any]) -> dict[str, Any]:
        """Return Scrapy's settings; names of files in ``params`` become paths."""
        there = {
            name: self.path(value) if str(value).endswith((".pem", ".key")) else value for name, value in params.items()
        }
        return {
            "REDIS_URL": url.replace("PLAIN", str(self.plain_port)).replace("TLS", str(self.port)),
            "REDIS_PARAMS": {"protocol": 2, "socket_timeout": 10, **there},
        }

    def _issue(self, certificate: trustme.LeafCert, name: str) -> None:
        certificate.private_key_pem.write_to_path(self.path(f"{name}.key"))
        with open(self.path(f"{name}.pem"), "wb") as file:
            file.writelines(blob.bytes() for blob in certificate.cert_chain_pems)


@pytest.fixture(scope="module")
def open_redis() -> Iterator[TlsRedis]:
    with TlsRedis(wants_client=False) as server:
        yield server


@pytest.fixture(scope="module")
def strict_redis() -> Iterator[TlsRedis]:
    with TlsRedis(wants_client=True) as server:
        yield server


CLIENT = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
RIGHT: dict[str, tuple[str, str, dict[str, str]]] = {
    "known authority": ("open_redis", "rediss://localhost:TLS", {"ssl_ca_certs": "ca.pem"}),
    "nothing is checked": ("open_redis", "rediss://localhost:TLS?ssl_cert_reqs=none&ssl_check_hostname=false", {}),
    "another name, not checked": (
        "open_redis",
        "rediss://127.0.0.1:TLS?ssl_check_hostname=false",
        {"ssl_ca_certs": "ca.pem"},
    ),
    "client certificate": ("strict_redis", "rediss://localhost:TLS", CLIENT),
    "plain": ("open_redis", "redis://localhost:PLAIN", {}),
}
WRONG: dict[str, tuple[str, str, dict[str, str], str]] = {
    "unknown authority": ("open_redis", "rediss://localhost:TLS", {}, "ssl_ca_certs"),
    "another authority": ("open_redis", "rediss://localhost:TLS", {"ssl_ca_certs": "other-ca.pem"}, "ssl_ca_certs"),
    "another name": (
        "open_redis",
        "rediss://127.0.0.1:TLS",
        {"ssl_ca_certs": "ca.pem"},
        "ssl_check_hostname|127.0.0.1",
    ),
    "no TLS at a TLS port": ("open_redis", "redis://localhost:TLS", {}, "rediss://"),
    "TLS at a plain port": ("open_redis", "rediss://localhost:PLAIN", {"ssl_ca_certs": "ca.pem"}, "redis://"),
    "no client certificate": ("strict_redis", "rediss://localhost:TLS", {"ssl_ca_certs": "ca.pem"}, "ssl_certfile"),
    "a stranger's certificate": (
        "strict_redis",
        "rediss://localhost:TLS",
        {**CLIENT, "ssl_certfile": "stranger.pem", "ssl_keyfile": "stranger.key"},
        "ssl_ca_certs|ssl_certfile",
    ),
    "no such file": ("open_redis", "rediss://localhost:TLS", {"ssl_ca_certs": "none.pem"}, "ssl_ca_certs"),
    "no certificate in it": (
        "open_redis",
        "rediss://localhost:TLS",
        {"ssl_ca_certs": "server.key"},
        "ssl_ca_certs",
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_set_up_carries_items(request: pytest.FixtureRequest, name: str) -> None:
    fixture, url, params = RIGHT[name]
    client = make_client(request.getfixturevalue(fixture).settings(url, params))
    queue = ItemQueue(client, "s:items")
    client.delete("s:items")

    queue.push([b"1"], 1)
    [claimed], _ = queue.claim(1, "p")
    queue.ack([(claimed.id, None)])

    assert claimed.payload == b"1"
    queue.close()


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_set_up_is_told_by_what_to_set(request: pytest.FixtureRequest, name: str) -> None:
    if name == "another name" and redis.__version__.startswith("5."):
        pytest.skip("redis-py 5 looks at no names unless it is asked to")
    fixture, url, params, words = WRONG[name]

    settings = request.getfixturevalue(fixture).settings(url, params)

    with pytest.raises(REDIS_ERRORS) as caught:
        make_client(settings).ping()

    sentence = explain(caught.value, Way.of(settings))
    assert any(word in sentence for word in words.split("|")), sentence
    assert len(sentence) <= 300


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port that takes connections and never says a word, as a Redis without TLS may do."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:
        yield listener


FOR_EVER_S = 86_400
"""A timeout that a test would not outlive."""


@pytest.mark.parametrize(
    "reach",
    [
        lambda port: {"REDIS_URL": f"rediss://127.0.0.1:{port}"},
        lambda port: {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": port, "REDIS_PARAMS": {"ssl": True}},
    ],
    ids=["rediss", "ssl"],
)
def test_a_handshake_that_nobody_answers_ends_with_the_timeout_for_connecting_and_is_not_tried_twice(
    silent: socket.socket, reach: Callable[[int], dict[str, Any]]
) -> None:
    settings = reach(silent.getsockname()[1])
    timeouts = {"socket_connect_timeout": 0.05, "socket_timeout": FOR_EVER_S}
    client = make_client({**settings, "REDIS_PARAMS": {**settings.get("REDIS_PARAMS", {}), **timeouts}})

    with pytest.raises(REDIS_ERRORS) as caught:
        client.ping()

    silent.setblocking(False)
    silent.accept()[0].close()
    with pytest.raises(BlockingIOError):
        silent.accept()
    assert "without TLS" in explain(caught.value, Way.of(settings))


def test_replies_have_the_timeout_for_replies(open_redis: TlsRedis) -> None:
    params = {"ssl_ca_certs": "ca.pem", "socket_connect_timeout": FOR_EVER_S, "socket_timeout": 0.05}
    client = make_client(open_redis.settings("rediss://localhost:TLS", params))
    client.ping()

    with pytest.raises(redis.TimeoutError):
        client.blpop(["nothing"], timeout=0)
