"""Fixtures every folder of tests may use."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis
from leftovers import end_with_this_process
from origin import Origin
from project import Project
from s3_server import S3
from servers import KeysOfWork, Server, any_binary

from examples import examples

# A shell that runs tests in the background has them ignore Ctrl-C, and so would all that they start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

end_with_this_process()

hypothesis.settings.register_profile("ours", examples(50))
hypothesis.settings.load_profile("ours")


@pytest.fixture(scope="session")
def _origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def origin(_origin: Origin) -> Iterator[Origin]:
    """The hostile origin over plain HTTP, with fresh counts; nothing of an earlier test is still connected."""
    _origin.reset()
    yield _origin
    _origin.drop_connections()


@pytest.fixture(scope="session")
def tls_origin() -> Iterator[Origin]:
    """The same over TLS, with a certificate nobody trusts."""
    with Origin(tls=True) as origin:
        yield origin


@pytest.fixture(scope="session")
def _valkey() -> Iterator[str]:
    with Server(any_binary()) as server:
        yield server.url


@pytest.fixture
def redis_url(_valkey: str) -> str:
    """An empty Valkey server."""
    with redis.Redis.from_url(_valkey, protocol=2) as client:
        client.flushall()
    return _valkey


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client to look at the raw state with."""
    with KeysOfWork.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
def project(tmp_path: Path, redis_url: str) -> Project:
    """A project that uses the Valkey server."""
    settings: dict[str, Any] = {"REDIS_URL": redis_url}
    return Project(tmp_path / "project", settings)


@pytest.fixture(scope="session")
def _s3() -> Iterator[S3]:
    with S3() as server:
        yield server


@pytest.fixture
def s3(_s3: S3) -> S3:
    """An S3 server with one empty bucket."""
    _s3.reset()
    return _s3
