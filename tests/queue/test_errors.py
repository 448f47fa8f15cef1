"""What Redis, or what stands before it, said: what it means, and whether waiting helps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from servers import Node, free_port

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.errors import REDIS_ERRORS, Verdict, Way, judge

WAIT, STALE, LARGE, SETTINGS = "waiting helps", "other server", "too large", "settings alone"


def kind_of(verdict: Verdict) -> str:
    if verdict.is_too_large:
        return LARGE
    if not verdict.waiting_helps:
        return SETTINGS
    return STALE if verdict.is_stale else WAIT


@pytest.mark.parametrize(
    ("said", "kind", "word"),
    [
        ("READONLY You can't write against a read only replica.", STALE, "read-only replica"),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", STALE, "lost its primary"),
        ("LOADING Redis is loading the dataset in memory", STALE, "still loading"),
        ("CLUSTERDOWN The cluster is down", STALE, "cluster is down"),
        ("CLUSTERDOWN Hash slot not served", STALE, "cluster is down"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", STALE, "moves the slot"),
        ("NOREPLICAS Not enough good replicas to write.", STALE, "too few replicas"),
        ("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.", WAIT, "disk"),
        ("OOM command not allowed when used memory > 'maxmemory'.", WAIT, "out of memory"),
        ("ERR max number of clients reached", WAIT, "maxclients"),
        ("Too many connections", WAIT, "max_connections in REDIS_PARAMS"),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", WAIT, "busy"),
        ("ERR no upstream host", STALE, "before Redis"),
        ("MOVED 13857 10.0.0.1:6379", SETTINGS, "redis_cls"),
        ("ASK 13857 10.0.0.1:6379", SETTINGS, "redis_cls"),
        ("NOAUTH Authentication required.", SETTINGS, "wants a password"),
        ("WRONGPASS invalid username-password pair or user is disabled.", SETTINGS, "user name or password"),
        ("NOPERM User u has no permissions to run the 'evalsha' command", SETTINGS, "ACL"),
        ("ERR unknown command 'EVALSHA', with args beginning with: 'x'", SETTINGS, "without scripts"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", SETTINGS, "another type"),
        ("CROSSSLOT Keys in request don't hash to the same slot", SETTINGS, "hash tag"),
        ("ERR DB index is out of range", SETTINGS, "REDIS_DB"),
        ("ERR SELECT is not allowed in cluster mode", SETTINGS, "REDIS_DB"),
        ("DENIED Redis is running in protected mode because", SETTINGS, "protected mode"),
        ("ERR something nobody has ever said", SETTINGS, "something nobody has ever said"),
        ("ERR max request size exceeded. Limit: 1048576 bytes, Actual: 3000000 bytes.", LARGE, "of this size"),
        ("ERR Protocol error: invalid bulk length", LARGE, "of this size"),
        ("ERR string exceeds maximum allowed size (proto-max-bulk-len)", LARGE, "of this size"),
    ],
)
def test_each_refusal_has_its_sentence_and_its_cure(said: str, kind: str, word: str) -> None:
    in_a_script = f"{said} script: 5f2, on @user_script:31."
    for error in (redis.ResponseError(said), redis.ResponseError(in_a_script)):
        verdict = judge(error)

        assert kind_of(verdict) == kind
        assert word in verdict.sentence
        assert len(verdict.sentence) <= 400


def test_where_no_redis_is_set_the_three_ways_out_are_named() -> None:
    settings = {"REDIS_PORT": None}
    verdict = judge(
        redis.ConnectionError("Error 111 connecting to localhost:6379. Connection refused."), Way.of(settings)
    )

    assert all(way in verdict.sentence for way in ("REDIS_URL", "CHUNKDL_EMBEDDED_REDIS", 'CHUNKDL_MODE = "inline"'))


@pytest.mark.parametrize(
    ("settings", "way"),
    [
        ({}, Way(is_default=True)),
        ({"REDIS_URL": "redis://h"}, Way()),
        ({"REDIS_URL": "rediss://h"}, Way(is_tls=True)),
        ({"REDIS_PARAMS": {"host": "h", "ssl": True}}, Way(is_tls=True)),
        ({"REDIS_PARAMS": '{"host": "h", "ssl": true}'}, Way(is_tls=True)),  # as -s and scrapyd give it
    ],
)
def test_the_way_to_redis_is_read_off_the_settings_as_the_client_reads_them(settings: dict[str, Any], way: Way) -> None:
    assert Way.of(settings) == way


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """A Redis with a port without TLS and one that wants client certificates; and their files."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, certificate in (
        ("server", authority.issue_cert("localhost", "127.0.0.1")),
        ("client", authority.issue_cert("client@example.org")),
    ):
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(folder / "server.pem")]
    options += ["--tls-key-file", str(folder / "server.key"), "--tls-ca-cert-file", str(folder / "ca.pem")]
    with ExitStack() as stack:
        try:
            node = stack.enter_context(Node(*options))
        except AssertionError:
            pytest.skip("this redis-server was built without TLS")
        yield f"127.0.0.1:{port}", f"127.0.0.1:{node.port}", folder


@pytest.mark.parametrize(
    ("url", "params", "word"),
    [
        ("redis://{tls}", {}, "begins with rediss://"),
        ("rediss://{tls}", {}, "ssl_ca_certs"),
        ("rediss://{tls}", {"ssl_ca_certs": "ca.pem"}, "ssl_certfile"),
        ("rediss://{plain}", {"socket_connect_timeout": 0.5, "socket_timeout": 0.5}, "begin with redis://"),
    ],
)
def test_what_is_wrong_with_tls_is_named(
    tls: tuple[str, str, Path], url: str, params: dict[str, Any], word: str
) -> None:
    encrypted, plain, folder = tls
    url = url.format(tls=encrypted, plain=plain)
    named = {name: str(folder / value) if isinstance(value, str) else value for name, value in params.items()}
    settings = {"REDIS_URL": url, "REDIS_PARAMS": named}

    with pytest.raises(REDIS_ERRORS) as raised:
        make_client(settings).ping()

    assert word in judge(raised.value, Way.of(settings)).sentence


def test_a_client_certificate_lets_in(tls: tuple[str, str, Path]) -> None:
    encrypted, _, folder = tls
    files = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
    params = {name: str(folder / value) for name, value in files.items()}

    assert make_client({"REDIS_URL": f"rediss://{encrypted}", "REDIS_PARAMS": params}).ping()
