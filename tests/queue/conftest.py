"""Queues on each kind of server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from servers import KINDS, Server, binary_of

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.item_queue import ItemQueue

NewQueue = Callable[..., ItemQueue]


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server of each kind for the whole run."""
    with Server(binary_of(request.param)) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A client to look at the raw state with, of an empty server."""
    with server.client() as client:
        client.flushall()
        client.config_resetstat()
        yield client


@pytest.fixture
def new_queue(server: Server, client: redis.Redis) -> Iterator[NewQueue]:
    """Make queues as separate processes would have them, each with a token of its own."""
    with ExitStack() as stack:

        def make(**options: Any) -> ItemQueue:
            queue = ItemQueue(make_client({"REDIS_URL": server.url}), options.pop("key", "s:items"), **options)
            stack.callback(queue.close)
            return queue

        yield make
