"""The share keeper settles at once when asked, says once that it cannot, and goes on by itself when Redis is back."""

from __future__ import annotations

import logging
import queue as queues
from collections.abc import Callable, Iterator, Mapping

import pytest
from patience import HANG
from servers import Server, any_binary

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.hosts import HostShares
from scrapy_chunkdl.queue.share_keeper import ShareKeeper, Uses

HOST = "files.example:443"


class Process:
    """What a process does at the host, and what its keeper tells it."""

    def __init__(self) -> None:
        self.uses: Uses = {}
        self.problem: Exception | None = None
        self.settled: queues.Queue[Mapping[str, int]] = queues.Queue()

    def tell(self, told: Callable[[Uses], None]) -> None:
        if self.problem is not None:
            raise self.problem
        told(self.uses)

    def wait_until_settled(self) -> Mapping[str, int]:
        return self.settled.get(timeout=HANG)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of one test alone, which ends it."""
    with Server(any_binary()) as server:
        yield server


@pytest.fixture
def process() -> Process:
    """A process that does nothing yet."""
    return Process()


@pytest.fixture
def keeper(server: Server, process: Process) -> Iterator[ShareKeeper]:
    """Its keeper, started."""
    client = make_client({"REDIS_URL": server.url})
    keeper = ShareKeeper(HostShares(client, limit=8, lease=3600.0))
    keeper.serve(process.tell, process.settled.put)
    keeper.start()
    yield keeper
    process.problem, process.uses = None, {}
    keeper.stop()
    client.close()
    assert not keeper.is_alive()


def test_what_is_asked_for_is_settled_at_once_and_then_renewed(keeper: ShareKeeper, process: Process) -> None:
    assert keeper.slots(HOST) == 0
    process.uses = {HOST: (0, 5)}

    keeper.ask()

    assert process.wait_until_settled() == {}, "nobody else wants any"
    assert keeper.slots(HOST) == 5
    process.wait_until_settled()
    assert keeper.slots(HOST) == 5


def test_without_redis_no_more_runs_than_did_which_is_said_once_and_ends_with_its_return(
    keeper: ShareKeeper, process: Process, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    process.uses = {HOST: (2, 5)}
    keeper.ask()
    process.wait_until_settled()

    server.kill()
    with caplog.at_level(logging.WARNING):
        while not caplog.records:
            keeper.ask()
            keeper.join(0.01)
        assert keeper.slots(HOST) == 2
        while not process.settled.empty():
            process.settled.get()
        server.start()
        process.wait_until_settled()

    assert keeper.slots(HOST) == 5
    [said] = [record.getMessage() for record in caplog.records]
    assert "CHUNKDL_CLUSTER_CONCURRENT_CHUNKS_PER_HOST" in said
    assert "Redis cannot be reached" in said


def test_a_bug_is_told_and_does_not_end_the_thread(
    keeper: ShareKeeper, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    process.problem = RuntimeError("a bug")
    with caplog.at_level(logging.ERROR):
        keeper.ask()
        while not caplog.records:
            keeper.join(0.01)
    process.problem, process.uses = None, {HOST: (0, 1)}

    process.wait_until_settled()

    assert keeper.slots(HOST) == 1
