"""The servers, each started once for a file of tests, and a client for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cutting_relay import Relay
from real_client import Client
from web_servers import KINDS, WebServer, running


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest) -> Iterator[WebServer]:
    with running(request.param) as server:
        yield server


@pytest.fixture
def client(server: WebServer, tmp_path: Path) -> Iterator[Client]:
    with Relay(server.port) as relay:
        yield Client(server, relay, tmp_path / "store")
