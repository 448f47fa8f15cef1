"""The courier on a real server that goes away and comes back: order, grouping, patience, and nothing done twice."""

from __future__ import annotations

import logging
import queue as queues
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from lossy_proxy import LossyProxy
from patience import HANG
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import Server, any_binary

from scrapy_chunkdl.queue import courier as courier_module
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.courier import Courier, QueueUnavailable
from scrapy_chunkdl.queue.item_queue import ItemQueue

LIST, DONE = "s:items", "{s:items}:done"
LOGGER = "scrapy_chunkdl.queue.courier"


class Inbox:
    """Stands for Scrapy's thread: what is delivered runs when the test waits for it. ``told`` keeps the outcomes."""

    def __init__(self) -> None:
        self._calls: queues.Queue[Callable[[], object]] = queues.Queue()
        self.told: list[Any] = []
        self.unreachable: list[str] = []

    def deliver(self, call: Callable[[], object]) -> None:
        self._calls.put(call)

    def take(self, name: str) -> Callable[[Any], None]:
        return lambda outcome: self.told.append((name, outcome))

    def wait_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._calls.get(timeout=HANG)()

    def wait_for(self, outcomes: int) -> list[Any]:
        self.wait_until(lambda: len(self.told) >= outcomes)
        return self.told


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of this module alone: its tests end it."""
    with Server(any_binary()) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A client to look at the raw state with, of an empty server that runs."""
    server.kill()
    server.start()
    with server.client() as client:
        client.flushall()
        client.config_resetstat()
        yield client


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def new_courier(server: Server, client: redis.Redis, inbox: Inbox) -> Iterator[Callable[..., Courier]]:
    couriers: list[Courier] = []

    def make(url: str = server.url, *, patience: float = HANG, **params: Any) -> Courier:
        queue = ItemQueue(make_client({"REDIS_URL": url, "REDIS_PARAMS": params}), LIST, done_key=DONE)
        courier = Courier(queue, deliver=inbox.deliver, patience=patience, on_unreachable=inbox.unreachable.append)
        courier.ends_within_s = HANG
        couriers.append(courier)
        courier.start()
        return courier

    yield make
    for courier in couriers:
        courier.give_up()
        courier.stop()
        assert not courier.is_alive()
        queue_of(courier).close()


def queue_of(courier: Courier) -> ItemQueue:
    return courier._queue


def evalshas(client: redis.Redis) -> int:
    return int(client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


def records(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_calls_go_in_their_order_and_outcomes_come_in_it(
    new_courier: Callable[..., Courier], inbox: Inbox, client: redis.Redis
) -> None:
    courier = new_courier()
    queue = queue_of(courier)

    courier.push(b"a", inbox.take("push"))
    courier.call(lambda: len(queue.claim(2, "p")[0]), inbox.take("claim"))
    courier.push(b"b", inbox.take("push"))
    courier.call(lambda: client.lrange(LIST, 0, -1), inbox.take("look"))
    courier.ack("p:1", b"finished", inbox.take("ack"))
    courier.call(lambda: client.lrange(DONE, 0, -1), inbox.take("look"))

    assert inbox.wait_for(6) == [
        ("push", None),
        ("claim", 1),
        ("push", None),
        ("look", [b"b"]),
        ("ack", True),
        ("look", [b"finished"]),
    ]


def test_acks_and_pushes_that_follow_each_other_go_a_hundred_at_once(
    new_courier: Callable[..., Courier], inbox: Inbox, client: redis.Redis
) -> None:
    courier = new_courier()
    queue = queue_of(courier)
    queue.push([str(n).encode() for n in range(100)], -1)
    queue.claim(100, "p")
    queue.ack([])
    client.config_resetstat()
    gate = threading.Event()

    courier.call(lambda: gate.wait(HANG), lambda _: None)
    for n in range(250):
        courier.push(b"%d" % n, inbox.take("push"))
    for n in range(100):
        courier.ack(f"p:{n + 1}", None, inbox.take("ack"))
    gate.set()
    inbox.wait_for(350)

    assert evalshas(client) == 3 + 1
    assert client.lrange(LIST, 0, -1) == [b"%d" % n for n in range(250)]
    assert inbox.told == [("push", None)] * 250 + [("ack", True)] * 100
    assert client.exists("{s:items}:payload") == 0


@pytest.mark.parametrize(("acks", "then"), [(3, "call"), (3, "close"), (100, None)])
def test_acks_wait_for_each_other_but_nothing_else_waits_for_them(
    new_courier: Callable[..., Courier],
    inbox: Inbox,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    acks: int,
    then: str | None,
) -> None:
    gathers, only_acks = threading.Event(), Courier._only_acks

    def watched(courier: Courier) -> bool:
        gathers.set()
        return only_acks(courier)

    monkeypatch.setattr(courier_module, "GATHER", HANG * 2)
    monkeypatch.setattr(Courier, "_only_acks", watched)
    courier = new_courier()
    queue = queue_of(courier)
    queue.push([str(n).encode() for n in range(acks)], -1)
    queue.claim(acks, "p")
    queue.ack([])
    client.config_resetstat()

    courier.ack("p:1", None, inbox.take("ack"))
    assert gathers.wait(HANG)  # what is added next finds it waiting
    for n in range(1, acks):
        courier.ack(f"p:{n + 1}", None, inbox.take("ack"))
    if then == "call":
        courier.call(lambda: evalshas(client), inbox.take("call"))
    elif then == "close":
        courier.stop()
        assert not courier.is_alive()

    inbox.wait_for(acks + (then == "call"))
    assert inbox.told == [("ack", True)] * acks + [("call", 1)] * (then == "call")
    assert evalshas(client) == 1


def test_an_ack_tells_which_leases_were_lost(
    new_courier: Callable[..., Courier], inbox: Inbox, client: redis.Redis
) -> None:
    courier = new_courier()
    queue_of(courier).push([b"a", b"b"], -1)
    queue_of(courier).claim(2, "p")
    client.hset("{s:items}:owner", "p:1", "another 0")

    courier.ack("p:1", b"mine", inbox.take("first"))
    courier.ack("p:2", b"mine too", inbox.take("second"))

    assert inbox.wait_for(2) == [("first", False), ("second", True)]
    assert client.lrange(DONE, 0, -1) == [b"mine too"]


def test_what_is_asked_while_redis_is_away_is_done_when_it_is_back_with_one_word_each_way(
    new_courier: Callable[..., Courier],
    inbox: Inbox,
    client: redis.Redis,
    server: Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    courier = new_courier(patience=0)
    courier.push(b"a", inbox.take("push"))
    courier.call(lambda: queue_of(courier).claim(1, "p"), inbox.take("claim"))
    inbox.wait_for(2)
    assert courier.in_trouble is False
    tries: queues.Queue[None] = queues.Queue()

    def ask() -> bool:
        tries.put(None)
        return bool(client.ping())

    server.kill()
    courier.call(ask, inbox.take("call"))
    courier.ack("p:1", b"done", inbox.take("ack"))
    courier.push(b"b", inbox.take("push"))
    for _ in range(3):
        tries.get(timeout=HANG)
    assert courier.in_trouble is True
    server.start()
    inbox.wait_for(5)

    assert inbox.told[2:] == [("call", True), ("ack", True), ("push", None)]
    assert client.lrange(DONE, 0, -1) == [b"done"]
    assert client.lrange(LIST, 0, -1) == [b"b"]
    [warning] = records(caplog, logging.WARNING)
    assert "Redis cannot be reached" in warning
    assert "nothing is lost meanwhile" in warning
    [back] = records(caplog, logging.INFO)
    assert "Redis is back" in back
    assert inbox.unreachable == []  # patience is for a Redis that never answered
    assert courier.in_trouble is False


@pytest.mark.parametrize("what", ["push", "ack"])
def test_a_call_repeated_because_its_reply_was_lost_takes_effect_once(
    new_courier: Callable[..., Courier], inbox: Inbox, client: redis.Redis, server: Server, what: str
) -> None:
    with LossyProxy(str(server.socket)) as proxy:
        courier = new_courier(proxy.url, retry=Retry(NoBackoff(), 0))  # type: ignore[no-untyped-call]
        courier.push(b"a", inbox.take("push"))
        courier.call(lambda: queue_of(courier).claim(1, "p"), inbox.take("claim"))
        inbox.wait_for(2)
        queue_of(courier).ack([])
        proxy.lose_reply_to(b"marked")

        if what == "push":
            courier.push(b"marked", inbox.take("push"))
            courier.push(b"next", inbox.take("push"))
        else:
            courier.ack("p:1", b"marked", inbox.take("ack"))
            courier.push(b"next", inbox.take("push"))
        inbox.wait_for(4)
        queue_of(courier).close()

    assert proxy.lost.is_set()
    if what == "push":
        assert client.lrange(LIST, 0, -1) == [b"marked", b"next"]
        assert inbox.told[2:] == [("push", None), ("push", None)]
    else:
        assert client.lrange(DONE, 0, -1) == [b"marked"]
        assert inbox.told[2:] == [("ack", True), ("push", None)]


def test_given_up_pushes_fail_and_other_calls_tell_nothing(
    new_courier: Callable[..., Courier], inbox: Inbox, client: redis.Redis, server: Server
) -> None:
    courier = new_courier()
    server.kill()
    tried = threading.Event()
    courier.call(lambda: (tried.set(), client.ping()), inbox.take("call"))
    courier.ack("p:1", None, inbox.take("ack"))
    courier.push(b"a", inbox.take("first"))
    courier.push(b"b", inbox.take("second"))
    assert tried.wait(HANG)

    courier.give_up()
    inbox.wait_for(2)

    assert courier.gave_up
    assert [name for name, _ in inbox.told] == ["first", "second"]
    assert all(isinstance(problem, QueueUnavailable) for _, problem in inbox.told)


def test_nothing_that_follows_a_call_that_was_given_up_is_made(
    new_courier: Callable[..., Courier], inbox: Inbox, client: redis.Redis
) -> None:
    courier = new_courier()
    client.rpush(LIST, b"a")
    [claimed], _ = queue_of(courier).claim(1, "p")
    tried = threading.Event()

    def record_its_files() -> None:
        tried.set()
        raise redis.ConnectionError("away, and back before the next call")

    courier.call(record_its_files, inbox.take("records"))
    courier.ack(claimed.id, b"a", inbox.take("ack"))
    courier.push(b"b", inbox.take("push"))
    assert tried.wait(HANG)
    courier.give_up()
    inbox.wait_for(1)

    assert [name for name, _ in inbox.told] == ["push"]
    assert (client.llen(DONE), client.llen(LIST)) == (0, 0)
    assert queue_of(courier).counts().leased == 1


def test_stop_sends_what_is_left(new_courier: Callable[..., Courier], inbox: Inbox, client: redis.Redis) -> None:
    courier = new_courier()
    for n in range(500):
        courier.push(b"%d" % n, inbox.take("push"))

    courier.stop()

    assert not courier.is_alive()
    assert client.llen(LIST) == 500
    assert inbox.wait_for(500) == [("push", None)] * 500


def test_stop_does_not_wait_for_ever_and_refuses_what_could_not_be_sent(
    new_courier: Callable[..., Courier], inbox: Inbox, server: Server
) -> None:
    courier = new_courier()
    server.kill()
    courier.push(b"a", inbox.take("push"))

    courier.ends_within_s = 1.3
    courier.stop()

    [(_, problem)] = inbox.wait_for(1)
    assert isinstance(problem, QueueUnavailable)
    courier.join(HANG)
    assert not courier.is_alive()


def test_a_redis_that_never_answers_is_told_once_when_patience_is_over(
    new_courier: Callable[..., Courier],
    inbox: Inbox,
    client: redis.Redis,
    server: Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.kill()
    courier = new_courier(patience=0.3)
    courier.push(b"a", inbox.take("push"))

    inbox.wait_until(lambda: inbox.unreachable)
    courier._note_trouble(redis.ConnectionError("once more"))  # a further failure says nothing new
    server.start()
    inbox.wait_for(1)

    [reason] = inbox.unreachable
    assert "Redis cannot be reached" in reason
    assert "Waited 0.3 s (CHUNKDL_REDIS_WAIT)" in reason
    assert len(records(caplog, logging.WARNING)) == 1
    assert inbox.told == [("push", None)]
    assert client.lrange(LIST, 0, -1) == [b"a"]


def test_a_bug_in_a_call_is_told_once_and_the_rest_is_still_carried(
    new_courier: Callable[..., Courier], inbox: Inbox, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    courier = new_courier()

    courier.call(lambda: 1 // 0, inbox.take("bug"))
    courier.call(lambda: 1 // 0, inbox.take("bug"))
    courier.push(b"a", inbox.take("push"))
    inbox.wait_for(1)

    assert inbox.told == [("push", None)]
    assert client.lrange(LIST, 0, -1) == [b"a"]
    assert courier.gave_up  # whoever waits for the outcome need not wait longer
    [reason] = inbox.unreachable
    assert "integer division or modulo by zero" in reason or "division by zero" in reason
    assert len([record for record in caplog.records if record.exc_info]) == 2
